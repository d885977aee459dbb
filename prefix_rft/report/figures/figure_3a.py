"""The paper's Figure 3a: path of each method between likelihood of the demonstrations and reward, snapshot by snapshot.

x: mean negative log-likelihood (NLL) of the demonstrations of a fixed subset of training problems, axis inverted. y: avg@n on the left,
best@n on the right. A line is a method and a dot a snapshot (mean over seeds); a circle marks the start, the method's marker the end.
"""

import numpy as np

from ..trajectories import trajectories
from . import style
from .style import plt

START = dict(linestyle="none", marker="o", markersize=7, markerfacecolor="none", markeredgecolor=style.BLACK)


def draw(context):
    return paths(trajectories(context.probed()))


def paths(found, keep=None, which="training problems"):
    keep = np.ones(len(found[0].problems), bool) if keep is None else keep
    looks, rows, ours = style.looks([t.member for t in found]), [], None
    figure, axes = plt.subplots(1, 2, figsize=(style.WIDTH, 3.3), sharex=True, sharey=True)
    for t in found:
        look = looks[t.member.run]
        x = t.nll[..., keep].mean((0, -1))  # [snapshots]
        avg, best = (v[..., keep].mean((0, -1)) for v in (t.accuracy(), t.best()))
        for axis, y in zip(axes, (avg, best), strict=True):
            axis.plot(x, 100 * y, marker="o", markersize=2, **style.line_look(look))
            axis.plot(x[:1], 100 * y[:1], zorder=3, **START)
            end = style.point_look(look, 6) | {"markeredgecolor": style.BLACK, "markeredgewidth": 0.6}
            axis.plot(x[-1:], 100 * y[-1:], linestyle="none", zorder=4, **end)
        if t.member.kind == "prefix_rft":
            ours = moved(t.member.label, x, avg)
        for i, step in enumerate(t.steps):
            row = dict(method=t.member.run, step=int(step), nll=x[i], avg=avg[i], best=best[i], samples=t.samples)
            rows.append(row | dict(n_problems=int(keep.sum()), n_seeds=len(t.nll)))
    for axis, family in zip(axes, ("avg", "best"), strict=True):
        axis.set_xlabel("NLL of the demonstrations\n(nats a token; inverted, likelier to the right)")
        axis.set_ylabel(style.measure(f"{family}@{found[0].samples}"))
        style.percent_axis(axis)
    axes[0].invert_xaxis()
    axes[1].tick_params(labelleft=True)
    handles = [
        plt.Line2D([], [], **(style.point_look(looks[t.member.run]) | style.line_look(looks[t.member.run])))
        for t in found
    ]
    names = [t.member.label for t in found]
    style.head(figure, ours or "Paths of training", [plt.Line2D([], [], **START), *handles], ["start", *names])
    seeds = len(found[0].nll)
    points = f"dots: snapshots, mean over {seeds} seed{'s' * (seeds > 1)}"
    sft = " SFT then RFT starts where SFT ends." if any(t.member.kind == "sft_then_rft" for t in found) else ""
    style.caption(figure, f"{int(keep.sum())} {which}; {points}; circle: start; large marker: end of training.{sft}")
    return figure, rows


def moved(label, nll, accuracy):
    """The title: where a path leads from its first snapshot to its last."""
    x, y = nll[-1] - nll[0], accuracy[-1] - accuracy[0]
    said = f"{label}: NLL of the demonstrations {'rises' if x > 0 else 'falls'} by {abs(x):.2f} nats a token"
    return f"{said}, correct samples {'rise' if y > 0 else 'fall'} by {style.points(abs(y))} points"
