"""The paper's claims, each put to our own runs.

A claim is a difference that somebody reports as positive. It *holds* when the interval of the measured difference lies above 0, *does not
hold* when it lies below 0, and is *undecided* when it contains 0. `claims` tests those that need nothing but the main comparison;
`FURTHER` lists the others, the critics' among them, with the study that tests each (prefix_rft/paper_claims.py). The paper's
numbers (Tables 1, 2, 7 and 8, percentage points) stand beside ours for the sign; the sizes are of other models and problems and are
not comparable.
"""

from dataclasses import dataclass

import numpy as np

from .statistics import mean_interval, paired_difference
from .study import MAIN, paired_scores

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
    "source",
    "unit",
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
    "target",
]
NOT_TESTED = "not tested"


def verdict(low, high):
    if low > 0:
        return "holds"
    return "does not hold" if high < 0 else "undecided"


@dataclass(frozen=True)
class Claim:
    """A difference between two runs of a study, or a `measure` of paper_claims.py, that somebody says is positive. `paper`: their
    number in percentage points. `target` makes what it needs."""

    text: str
    source: str
    study: str
    ours: str = "prefix_rft"
    rival: str | None = None
    family: str = "avg"
    paper: float | None = None
    measure: str | None = None

    @property
    def target(self):
        if self.study.startswith("ablation_"):
            return self.study
        return {"probes": "figure_3a", "pass_at_k": "figure_2", "bases": "figure_5"}.get(
            self.study, f"study_{self.study}"
        )


def entropy_claims():
    """Figure 6a and the critics' question whether entropy matters."""
    for run, name in (
        ("entropy_top50", "the top 50 %"),
        ("entropy_top80", "the top 80 %"),
        ("entropy_random20", "a random 20 %"),
        ("entropy_bottom20", "the bottom 20 %"),
    ):
        yield Claim(
            f"Training the top 20 % of the prefix tokens beats training {name}",
            "Figure 6a",
            "ablation_entropy",
            rival=run,
        )
    text = "Entropy matters, not only the amount: the top 20 % beat all tokens scaled to the same gradient norm"
    yield Claim(text, "critics: is it just a smaller weight?", "ablation_entropy", rival="entropy_matched")
    text = "Training all prefix tokens lengthens the outputs (last third of training, all minus top 20 %)"
    yield Claim(text, "Figure 6a, Table 8", "ablation_entropy", "prefix_rft_all", "prefix_rft", measure="length")


def schedule_claims():
    names = {
        "uniform": ("a uniform one", "Figure 6b"),
        "linear": ("a linear one", "critics: would a linear one do?"),
        "constant": ("a constant one", "openings"),
        "reverse": ("its reverse", "openings"),
        "to_zero": ("one that decays to 0", "openings"),
        "difficulty": ("one driven by measured difficulty", "openings"),
    }
    for run, (name, source) in names.items():
        yield Claim(f"The cosine schedule beats {name}", source, "ablation_schedule", rival=f"schedule_{run}")


