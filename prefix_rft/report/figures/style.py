"""Style of all figures: one width, fonts, the words, and one colour, marker and dash pattern for each method.

Colours are by Okabe and Ito (2008), distinct under the common forms of colour blindness. Markers and dashes carry the same information in
grey prints. A variant of a method has a shade of the method's colour and its marker. An open marker means everywhere that a difference is
undecided: its interval contains 0.
"""

import logging
import textwrap

import matplotlib

matplotlib.use("Agg")
logging.getLogger("fontTools").setLevel(logging.WARNING)  # embedding a font logs hundreds of lines at level INFO

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.colors import to_hex, to_rgb  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

from ..claims import within  # noqa: E402
from ..formats import overruled  # noqa: E402

WIDTH = 7.0  # of every figure in inches, so that letters have one size in a page

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    *("#000000", "#E69F00", "#56B4E9", "#009E73"),
    *("#F0E442", "#0072B2", "#D55E00", "#CC79A7"),
)
GREY, PALE = "#7F7F7F", "#DDDDDD"

# kind of run (study.KINDS) -> colour, marker, dashes
LOOKS = {
    "base": (GREY, "x", (0, (1, 1.2))),
    "sft": (ORANGE, "s", (0, (4, 1.5))),
    "rft": (BLUE, "o", (0, (5, 1, 1, 1))),
    "sft_then_rft": (GREEN, "D", (0, (3, 1, 1, 1, 1, 1))),
    "luffy": (PURPLE, "^", (0, (2, 1))),
    "prefix_rft": (VERMILION, "*", "-"),
    # controls: shades of their method
    "prefix_rft_all": ("#7A3500", "P", (0, (6, 2))),
    "prefix_rft_frozen": ("#F0A875", "v", (0, (1, 2))),
    "prefix_rft_static": ("#A8653A", "2", (0, (8, 1, 2, 1))),
    "rft_entropy": ("#88B4D8", "1", (0, (3, 3))),
    # further methods: shades between the eight, distinguished mainly by marker and dashes
    "rl_with_sft": ("#882255", "p", (0, (5, 2))),
    "uft": ("#44AA99", "X", (0, (3, 1, 1, 1))),
    "relift": ("#332288", ">", (0, (7, 1.5))),
    "hpt": ("#999933", "<", (0, (2, 2))),
    "srft": ("#CC6677", "H", (0, (4, 1, 1, 1, 1, 1))),
    "chord_mu": ("#8C510A", "8", (0, (6, 1, 1, 1))),
    "chord_phi": ("#BF812D", ".", (0, (2, 1, 2, 3))),
    "chord_hybrid": ("#DFC27D", "_", (0, (1, 3))),
    "trapo": ("#661100", "3", (0, (4, 1, 2, 1))),
    "g2rpo_a": ("#117733", "4", (0, (6, 1, 1, 1, 1, 1))),
    "prefix_shown": ("#6699CC", "|", (0, (1, 1, 3, 1))),
    "drpo": ("#4D4D4D", "+", (0, (1, 1))),
}
SPARE = [
    (SKY, "h", (0, (6, 2))),
    (BLACK, "d", (0, (1, 2))),
    (YELLOW, "h", (0, (8, 2))),
]  # methods that LOOKS does not know
# variants: (mixed with, how much, dashes)
SHADES = [
    *((BLACK, 0.5, (0, (5, 1.5))), ("#FFFFFF", 0.35, (0, (1, 1))), (BLACK, 0.8, (0, (3, 1, 1, 1)))),
    *(("#FFFFFF", 0.6, (0, (2, 2))), (BLACK, 0.25, (0, (7, 1, 1, 1))), ("#FFFFFF", 0.75, (0, (1, 2)))),
]

# words for the keys of tables
SPLITS = {"test": "Test problems", "ood": "Out of domain"}
LEVELS = {
    **{"times": "more products", "aime24": "AIME24", "aime25": "AIME25", "amc": "AMC", "math500": "MATH-500"},
    **{"minerva": "Minerva", "olympiad": "OlympiadBench", "arc_c": "ARC-C", "gpqa_diamond": "GPQA-Diamond"},
    "mmlu_pro": "MMLU-Pro",
}
MEASURES = {"avg": "Correct samples", "pass": "Solved in {k} samples", "best": "Solved in {k} samples"}

