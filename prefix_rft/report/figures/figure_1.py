"""The paper's Figure 1: the method, drawn by code; it reads nothing.

A prompt and its demonstration give a prefix; the policy continues it; the hybrid joins seven plain rollouts in one update. Of its prefix,
only the tokens of highest entropy are trained. Below: what the other methods put into a group.
"""

from matplotlib.patches import FancyArrowPatch, Rectangle

from . import style
from .style import plt

DEMO, POLICY, PROMPT = style.ORANGE, style.BLUE, style.GREY  # imitated as in SFT, sampled as in RFT
# drawn by hand: (length of the continuation, reward) of the plain rollouts
ROLLOUTS = [(17, 0), (22, 0), (14, 1), (19, 0), (24, 0), (16, 0), (20, 0)]
PREFIX, REST = 15, 9
TRAINED = (2, 7, 11)  # of the 15 prefix tokens, the fifth of highest entropy
SMALL = dict(fontsize=6.5, va="center")


def bar(axis, x, y, width, color, label=None, alpha=0.55, height=2.2):
    axis.add_patch(Rectangle((x, y), width, height, facecolor=color, alpha=alpha, edgecolor="white", linewidth=0.8))
    if label:
        axis.text(x + width / 2, y + height / 2, label, ha="center", **SMALL)


def tokens(axis, x, y, length, trained):
    """A piece of the demonstration, a cell a token; those that are trained are filled."""
    for i in range(length):
        on = i in trained
        look = dict(facecolor=DEMO if on else "white", edgecolor=DEMO, linewidth=0.6)
        axis.add_patch(Rectangle((x + i + 0.1, y + 0.1), 0.8, 2.0, **look))


def arrow(axis, start, end, bend=0.0):
    look = dict(arrowstyle="-|>", mutation_scale=7, linewidth=0.8, color="#333333")
    axis.add_patch(FancyArrowPatch(start, end, connectionstyle=f"arc3,rad={bend}", **look))


def draw(context):
    figure, axis = plt.subplots(figsize=(style.WIDTH, 3.7))
    axis.set_xlim(0, 104)
    axis.set_ylim(-11, 39)
    axis.axis("off")
    # left: the demonstration is cut
    axis.text(1, 38, "Prompt and demonstration", weight="bold", fontsize=7.5, va="center")
    bar(axis, 1, 33, 7, PROMPT, "prompt")
    tokens(axis, 8, 33, PREFIX, ())
    for i in range(8):
        axis.add_patch(
            Rectangle((8 + PREFIX + i + 0.1, 33.1), 0.8, 2.0, facecolor="#F6F6F6", edgecolor=style.PALE, linewidth=0.6)
        )
    axis.text(8 + PREFIX / 2, 36.3, "prefix", ha="center", **SMALL)
    axis.plot([8 + PREFIX] * 2, [32, 36.2], color=style.BLACK, linewidth=1, linestyle=(0, (2, 1)))
    axis.text(28, 30.6, "cut: share shown ~ U[low, 0.95]", ha="center", **SMALL)
    axis.text(29, 28.4, "low: from 0.95 to 0.05 over the steps", ha="center", color="#555555", **SMALL)
    arrow(axis, (32.5, 34.1), (43.2, 34.1))
    axis.text(37.8, 36.2, "policy continues", ha="center", **SMALL)
    arrow(axis, (4.5, 32.4), (43.2, 20.5), 0.22)
    axis.text(15, 18.3, "policy samples 7 plain rollouts", **SMALL)
    # middle: one group of eight
    x, top = 44, 33
    axis.text(x, 38, "One group of 8, verified", weight="bold", fontsize=7.5, va="center")
    axis.text(86, 36.6, "reward R", ha="center", **SMALL)
    axis.text(97, 36.6, "A = R − mean", ha="center", **SMALL)
    rewards = [1, *(r for _, r in ROLLOUTS)]
    mean = sum(rewards) / len(rewards)
    for i, reward in enumerate(rewards):
        y = top - 3.4 * i
        bar(axis, x, y, 3, PROMPT)
        if i:
            bar(axis, x + 3, y, ROLLOUTS[i - 1][0], POLICY)
        else:
            tokens(axis, x + 3, y, PREFIX, TRAINED)
            bar(axis, x + 3 + PREFIX, y, REST, POLICY)
        weight = "bold" if reward else "normal"
        axis.text(78, y + 1.1, "right" if reward else "wrong", ha="center", color="#555555", **SMALL)
        axis.text(86, y + 1.1, str(reward), ha="center", weight=weight, **SMALL)
        axis.text(97, y + 1.1, f"{reward - mean:+.2f}".replace("-", "−"), ha="center", **SMALL)
    axis.text(x, 6.8, "One clipped policy-gradient update of all filled tokens, each weighted by its A", **SMALL)
    # left, below: what the colours mean
    keys = ("prompt", "prefix token, copied, not trained", "prefix token, top 20 % by entropy: trained")
    for y, text in zip((14, 11.2, 8.4, 5.6), (*keys, "sampled by the policy: trained"), strict=True):
        if text in keys[1:]:
            tokens(axis, 2, y, 1, (0,) if text == keys[2] else ())
        else:
            bar(axis, 1, y, 3, PROMPT if text == keys[0] else POLICY)
        axis.text(5, y + 1.1, text, **SMALL)
    # the strip: other methods
    axis.plot([1, 103], [3.6, 3.6], color=style.PALE, linewidth=0.8)
    axis.text(1, 1.3, "What other methods train on, for one prompt", weight="bold", fontsize=7.5, va="center")
    others = (
        (1, "SFT", "the whole demonstration", True, 0),
        (25, "RFT", "8 plain rollouts", False, 8),
        (46, "LUFFY", "7 plain rollouts and the demonstration", True, 7),
        (79, "SFT then RFT", "one, then the other", True, 8),
    )
    for x, name, text, demo, plain in others:
        axis.text(x, -2, name, weight="bold", **SMALL)
        axis.text(x, -9.5, text, **SMALL)
        if demo:
            tokens(axis, x, -5.6, 11, range(11))
        for i in range(plain):
            bar(axis, x + (12.5 if demo else 0), -3.6 - 0.55 * i, (9, 7, 8, 6, 9, 7, 8, 6)[i], POLICY, height=0.45)
    style.head(figure, "Prefix-RFT: one rollout of each group continues a prefix of a demonstration")
    rows = [dict(rollout=i, prefixed=int(i == 0), reward=r, advantage=r - mean) for i, r in enumerate(rewards)]
    return figure, rows
