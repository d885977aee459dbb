"""What must be true of every figure, whatever it shows."""

import importlib
import re

from matplotlib.text import Text

from prefix_rft.report.figures import style
from prefix_rft.report.study import Context

RAW = re.compile(
    r"\b(test|ood)/|\bood\b|^(avg|pass|best)@\d+|_|\bnan\b"
)  # keys of tables, as they must not be read in a picture


def picture(name, preset, results, study="main"):
    """(figure, rows) as the command `figure` draws it."""
    module = importlib.import_module(f"prefix_rft.report.figures.{name}")
    with style.sheet():
        return module.draw(Context(preset, results, study, None, None))


def words(figure):
    """All texts of a figure."""
    figure.canvas.draw()
    found = (t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip())
    return [t.get_text() for t in found]


def title(figure):
    """The line above all panels."""
    text = figure.legends[0].get_title().get_text() if figure.legends else figure.get_suptitle()
    return " ".join(text.split())


def check(figure):
    """One width, a title, no raw key, and a name at every axis, with the word `log` where it is one."""
    assert figure.get_figwidth() == style.WIDTH and title(figure)
    raw = [text for text in words(figure) if RAW.search(text)]
    assert not raw
    for axis in figure.axes:
        if not axis.axison or not axis.get_visible():
            continue
        if axis.get_subplotspec().is_last_row():
            assert axis.get_xlabel()
            assert axis.get_xscale() != "log" or "log" in axis.get_xlabel()
        if axis.get_subplotspec().is_first_col():
            assert axis.get_ylabel() or axis.get_title(loc="left") or axis.get_yticklabels()
        assert axis.get_yscale() != "log" or "log" in axis.get_ylabel() + axis.get_title(loc="left")
