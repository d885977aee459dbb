"""Options that several commands share, so that the same thing has the same flag everywhere.

A function here returns a decorator. What an option means beyond its name is said where it is used: `config("setup/data.yaml")`.
"""

import difflib
import inspect
from functools import cache, wraps
from pathlib import Path

import click

from ..common.errors import UserError

CONFIG = Path("config")
FILE = click.Path(path_type=Path)  # also of folders; whoever reads it says what is wrong with it


class Choice(click.Choice):
    """One of some names; a misspelt one is answered with the nearest."""

    def get_invalid_choice_message(self, value, ctx):
        near = difflib.get_close_matches(str(value), self.choices, 1)
        return (
            f"{value!r}: did you mean {near[0]!r}?" if near else f"{value!r}: must be one of {', '.join(self.choices)}"
        )


class Seed(click.ParamType):
    """A seed, as torch and numpy both take it."""

    name = "seed"

    def convert(self, value, param, ctx):
        if isinstance(value, int):
            return value
        if not value.strip().isdecimal() or int(value) >= 2**63:
            self.fail(f"{value!r}: must be a whole number from 0 to 2^63 - 1", param, ctx)
        return int(value)


class Seeds(click.ParamType):
    """`0,1,2`, `0 1 2` or `[0, 1, 2]` as a list of seeds."""

    name = "seeds"

    def convert(self, value, param, ctx):
        if isinstance(value, list):
            return value
        found = [SEED.convert(part, param, ctx) for part in value.strip().strip("[]").replace(",", " ").split()]
        if not found:
            self.fail(f"{value!r}: must name at least one seed, such as 0,1", param, ctx)
        return found


class Preset(click.ParamType):
    """The folder of a preset, from its name or its path: `tiny` is config/tiny, `mine/tiny` and `mine/tiny/preset.yaml` are mine/tiny.

    It need not be there, since all its files can be given one by one: `existing` says so where it is read.
    """

    name = "preset"

    def convert(self, value, param, ctx):
        folder = Path(value) if "/" in str(value) else CONFIG / value
        return folder.parent if folder.name == "preset.yaml" else folder

    def shell_complete(self, ctx, param, incomplete):
        return [click.shell_completion.CompletionItem(n) for n in preset_names() if n.startswith(incomplete)]


def existing(folder: Path) -> Path:
    """The folder of a preset, if it is there."""
    if not (folder / "preset.yaml").is_file():
        near = difflib.get_close_matches(folder.name, preset_names(), 1)
        known = f"config/ has {', '.join(preset_names())}" if CONFIG.is_dir() else "run this in the root of a clone"
        hint = f"did you mean {near[0]!r}?" if near else known
        raise UserError(f"--preset {folder.name}: there is no {folder}/preset.yaml; {hint}")
    return folder


def preset_names() -> list[str]:
    """Folders of config/ that hold a preset."""
    return sorted(p.parent.name for p in CONFIG.glob("*/preset.yaml"))


SEED, SEEDS = Seed(), Seeds()


# ------------------------------------------------------------------------------------------------- what a command reads


def config(what: str):
    return click.option("--config", "config_file", type=FILE, metavar="FILE", help=what)


def override(section: str):
    help = f"file such as smoke.yaml that overrides the configuration, with {section}"
    return click.option("--override", type=FILE, metavar="FILE", help=help)


def changes():
    help = "one value of the run's configuration, such as optimizer.lr=1e-3; may be repeated"
    return click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help=help)


def preset(required=True, help="name of a folder of config/, or the path of such a folder"):
    return click.option("--preset", required=required, type=Preset(), metavar="NAME", help=help)


def run(help="name of the run", required=True):
    return click.option("--run", required=required, metavar="NAME", help=help)


def seed(required=True, help="seed of the run"):
    return click.option("--seed", required=required, type=SEED, metavar="N", help=help)


def seeds():
    help = "such as 0,1; unset: the seeds of preset.yaml"
    return click.option("--seeds", type=SEEDS, metavar="N,N", help=help)


def data(help="folder made by the command `data`", required=False):
    return click.option("--data", required=required, type=FILE, metavar="DIR", help=help)


def model(help="model folder", required=False):
    return click.option("--model", required=required, type=FILE, metavar="DIR", help=help)


def benchmark(required=False, help="entry of the benchmark table"):
    return click.option("--benchmark", required=required, metavar="NAME", help=help)


def results(help="results folder of the preset; unset: results/<preset>"):
    return click.option("--results", type=FILE, metavar="DIR", help=help)


def named(flag: str, help: str, required=True):
    return click.option(flag, required=required, metavar="NAME", help=help)


def study():
    help = "main, or a name under `studies` of preset.yaml"
    return click.option("--study", default="main", metavar="NAME", help=help)


# ------------------------------------------------------------------------------------------------ what a command writes


def out(what: str, metavar="FILE"):
    return click.option("--out", type=FILE, metavar=metavar, help=what)


# -------------------------------------------------------------------------------------------------------- several at once


def together(*decorators):
    """One decorator of several; their order is the order in the help."""

    def decorate(function):
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def need(value, flag: str):
    """Refuse a call that lacks `flag` and what could stand for it."""
    if not value:
        raise click.UsageError(f"option {flag} is needed to find what is not given", click.get_current_context())


def results_of(preset, results) -> Path:
    """The results folder that --results or --preset names."""
    from ..runs.layout import Layout

    need(preset or results, "--preset")
    return results or Layout(existing(preset)).results


def layout(section: str, required=False):
    """The preset, its override and its results. The command gets `layout()` in place of `preset` and `results`.

    Args:
        section: what the override overrides.
        required: whether the preset is; otherwise a path that is not given asks for it.
    """

    def decorate(function):
        @wraps(function)
        def command(preset, results, override, **given):
            @cache
            def layout():
                from ..runs.layout import Layout

                need(preset, "--preset")
                return Layout(existing(preset), results, override)

            if "preset" in wants:
                given["preset"] = preset
            return function(layout=layout, override=override, **given)

        wants = inspect.signature(function).parameters
        return together(preset(required), override(section), results())(command)

    return decorate


def source(with_study=False):
    """What the numbers of a report come from."""
    chosen = [study()] if with_study else []
    return together(layout("which the results were made", required=True), seeds(), *chosen)


def speed():
    """The load of a speed measurement."""
    return together(
        model("model folder, such as results/tiny/models/base", required=True),
        data("data folder, such as results/tiny/data", required=True),
        click.option("--prompts", type=click.IntRange(1), default=16, metavar="N", help="prompts a step"),
        click.option("--group-size", type=click.IntRange(1), default=8, metavar="N", help="responses a prompt"),
        click.option("--new-tokens", type=click.IntRange(1), default=64, metavar="N", help="tokens of every response"),
        click.option(
            "--rounds",
            type=click.IntRange(1),
            default=7,
            metavar="N",
            help="times that both sides take turns, after one that does not count",
        ),
        out(
            "JSON file for the measured values",
        ),
    )
