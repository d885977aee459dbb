"""The paper's claims, each put to our own runs.

A claim is a difference that the paper reports as positive. It *holds* when the interval of the measured difference lies above 0, *does not
hold* when it lies below 0, and is *undecided* when it contains 0. Claims whose runs are not in the study are left out. The
paper's numbers (Tables 1, 7 and 8, Qwen2.5-Math-7B, percentage points) stand beside ours for the sign; the sizes are of other models and
problems and are not comparable.
"""

import numpy as np

from .statistics import mean_interval, paired_difference
from .study import paired_scores

RULE = "holds: the 95 % interval lies above 0; does not hold: below 0; undecided: it contains 0"

# rival -> {(split, metric family): the paper's difference in percentage points, None where it gives none}
RIVALS = {
    "rft": {("test", "avg"): 6.3, ("ood", "avg"): 1.1, ("test", "pass"): 6.7, ("ood", "pass"): None},
    "sft": {("test", "avg"): 7.7, ("ood", "avg"): 10.9, ("test", "pass"): None, ("ood", "pass"): None},
    "sft_then_rft": {("test", "avg"): 3.6, ("ood", "avg"): 13.6, ("test", "pass"): None, ("ood", "pass"): None},
    "luffy": {("test", "avg"): 1.7, ("ood", "avg"): 0.6, ("test", "pass"): 6.7, ("ood", "pass"): None},
    "base": {("test", "avg"): 32.8, ("ood", "avg"): 43.0, ("test", "pass"): 10.0, ("ood", "pass"): None},
    "prefix_rft_all": {("test", "avg"): 6.1},
    "prefix_rft_frozen": {("test", "avg"): 6.4},
}
PLACES = {"test": "in domain", "ood": "out of domain"}
FIELDS = [
    "claim",
    "split",
    "metric",
    "temperature",
    "paper",
    "difference",
    "ci_low",
    "ci_high",
    "p",
    "n_seeds",
    "n_problems",
    "verdict",
]


def verdict(low, high):
    if low > 0:
        return "holds"
    return "does not hold" if high < 0 else "undecided"


def gap_narrows(study):
    """The paper's Figure 4: reward of prefixed minus that of plain rollouts, mean of the first third of the steps minus mean of the
    last third; one number a seed, Student's interval over seeds."""
    member = study.of_kind("prefix_rft")
    if member is None:
        return None
    change = []
    for rows in member.metrics().values():
        gap = [
            r["reward_prefixed"] - r["reward_plain"]
            for r in rows
            if r.get("reward_prefixed") is not None and r.get("reward_plain") is not None
        ]
        third = len(gap) // 3
        if third == 0:
            return None
        change.append(np.mean(gap[:third]) - np.mean(gap[-third:]))
    i = mean_interval(change)
    return {
        "claim": "The gap between the rewards of prefixed and plain rollouts narrows during training",
        "split": "train",
        "metric": "reward",
        "temperature": member.config.rollout.temperature,
        "paper": None,
        "difference": i.mean,
        "ci_low": i.low,
        "ci_high": i.high,
        "p": i.p,
        "n_seeds": i.n_seeds,
        "n_problems": None,
        "verdict": verdict(i.low, i.high),
    }


def claims(study):
    """Rows of claims.csv, FIELDS each."""
    rows = []
    ours = study.of_kind("prefix_rft")
    if ours is None:
        return rows
    cells = list(study.cells(per_level=False))
    k = study.samples
    for kind, places in RIVALS.items():
        rival = study.of_kind(kind)
        if rival is None:
            continue
        name = "the base model" if kind == "base" else rival.label
        for (place, family), paper in places.items():
            for split, _, temperature in cells:
                if split != place:
                    continue
                i = paired_difference(*paired_scores(ours, rival, split, "all", temperature, f"{family}@{k}"))
                rows.append(
                    {
                        "claim": f"{ours.label} beats {name} {PLACES[split]}",
                        "split": split,
                        "metric": f"{family}@{k}",
                        "temperature": temperature,
                        "paper": paper,
                        "difference": i.mean,
                        "ci_low": i.low,
                        "ci_high": i.high,
                        "p": i.p,
                        "n_seeds": i.n_seeds,
                        "n_problems": i.n_problems,
                        "verdict": verdict(i.low, i.high),
                    }
                )
    gap = gap_narrows(study)
    return rows + ([gap] if gap else [])
