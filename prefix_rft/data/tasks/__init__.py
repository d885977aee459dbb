"""Tasks: the source of the problems, the form of a prompt, and the final answer of a response.

A task is one module of this package with an object `TASK`, or an object of another package, named as `package.module:TASK`. It is
imported when a command asks for it by name, so that other tasks do not need its dependencies. The verifier compares answers
(`prefix_rft/verifier/verifier.py`).
"""

import difflib
import importlib
import sys
import types
from pathlib import Path

from ...common.errors import UserError, shown
from ...common.files import read_json
from ...config.reading import Section, opt
from ..templates import Template

KNOWN = ("registers", "gsm", "gym", "math", "own")

NOTHING = types.MappingProxyType({})


class DemosConfig(Section):
    source: str = opt(..., "teacher: reads data/raw.<source>.parquet")
    split: str = opt("train", "problems that the demonstrations belong to: data/problems.<split>.parquet")
    verify: bool = opt(True, "drop demonstrations whose final answer is wrong; false keeps an unfiltered teacher")
    only_wrong: bool = opt(
        False, "keep only demonstrations whose final answer is wrong, for an ablation; needs verify: false"
    )
    swapped: float = opt(
        0.0, "share of the demonstrations that are given to another problem, for an ablation", ge=0, le=1
    )
    max_tokens: int | None = opt(None, "longest demonstration kept, in tokens with the end mark; unset: no limit", ge=2)
    share: float = opt(1.0, "share of the prompts with a demonstration that keep their demonstrations", gt=0, le=1)
    seed: int = opt(0, "draws the prompts of `share` and the demonstrations of `swapped`", ge=0)
    max_broken: float = opt(0.01, "more broken rows than this share are an error", ge=0, le=1)

    def check(self):
        if self.only_wrong and self.verify:
            raise ValueError("only_wrong: needs verify: false, which keeps wrong demonstrations")


class Task:
    """The interface of a task.

    name        its module's name
    verifier    "exact" (equal strings, in process), "choice" (a letter) or "math" (math-verify, in killable worker processes)
    splits      names of the problem files that `make` writes, whatever the configuration (`splits_of`)
    DataConfig  `Section` of `setup/data.yaml`; has a field `task`
    DemosConfig `Section` of `setup/demos/<name>.yaml`
    """

    name: str
    verifier: str
    splits: tuple[str, ...] = ("train", "validation", "test", "ood")
    DataConfig: type
    DemosConfig: type = DemosConfig

    def of_folder(self, summary: dict) -> "Task":
        """This task with the settings of a data folder. summary: the values of its data.json."""
        return self

    def template(self) -> Template:
        """The text that `prompt_ids` puts around a prompt. run.json records its hash."""
        raise NotImplementedError

    def splits_of(self, config) -> list[str]:
        """Names of the problem files that `make` writes with this configuration."""
        return list(self.splits)

    def sources(self, config) -> list[str]:
        """Teachers whose `raw.<source>.parquet` `make` writes with this configuration."""
        raise NotImplementedError

    def make(self, config, out: Path) -> dict:
        """Write `problems.<split>.parquet` and `raw.<source>.parquet` into the folder `out`. Return further keys for data.json,
        beside the counts and checks of `prefix_rft/data/make.py`."""
        raise NotImplementedError

    def given(self, prompt: str):
        """A stored prompt as a reward function gets it: a text, or a list of messages."""
        return prompt

    def prompt_ids(self, tokenizer, prompt: str) -> list[int]:
        """Token ids of the prompt in its template: all that the model sees before its response."""
        raise NotImplementedError

    def extract(self, response: str) -> str | None:
        """The final answer of a response (text without the end mark), or None if it has no final answer."""
        raise NotImplementedError

    def left_out(self, data: Path) -> dict[str, str]:
        """Id -> reason, for problems with demonstrations that `make` left out."""
        return NOTHING

    def filter_demonstrations(self, config, funnel, data: Path):
        """The task's own steps of the demonstration filter. They run after the common steps. funnel: a `demonstrations.Funnel`."""

    def check_demonstration(self, response: str, answer: str) -> str | None:
        """The reason to drop a demonstration with a correct final answer, as "kind: details", or None."""
        return None


def get_task(name: str) -> Task:
    """The task called `name`, or the object at `package.module:TASK`. Raises `UserError` with the known names if there is none."""
    if ":" in str(name):
        return _from_outside(name)
    if name not in KNOWN:
        near = difflib.get_close_matches(str(name), KNOWN, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known tasks: {', '.join(KNOWN)}"
        raise UserError(f"unknown task {shown(name)}; {hint}")
    return importlib.import_module(f".{name}", __name__).TASK


def _from_outside(name: str) -> Task:
    """The task at `package.module:TASK`. Modules are found from the folder you are in, too."""
    module, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.append("")
    try:
        task = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as e:
        raise UserError(
            f"unknown task {name!r}: {e}; must be package.module:TASK, seen from the folder you are in"
        ) from e
    if not isinstance(task, Task):
        raise UserError(f"task {name!r}: is a {type(task).__name__}, must be a prefix_rft.data.tasks.Task")
    return task


def task_of(data: Path) -> Task:
    """The task of a data folder, read from its data.json."""
    path = Path(data) / "data.json"
    summary = read_json(path)
    if not isinstance(summary, dict) or "task" not in summary:
        raise UserError(f"{path}: key 'task' is missing; make the folder again with the command `data`")
    try:
        return get_task(summary["task"]).of_folder(summary)
    except UserError as e:
        raise UserError(f"{path}: key 'task': {e}") from e
