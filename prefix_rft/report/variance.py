"""Table `variance`: what scores and paired differences vary with, as standard deviations (docs/statistics.md)."""

import numpy as np

from ..evaluation.statistics import variance_components
from .formats import markdown
from .study import known, paired_scores

PARTS = ("sd_seed", "sd_problem", "sd_residual")
FIELDS = ["method", "rival", "split", "metric", "temperature", *PARTS, "n_seeds", "n_problems"]


def variance_rows(study, metrics) -> list[dict]:
    """Rows of variance.csv over whole splits: of each run's scores (`rival` is empty), then of the differences of the paired table."""
    rows = []
    cells = [(split, metric, t) for split, _, t in study.cells(per_level=False) for metric in metrics]

    def add(method, rival, cell, x, levels):
        parts = [float(np.sqrt(v)) if np.isfinite(v) else None for v in variance_components(x, levels)]
        rows.append(dict(zip(FIELDS, (method, rival, *cell, *parts, *x.shape), strict=True)))

    for member in study.members:
        for split, metric, temperature in cells:
            counts = member.counts[split, temperature]
            add(member.run, "", (split, metric, temperature), *known(counts.levels, counts.scores(metric)))
    for ours, rival in study.pairs():
        for split, metric, temperature in cells:
            x, y, levels = paired_scores(ours, rival, split, "all", temperature, metric)
            add(ours.run, rival.run, (split, metric, temperature), x - y, levels)
    return rows


def variance_md(study, rows) -> str:
    labels = {m.run: m.label for m in study.members}
    lines = [
        [
            labels[r["method"]] + (f" minus {labels[r['rival']]}" if r["rival"] else ""),
            *(r["split"], r["metric"], f"{r['temperature']:g}"),
            *("" if r[k] is None else f"{100 * r[k]:.1f}" for k in PARTS),
        ]
        for r in rows
    ]
    text = (
        "Standard deviations in percentage points: of a seed's mean, of a problem's mean within its level, and of what is left of one"
        " problem under one seed. Seeds differ by whatever each draws for itself: order and samples, with `seed: run` the base model, with"
        " `prompts` the training problems. 0.0: the estimate is not above 0. With one seed, problems hold the rest too."
    )
    header = ["", "Split", "Metric", "T", "Seeds", "Problems", "Rest"]
    return f"## {study.label}: what scores vary with\n\n{text}\n\n{markdown(header, lines)}"
