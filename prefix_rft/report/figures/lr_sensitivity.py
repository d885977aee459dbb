"""Validation score against learning rate, a panel a method; numbers come from tables/lr_grid.csv (method, lr, score, seed)."""

import numpy as np
from matplotlib.ticker import NullLocator

from ...common.errors import UserError
from ...runs.ablations import Runs
from ..formats import read_csv
from ..study import KINDS, Member, kind_of, read_preset
from . import style
from .style import plt


def draw(context):
    path = context.results / "tables" / "lr_grid.csv"
    table = read_csv(path, ["method", "lr", "score", "seed"])
    if not table:
        raise UserError(f"{path}: has no rows; make it again")
    labels, members = read_preset(context.preset_config, context.override).get("labels") or {}, []
    find = Runs(context.preset_config.parent, context.override)
    for run in dict.fromkeys(r["method"] for r in table):
        kind = kind_of(find.load(run)) if find.locate(run)[0].exists() else run
        members.append(Member(run, str(labels.get(run) or KINDS.get(kind, run)), kind, None, context.results, []))
    order = list(KINDS)
    members.sort(key=lambda m: order.index(m.kind) if m.kind in order else len(order))
    looks, rows, curves = style.looks(members), [], {}
    for member in members:
        by_rate = {}
        for r in table:
            if r["method"] == member.run and r["score"] not in ("", "nan"):
                by_rate.setdefault(float(r["lr"]), []).append(float(r["score"]))
        if not by_rate:
            continue
        x = sorted(by_rate)
        mean, low, high = (np.array([f(by_rate[v]) for v in x]) for f in (np.mean, min, max))
        curves[member.run] = (member.label, x, mean, low, high)
        for i, rate in enumerate(x):
            n = len(by_rate[rate])
            rows.append(dict(method=member.run, lr=rate, mean=mean[i], low=low[i], high=high[i], n_seeds=n))
    figure = panels(curves, looks, "Learning rate", "Correct validation\nsamples (%)", "Learning rates by validation")
    n = sorted({r["n_seeds"] for r in rows})
    seeds = "1 seed" if n[-1] == 1 else f"{n[0] if len(n) == 1 else f'{n[0]} to {n[-1]}'} seeds; bars: their range"
    style.caption(figure, f"{seeds}. Ring: the best rate of the method. Grey: the other methods.")
    return figure, rows


def panels(curves, looks, x_name, y_name, title):
    """Small multiples: each curve in a panel of its own, in front of the others in grey, its best point ringed.

    Args:
        curves: key -> (label, x, mean, low, high); y in shares.
        looks: key -> look.
        title: what the figure is about; the span of the best x is added.
    """
    lines = -(-len(curves) // 5)
    columns = -(-len(curves) // lines)
    size = (style.WIDTH, 0.8 + 1.45 * lines)
    figure, axes = plt.subplots(lines, columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    ticks = sorted({v for _, x, *_ in curves.values() for v in x})
    unit = 10.0 ** np.floor(np.log10(ticks[0]))
    best = {key: x[int(np.argmax(mean))] for key, (_, x, mean, _, _) in curves.items()}  # of equal ones the first
    for axis in axes.flat[len(curves) :]:
        axis.set_visible(False)
    for i, (axis, (key, (label, x, mean, low, high))) in enumerate(zip(axes.flat, curves.items(), strict=False)):
        for other, (_, ox, omean, _, _) in curves.items():
            if other != key:
                axis.plot(ox, 100 * omean, color=style.PALE, linewidth=0.8, zorder=1.5)
        axis.vlines(x, 100 * low, 100 * high, color=looks[key]["color"], linewidth=1)
        axis.plot(x, 100 * mean, **{**style.line_look(looks[key]), **style.point_look(looks[key])})
        ring = dict(marker="o", markersize=9, markerfacecolor="none", markeredgecolor=style.BLACK, markeredgewidth=0.7)
        axis.plot([best[key]], [100 * max(mean)], linestyle="none", **ring)
        axis.set_title(label, fontsize=7.5)
        axis.set_xscale("log")
        shown = ticks if len(ticks) < 5 else ticks[::2]
        axis.set_xticks(ticks, [f"{v / unit:.3g}" if v in shown else "" for v in ticks])
        axis.xaxis.set_minor_locator(NullLocator())
        style.percent_axis(axis)
        if i + columns >= len(curves):
            axis.tick_params(labelbottom=True)
            axis.set_xlabel(f"{x_name}\n(10$^{{{np.log10(unit):.0f}}}$, log axis)")
    for axis in axes[:, 0]:
        axis.set_ylabel(y_name)
    low, high = (f(best, key=best.get) for f in (min, max))
    span = f"{best[low]:g} for {curves[low][0]} to {best[high]:g} for {curves[high][0]}"
    style.head(
        figure, f"{title}: {f'best at {best[low]:g} for all' if best[low] == best[high] else f'best from {span}'}"
    )
    return figure
