"""Command `difference`: two runs of a study held against each other, whichever they are.

The tables of a study have Prefix-RFT minus each rival. A question about two others, such as a shown prefix against RFT, is answered here.
"""

import difflib

from ..common.errors import UserError
from ..evaluation.statistics import paired_difference
from .formats import markdown, percent, seeds_text, split_name
from .study import Study, paired_scores
from .tables import metrics_of


def difference_md(study: Study, ours: str, rival: str) -> str:
    """Markdown: `ours` minus `rival` in percentage points with 95 % intervals, a row for each split, level, metric and temperature.

    Args:
        study: of `load_study`.
        ours, rival: names of two runs of the study, or of a base model.

    Raises `UserError` for a run that is not in the study.
    """
    a, b = (_member(study, name) for name in (ours, rival))
    rows = []
    for split, level, temperature in study.cells():
        for metric in metrics_of(study):
            i = paired_difference(*paired_scores(a, b, split, level, temperature, metric))
            rows.append([split_name(split, level), metric, f"{temperature:g}", percent(i.mean, i.low, i.high, "+")])
    head = f"{a.label} minus {b.label}, in percentage points\n\nSame problems, seeds paired; {seeds_text(study)}; not corrected.\n\n"
    return head + markdown(["Split", "Metric", "T", "Difference"], rows)


def _member(study: Study, name: str):
    known = [m.run for m in study.members]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
        raise UserError(f"study {study.name!r} of preset {study.preset!r}: has no run {name!r}; {hint}")
    return study.member(name)
