"""`prefix-rft`: the list of commands. A command's module is imported when that command is called, because torch takes seconds."""

import importlib

import click

from ..common.version import __version__

FOR_YOU = {
    "init": "write a preset for your own data and model",
    "cost": "GPU-hours, tokens, disk and memory of a run or of a target, before anything runs",
    "check": "check every configuration of a preset before any work",
    "summary": "print the result in three sentences and a table",
    "report": "write the page of a preset's results, report.html",
    "difference": "one run minus another of a study, with intervals: any two",
    "compare": "two folders of results side by side: do they agree?",
    "export": "a run's model for the hub, or for lm-evaluation-harness",
    "score": "verify the responses of a JSON Lines file",
    "sweep": "delete results of earlier configurations and code that are kept beside the checkpoints",
    "speed-trl": "speed against transformers and TRL, side by side",
    "speed-vllm": "speed of rollouts by vLLM against vLLM called directly, side by side",
}
# in the data's order
FOR_THE_WORKFLOW = {
    "benchmark-problems": "fetch the problems of one benchmark",
    "contamination": "collect the benchmarks' questions, to keep training data clear of them",
    "data": "make or fetch the problems and raw demonstrations of a preset",
    "base": "make the base model",
    "teach": "sample demonstrations from a model and verify them",
    "subset": "choose training problems by demonstration, by difficulty, or the first of each level",
    "demos": "filter a set of demonstrations",
    "train": "one training run",
    "evaluate": "sample a model on held-out problems or on a benchmark, and score it",
    "probe": "likelihood of demonstrations and success rates of a run's snapshots",
    "tables": "tables of a study",
    "benchmark-table": "table of a preset's benchmark scores",
    "paper-table": "one table of the paper from our runs",
    "paper-claims": "every claim of the paper and of its critics, tested",
    "figure": "one figure",
}
SECTIONS = {"For you": FOR_YOU, "Called by the workflow": FOR_THE_WORKFLOW}


def examples(*lines: str):
    """Command class whose help ends with these command lines."""

    class Command(click.Command):
        def format_epilog(self, ctx, formatter):
            with formatter.section("Examples" if lines[1:] else "Example"):
                formatter.write_text("\b\n" + "\n".join(lines))

    Command.examples = lines
    return Command


def command(*lines: str, **settings):
    """Decorator of a command's function.

    Args:
        lines: examples of calls, as one types them.
        settings: of `click.command`.
    """
    shown = {"max_content_width": 120, "show_default": True}
    return click.command(cls=examples(*lines), context_settings=shown, **settings)


class Commands(click.Group):
    def list_commands(self, ctx):
        return [*FOR_YOU, *FOR_THE_WORKFLOW]

    def get_command(self, ctx, name):
        if name not in FOR_YOU and name not in FOR_THE_WORKFLOW:
            return None
        found = importlib.import_module(f".{name.replace('-', '_')}", __package__).cli
        found.name = name
        return found

    def resolve_command(self, ctx, args):
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as e:  # click knows the names of loaded commands only
            raise click.exceptions.NoSuchCommand(
                e.command_name, possibilities=self.list_commands(ctx), ctx=ctx
            ) from None

    def format_commands(self, ctx, formatter):
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(list(commands.items()))


def show_version(ctx, option, asked):
    if not asked or ctx.resilient_parsing:
        return
    from ..common.provenance import git_revision

    revision = git_revision()
    click.echo(f"prefix-rft {__version__}" + (f" (git {revision})" if revision else ""))
    ctx.exit()


@click.command(cls=Commands, context_settings={"max_content_width": 120})
@click.option(
    *("--version", "version"),
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="print the version, and in a clone the git revision",
)
def cli():
    """Prefix-RFT (arXiv 2507.01679): training, evaluation and reports.

    `prefix-rft COMMAND --help` shows the options of a command and an example. Commands find their files by the names of the preset and the
    run, relative to the root of a clone: run them there. Without installation, type `python -m prefix_rft COMMAND`.
    """
