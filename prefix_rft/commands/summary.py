"""Command `summary`."""

from . import options
from .group import command


@command("prefix-rft summary --preset tiny", "prefix-rft summary --results docs/results/tiny")
@options.preset(required=False)
@options.results()
def cli(preset, results):
    """Print the result in three sentences, a table with a row for each method, and the path of the report."""
    from ..report.summary import print_summary

    print_summary(options.results_of(preset, results))