_RC = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: the same figure on every machine
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.labelsize": 7.5,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": PALE,
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,
    "savefig.facecolor": "white",
}


def sheet():
    """Context manager with the style of all figures."""
    return plt.rc_context(_RC)


# ------------------------------------------------------------------------------------------------------------ looks


def looks(members):
    """{run: dict(color, marker, linestyle)} of runs, as `looks_of`."""
    return looks_of((m.run, m.kind) for m in members)


def looks_of(pairs):
    """{key: dict(color, marker, linestyle)} for pairs (key, kind). The first of a kind looks as the kind does everywhere, each further one
    has a shade of its colour, its marker and other dashes. A kind that LOOKS does not know takes a spare look."""
    out, known, count = {}, dict(LOOKS), {}
    for key, kind in pairs:
        if kind not in known:
            known[kind] = SPARE[(len(known) - len(LOOKS)) % len(SPARE)]
        color, marker, dashes = known[kind]
        i = count[kind] = count.get(kind, -1) + 1
        if i:
            toward, share, dashes = SHADES[(i - 1) % len(SHADES)]
            color = to_hex((1 - share) * np.array(to_rgb(color)) + share * np.array(to_rgb(toward)))
        out[key] = {"color": color, "marker": marker, "linestyle": dashes}
    return out


def line_look(look):
    return {"color": look["color"], "linestyle": look["linestyle"]}


def point_look(look, size=4.0, *, open=False):
    """Marker with a size of equal visual weight: a star needs more points than a square."""
    wide = {"*": 1.6, "x": 1.1, "D": 0.9, "s": 0.95}.get(look["marker"], 1.0)
    return {
        "color": look["color"],
        "marker": look["marker"],
        "markersize": size * wide,
        "markeredgecolor": look["color"],
        "markerfacecolor": "white" if open else look["color"],
    }


# ------------------------------------------------------------------------------------------------------------ words


def part(split, level="all"):
    """Words for a split, or a level of it; `split` may be the name of both in a table: `test/hard`."""
    split, _, named = split.partition("/")
    level = named or ("" if level == "all" else level)
    return SPLITS.get(split, split) + (f": {LEVELS.get(level, level.replace('_', ' '))}" if level else "")


def measure(metric, unit="%, "):
    """`avg@8` -> `Correct samples` and, on a second line, `(%, avg@8)`."""
    family, _, k = metric.partition("@")
    return f"{MEASURES[family].format(k=k)}\n({unit}{metric})"


def points(x):
    """A share as percentage points: whole from 10 on."""
    return f"{100 * x:.0f}" if abs(x) >= 0.0995 else f"{100 * x:.1f}"


def versus(ours, rival, mean, low, high, p=0.0):
    """The finding in words: a difference in shares with its interval, and its corrected p-value where there is one."""
    if low > 0 and p < 0.05:
        return f"{ours} above {rival} by {points(mean)} points [{points(low)}, {points(high)}]"
    if high < 0 and p < 0.05:
        return f"{ours} below {rival} by {points(-mean)} points [{points(-high)}, {points(-low)}]"
    said = "about equal" if within(low, high) else "not told apart"
    return f"{ours} and {rival} {said} ({points(mean)} points [{points(low)}, {points(high)}]{overruled(low, high, p)})"


def seeds_words(numbers, bars="bars"):
    """How many seeds, and what the intervals cover; `numbers` of seeds that occur."""
    low, high = min(numbers), max(numbers)
    if high == 1:
        return f"1 seed; {bars}: 95 % intervals over problems alone."
    return f"{low if low == high else f'{low} to {high}'} seeds; {bars}: 95 % intervals over seeds and problems."


def flat(means):
    """`0 %` or `100 %` if all shares are within 2 points of it, else None: a panel of them says nothing."""
    means = np.asarray(list(means), float)
    return "0 %" if (means <= 0.02).all() else "100 %" if (means >= 0.98).all() else None


