"""The paper's Figure 3b: on which problems the likelihood of the demonstrations grows.

A point is a problem of the fixed subset. x: its mean accuracy between two snapshots, a fifth and three fifths of the run (paper: steps 128
and 384 of 640). y: change of its demonstration's NLL between them. Means over seeds; outliers (Tukey's fences) are left out. The curve is
LOWESS over 0.2 of the points.
"""

import numpy as np
from statsmodels.nonparametric.smoothers_lowess import lowess

from ...evaluation.statistics import within_quartiles
from ..trajectories import change, trajectories
from . import style
from .style import plt

SHARE = 0.2  # of the points, for LOWESS


def smoothed(x, y, at, share=SHARE):
    """LOWESS (Cleveland 1979) without robustness iterations, at the places `at`, each from the `share` of points nearest to it. NaN where
    these points share one x."""
    count = min(len(x), max(2, int(np.ceil(share * len(x)))))
    with np.errstate(invalid="ignore"):
        return lowess(y, x, frac=count / len(x), it=0, xvals=at)


def draw(context):
    found = trajectories(context.probed())
    looks, rows = style.looks([t.member for t in found]), []
    title, without = "Change of the demonstrations' likelihood", 0
    figure, axes = plt.subplots(1, len(found), figsize=(style.WIDTH, 2.7), sharex=True, sharey=True, squeeze=False)
    for axis, t in zip(axes[0], found, strict=True):
        delta, accuracy, (start, end) = change(t)
        x, y = accuracy.mean(0), delta.mean(0)
        keep, look = within_quartiles(y), looks[t.member.run]
        without += int((~keep).sum())
        axis.axhline(0, color=style.BLACK, linewidth=0.6)
        dots = dict(linestyle="none", marker="o", markersize=2, color=look["color"], alpha=0.35, mew=0)
        axis.plot(100 * x[keep], y[keep], **dots)
        grid = np.linspace(x[keep].min(), x[keep].max(), 40)
        fit = smoothed(x[keep], y[keep], grid)
        known = np.isfinite(fit)
        axis.plot(100 * grid[known], fit[known], color=look["color"], linewidth=1.6)
        axis.set_title(f"{t.member.label}\nsteps {start} to {end}", fontsize=7.5)
        axis.set_xlabel("Correct samples\nbetween the two (%)")
        if t.member.kind == "prefix_rft":
            title = halves(t.member.label, x, y)
        for i, problem in enumerate(t.problems):
            rows.append(
                dict(method=t.member.run, problem=problem, level=t.levels[i], accuracy=x[i], change=y[i])
                | dict(outlier=not keep[i], start=start, end=end, n_seeds=len(delta))
            )
    axes[0, 0].set_ylabel("Change of the demonstration's\nNLL (nats a token)")
    style.head(figure, title)
    seeds = len(found[0].nll)
    style.caption(
        figure,
        f"Point: a problem, mean over {seeds} seed{'s' * (seeds > 1)}; {without} outliers in all panels (Tukey's fences) are not drawn;",
        f"curve: LOWESS over {SHARE:g} of the points; samples a problem and snapshot: {found[0].samples}. All panels have the same axes.",
    )
    return figure, rows


def halves(label, accuracy, change):
    """The title: the change on the harder half of the problems and on the easier one, by accuracy."""
    order = np.argsort(accuracy, kind="stable")
    hard, easy = change[order[: len(order) // 2]].mean(), change[order[len(order) // 2 :]].mean()
    return f"{label}: NLL changes by {hard:+.2f} nats a token on the harder half of the problems, by {easy:+.2f} on the easier"
