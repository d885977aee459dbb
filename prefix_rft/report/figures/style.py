"""Style of all figures: print sizes, fonts, and one colour, marker and dash pattern for each method.

Colours are by Okabe and Ito (2008), distinct under the common forms of colour blindness. Markers and dashes carry the same information in
grey prints.
"""

import logging

import matplotlib

matplotlib.use("Agg")
logging.getLogger("fontTools").setLevel(logging.WARNING)  # embedding a font logs hundreds of lines at level INFO

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

SINGLE, DOUBLE = 3.4, 7.0  # widths of one and two columns, inches

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    *("#000000", "#E69F00", "#56B4E9", "#009E73"),
    *("#F0E442", "#0072B2", "#D55E00", "#CC79A7"),
)
GREY = "#7F7F7F"

# kind of run (study.KINDS) -> colour, marker, dashes
LOOKS = {
    "base": (GREY, "x", (0, (1, 1.2))),
    "sft": (ORANGE, "s", (0, (4, 1.5))),
    "rft": (BLUE, "o", (0, (5, 1, 1, 1))),
    "sft_then_rft": (GREEN, "D", (0, (3, 1, 1, 1, 1, 1))),
    "luffy": (PURPLE, "^", (0, (2, 1))),
    "prefix_rft": (VERMILION, "*", "-"),
    "prefix_rft_all": (SKY, "P", (0, (6, 2))),
    "prefix_rft_frozen": (BLACK, "v", (0, (1, 2))),
    # further methods and controls: shades between the eight, distinguished mainly by marker and dashes
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
    "rft_entropy": ("#88B4D8", "1", (0, (3, 3))),
    "prefix_rft_static": ("#F4A582", "2", (0, (8, 1, 2, 1))),
}
SPARE = [(SKY, "P", (0, (6, 2))), (BLACK, "v", (0, (1, 2))), (YELLOW, "h", (0, (8, 2))), (GREY, "d", (0, (2, 2)))]

_RC = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # ships with matplotlib: the same figure on every machine
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
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


def looks(members):
    """{run: dict(color, marker, linestyle)}. The first run of a kind has the kind's look, further ones take spare looks."""
    out, used, spare = {}, set(), iter(SPARE * 8)
    for member in members:
        look = LOOKS.get(member.kind)
        if look is None or look[0] in used:
            look = next((s for s in spare if s[0] not in used), SPARE[0])
        used.add(look[0])
        out[member.run] = {"color": look[0], "marker": look[1], "linestyle": look[2]}
    return out


def line_look(look):
    return {"color": look["color"], "linestyle": look["linestyle"]}


def point_look(look, size=4.0):
    """Marker with a size of equal visual weight: a star needs more points than a square."""
    wide = {"*": 1.6, "x": 1.1, "D": 0.9, "s": 0.95}.get(look["marker"], 1.0)
    return {
        "color": look["color"],
        "marker": look["marker"],
        "markersize": size * wide,
        "markeredgecolor": look["color"],
    }


def legend_above(figure, handles, labels, columns=None):
    """One legend for all panels, above them."""
    figure.legend(handles, labels, loc="outside upper center", ncol=columns or len(labels), columnspacing=1.4)


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
