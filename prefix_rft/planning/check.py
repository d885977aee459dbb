"""Command `check`: read every configuration of a preset as its command would, and look at the results folder, before work is spent.

Checks that need data or a model are left to the commands, such as a prompt that leaves no room in the window, or a full disk.
"""

import importlib.util
import os
import sys
from pathlib import Path

from .. import methods
from ..common.errors import UserError, shown
from ..common.files import read_json, write_json
from ..common.version import __version__
from ..config.preset import Files, Preset, preset_values
from ..config.reading import build, load, parents, read_yaml, resolve
from ..runs.ablations import Runs, read_ablations, run_names
from ..runs.finished import unshared
from ..runs.names import Setup, near, refuse_unknown, refuse_unknown_setup

PACKAGES = {  # package beside requirements/core.txt -> how to install it
    "deepspeed": "make gpu; on a CPU: pip install -c requirements/pins.txt -r requirements/deepspeed.txt",
    "vllm": "make gpu; on a CPU: docs/vllm.md",
    "datasets": "pip install -c requirements/pins.txt -r requirements/paper.txt",
    "huggingface_hub": "pip install -c requirements/pins.txt -r requirements/paper.txt",
    "py3langid": "pip install -c requirements/pins.txt -r requirements/paper.txt",
}
EVALUATIONS = {"evaluate": "evaluation", "sample": "pass_at_k", "validate_grid": "validation", "probe": "probe"}
FETCHING = ("problems", "contamination", "benchmark_problems")  # rules that fetch data sets
BASES = ("base", "base_of_seed")
TRAININGS = ("train", "train_grid", "replay", "train_with_snapshots")
SECTIONS = (  # of a file that overrides others
    *(
        "preset",
        "run",
        "data",
        "base",
        "demos",
        "evaluation",
        "benchmarks",
        "teachers",
        "subsets",
        "probe",
        "ablations",
    ),
)
MUCH = 2**30  # bytes
RESULTS_FORMAT = 1  # goes up when older files in results/<preset>/ can no longer be read with newer ones


def check_preset(folder: Path, override=None) -> int:
    """Load every configuration file of a preset, inherited files included; return their number. Raises the first `UserError`."""
    from ..bases import make as base
    from ..data import make as data
    from ..data import subsets
    from ..data.templates import read_template
    from ..evaluation import benchmarks, evaluate, probe, teach

    if not folder.is_dir():
        raise UserError(f"{folder}: no such preset folder")
    preset = Files(folder)
    if override is not None:
        sections = [*SECTIONS, *(f"run_{name}" for name in methods.names())]
        for key in read_yaml(override):
            if key not in sections:
                raise UserError(f"{override}: unknown section {shown(key)}; {near(key, sections)}")
    task, task_config = data.load_config(preset.find("setup/data.yaml"), override)
    if getattr(task_config, "template", None):
        read_template(task_config.template, f"{preset.find('setup/data.yaml')}: key 'template'")

    probes = []

    def of_setup(file):
        if file.name == "benchmarks.yaml" or (
            file.name == "pass_at_k.yaml" and preset.find("setup/benchmarks.yaml").exists()
        ):
            benchmarks.load_benchmarks(file, override)
        elif file.name == "probe.yaml":
            probes.append(load(probe.Probe, file, override, "probe"))
        elif file.name != "data.yaml":
            load(evaluate.Evaluation, file, override, "evaluation")

    windows = {}

    def of_base(file):
        _, config = base.load_config(file, override)
        windows[file.stem] = config.shape.positions if config.kind == "registers" else getattr(config, "window", None)

    def of_teacher(file):
        teacher = load(teach.TeacherConfig, file, override, "teachers")
        read_template(teacher.template, f"{file}: key 'template'")
        return teacher

    loaders = {
        "setup/bases": of_base,
        "setup/demos": lambda f: load(task.DemosConfig, f, override, "demos"),
        "setup/teachers": of_teacher,
        "setup/subsets": lambda f: load(subsets.SubsetConfig, f, override, "subsets"),
        "setup": of_setup,
    }
    found = {
        place: {name: read(file) for name, file in preset.listed(place).items()} for place, read in loaders.items()
    }
    count = 1 + sum(map(len, found.values()))
    problems = [*task.splits_of(task_config), *found["setup/subsets"]]
    setup = (found[f"setup/{kind}"] for kind in ("demos", "teachers", "subsets"))
    refuse_unknown_setup(
        preset, override, task.sources(task_config), Setup([*windows], problems, *setup, next(iter(probes), None))
    )
    runs, ordinary = Runs(folder, override), run_names(folder)
    known = {
        "bases": [*windows],
        "demos": [*found["setup/demos"]],
        "problems": problems,
        "runs": [*ordinary, *runs.variants],
    }

    def of_run(name, where):
        run = runs.load(name)
        refuse_unknown(run, where, **known, files=parents(runs.locate(name)[0]))
        refuse_beyond_window(run, where, windows)

    for name in ordinary:
        of_run(name, runs.locate(name)[0])
        count += 1
    for error in read_ablations(folder, override).broken.values():  # stops only its own target, as a variant below
        print(f"note: {error}", file=sys.stderr)
    for variant in runs.variants:
        try:
            of_run(variant, runs.origin(variant))
            count += 1
        except UserError as e:  # stops only the targets that need the variant; the workflow repeats the error there
            print(f"note: {e}", file=sys.stderr)
    check_preset_file(folder / "preset.yaml", override, known)
    return count + 1


