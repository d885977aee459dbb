"""Tests of the paper's claims on our own runs.

A claim is a difference that somebody reports as positive (prefix_rft/report/claim_list.py). It *holds* if the interval of the measured
difference lies above 0, *does not hold* if it lies below 0, and is *undecided* if it contains 0, or, of scores within 3 points of 0 on both
sides, *about equal*. A claim about scores is tested at every
temperature of the evaluation; the lowest is the paper's 0.6. `claims` needs only the runs of one comparison, `further` a study with the
claim's runs; `prefix_rft/report/paper_claims.py` collects all.
"""

from dataclasses import replace

import numpy as np

from ..evaluation.statistics import mean_interval, paired_difference
from .claim_list import FURTHER, OUT_OF_REACH, PLACES, RIVALS, Claim
from .study import MAIN, known, paired_scores

EQUAL = 0.03  # ours: scores that differ by less than 3 points on both sides are about equal
RULE = (
    "holds: the 95 % interval lies above 0; does not hold: below 0; about equal: it contains 0, and nothing beyond 3 points of score;"
    " undecided: it contains 0"
)
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


def verdict(low, high, unit="points"):
    """What an interval says of a claim; `unit`: only scores, in "points", can be about equal."""
    if low > 0:
        return "holds"
    if high < 0:
        return "does not hold"
    return "about equal" if unit == "points" and within(low, high) else "undecided"


def within(low, high) -> bool:
    return -EQUAL < low and high < EQUAL


def row_of(claim, interval=None, *, split="", metric="", temperature=None, unit="points", reason=None):
    """A row of claims.csv. Without an interval the claim was not tested, and `reason` says why."""
    i = interval
    return {
        "claim": claim.text,
        "source": claim.source,
        "unit": unit,
        "split": split,
        "metric": metric,
        "temperature": temperature,
        "paper": " / ".join(f"{x:+.1f}" for x in claim.paper) if isinstance(claim.paper, tuple) else claim.paper,
        "difference": i and i.mean,
        "ci_low": i and i.low,
        "ci_high": i and i.high,
        "p": i and i.p,
        "n_seeds": i and i.n_seeds,
        "n_problems": i and (i.n_problems or None),  # an interval over seeds alone has none
        "verdict": verdict(i.low, i.high, unit) if i else NOT_TESTED,
        "target": reason or claim.target,
    }


def not_tested(skip=()):
    """Rows of the claims that need runs beyond the studies `skip`, and of the claims that no preset can test."""
    rows = [row_of(c) for c in FURTHER if c.study not in skip]
    return rows + [row_of(Claim(text, source, ""), reason=reason) for text, source, reason in OUT_OF_REACH]


# ------------------------------------------------------------------------------------------------- one comparison


def claims(study):
    """Rows of claims.csv, FIELDS each."""
    rows = []
    ours = study.of_kind("prefix_rft")
    if ours is None:
        return rows
    cells = list(study.cells(per_level=False))
    for kind, places in RIVALS.items():
        rival = study.of_kind(kind)
        if rival is None:
            continue
        name = "the base model" if kind == "base" else rival.label
        for (place, family), paper in places.items():
            table = "Table 7" if family == "pass" else "Table 8" if kind.startswith("prefix_rft_") else "Table 1"
            claim = Claim(f"{ours.label} beats {name} {PLACES[place]}", table, study.name, paper=paper)
            metric = f"{family}@{study.samples}"
            for split, _, temperature in cells:
                if split == place:
                    i = paired_difference(*paired_scores(ours, rival, split, "all", temperature, metric))
                    rows.append(row_of(claim, i, split=split, metric=metric, temperature=temperature))
    return rows + gap_narrows(study, ours)


