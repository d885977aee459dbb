"""How numbers and tables are written: CSV, Markdown, percent, p-values, seeds."""

import pandas as pd
from tabulate import tabulate

from ..common.errors import UserError
from ..common.files import write_text


def split_name(split, level):
    return split if level == "all" else f"{split}/{level}"


def _cell(value) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def write_csv(path, fields: list[str], rows: list[dict]):
    """A table as CSV: columns `fields`, floats with six significant digits, None and a missing value empty."""
    table = pd.DataFrame([[_cell(row.get(f)) for f in fields] for row in rows], columns=fields)
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def read_csv(path, columns=()) -> list[dict[str, str]]:
    """Rows of a table of ours, every cell as text; refuses a table without one of `columns`."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as e:  # pandas' parser errors are ValueErrors
        reason = e.strerror if isinstance(e, OSError) else e
        raise UserError(f"{path}: not readable: {reason}; run the command that makes this table first") from e
    missing = [c for c in columns if c not in table.columns]
    if missing and len(table):
        raise UserError(f"{path}: column {missing[0]!r} is missing; it has {', '.join(table.columns)}")
    return table.to_dict("records")


def markdown(header: list[str], rows: list[list]) -> str:
    """A Markdown table, the first column left and the others right, padded so that it reads as plain text too."""
    align = ["left", *["right"] * (len(header) - 1)]
    cells = [[str(cell) for cell in row] for row in rows]
    return tabulate(cells, header, tablefmt="pipe", colalign=align if rows else None, disable_numparse=True) + "\n"


def percent(mean, low, high, sign=""):
    return f"{100 * mean:{sign}.1f} [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"


def p_value(p):
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def overruled(low, high, p):
    """`, corrected p = 0.060` where the interval lies on one side of 0 and the corrected p-value still decides nothing, else nothing."""
    return f", corrected p = {p_value(p)}" if p is not None and p >= 0.05 and (low > 0 or high < 0) else ""


def seeds_text(study):
    n = len(study.seeds)
    if n > 1:
        return f"{n} seeds; 95 % intervals over seeds and problems"
    return "1 seed; 95 % intervals over problems only, the spread between seeds is not in them"


def si(x):
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(x) >= size:
            return f"{x / size:.3g} {unit}"
    return f"{x:.3g}"
