"""Command `check`: read every configuration of a preset as its command would, and look at the results folder, before work is spent.

Left out: what needs data or a model (a prompt longer than the window, a full disk); the command that meets it first says so.
"""

import sys
from pathlib import Path

from . import __version__
from .ablations import NOT_RUNS, Runs
from .config import load, load_run, read_yaml
from .errors import UserError
from .io import read_json, write_json

RESULTS_FORMAT = 1  # goes up when older files in results/<preset>/ can no longer be read with newer ones


def add_arguments(parser):
    parser.add_argument("--preset-dir", required=True, type=Path, help="config/<preset>")
    parser.add_argument("--override", help="smoke.yaml")
    parser.add_argument("--results", type=Path, help="results folder to check; marked with this version when it is new")


def check_preset(folder: Path, override=None) -> int:
    """Load every configuration file in `folder`; returns how many. Raises the first `UserError`."""
    from . import base, benchmarks, data, evaluate, probe, subsets, teacher
    from .templates import read_template

    if not folder.is_dir():
        raise UserError(f"{folder}: no such preset folder")
    setup = folder / "setup"
    if override is not None:
        known = {
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
        }
        for key in read_yaml(override):
            if key not in known and not key.startswith("run_"):
                raise UserError(f"{override}: unknown section {key!r}; known: {', '.join(sorted(known))}, run_<method>")
    task, task_config = data.load_config(setup / "data.yaml", override)
    if getattr(task_config, "template", None):
        read_template(task_config.template)

    def of_setup(file):
        if file.name == "benchmarks.yaml" or (file.name == "pass_at_k.yaml" and (setup / "benchmarks.yaml").exists()):
            benchmarks.load_benchmarks(file, override)
        elif file.name == "probe.yaml":
            load(probe.Probe, file, override, "probe")
        elif file.name != "data.yaml":
            load(evaluate.Evaluation, file, override, "evaluation")

    loaders = [
        (setup / "bases", lambda f: base.load_config(f, override)),
        (setup / "demos", lambda f: load(task.DemosConfig, f, override, "demos")),
        (setup / "teachers", lambda f: read_template(load(teacher.TeacherConfig, f, override, "teachers").template)),
        (setup / "subsets", lambda f: load(subsets.SubsetConfig, f, override, "subsets")),
        (setup, of_setup),
        (folder, lambda f: f.stem in NOT_RUNS or load_run(f, override)),
    ]
    count = 1
    for place, read in loaders:
        for file in sorted(place.glob("*.yaml")):
            if not file.name.startswith("_"):
                read(file)
                count += 1
    runs = Runs(folder, override)
    for variant in runs.variants:
        runs.load(variant)
    return count + len(runs.variants)


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


def main(args):
    count = check_preset(args.preset_dir, args.override)
    if args.results is not None:
        check_results(args.results)
    print(f"{args.preset_dir}: {count} configurations are right", file=sys.stderr)