def check_preset_file(file: Path, override, known: dict[str, list[str]]):
    """Refuse a wrong preset.yaml, and names in it of nothing that there is, which would be passed over without a word.

    known: as `refuse_unknown` takes them.
    """
    from .cost import Expected

    values, where = preset_values(file, override), f"{file} (with {override})" if override else str(file)
    preset = build(Preset, values, where)
    expected = build(Expected, preset.expected, f"{where}: expected")
    shown_names = [*known["runs"], *known["bases"]]
    grid = preset.lr_grid
    for name, study in preset.studies.items():  # stops only its own target
        for run in study.runs:
            if run not in known["runs"]:
                print(
                    f"note: {where}: key 'studies.{name}.runs': no run {run!r}; {near(run, known['runs'])}",
                    file=sys.stderr,
                )
    for key, names, options in (
        ("runs", preset.runs, known["runs"]),
        ("labels", preset.labels, shown_names),
        ("expected.problems", expected.problems, known["problems"]),
        ("expected.demonstrations", expected.demonstrations, known["demos"]),
        ("expected.demonstration_tokens", expected.demonstration_tokens, known["demos"]),
        *((f"studies.{name}.labels", study.labels, shown_names) for name, study in preset.studies.items()),
        *(
            (("lr_grid.methods", grid.methods, known["runs"]), ("lr_grid.further", grid.further, grid.methods))
            if grid
            else ()
        ),
    ):
        for name in names:
            if name not in options:
                raise UserError(f"{where}: key {key!r}: there is no {shown(name)}; {near(name, options)}")


def refuse_beyond_window(run, where, windows):
    """Refuse a run whose response limit does not fit the window. windows: base -> tokens of prompt and response, None if unknown here."""
    window = windows.get(run.base)
    if run.rollout and window is not None and run.rollout.max_response >= window:
        raise UserError(
            f"{where}: key 'rollout.max_response' = {run.rollout.max_response}: base {run.base!r} has a window of {window} tokens for"
            " prompt and response together"
        )


def needed(folder: Path, override, rule: str, name: str) -> list[tuple[str, str]]:
    """[(package, setting that needs it)] of a job of the workflow; packages of requirements/core.txt are left out."""
    preset = Files(folder)

    def setup(name):
        return preset.find(f"setup/{name}.yaml")

    if rule in TRAININGS:
        run = Runs(folder, override).load(name)
        found = [("deepspeed", f"parallel.zero = {run.parallel.zero} of run {name}")] if run.parallel.zero else []
        if run.rollout and run.rollout.engine == "vllm":
            found.append(("vllm", f"rollout.engine = 'vllm' of run {name}"))
        return found
    if rule in BASES:
        file = setup(f"bases/{name}")
        values = resolve(file, override, "base")
        return [("huggingface_hub", f"kind = 'hub' of {file}")] if values.get("kind") == "hub" else []
    if rule == "demonstrations":
        file = setup(f"demos/{name}")
        language = resolve(file, override, "demos").get("language")
        return [("py3langid", f"language = {language!r} of {file}")] if language else []
    if rule in FETCHING:
        hub = any(s.get("name") and not s.get("path") for s in sources(preset, override, rule))
        return [("datasets", f"a source on the hub in {fetched(preset, rule)}")] if hub else []
    if rule == "teach":
        file, section = setup(f"teachers/{name}"), "teachers"
    elif rule in ("evaluate_on_benchmark", "evaluate_base_on_benchmark"):
        file, section = setup("pass_at_k" if name == "pass_at_k" else "benchmarks"), "benchmarks"
    elif (stem := EVALUATIONS.get(rule.removesuffix("_base"))) is not None:
        file, section = setup(stem), "probe" if stem == "probe" else "evaluation"
    else:
        return []
    return [("vllm", f"engine = 'vllm' of {file}")] if resolve(file, override, section).get("engine") == "vllm" else []


def fetched(preset, rule):
    """The file that says what a job of `FETCHING` fetches."""
    return preset.find(f"setup/{'data' if rule == 'problems' else 'benchmarks'}.yaml")


