"""Command `report`."""

from pathlib import Path

import click

from . import options
from .group import command


@command("prefix-rft report --preset tiny")
@options.preset()
@options.results()
def cli(preset, results):
    """Write report.html into the results: question, setting, verdicts, figures, tables and what was run where, on one page."""
    from ..report.page import Sources, make_page

    results = options.results_of(preset, results)
    captions, committed = Path("workflow/report"), Path("docs/results") / preset.name
    click.echo(make_page(Sources(preset, results, captions, committed, results / "audit.html")))
