"""Reward, response length, entropy and gradient norm over training steps, by method (paper section 5)."""

from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

from ...common.errors import UserError
from . import curves, style
from .style import plt

PANELS = [
    ("reward_plain", "Reward of plain rollouts (share right)", False),
    ("response_length_plain", "Length of plain rollouts (tokens)", False),
    ("entropy", "Entropy (nats a token)", False),
    ("grad_norm", "Gradient norm (log axis)", True),
]
FALLBACK = {"reward_plain": "reward", "response_length_plain": "response_length"}


def draw(context):
    everybody = context.study.trained()
    # the steps of SFT are optimizer steps on demonstrations, its length is the data's
    members = [m for m in everybody if m.kind != "sft"]
    looks, rows, handles, ends = style.looks(everybody), [], {}, {}
    figure, axes = plt.subplots(2, 2, figsize=(style.WIDTH, 4.4))
    for axis, (key, title, logarithmic) in zip(axes.flat, PANELS, strict=True):
        for member in members:
            key_here = key if curves.curve(member, key) else FALLBACK.get(key, key)
            if curves.plot(axis, member, key_here, looks[member.run], rows):
                handles[member.label] = axis.lines[-1]
                if key == "reward_plain":
                    ends[member.label] = curves.last(member, key_here)
        axis.set_title(title)
        style.step_axis(axis)
        if logarithmic and axis.lines:
            axis.set_yscale("log")
            axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            axis.yaxis.set_minor_locator(NullLocator())
        elif axis.lines:
            axis.set_ylim(bottom=0)
        axis.margins(x=0.01)
    if not handles:
        raise UserError(
            f"{context.results}/runs: no run of study {context.study_name} has rewards over steps in its metrics.jsonl"
        )
    order = sorted(ends, key=lambda label: -ends[label])
    title = "Plain rollouts right over the last tenth of the steps: "
    title += ", ".join(f"{label} {style.points(ends[label])} %" for label in order)
    style.head(figure, title if ends else "Training", handles.values(), handles)
    left = [m.label for m in everybody if m not in members]
    without = f"Without {', '.join(left)}, whose steps are updates on demonstrations." if left else ""
    style.caption(figure, curves.words(rows), without)
    return figure, rows
