"""A preset: the keys of `config/<preset>/preset.yaml`, and the files that the preset has or inherits."""

import difflib
import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, NonNegativeInt, PositiveFloat
from pydantic_core import PydanticCustomError

from ..common.errors import UserError
from .names import is_name
from .reading import Section, build, merge, opt, read_section, read_yaml

# Value of the key `seed` of a base model: seed k of a run starts from a base model of its own, made with seed k
PER_SEED = "run"


def _name(value):
    if not is_name(value, dots=False):
        raise PydanticCustomError("name", "a name of letters, digits, - and _, of at most 100 characters")
    return value


def _different(values):
    if not values or len(set(values)) != len(values):
        raise PydanticCustomError("different", "a list of at least one value, all different")
    return values


Name = Annotated[str, AfterValidator(_name)]
Names = Annotated[list[Name], AfterValidator(_different)]
Seeds = Annotated[list[NonNegativeInt], AfterValidator(_different)]
Rates = Annotated[list[PositiveFloat], AfterValidator(_different)]


class Demand(Section):
    mem_mb: int | None = opt(
        None, "main memory of a node in MB, multiplied by the attempt; unset: value of the profile", ge=1
    )
    runtime: int | None = opt(
        None, "time limit in minutes, multiplied by the attempt; unset: value of the profile", ge=1
    )


class TrainDemand(Demand):
    warning: int = opt(
        300, "seconds before the time limit at which Slurm warns the job, which then writes a checkpoint", ge=1
    )


class Resources(Section):
    """The resources that a rule's job requests from a cluster. `train` applies to every rule that trains."""

    train: TrainDemand | None = opt(None, "training runs")
    evaluate_on_benchmark: Demand | None = opt(None, "sampling of benchmarks")
    pass_at_k: Demand | None = opt(
        None, "values of evaluate_on_benchmark that differ where benchmarks are sampled for pass@k"
    )
    teach: Demand | None = opt(None, "sampling of teachers")
    probe: Demand | None = opt(None, "probes of snapshots")
    base: Demand | None = opt(None, "base models")
    contamination: Demand | None = opt(None, "benchmark questions that training problems are compared with")
    problems: Demand | None = opt(None, "problems and raw demonstrations")
    subset: Demand | None = opt(None, "problems chosen from others")
    demonstrations: Demand | None = opt(None, "filtered demonstrations")
    benchmark_problems: Demand | None = opt(None, "problems of benchmarks")


def _of_evaluation(values: Resources) -> Resources:
    """`pass_at_k` replaces values of `evaluate_on_benchmark`, so a value there without one here would ask for nothing."""
    general = values.evaluate_on_benchmark or Demand()
    for key, value in values.pass_at_k or Demand():
        if value is not None and getattr(general, key) is None:
            raise ValueError(f"pass_at_k.{key} replaces evaluate_on_benchmark.{key}, which is not set")
    return values


class LearningRates(Section):
    """The runs and rates that the target `lr_grid` compares on the validation split."""

    methods: Names = opt(..., "a list of different names: runs whose learning rate is chosen")
    rates: Rates = opt(..., "a list of learning rates, the same for every method")
    further: dict[str, Rates] = opt({}, "method -> extra rates, where the best of `rates` was at the edge of the grid")
    seeds: Seeds = opt([0], "a list of different whole numbers such as [0, 1]")


class Comparison(Section):
    """A comparison beside the main one, made by the target study_<name>."""

    runs: Names = opt(..., "a list of different names: the runs that are compared")
    label: str | None = opt(None, "text that its table is called by; unset: its name")
    regime: bool = opt(True, "whether figure_regimes shows it beside the main comparison")
    seeds: Seeds | None = opt(
        None, "a list of different whole numbers such as [0, 1]; unset: the seeds of the main comparison"
    )
    labels: dict[str, str] = opt({}, "run or base -> its name in tables and figures")


class Inheritance(Section):
    """What a preset takes from another preset."""

    extends: str | None = opt(
        None, "another preset; every file that this preset does not have is inherited from it, preset.yaml apart"
    )
    without: list[str] = opt(
        [], "patterns of files that are not inherited, such as setup/probe.yaml or analysis_*.yaml"
    )
    inherited: dict[str, object] = opt(
        {},
        "keys that override those of every inherited run, such as {demos: easy}; a run with its own file ignores them",
    )