def gap_narrows(study, member):
    """The paper's Figure 4: the gap between prefixed and plain rollouts closes from below, as the plain ones learn.

    Of the rewards' means over the first and the last third of the steps, measured is the smaller of two numbers: how much the distance of
    the two kinds shrinks, and how much the plain ones rise. So the claim does not hold where the prefixed rollouts end further below the
    plain ones than they began above, nor where both fall. One number a seed, Student's interval over seeds.
    """
    text = "The gap between the rewards of prefixed and plain rollouts narrows as the plain ones catch up"
    measured = []
    for rows in member.metrics().values():
        both = [(r.get("reward_prefixed"), r.get("reward_plain")) for r in rows]
        both = np.array([pair for pair in both if None not in pair])
        third = len(both) // 3
        if third == 0:
            return []
        (prefixed, plain), (prefixed_last, plain_last) = both[:third].mean(axis=0), both[-third:].mean(axis=0)
        shrinks = abs(prefixed - plain) - abs(prefixed_last - plain_last)
        measured.append(min(shrinks, plain_last - plain))
    interval = mean_interval(measured)
    temperature = member.config.rollout.temperature
    return [
        row_of(Claim(text, "Figure 4", study.name), interval, split="train", metric="reward", temperature=temperature)
    ]


# ---------------------------------------------------------------------------------------- claims of further studies


def further(study, name=MAIN):
    """Rows of the claims in FURTHER that one study tests. A claim about a run that the study lacks stays untested."""
    rows = []
    for claim in (c for c in FURTHER if c.study == name):
        missing = [run for run in (claim.ours, claim.rival) if run is not None and member_of(study, run) is None]
        if missing:
            rows.append(row_of(claim, reason=f"study {study.name} has no run {missing[0]}"))
        else:
            rows += MEASURES.get(claim.measure, scores)(claim, study)
    return rows


def member_of(study, run):
    """The member with this name, else the first of this kind."""
    return next((m for m in study.members if m.run == run), None) or study.of_kind(run)


def both(claim, study):
    return member_of(study, claim.ours), member_of(study, claim.rival)


def temperatures(study):
    """The first split (in domain) and the temperatures of its evaluation."""
    cells = list(study.cells(per_level=False))
    return cells[0][0], [t for split, _, t in cells if split == cells[0][0]]


def scores(claim, study):
    """Rows of a difference of two runs' scores, one for each temperature."""
    ours, rival = both(claim, study)
    if claim.compute:
        share = study.compute_share(ours, rival)
        claim = replace(claim, text=claim.text + (f" (with {share:.2f} of its compute)" if share is not None else ""))
    split, found = temperatures(study)
    metric, rows = f"{claim.family}@{study.samples}", []
    for temperature in found:
        level = hardest_level(study, split, temperature) if claim.hardest else "all"
        if level is None:
            rows.append(row_of(claim, reason=f"the problems of split {split} have no levels"))
        elif claim.family == "pass" and saturated(study, split, temperature, metric):
            reason = f"saturated: the base model solves every problem at k = {study.samples}"
            rows.append(row_of(claim, split=split, metric=metric, temperature=temperature, reason=reason))
        else:
            i = paired_difference(*paired_scores(ours, rival, split, level, temperature, metric))
            place = split if level == "all" else f"{split}/{level}"
            rows.append(row_of(claim, i, split=place, metric=metric, temperature=temperature))
    return rows


def mean_score(member, split, level, temperature, metric):
    counts = member.counts[split, temperature].at(level)
    return float(known(counts.levels, counts.scores(metric))[0].mean())


def hardest_level(study, split, temperature):
    """The level with the lowest score of the base model (if there is none: of the first run); None if problems have no levels."""
    levels = [level for s, level, t in study.cells() if (s, t) == (split, temperature) and level != "all"]
    judge = study.of_kind("base") or study.members[0]
    return min(
        levels, key=lambda level: mean_score(judge, split, level, temperature, f"avg@{study.samples}"), default=None
    )


def saturated(study, split, temperature, metric):
    """Whether the base model already solves everything, so that no ceiling can be higher."""
    base = study.of_kind("base")
    return base is not None and mean_score(base, split, "all", temperature, metric) == 1


def epochs(claim, study):
    """Rows of the claim for every other number of SFT epochs, with the share of the rival's compute. The run of the main comparison has its
    row there."""
    rows = []
    for entry in study.ablation.series_of(member_of(study, claim.ours).run):
        if entry.run != claim.ours:
            text = f"{claim.text}, {entry.label} epoch{'s' * (entry.at != 1)} of SFT"
            rows += scores(replace(claim, text=text, ours=entry.run, compute=True), study)
    return rows


