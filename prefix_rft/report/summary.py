"""Command `summary`: three sentences, a table with a row for each method, and the path of the report. It only reads tables."""

import textwrap
from pathlib import Path

from .headline import read_headline, score_table, sentences

WIDTH = 120


def print_summary(results: Path):
    """`results`: such as results/tiny, or a published folder, such as docs/results/tiny. Raises `UserError`."""
    published = (results / "main.csv").exists()
    tables = results if published else results / "tables"
    benchmarks = tables / "benchmarks.md"
    if benchmarks.exists():  # a preset that is scored on benchmarks has this table instead
        print(benchmarks.read_text(encoding="utf-8"))
    else:
        headline = read_headline(tables)
        for sentence in sentences(headline):
            print(textwrap.fill(sentence, WIDTH))
        print(f"\n{score_table(headline)}")
    print(f"Tables: {tables}\nFigures: {results / 'figures'}")
    if published:
        print(f"All of it: {results / 'README.md'}")
        return
    report = results / "report.html"
    print(f"Report: {report}" if report.exists() else f"Report: not made yet ({report})")
