"""Command `sweep`."""

import click

from . import options
from .group import command


@command("prefix-rft sweep --preset tiny")
@options.preset(required=False)
@options.results()
@click.option("--all", "everything", is_flag=True, help="also what is an output still: every job can then run again")
def cli(preset, results, everything):
    """Delete results of earlier configurations and code that are kept beside the checkpoints, and parts of finished evaluations."""
    from ..evaluation.evaluate import remove_parts
    from ..runs.finished import sweep

    results = options.results_of(preset, results)
    folders, freed = sweep(results, everything)
    remove_parts(results)
    click.echo(f"{results}: {folders} kept results deleted, {freed / 2**20:.1f} MiB freed")