def collapse(claim, study):
    """Base model minus each run of whose trained tokens more than half are prefix tokens (mean over steps and seeds). Positive if training
    ended below its start. This is our measure of "unstable", which the paper does not define."""
    base = study.of_kind("base")
    if base is None:
        return [row_of(claim, reason=f"study {study.name} has no base model")]
    rows, most = [], 0.0
    for member in study.trained():
        shares = by_seed(member, lambda rows: np.mean([r.get("prefix_token_share") or 0.0 for r in rows]))
        share = float(np.mean(shares))
        most = max(most, share)
        if share > 0.5:
            text = f"{claim.text} ({member.label} prefixed rollouts of a group: {100 * share:.0f} % of the tokens)"
            rows += scores(replace(claim, text=text, ours=base.run, rival=member.run), study)
    reason = f"no run of {study.name} trains on more than half prefix tokens (at most {100 * most:.0f} %)"
    return rows or [row_of(claim, reason=reason)]


def fragility(claim, study):
    """Score lost between the best and the worst learning rate that both runs have: the rival's loss minus ours, a row for each temperature.
    Best and worst are chosen by the means over seeds of the compared scores themselves."""
    series = [
        {e.at: study.member(e.run) for e in study.ablation.series_of(m.run) if e.at is not None}
        for m in both(claim, study)
    ]
    rates = sorted(set(series[0]) & set(series[1]))
    if len(rates) < 2:
        return [row_of(claim, reason=f"study {study.name} has fewer than two learning rates in common")]
    split, found = temperatures(study)
    metric, rows = f"avg@{study.samples}", []
    for temperature in found:
        parts = []
        for runs in series:
            order = sorted((runs[r] for r in rates), key=lambda m: mean_score(m, split, "all", temperature, metric))
            counts = [m.counts[split, temperature] for m in (order[-1], order[0])]
            parts += [c.scores(metric) for c in counts]
        *parts, levels = known(counts[0].levels, *parts)
        ours, rival = parts[0] - parts[1], parts[2] - parts[3]
        i = paired_difference(rival, ours, levels)
        rows.append(row_of(claim, i, split=split, metric=metric, temperature=temperature))
    return rows


# --------------------------------------------------------------------------- what training logged: one number a seed


def by_seed(member, value):
    return [value(rows) for rows in member.metrics().values()]


def last_third(rows, key):
    values = [r[key] for r in rows if r.get(key) is not None]
    return float(np.mean(values[-max(1, len(values) // 3) :])) if values else np.nan


def lengths(claim, study):
    """Difference of mean response lengths over the last third of the steps, in tokens."""
    ours, rival = (by_seed(m, lambda rows: last_third(rows, "response_length")) for m in both(claim, study))
    return [row_of(claim, mean_interval(np.subtract(ours, rival)), split="train", metric="length", unit="tokens")]


NO_PARTS = "the run logged no gradient norms (part_norms_every)"


def norms(claim, study):
    """Gradient norm of the prefix part divided by the norm of the rollout part, minus 1; mean over the logged steps."""

    def ratio(rows):
        parts = [(r.get("grad_norm_prefix"), r.get("grad_norm_rollout")) for r in rows]
        parts = [(a, b) for a, b in parts if a and b]
        return float(np.mean([a for a, _ in parts]) / np.mean([b for _, b in parts])) - 1 if parts else np.nan

    values = by_seed(member_of(study, claim.ours), ratio)
    if not np.isfinite(values).all():
        return [row_of(claim, reason=NO_PARTS)]
    return [row_of(claim, mean_interval(values), split="train", metric="norm ratio", unit="")]


def angle(claim, study):
    """Cosine of the angle between the gradients of the prefix part and the rollout part, mean over the logged steps. 1: one direction,
    0: orthogonal."""

    def cosine(rows):
        values = [r["grad_cosine"] for r in rows if r.get("grad_cosine") is not None]
        return float(np.mean(values)) if values else np.nan

    values = by_seed(member_of(study, claim.ours), cosine)
    if not np.isfinite(values).all():
        return [row_of(claim, reason=NO_PARTS)]
    return [row_of(claim, mean_interval(values), split="train", metric="cosine", unit="")]


MEASURES = {
    "epochs": epochs,
    "collapse": collapse,
    "fragility": fragility,
    "length": lengths,
    "norms": norms,
    "angle": angle,
}
