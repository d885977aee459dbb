"""The paper's Figure 6a: which prefix tokens are trained, top 20 / 50 / 80 %, random 20 %, bottom 20 % by entropy.

The paper's claims: top 20 % is best, and keeping more lengthens the outputs. Above: scores of the ablation `entropy`. Below: length of the
rollouts over training. The CSV also has the gradient norm of the prefix part.
"""

import numpy as np

from ...common.errors import UserError
from ...evaluation.statistics import mean_interval, paired_difference
from ..formats import split_name
from ..study import paired_scores
from . import curves, style
from .ablation import NOT_CORRECTED, cells_of, score
from .style import plt

ABLATION = "ablation_entropy"
NORM = "grad_norm_prefix"


def shown(context):
    """The Prefix-RFT variants of the paper's figure, by the tokens that they keep."""
    study = context.load(ABLATION)
    keep = [
        m for m in study.trained() if m.kind == "prefix_rft" and m.config.prefix.keep in ("top", "random", "bottom")
    ]
    if len(keep) < 2:
        raise UserError(f"config: ablation {ABLATION} has no variants of prefix.keep and prefix.keep_share to compare")
    return study, keep


def draw(context):
    study, members = shown(context)
    figure, rows = compare(study, members, "response_length", "Length of rollouts\n(tokens)")
    return figure, rows + [row for m in members for row in prefix_norm(m)]


def prefix_norm(member):
    """Gradient norm of the kept tokens: mean over the measured steps (part_norms_every), interval over seeds."""
    runs = [[r[NORM] for r in rows if r.get(NORM) is not None] for rows in member.metrics().values()]
    if all(runs):
        i = mean_interval([np.mean(values) for values in runs])
        yield dict(
            method=member.run, metric=NORM, split="train", mean=i.mean, low=i.low, high=i.high, n_seeds=i.n_seeds
        )


def compare(study, members, key, title, limits=(0, None)):
    """Scores by level above, a training curve below. The first member is the one that the title compares with.

    Args:
        limits: of the curve's axis.
    """
    cells, temperature = cells_of(study)
    looks, rows, flat = style.looks(members), [], {}
    panels = [(*cell, f"{family}@{study.samples}") for family in ("avg", "pass") for cell in cells]
    scores = {(p, m.run): score(m, *p[:2], temperature, p[2]) for p in panels for m in members}
    for (split, level, metric), run in scores:
        v = scores[(split, level, metric), run]
        row = dict(method=run, metric=metric, split=split_name(split, level), temperature=temperature, mean=v.mean)
        rows.append(row | dict(low=v.low, high=v.high, n_seeds=v.n_seeds, n_problems=v.n_problems))
    seeds = style.seeds_words({r["n_seeds"] for r in rows})
    for panel in list(panels):
        if end := style.flat(scores[panel, m.run].mean for m in members):
            flat[f"{style.part(*panel[:2])}, {panel[2]}"] = end
            panels.remove(panel)
    panels = panels or [(*cells[0], f"avg@{study.samples}")]
    names, lines = [f"p{i}" for i in range(len(panels))], []
    heights = {"height_ratios": [0.45 + 0.16 * len(members), 1.3]}
    size = (style.WIDTH, 2.9 + 0.16 * len(members))
    figure, axes = plt.subplot_mosaic([names, ["curve"] * len(names)], figsize=size, gridspec_kw=heights)
    for i, (name, panel) in enumerate(zip(names, panels, strict=True)):
        axis, found = axes[name], [scores[panel, m.run] for m in members]
        style.rows(axis, [looks[m.run] for m in members], [(v.mean, v.low, v.high) for v in found])
        style.percent_axis(axis, "x")
        axis.set_title(style.part(*panel[:2]), fontsize=7.5)
        axis.set_xlabel(style.measure(panel[2]), fontsize=6.5)
        axis.set_yticks(range(len(members)), [m.label for m in members] if i == 0 else [])
    for member in members:
        curves.plot(axes["curve"], member, key, looks[member.run], lines)
    axes["curve"].set_ylabel(title)
    axes["curve"].set_ylim(*limits)
    style.step_axis(axes["curve"])
    axes["curve"].margins(x=0.01)
    handles = [plt.Line2D([], [], **(style.point_look(looks[m.run]) | style.line_look(looks[m.run]))) for m in members]
    style.head(
        figure,
        f"{study.label}: {finding(members, cells[0], temperature, study.samples)}",
        handles,
        [m.label for m in members],
    )
    style.caption(
        figure, f"Scores: {seeds}", f"Sampling temperature {temperature:g}.", curves.words(lines), NOT_CORRECTED
    )
    style.caption(figure, style.left_out(flat))
    return figure, rows + lines


def finding(members, cell, temperature, samples):
    """The title: the first member against the best of the others, by avg@k on the whole split."""
    first, metric = members[0], f"avg@{samples}"
    rival = max(members[1:], key=lambda m: score(m, *cell, temperature, metric).mean)
    i = paired_difference(*paired_scores(first, rival, *cell, temperature, metric))
    best = " (best of the others)" if len(members) > 2 else ""
    return f"{style.versus(first.label, rival.label + best, i.mean, i.low, i.high)} ({metric})"
