"""Command `figure`: draw one figure of a study as pdf, png and csv (the numbers that are drawn).

Each figure is a module of this package with `draw(context) -> (matplotlib figure, rows)`; `rows` are plain dicts. Numbers come from tables
if a table has them, else through prefix_rft/report/study.py, which refuses runs that do not belong together.
"""

import importlib
from pathlib import Path

from ...common.files import atomic_path
from ..code import note_of
from ..formats import write_csv
from ..study import MAIN, Context

PAPER = (
    "figure_1",
    "figure_2",
    "figure_3a",
    "figure_3a_hard",
    "figure_3b",
    "figure_4",
    "figure_5",
    "figure_6a",
    "figure_6b",
)
FIGURES = (*PAPER, "training", "pass_at_k", "comparison", "lr_sensitivity", "regimes", "ablation")


def make_figure(name: str, preset_config: Path, results: Path, out: Path, study=MAIN, seeds=None, override=None):
    """Draw the figure `name`: `out` (.pdf), and .png and .csv beside it."""
    from . import style

    module = importlib.import_module(f".{name}", __name__)
    with style.sheet():
        context = Context(preset_config, results, study, seeds, override)
        figure, rows = module.draw(context)
        if text := note_of(context):
            style.note(figure, text)
        save(figure, rows, out.with_suffix(""))


def save(figure, rows, stem):
    """Write `stem`.pdf, .png and .csv. The pdf has no date, so equal numbers give equal files."""
    import matplotlib.pyplot as plt

    for suffix, options in ((".pdf", {"metadata": {"CreationDate": None}}), (".png", {"dpi": 200})):
        with atomic_path(Path(f"{stem}{suffix}")) as path:
            figure.savefig(path, format=suffix[1:], **options)
    plt.close(figure)
    fields = list(dict.fromkeys(key for row in rows for key in row))
    write_csv(Path(f"{stem}.csv"), fields, rows)
