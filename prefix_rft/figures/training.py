"""Reward, response length, entropy and gradient norm over training steps, by method (paper section 5)."""

import math

import matplotlib.pyplot as plt
from matplotlib.ticker import FormatStrFormatter, NullFormatter

from ..errors import UserError
from . import curves, style

PANELS = [
    ("reward_plain", "Reward of plain rollouts", False),
    ("response_length_plain", "Response length (tokens)", False),
    ("entropy", "Entropy (nats)", False),
    ("grad_norm", "Gradient norm", True),
]
FALLBACK = {"reward_plain": "reward", "response_length_plain": "response_length"}


def decades(axis):
    low, high = axis.get_ylim()
    return math.log10(high / low)


def draw(context):
    members = context.study.trained()
    looks, rows = style.looks(members), []
    figure, axes = plt.subplots(2, 2, figsize=(style.DOUBLE, 4.3), sharex=False)
    handles, longest = {}, 1
    for axis, (key, title, logarithmic) in zip(axes.flat, PANELS, strict=True):
        for member in members:
            if member.kind == "sft":  # its steps are optimizer steps on demonstrations, its length that of the data
                continue
            if curves.plot(axis, member, key, looks[member.run], rows) or (
                key in FALLBACK and curves.plot(axis, member, FALLBACK[key], looks[member.run], rows)
            ):
                handles[member.label] = axis.lines[-1]
                longest = max(longest, len(axis.lines[-1].get_xdata()))
        axis.set_title(title, loc="left")
        axis.set_xlabel("RL step")
        if logarithmic and axis.lines:
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
            axis.yaxis.set_minor_formatter(NullFormatter() if decades(axis) > 1 else FormatStrFormatter("%g"))
        elif axis.lines:
            axis.set_ylim(bottom=0)
        axis.margins(x=0.01)
    if not handles:
        raise UserError(
            f"{context.results}/runs: no run of study {context.study_name} has rewards over steps in its metrics.jsonl"
        )
    figure.supxlabel(
        f"moving mean over {curves.window_of(longest)} steps; band: range of the seeds", fontsize=6.5, color="#555555"
    )
    style.legend_above(figure, handles.values(), handles)
    return figure, rows
