"""The code that decides a run's numbers, as hashes: so that an edited method trains again and an edited comment does not.

A file is hashed by its syntax tree. Comments, docstrings, formatting, the text of an error and calls of `log` change nothing.

Counted: the method's own file, what a training step runs (`ROOTS`), and what these import of this package, followed statically.
`alternatives` are counted where the run uses them: another method, another task and an engine of other runs change nothing. The files of
the run's own reward functions are counted by their bytes.

Not counted (`APART`), because their effect is in the run's identity already or no number depends on them:

* config, runs: they read the configuration; the resolved values are hashed.
* data that is made (hub, subsets, teachers, demonstrations): the files that training reads are hashed. So is the starting model.
* common, and of training the command, checkpoints, records and the check of memory: they read, write and raise errors.
* evaluation, report, planning, speed, bases: they run before or after the training.

Versions of torch and other libraries are in run.json and not counted here.
"""

import ast
import hashlib
import sys
from functools import cache
from pathlib import Path

from ..common.files import hash_of
from ..config.run import Run
from ..methods import method_class
from ..verifier.rewards import file_hashes as reward_hashes

PACKAGE = Path(__file__).resolve().parents[1]
ROOTS = ("training.trainer", "training.step")
APART = (
    *("common", "config", "runs", "bases", "evaluation", "report", "planning", "speed", "__main__"),
    *("training.train", "training.results", "training.checkpoint", "training.memory", "training.tracking"),
    *("data.hub", "data.make", "data.subsets", "data.demonstrations", "data.demonstration_filters"),
    "data.overlap",
)


def fingerprint(run: Run, task, package: Path = PACKAGE) -> dict:
    """The code of a run.

    Args:
        run: the configuration.
        task: the `Task` that it trains on.
        package: folder of the package `prefix_rft`.

    Returns:
        {"sha256": 16 hex digits over all files, "files": {"methods/luffy.py": 16 hex digits, ...}}
    """
    used = alternatives(run, task)
    roots = (*ROOTS, f"methods.{run.method}", f"data.tasks.{task.name}", *(name for name in used if used[name]))
    apart = (*APART, *(name for name in used if not used[name]))
    files = {str(path.relative_to(package)): _file_hash(path) for path in sorted(_closure(package, roots, apart))}
    files |= reward_hashes(run.reward)
    if not type(task).__module__.startswith(f"{package.name}."):  # a task from outside
        files[f"task {task.name}"] = _file_hash(Path(sys.modules[type(task).__module__].__file__))
    return code_record(files)


def code_record(files: dict) -> dict:
    """The fingerprint of these files: {file: hash}."""
    return {"sha256": hash_of(files)[:16], "files": files}


def alternatives(run: Run, task) -> dict[str, bool]:
    """Module or package -> whether this run uses it. The rest of what is counted is used by every run."""
    samples = method_class(run.method).samples
    engine = run.rollout.engine if samples and run.rollout else None
    named = {r.name for r in run.reward or () if r.path is None}
    math = samples and ("math" in named or task.verifier == "math")
    on_cpu = run.device != "cuda"
    return {
        "rollout": samples,
        "rollout.native": engine == "native",
        "rollout.by_transformers": engine == "native",  # what that engine does not know
        "rollout.vllm": engine == "vllm",
        "rollout.vllm_worker": engine == "vllm",  # a process of its own, which nothing imports; so is the verifier's
        "verifier": samples,
        "verifier.verifier": samples,
        "verifier.rewards": samples,
        "verifier.pool": math,
        "verifier.worker": math,
        "verifier.sandbox": math,
        "verifier.limits": math,
        "verifier.notation": math,
        "verifier.forms": math,
        "verifier.equivalence": math,
        "training.learner_deepspeed": run.parallel.zero is not None,
        "model.forward_cpu": on_cpu,
        "model.kernels.products": on_cpu,
        "model.kernels.simd": on_cpu,
        "model.kernels.training": on_cpu,
        "model.kernels.decoding": on_cpu,
    }


def difference(old: dict, new: dict) -> list[str]:
    """Files of two fingerprints' `files` that are not the same: changed, added or removed."""
    return [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]


def _closure(package, roots, apart):
    """Files of the modules `roots` and of all that they import inside the package, without modules and packages `apart`."""
    found, todo = set(), [file for name in roots for file in _files(package, name)]
    while todo:
        path = todo.pop()
        name = _module(package, path)
        if path in found or any(name == a or name.startswith(f"{a}.") for a in apart) or not _tree(path).body:
            continue
        found.add(path)
        todo += [file for imported in _imports(package, path) for file in _files(package, imported)]
    return found


@cache
def _files(package, name):
    """The file of a module, and the `__init__.py` of the packages around it, which are run with it; [] for a name that is no module."""
    parts = name.split(".") if name else []
    folders = [package.joinpath(*parts[:n]) / "__init__.py" for n in range(1, len(parts) + 1)]
    module = package.joinpath(*parts).with_suffix(".py") if parts else package / "__init__.py"
    return [path for path in (*folders, module) if path.is_file()]


@cache
def _module(package, path):
    """Dotted name inside the package: "rollout.native"; of a package's `__init__.py` the package's."""
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _imports(package, path):
    """Dotted names inside the package that a file imports, anywhere in it. A name that is imported may be a module or not."""
    folder = path.parent.relative_to(package).parts
    names = []
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            absolute = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                around = folder[: len(folder) - node.level + 1]
                base = ".".join([package.name, *around, *([node.module] if node.module else [])])
            else:
                base = node.module
            absolute = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        names += [name.removeprefix(f"{package.name}.") for name in absolute if name.startswith(f"{package.name}.")]
    return names


@cache
def _tree(path):
    """The syntax tree of a file, without its docstring."""
    tree = ast.parse(path.read_bytes(), str(path))
    tree.body = [node for node in tree.body if not _says_only(node)]
    return tree


@cache
def _file_hash(path):
    return hashlib.sha256(_shape(_tree(path)).encode()).hexdigest()[:16]


def _shape(node) -> str:
    """A syntax tree as text, without what computes nothing. Empty fields are left out: a newer Python has more of them."""
    if isinstance(node, ast.AST):
        if isinstance(node, ast.Raise):  # which error, not what it says: no finished run has raised it
            node = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            return f"Raise({_shape(node)})"
        fields = ((name, getattr(node, name, None)) for name in node._fields if name != "kind")
        inner = ",".join(f"{name}={_shape(value)}" for name, value in fields if value is not None and value != [])
        return f"{type(node).__name__}({inner})"
    if isinstance(node, list):
        return "[" + ",".join(_shape(item) for item in node if not _says_only(item)) + "]"
    return repr(node)


def _says_only(node) -> bool:
    """A statement that is a text (a docstring) or a call of `log`."""
    if not isinstance(node, ast.Expr):
        return False
    value = node.value
    if isinstance(value, ast.Constant):
        return isinstance(value.value, str)
    called = value.func if isinstance(value, ast.Call) else None
    return isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "log"
