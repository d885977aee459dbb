"""Command `compare`."""

import click

from . import options
from .group import command


@command(
    "prefix-rft compare results/tiny docs/results/tiny",
    "prefix-rft compare results/tiny docs/results/tiny --brief",
)
@click.argument("first", type=options.FILE, metavar="RESULTS")
@click.argument("second", type=options.FILE, metavar="RESULTS")
@click.option("--brief", is_flag=True, help="print the last line only, which says whether they agree")
def cli(first, second, brief):
    """Hold two folders of results against each other: scores, differences and verdicts of the main comparison.

    A folder is one of results/ or a committed one of docs/results/. The exit code says nothing of the outcome: results that contradict
    each other are a finding.
    """
    from ..report.compare import compare

    text = compare(first, second)
    click.echo(text.strip().rsplit("\n", 1)[-1] if brief else text, nl=brief)
