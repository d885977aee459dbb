"""Tasks: where problems come from, how a prompt is shown to a model and where the answer stands in a response.

A task is one module of this package with an object `TASK`. It is imported by name only when it is asked for, so that a
task's dependencies burden nobody else. How answers are compared is the verifier's matter (`prefix_rft/rewards.py`).
"""

import difflib
import importlib
from pathlib import Path

from ..errors import UserError
from ..io import read_json

KNOWN = ("registers", "gsm")


class Task:
    """What a task provides.

    name        its module's name
    verifier    "exact" (equal strings, in process) or "math" (math-verify, in killable worker processes)
    DataConfig  dataclass of `setup/data.yaml`; has a field `task`
    """

    name: str
    verifier: str
    DataConfig: type

    def make(self, config, out: Path) -> dict:
        """Write `problems.<split>.parquet` and `raw.<source>.parquet` into `out`; return what data.json says beside the
        counts and checks that `prefix_rft/data.py` adds."""
        raise NotImplementedError

    def prompt_ids(self, tokenizer, prompt: str) -> list[int]:
        """Token ids that the model sees before its response, template applied."""
        raise NotImplementedError

    def extract(self, response: str) -> str | None:
        """The final answer of a response (text without the end mark), or None if it gives none."""
        raise NotImplementedError

    def check_demonstration(self, response: str, answer: str) -> str | None:
        """Why a demonstration with a right final answer must still not be imitated, as "kind: details", or None."""
        return None


def get_task(name: str) -> Task:
    """The task called `name`; `UserError` with the known names if there is none."""
    if name not in KNOWN:
        near = difflib.get_close_matches(str(name), KNOWN, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known tasks: {', '.join(KNOWN)}"
        raise UserError(f"unknown task {name!r}; {hint}")
    return importlib.import_module(f".{name}", __name__).TASK


def task_of(data: Path) -> Task:
    """The task that a data folder was made for, by its data.json."""
    path = Path(data) / "data.json"
    summary = read_json(path)
    if not isinstance(summary, dict) or "task" not in summary:
        raise UserError(f"{path}: key 'task' is missing; make the folder again with the command `data`")
    return get_task(summary["task"])