FURTHER = (
    # Table 1, the other methods
    Claim("Prefix-RFT beats RL with SFT loss", "Table 1", "methods", rival="rl_with_sft", paper=11.7),
    Claim("Prefix-RFT beats UFT", "Table 1", "methods", rival="uft", paper=7.6),
    Claim("Prefix-RFT beats ReLIFT", "Table 1", "methods", rival="relift", paper=4.0),
    Claim("UFT beats Prefix-RFT", "critics: SEELE", "methods", "uft", "prefix_rft"),
    # arXiv 2604.23747
    Claim(
        "SFT then RFT beats Prefix-RFT at equal compute",
        "critics: 2604.23747",
        "main",
        "sft_then_rft",
        "prefix_rft",
        paper=5.2,
    ),
    Claim("SFT alone beats Prefix-RFT", "critics: 2604.23747", "main", "sft", "prefix_rft", paper=0.4),
    # Table 8
    Claim("Prefix-RFT beats a frozen prefix", "Table 8", "controls", rival="prefix_rft_frozen", paper=6.4),
    Claim("Prefix-RFT beats training all prefix tokens", "Table 8", "controls", rival="prefix_rft_all", paper=6.1),
    Claim(
        "Prefix-RFT beats a static weight on the prefix", "Table 8", "controls", rival="prefix_rft_static", paper=8.0
    ),
    Claim(
        "Gains are not just the entropy clip: it beats RFT with one",
        "Table 8, critics",
        "controls",
        rival="rft_entropy",
        paper=8.0,
    ),
    Claim("Prefix-RFT beats DR-PO", "Table 8", "controls", rival="drpo", paper=18.0),
    # Figure 6
    *entropy_claims(),
    *schedule_claims(),
    # Table 2
    Claim(
        "With 10 % of the demonstrations it still beats RFT",
        "Table 2",
        "ablation_quantity",
        "prefix_rft_few",
        "group_0",
        paper=10.8,
    ),
    Claim(
        "With 1 % of the demonstrations it still beats RFT",
        "Table 2",
        "ablation_quantity",
        "quantity_prefix_1",
        "group_0",
        paper=7.6,
    ),
    Claim(
        "With 10 % of the demonstrations it beats SFT on as many",
        "Table 2",
        "ablation_quantity",
        "prefix_rft_few",
        "sft_few",
    ),
    Claim(
        "With a weak teacher, filtered, it beats SFT on the same",
        "Table 2",
        "ablation_quality",
        "prefix_rft_weak",
        "sft_weak",
    ),
    Claim(
        "It bears wrong demonstrations better than SFT",
        "critics: wrong demonstrations",
        "ablation_quality",
        "quality_prefix_wrong",
        "quality_sft_wrong",
    ),
    # knobs and noise
    Claim(
        "The hybrid inside the baseline beats outside",
        "critics: estimator",
        "ablation_estimator",
        rival="estimator_outside",
    ),
    Claim("A clip on the prefix beats none", "critics: estimator", "ablation_estimator", rival="estimator_no_clip"),
    Claim("One prefixed rollout of 8 beats two", "openings", "ablation_group", rival="group_2"),
    Claim("One prefixed rollout of 8 beats eight", "openings", "ablation_group", rival="group_8"),
    *(
        Claim(
            f"It beats RFT when {int(share)} % of the verdicts are wrong",
            "critics: noisy rewards",
            "ablation_reward_noise",
            f"reward_noise_prefix_{share}",
            f"reward_noise_rft_{share}",
        )
        for share in ("05", "10", "20")
    ),
    # Tables 4 and 7, Figures 2, 3 and 5
    Claim("The prefix has the larger part of the gradient norm (ratio minus 1)", "Table 4", "main", measure="norms"),
    Claim(
        "Prefix-RFT raises the ceiling of the base model",
        "Figure 2, Table 7",
        "pass_at_k",
        rival="base",
        family="pass",
        paper=10.0,
    ),
    Claim("Its ceiling is above that of RFT", "Figure 2, Table 7", "pass_at_k", rival="rft", family="pass", paper=6.7),
    Claim(
        "Its ceiling is above that of LUFFY", "Figure 2, Table 7", "pass_at_k", rival="luffy", family="pass", paper=6.7
    ),
    Claim(
        "It fits the demonstrations more than RFT does (fall of their NLL)",
        "Figure 3a",
        "probes",
        rival="rft",
        measure="nll",
    ),
    Claim("It gains more reward than SFT does (rise of avg@n)", "Figure 3a", "probes", rival="sft", measure="gain"),
    Claim("Its NLL falls most on hard problems (harder minus easier half)", "Figure 3b", "probes", measure="hard"),
    Claim("It beats RFT on another base model", "Figure 5", "bases", rival="rft", paper=4.9),
    Claim("It beats SFT on another base model", "Figure 5", "bases", rival="sft", paper=8.6),
    Claim("It beats LUFFY on another base model", "Figure 5", "bases", rival="luffy", paper=1.3),
)
# what no preset can test yet, and why
OUT_OF_REACH = (
    ("It holds for code generation (Qwen3-1.7B-base)", "paper, other models", "no preset has a code task"),
    (
        "Training is unstable when prefix tokens pass about half of a batch",
        "Table 4",
        "no measure of instability was agreed on",
    ),
)


