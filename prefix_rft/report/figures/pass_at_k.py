"""pass@k against k, a panel for each split and level, from the samples of the ordinary evaluation.

`figure_2.py` draws the same from many samples of few problems, as the paper's Figure 2 does.
"""

import numpy as np
from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

from ...evaluation.statistics import paired_difference, score_interval
from ..formats import split_name
from ..study import known, paired_scores
from . import style
from .style import plt


def ks(samples):
    """Powers of two up to the number of samples, and that number."""
    powers = [2**i for i in range(samples.bit_length()) if 2**i <= samples]
    return powers if powers[-1] == samples else [*powers, samples]


def draw(context):
    return panels_of(context.study)


def panels_of(study):
    cells = list(study.cells())
    temperature = max(t for _, _, t in cells)  # diversity is what pass@k asks for
    cells = [(split, level) for split, level, t in cells if t == temperature]
    with_levels = {split for split, level in cells if level != "all"}
    panels = [(split, level) for split, level in cells if level != "all" or split not in with_levels]
    looks, rows, grid = style.looks(study.members), [], ks(study.samples)
    numbers = {
        (*panel, member.run): intervals(member, *panel, temperature, grid)
        for panel in panels
        for member in study.members
    }
    flat = {}
    for panel in panels:
        if end := style.flat(i.mean for m in study.members for i in numbers[*panel, m.run]):
            flat[style.part(*panel)] = end
    shown = [p for p in panels if style.part(*p) not in flat] or panels
    lines = -(-len(shown) // 5)
    columns = -(-len(shown) // lines)
    size = (style.WIDTH, 0.8 + 1.9 * lines)
    figure, axes = plt.subplots(lines, columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    ours, base = study.reference, study.of_kind("base")
    banded = [m for m in (ours, base) if m] or study.members
    for axis, (split, level) in zip(axes.flat, shown, strict=False):
        for member in study.members:
            found, look = numbers[split, level, member.run], looks[member.run]
            mean, low, high = (np.array([getattr(i, end) for i in found]) for end in ("mean", "low", "high"))
            size = 4.0 if len(grid) < 6 else 2.5
            drawn = {**style.line_look(look), **style.point_look(look, size)}
            axis.plot(grid, 100 * mean, label=member.label, **drawn)
            # Where (nearly) every problem is solved, or none, only the exact bound for so many problems is left: a band would jump to it.
            low, high = (np.where((0.001 < mean) & (mean < 0.999), end, np.nan) for end in (low, high))
            if member in banded:
                style.band(axis, grid, 100 * low, 100 * high, look)
            row = dict(method=member.run, split=split_name(split, level), temperature=temperature)
            for k, i in zip(grid, found, strict=True):
                row_k = dict(k=k, mean=i.mean, ci_low=i.low, ci_high=i.high)
                rows.append(row | row_k | dict(n_seeds=i.n_seeds, n_problems=i.n_problems))
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_locator(FixedLocator(grid if len(grid) < 6 else grid[:: len(grid) // 4]))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(ScalarFormatter())
        axis.set_title(style.part(split, level).replace(": ", ":\n"), fontsize=7.5)
        axis.set_xlabel("k, samples a problem\n(log axis)")
        style.percent_axis(axis)
    for axis in axes[:, 0]:
        axis.set_ylabel("Problems solved\nin k samples (%, pass@k)")
    title = "pass@k by method"
    if ours and base:
        at, split = f"pass@{grid[-1]}", cells[0][0]
        i = paired_difference(*paired_scores(ours, base, split, "all", temperature, at))
        title = f"{style.versus(ours.label, base.label, i.mean, i.low, i.high)} at k = {grid[-1]}, {style.part(split).lower()}"
    style.head(figure, title, *axes[0, 0].get_legend_handles_labels())
    whose = f"bands (of {' and '.join(m.label for m in banded)})"
    seeds = style.seeds_words({r["n_seeds"] for r in rows}, whose)
    style.caption(figure, seeds, f"Sampling temperature {temperature:g}.", style.left_out(flat))
    return figure, rows


def intervals(member, split, level, temperature, grid):
    counts = member.counts[split, temperature].at(level)
    return [score_interval(*known(counts.levels, counts.scores(f"pass@{k}"))) for k in grid]
