"""Command `difference`."""

import click

from . import options
from .group import command


@command(
    "prefix-rft difference luffy rft --preset tiny",
    "prefix-rft difference prefix_shown rft --preset tiny --study methods",
)
@click.argument("ours", metavar="RUN")
@click.argument("rival", metavar="RUN")
@options.source(with_study=True)
def cli(ours, rival, layout, override, seeds, study):
    """Print the first run minus the second, with intervals: any two runs or base models of a study.

    The tables of a study have Prefix-RFT minus each of its rivals; this answers a question about two others.
    """
    from ..report.difference import difference_md
    from ..report.study import load_study

    found = load_study(layout().preset / "preset.yaml", layout().results, study, seeds, override)
    click.echo(difference_md(found, ours, rival), nl=False)
