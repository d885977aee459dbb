"""What a person reads first of a comparison: three sentences and a table with a row for each method.

Both come from the tables main.csv, paired.csv and main.runs.json; nothing is computed again.
"""

from dataclasses import dataclass
from pathlib import Path

from ..common.errors import UserError
from ..common.files import read_mapping
from .claims import verdict
from .formats import markdown, overruled, percent, read_csv
from .outcome import standing
from .tables import PAIRED_FIELDS, SCORE_FIELDS

WORDS = {
    "better": "better than",
    "worse": "worse than",
    "about equal": "about equal to",
    "undecided": "not to be told apart from",
}
OF_CLAIM = {"holds": "better", "does not hold": "worse"}


@dataclass
class Headline:
    """The main comparison of a folder of results.

    labels: name of a run -> name to print
    scores: (run, split, metric, temperature) -> (mean, low, high), in shares, of whole splits
    pairs: rows of paired.csv of whole splits, numbers as numbers
    seeds: how many
    """

    labels: dict[str, str]
    scores: dict[tuple, tuple[float, float, float]]
    pairs: list[dict]
    seeds: int

    @property
    def temperatures(self) -> list[float]:
        """The paper's (lowest) first."""
        return sorted({t for *_, t in self.scores})

    @property
    def average(self) -> str:
        """Name of the metric that is a mean: avg@8."""
        return next(m for _, _, m, _ in self.scores if m.startswith("avg@"))

    def splits(self) -> list[str]:
        return list(dict.fromkeys(split for _, split, _, _ in self.scores))


def read_headline(tables: Path) -> Headline:
    """Raises `UserError` where a table is missing."""
    whole = [r for r in read_csv(tables / "main.csv", SCORE_FIELDS) if "/" not in r["split"]]
    if not whole:
        raise UserError(f"{tables / 'main.csv'}: has no rows; make it again with the command `tables`")
    scores = {
        (r["method"], r["split"], r["metric"], float(r["temperature"])): tuple(
            float(r[k]) for k in ("mean", "ci_low", "ci_high")
        )
        for r in whole
    }
    pairs = [
        r
        | {k: float(r[k]) for k in ("temperature", "difference", "ci_low", "ci_high")}
        | {"p_holm": float(r["p_holm"]) if r["p_holm"] else None}
        for r in read_csv(tables / "paired.csv", PAIRED_FIELDS)
        if "/" not in r["split"]
    ]
    published = tables / "manifest.json"  # a published folder has the names there
    labels = read_mapping(published if published.exists() else tables / "main.runs.json").get("labels", {})
    return Headline(labels, scores, pairs, max(int(r["n_seeds"]) for r in whole))


def score_table(h: Headline) -> str:
    """Markdown: a row for each method, avg@k of every split at every temperature, then pass@k at the paper's."""
    first = h.temperatures[0]
    columns = [(s, h.average, t) for s in h.splits() for t in h.temperatures]
    columns += [
        (s, m, first) for s in h.splits() for m in dict.fromkeys(k[2] for k in h.scores) if m.startswith("pass@")
    ]
    lines = []
    for run in dict.fromkeys(k[0] for k in h.scores):
        cells = (h.scores.get((run, *c)) for c in columns)
        lines.append([h.labels.get(run, run), *(percent(*c) if c else "" for c in cells)])
    return markdown(["in %", *(f"{s} {m}, T = {t:g}" for s, m, t in columns)], lines)


def sentences(h: Headline) -> list[str]:
    """What the comparison says: the corrected outcome, the other temperatures, out of domain. Without a method to compare: []."""
    judged = [r for r in h.pairs if r["p_holm"] is not None]
    if not judged:
        return []
    ours = h.labels.get(judged[0]["method"], judged[0]["method"])
    first, split, metric = judged[0]["temperature"], judged[0]["split"], judged[0]["metric"]
    outcome = [(r, standing(r["difference"], r["p_holm"], r["ci_low"], r["ci_high"])) for r in judged]
    found = [
        f"{ours} is {_grouped(h, outcome)} ({metric} at T = {first:g}, {seeds_of(h.seeds)}, corrected for {len(judged)} comparisons)."
    ]
    rest = [r for r in h.pairs if r["metric"] == metric and r["rival_kind"] != "base"]
    for text, rows in (
        *(
            (f"At T = {t:g}", [r for r in rest if (r["split"], r["temperature"]) == (split, t)])
            for t in h.temperatures
            if t != first
        ),
        ("Out of domain", [r for r in rest if (r["split"], r["temperature"]) == ("ood", first)]),
    ):
        if rows:
            signs = [(r, OF_CLAIM.get(v := verdict(r["ci_low"], r["ci_high"]), v)) for r in rows]
            found.append(f"{text} it is {_grouped(h, signs)} (not corrected).")
    return found


def _grouped(h: Headline, rows) -> str:
    """better than SFT (+5.1 [+1.2, +9.0]) and LUFFY (...), and not to be told apart from RFT (...)"""
    parts = []
    for kind, words in WORDS.items():
        of = [
            f"{h.labels.get(r['rival'], r['rival'])} ({percent(r['difference'], r['ci_low'], r['ci_high'], '+')}"
            f"{overruled(r['ci_low'], r['ci_high'], r['p_holm'])})"
            for r, k in rows
            if k == kind
        ]
        if of:
            parts.append(f"{words} {_and(of)}")
    return ", ".join(parts[:-1]) + (", and " if parts[:-1] else "") + parts[-1]


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def seeds_of(n: int) -> str:
    return f"{n} seed{'s' * (n > 1)}"