def left_out(found):
    """A sentence on the panels that are not drawn; `found`: name -> what `flat` says of it."""
    names = "; ".join(f"{name} ({end})" for name, end in found.items())
    return f"Left out, as every method is within 2 points of the end given: {names}." if found else ""


def wrap(text, width):
    """Lines of at most `width` letters that break at spaces alone: Prefix-RFT stays one word."""
    return textwrap.fill(text, width, break_on_hyphens=False)


# ----------------------------------------------------------------------------------------------------------- pieces


def head(figure, title, handles=(), labels=(), columns=None):
    """The title, left above all panels, and one legend for all of them below it."""
    lines = -(-len(title) // 98)
    title = wrap(title, 98 if lines == 1 else len(title) // lines + 16)  # lines of about one length
    if not len(handles):
        figure.suptitle(title, x=0.008, ha="left", fontsize=8.5, weight="bold")
        return
    kind = dict(loc="outside upper left", ncol=columns or min(6, len(labels)), columnspacing=1.4, borderaxespad=0)
    bold = {"size": 8.5, "weight": "bold"}
    figure.legend(handles, labels, title=title, alignment="left", title_fontproperties=bold, **kind)


def caption(figure, *sentences):
    """Small lines below all panels, after those that stand there."""
    text = wrap(" ".join(filter(None, sentences)), 140)
    text = "\n".join(filter(None, (figure.get_supxlabel(), text)))
    figure.supxlabel(text, x=0.008, ha="left", fontsize=6.5, color="#444444")


def note(figure, text):
    """A paragraph below the caption, by whose lines the figure grows: it is written once the panels have their size."""
    before = figure.get_supxlabel().count("\n")
    caption(figure, text)
    size = figure.get_figheight() + 0.125 * (figure.get_supxlabel().count("\n") - before)
    figure.set_figheight(size)


def rows(axis, looks, values, *, relative=False, size=4.0):
    """A point with its interval in every row, and its number at the right end.

    Args:
        looks, values: one a row, from above; a value has mean, low, high in shares; None leaves the row empty.
        relative: the values are differences, drawn open where undecided.
    """
    for y, (look, v) in enumerate(zip(looks, values, strict=True)):
        if v is None:
            continue
        mean, low, high = (100 * x for x in v)
        axis.plot([low, high], [y, y], color=look["color"], linewidth=1)
        undecided = relative and low <= 0 <= high
        axis.plot([mean], [y], linestyle="none", **point_look(look, size, open=undecided))
        number = dict(transform=axis.get_yaxis_transform(), va="center", fontsize=6, color="#444444")
        axis.text(1.02, y, f"{mean:+.1f}" if relative else f"{mean:.1f}", **number)
    if relative:
        axis.axvline(0, color=BLACK, linewidth=0.8, zorder=0.9)
    axis.set_ylim(len(values) - 0.5, -0.5)
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)


def percent_axis(axis, which="y"):
    """0 to 100 %, the same in all panels, with room for a marker at both ends."""
    getattr(axis, f"set_{which}lim")(-4, 104)
    getattr(axis, f"set_{which}ticks")([0, 25, 50, 75, 100])


def step_axis(axis):
    """Steps are whole numbers; a trial run has two of them."""
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("Step of reinforcement learning")


def band(axis, x, low, high, look, alpha=0.15):
    axis.fill_between(x, low, high, color=look["color"], alpha=alpha, linewidth=0)


def smooth(values, window):
    """Centred moving mean of each row over `window` steps, shorter at both ends; NaN is left out."""
    values = np.atleast_2d(np.asarray(values, float))
    kernel = np.ones(window)
    out = []
    for row in values:
        known = ~np.isnan(row)
        total = np.convolve(np.where(known, row, 0), kernel, mode="same")
        count = np.convolve(known.astype(float), kernel, mode="same")
        out.append(np.where(count > 0, total / np.maximum(count, 1), np.nan))
    return np.array(out)
