"""Command `compare`: do two folders of results agree?

    prefix-rft compare results/tiny docs/results/tiny

Two runs of the same preset differ by machine, base models and seeds. For every run both scores stand side by side, and for every verdict
of the main comparison both differences:

* agree: the same verdict;
* overlap: other verdicts, but the intervals have values in common;
* contradict: other verdicts, and intervals apart.

Reads main.csv and claims.csv, in the folder itself or in its folder `tables`.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import UserError, shown
from .claims import NOT_TESTED
from .formats import markdown, percent, read_csv

AGREE, OVERLAP, CONTRADICT = "agree", "overlap", "contradict"
CLAIM_KEY = ("claim", "unit", "split", "metric", "temperature")
COMPUTE = re.compile(r" \(with [0-9.]+ of its compute\)")  # measured, so it differs between two runs of one claim
SCORE_KEY = ("method", "split", "metric", "temperature")


@dataclass(frozen=True)
class Row:
    """One number of one folder, with its interval and, of a claim, its verdict."""

    mean: float
    low: float
    high: float
    verdict: str = ""

    def overlaps(self, other) -> bool:
        return self.low <= other.high and other.low <= self.high


def relation(a: Row, b: Row) -> str:
    if a.verdict == b.verdict:
        return AGREE
    return OVERLAP if a.overlaps(b) else CONTRADICT


@dataclass(frozen=True)
class Results:
    """The main comparison of a results folder."""

    folder: Path
    scores: dict[tuple, Row]
    claims: dict[tuple, Row]


def read_results(folder) -> Results:
    """The tables of `folder`, such as results/tiny or docs/results/tiny. Raises `UserError`."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name a results folder, such as results/tiny or docs/results/tiny")
    places = [p for p in (folder / "tables", folder) if (p / "main.csv").is_file()]
    if not places:
        raise UserError(f"{folder}: has no tables/main.csv and no main.csv; make it with snakemake --cores all tables")
    scores = _read(places[0] / "main.csv", SCORE_KEY, "mean")
    claims = _read(places[0] / "claims.csv", CLAIM_KEY, "difference") if (places[0] / "claims.csv").is_file() else {}
    if not scores:
        raise UserError(f"{places[0] / 'main.csv'}: has no rows; make it again with snakemake --cores all tables")
    return Results(folder, scores, claims)


def _read(path, key, value) -> dict[tuple, Row]:
    columns = (*key, value, "ci_low", "ci_high", *(["verdict"] if value == "difference" else []))
    found = {}
    for number, r in enumerate(read_csv(path, columns), 1):
        if (
            r.get("verdict") == NOT_TESTED or r.get("unit", "points") != "points"
        ):  # lengths and norms have no scores' unit
            continue
        name = tuple(_number(path, number, k, r[k]) if k == "temperature" else COMPUTE.sub("", r[k]) for k in key)
        numbers = (_number(path, number, k, r[k]) for k in (value, "ci_low", "ci_high"))
        found[name] = Row(*numbers, r.get("verdict", ""))
    return found


def _number(path, row, column, text) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise UserError(f"{path}: row {row}: column {column!r} = {shown(text)}: must be a number; make the table again")
    return value


def common(a: dict, b: dict) -> list[tuple]:
    return [key for key in a if key in b]


def sentence(a: Results, b: Results) -> str:
    """One line: how many verdicts agree, and which contradict."""
    keys = common(a.claims, b.claims)
    if not keys:
        same = common(a.scores, b.scores)
        apart = sum(not a.scores[k].overlaps(b.scores[k]) for k in same)
        return (
            f"{a.folder} and {b.folder} have no verdict in common; {apart} of {len(same)} scores have intervals apart"
        )
    of = {
        kind: [k for k in keys if relation(a.claims[k], b.claims[k]) == kind] for kind in (AGREE, OVERLAP, CONTRADICT)
    }
    text = (
        f"{a.folder} {'contradicts' if of[CONTRADICT] else 'agrees with'} {b.folder}: of {len(keys)} verdicts of the main comparison,"
        f" same: {len(of[AGREE])}, other with overlapping intervals: {len(of[OVERLAP])}, contradicting: {len(of[CONTRADICT])}"
    )
    return text + "".join(f"; {k[0]} ({k[3]}, T = {k[4]:g})" for k in of[CONTRADICT][:3])


def _text(row: Row, sign="") -> str:
    return percent(row.mean, row.low, row.high, sign)


def scores_md(a: Results, b: Results) -> str:
    """The scores on whole splits."""
    lines = []
    for key in (k for k in common(a.scores, b.scores) if "/" not in k[1]):
        left, right = a.scores[key], b.scores[key]
        method, split, metric, temperature = key
        apart = "" if left.overlaps(right) else "apart"
        lines.append([method, split, metric, f"{temperature:g}", _text(left), _text(right), apart])
    return markdown(["Run", "Split", "Metric", "T", str(a.folder), str(b.folder), "Intervals"], lines)


def verdicts_md(a: Results, b: Results) -> str:
    lines = []
    for key in common(a.claims, b.claims):
        left, right = a.claims[key], b.claims[key]
        claim, _, _, metric, temperature = key
        both = [f"{_text(r, '+')} {r.verdict}" for r in (left, right)]
        lines.append([claim, metric, f"{temperature:g}", *both, relation(left, right)])
    return markdown(["Claim", "Metric", "T", str(a.folder), str(b.folder), ""], lines)


def compare(a, b) -> str:
    """The comparison of two results folders as Markdown; its last line is `sentence`."""
    a, b = read_results(a), read_results(b)
    if not common(a.scores, b.scores):
        one, other = (next(iter(r.scores)) for r in (a, b))
        raise UserError(
            f"{a.folder} and {b.folder}: have no score in common: the first has {' '.join(map(str, one))}, the second"
            f" {' '.join(map(str, other))}; compare results of one preset"
        )
    parts = ["## Scores in %, mean [95 % interval]", scores_md(a, b)]
    if common(a.claims, b.claims):
        parts += ["## Verdicts of the main comparison, differences in percentage points", verdicts_md(a, b)]
    alone = [
        f"* {name} only in {one.folder}"
        for one, other in ((a, b), (b, a))
        for name in dict.fromkeys(k[0] for k in one.scores if k[0] not in {o[0] for o in other.scores})
    ]
    if alone:
        parts.append("Runs without a counterpart:\n\n" + "\n".join(alone) + "\n")
    return "\n\n".join(p.rstrip("\n") for p in [*parts, sentence(a, b)]) + "\n"