class Preset(Inheritance):
    label: str | None = opt(None, "text that tables and figures call the main comparison by")
    published: str | None = opt(
        None,
        "model of the paper whose published numbers are shown beside ours; only for a preset with the paper's setting",
        choices=("Qwen2.5-Math-7B", "Qwen2.5-Math-1.5B", "LLaMA-3.1-8B"),
    )
    differs: str | None = opt(None, "difference from the paper's setting, for the captions of the tables")
    seeds: Seeds = opt(
        ..., "a list of different whole numbers such as [0, 1]: the seeds when the command line names none"
    )
    runs: Names = opt(
        ..., "a list of different names, the runs of the main comparison: each a file <run>.yaml beside preset.yaml"
    )
    labels: dict[str, str] = opt({}, "run or base -> its name in tables and figures")
    expected: dict[str, object] = opt(
        {}, "the sizes that `python -m prefix_rft cost` assumes (class Expected in prefix_rft/planning/cost.py)"
    )
    resources: Annotated[Resources, AfterValidator(_of_evaluation)] = opt(
        Resources(),
        "rule -> resources that one of its jobs requests from a cluster, such as {train: {mem_mb: 64000, runtime: 1440}}",
    )
    lr_grid: LearningRates | None = opt(None, "runs and rates that the target lr_grid compares on the validation split")
    studies: dict[Name, Comparison] = opt({}, "name -> comparison, each made by the target study_<name>")


def preset_values(file, override=None) -> dict:
    """The values of a preset.yaml, overridden by the section `preset` of `override`."""
    return merge(read_yaml(file), read_section(override, "preset"))


class Files:
    """Finds the files of a preset: its own, and those that it inherits.

    Why: presets of several models differ in a few values, so a file that says nothing new need not exist. `extends: paper-7b` in
    preset.yaml inherits every file of paper-7b except preset.yaml and files that match a pattern of `without`. An own file replaces
    the inherited file; it can still extend it: `extends: ../paper-7b/hpt.yaml`.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.lineage = [self.folder]  # the preset, the preset that it extends, and so on
        self._inheritance = []  # of every folder of the lineage but the last
        while parent := self._parent(self.lineage[-1]):
            self.lineage.append(parent)

    def _parent(self, folder) -> Path | None:
        file = folder / "preset.yaml"
        values = read_yaml(file) if file.exists() else {}
        own = build(Inheritance, {k: values[k] for k in Inheritance.model_fields if k in values}, file)
        if own.extends is None:
            return None
        known = sorted(p.parent.name for p in folder.parent.glob("*/preset.yaml") if p.parent != folder)
        if own.extends not in [*known, folder.name]:
            close = difflib.get_close_matches(own.extends, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise UserError(f"{file}: key 'extends' = {own.extends!r}: no such preset; {hint}")
        parent = folder.parent / own.extends
        if parent in self.lineage:
            circle = " -> ".join(p.name for p in [*self.lineage[self.lineage.index(parent) :], parent])
            raise UserError(f"{file}: key 'extends' = {own.extends!r}: leads back to itself: {circle}")
        self._inheritance.append(own)
        return parent

    def find(self, name) -> Path:
        """The path of file `name`, such as setup/data.yaml. A file that no preset has: its path in this preset's folder."""
        for folder, below in zip(self.lineage, [None, *self._inheritance], strict=True):
            if below and any(fnmatch(str(name), pattern) for pattern in below.without):
                break
            if os.path.exists(folder / name):  # no error for a name that no file can have
                return folder / name
        return self.folder / name

    def listed(self, place="") -> dict[str, Path]:
        """The YAML files in a folder such as setup/demos, own and inherited: {name without .yaml: path}, sorted by name.

        A file whose name starts with `_` is only extended by others, and left out.
        """
        names = {
            p.stem for folder in self.lineage for p in (folder / place).glob("*.yaml") if not p.stem.startswith("_")
        }
        found = {name: self.find(f"{place}/{name}.yaml".lstrip("/")) for name in sorted(names)}
        return {name: path for name, path in found.items() if path.exists()}

    def changes(self, path) -> dict:
        """What `inherited` changes in the run at `path`; {} for a run with its own file. The nearest preset overrides."""
        out = {}
        for own in reversed(self._inheritance[: self.lineage.index(Path(path).parent)]):
            out = merge(out, own.inherited)
        return out