def sources(preset, override, rule, name="") -> list[dict]:
    """The sources of data sets that a job of `FETCHING` reads. name: of the benchmark, for benchmark_problems; unset: all."""
    values = resolve(fetched(preset, rule), override, "data" if rule == "problems" else "benchmarks")
    entries = read_yaml(values["table"]) if "table" in values else {}
    used = [name] if name else [*values.get("names", []), *values.get("clear_of", [])]
    found = [values.get("source"), *(entries[n].get("source") for n in used if n in entries)]
    return [s for s in found if isinstance(s, dict)]


def check_token(folder: Path, override, jobs: list[str]):
    """Refuse jobs (`rule:name`) that fetch what the hub gives with a token only, where there is none. Another hub (HF_ENDPOINT) may give
    it without."""
    if os.environ.get("HF_TOKEN") or os.environ.get("HF_ENDPOINT"):
        return
    preset, gated = Files(folder), []
    for job in jobs:
        rule, _, name = job.partition(":")
        if rule in ("problems", "benchmark_problems"):  # contamination does without what it cannot fetch
            found = sources(preset, override, rule, name)
        elif rule in BASES:
            found = [resolve(preset.find(f"setup/bases/{name}.yaml"), override, "base")]
        else:
            continue
        gated += [s["name"] for s in found if s.get("gated") and not s.get("path")]
    if gated and not stored_token():
        names = ", ".join(dict.fromkeys(gated))
        raise UserError(
            f"{folder}: the hub gives {names} with a token only: accept the conditions on its page and `export HF_TOKEN=...`,"
            " or name a local copy with `path`"
        )


def stored_token() -> bool:
    """Whether `hf auth login` has left a token."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache/huggingface"))
    return Path(os.environ.get("HF_TOKEN_PATH", home / "token")).is_file()


def check_packages(folder: Path, override, jobs: list[str]):
    """Refuse jobs (`rule:name`) that need packages which cannot be found, all in one line. They are looked for and not imported: an
    installation that is broken shows when its job starts."""
    missing = {}
    for job in jobs:
        rule, _, name = job.partition(":")
        for package, why in needed(folder, override, rule, name):
            if importlib.util.find_spec(package) is None:
                missing.setdefault(package, why)
    if missing:
        listed = "; ".join(f"{package} ({why}; {PACKAGES[package]})" for package, why in missing.items())
        raise UserError(f"{folder}: packages that its jobs need are not installed in {sys.prefix}: {listed}")


def check_devices(folder: Path, override, jobs: list[str]):
    """Refuse trainings (`rule:name`) that ask for a GPU where PyTorch sees none."""
    for job in jobs:
        rule, _, name = job.partition(":")
        if rule in TRAININGS and Runs(folder, override).load(name).device == "cuda":
            import torch

            if not torch.cuda.is_available():
                raise UserError(
                    f"{folder}: run {name}: key 'device' = 'cuda': this machine has no usable GPU; set it to auto or cpu"
                )
            return


def check_results(results: Path):
    """Refuse a results folder of another format; mark a folder that has no mark yet."""
    mark = results / "VERSION.json"
    if not mark.exists():
        write_json(mark, {"results_format": RESULTS_FORMAT, "package_version": __version__})
        return
    record = read_json(mark)
    found = record.get("results_format") if isinstance(record, dict) else None
    if found != RESULTS_FORMAT:
        raise UserError(
            f"{mark}: key 'results_format' = {found!r}: this version ({__version__}) reads and writes format {RESULTS_FORMAT};"
            " move the folder away, or use the version that made it"
        )


def say_kept(results: Path):
    """A line where results of earlier configurations and code hold much of the disk."""
    size = sum(unshared(folder) for folder in (results / "checkpoints").rglob("*.finished"))
    if size > MUCH:
        print(
            f"{results}: {size / 2**30:.1f} GiB are results of earlier configurations and code, kept to be handed back;"
            f" `python -m prefix_rft sweep --results {results}` deletes them",
            file=sys.stderr,
        )


def check(preset: Path, override=None, results: Path | None = None, jobs=(), devices=False):
    """Refuse a preset that has a wrong configuration, and jobs that cannot run here.

    Args:
        preset: config/<preset>.
        results: folder whose format is checked; a new one is marked.
        jobs: `rule:name` of jobs that this Python is going to run.
        devices: the jobs run on this machine.
    """
    count = check_preset(preset, override)
    check_packages(preset, override, jobs)
    check_token(preset, override, jobs)
    if devices:
        check_devices(preset, override, jobs)
    if results is not None:
        check_results(results)
        say_kept(results)
    print(f"{preset}: {count} configurations are correct", file=sys.stderr)