def row_of(claim, interval=None, *, split="", metric="", temperature=None, unit="points", reason=None):
    """A row of claims.csv; without an interval the claim is not tested, `reason` says why."""
    i = interval
    return {
        "claim": claim.text,
        "source": claim.source,
        "unit": unit,
        "split": split,
        "metric": metric,
        "temperature": temperature,
        "paper": claim.paper,
        "difference": i and i.mean,
        "ci_low": i and i.low,
        "ci_high": i and i.high,
        "p": i and i.p,
        "n_seeds": i and i.n_seeds,
        "n_problems": i and i.n_problems,
        "verdict": verdict(i.low, i.high) if i else NOT_TESTED,
        "target": reason or claim.target,
    }


def not_tested(skip=()):
    """Rows of the claims that need more than the runs of the studies `skip`, and of those that no preset can test."""
    rows = [row_of(c) for c in FURTHER if c.study not in skip]
    return rows + [row_of(Claim(text, source, ""), reason=reason) for text, source, reason in OUT_OF_REACH]


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
        "source": "Figure 4",
        "unit": "points",
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
                        "source": "Table 7"
                        if family == "pass"
                        else "Table 8"
                        if kind.startswith("prefix_rft_")
                        else "Table 1",
                        "unit": "points",
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


def further(study, name=MAIN):
    """Rows of the claims of FURTHER that one study tests; a run that the study does not have leaves its claim untested."""
    rows = []
    for claim in (c for c in FURTHER if c.study == name):
        ours, rival = (member_of(study, run) for run in (claim.ours, claim.rival))
        if ours is None or (rival is None and claim.rival is not None):
            missing = claim.ours if ours is None else claim.rival
            rows.append(row_of(claim, reason=f"study {study.name} has no run {missing}"))
            continue
        if claim.measure is not None:
            rows.append(MEASURES[claim.measure](claim, study))
            continue
        metric, temperature = f"{claim.family}@{study.samples}", max(t for _, _, t in study.cells(per_level=False))
        split = next(iter(study.cells(per_level=False)))[0]
        i = paired_difference(*paired_scores(ours, rival, split, "all", temperature, metric))
        rows.append(row_of(claim, i, split=split, metric=metric, temperature=temperature))
    return rows


def member_of(study, run):
    """The member of that name, else of that kind."""
    return next((m for m in study.members if m.run == run), None) or study.of_kind(run)


def by_seed(member, value):
    return [value(rows) for rows in member.metrics().values()]


def last_third(rows, key):
    values = [r[key] for r in rows if r.get(key) is not None]
    return float(np.mean(values[-max(1, len(values) // 3) :])) if values else np.nan


def lengths(claim, study):
    """Mean response length over the last third of the steps, one run minus the other; one number a seed."""
    ours, rival = (
        by_seed(member_of(study, run), lambda rows: last_third(rows, "response_length"))
        for run in (claim.ours, claim.rival)
    )
    return row_of(claim, mean_interval(np.subtract(ours, rival)), split="train", metric="length", unit="tokens")


def norms(claim, study):
    """Gradient norm of the prefix part over that of the rollout part, minus 1; mean over the logged steps, one number a seed."""
    member = member_of(study, claim.ours)

    def ratio(rows):
        both = [
            (r["grad_norm_prefix"], r["grad_norm_rollout"])
            for r in rows
            if r.get("grad_norm_prefix") and r.get("grad_norm_rollout")
        ]
        return float(np.mean([a for a, _ in both]) / np.mean([b for _, b in both])) - 1 if both else np.nan

    values = by_seed(member, ratio)
    if not np.isfinite(values).all():
        return row_of(claim, reason="the run logged no gradient norms (part_norms_every)")
    return row_of(claim, mean_interval(values), split="train", metric="norm ratio", unit="")


MEASURES = {"length": lengths, "norms": norms}
