"""What the rules need to know before the graph is drawn: the preset, its seeds, the names and files of its runs.

Everything a user can get wrong in config/config.yaml, on the command line (`--config`) or in preset.yaml ends here in one line
that names the file, the key, its value and what would be right. The package `prefix_rft` knows nothing of this module.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import yaml

from prefix_rft.common.errors import UserError
from prefix_rft.config.preset import Files, Preset, Seeds
from prefix_rft.config.reading import (
    Loader,
    Section,
    build,
    load,
    merge,
    opt,
    parents,
    read_section,
    read_yaml,
    resolve,
)
from prefix_rft.config.run import Run
from prefix_rft.data.make import load_config as load_data
from prefix_rft.data.subsets import SubsetConfig
from prefix_rft.data.tasks import Task
from prefix_rft.evaluation.benchmarks import load_benchmarks
from prefix_rft.evaluation.probe import Probe
from prefix_rft.evaluation.teach import TeacherConfig
from prefix_rft.runs.ablations import PREFIX, Ablation, Runs, base_names, files, read_ablations, run_names
from prefix_rft.runs.names import Setup, near, refuse_unknown, refuse_unknown_setup

# what each is drawn from: `Plan.figure_inputs`; the names of the targets: `figure_target`
PAPER_FIGURES = (
    *("figure_1", "figure_2", "figure_3a", "figure_3a_hard", "figure_3b", "figure_4"),
    *("figure_5", "figure_6a", "figure_6b"),
)
MAIN_FIGURES = ("figure_1", "training", "figure_4", "pass_at_k", "comparison")  # need nothing but the main comparison
FIGURES = (*PAPER_FIGURES, "training", "pass_at_k", "comparison", "lr_sensitivity", "regimes")
PAPER_TABLES = ("table_1", "table_2", "table_4", "table_5", "table_7", "table_8")


def reads_demos(run: Run) -> bool:
    return run.demos is not None and run.method != "rft"


def figure_target(name: str) -> str:
    return name if name.startswith("figure_") else f"figure_{name}"


def plain(key, value):
    """Snakemake hands over `--config smoke=true seeds=[0,1]` as text in places; read such text as YAML."""
    if isinstance(value, str):
        try:
            return yaml.load(value, Loader)
        except (yaml.YAMLError, ValueError, RecursionError) as e:
            raise UserError(
                f"config/config.yaml or --config: key {key!r} = {value!r}: is not YAML; write it as {key}=value, a list as {key}=[0,1]"
            ) from e
    if isinstance(value, list):
        return [plain(key, v) for v in value]
    return value


class Configuration(Section):
    """config/config.yaml, and what `snakemake --config key=value` may set."""

    preset: str = opt(..., "the name of a folder under config/ with a preset.yaml")
    seeds: Seeds | None = opt(
        None, "a list of different whole numbers such as [0, 1], or null for the seeds of the preset"
    )
    code: Literal["retrain", "keep"] = opt(
        "retrain",
        "retrain: a run whose code has changed is trained again; keep: its results stay, and tables and figures mark them",
    )
    smoke: bool = opt(False, "true: every rule in a few steps, into results/<preset>-smoke")


@dataclass(frozen=True)
class Settings:
    preset: str
    values: dict  # of preset.yaml, with the section `preset` of smoke.yaml
    folder: str  # config/<preset>
    results: str  # results/<preset> or results/<preset>-smoke
    override: str | None  # config/<preset>/smoke.yaml when smoke is on
    seeds: list[int]
    seeds_given: bool  # by the command line or config.yaml, not by the preset
    runs: list[str]  # of the main comparison
    keep_code: bool  # keep runs whose code has changed
    task: Task
    known_runs: list[str]  # every run that has a file, and every variant of an ablation
    bases: list[str]
    demos: list[str]
    splits: list[str]  # problem files that the data rule writes
    sources: list[str]  # teachers whose raw demonstrations the data rule writes
    teachers: dict[str, str]  # teachers that are sampled here -> the base model that they are
    subsets: dict[str, dict]  # problem files made of others -> the plain values of their configuration
    benchmarks: list[str]  # entries of the benchmark table, for presets that are scored on them
    deep_benchmarks: list[str]  # those of them that have many samples, for pass@k
    templates: list[str]  # prompt templates that the data rule reads
    studies: dict[str, dict]
    ablations: dict[str, Ablation]
    broken: dict[str, str]  # target of a study or ablation that this preset cannot make -> the error, one line
    lr_grid: dict | None
    finder: Runs
    snapshots: int  # of setup/probe.yaml
    probe_demos: str
    probe_split: str
    resources: dict[str, dict]  # rule -> what its jobs ask a cluster for
    _runs: dict[str, Run] = field(default_factory=dict, repr=False, compare=False)

    def run(self, name: str) -> Run:
        """The configuration of one run, override included; read once."""
        if name not in self._runs:
            self._runs[name] = self.finder.load(name)
        return self._runs[name]

    def run_files(self, name: str) -> list[str]:
        """The files that a run's configuration is made of: these are inputs of its rules. A variant's changed keys are no file but
        parameters of its rules, so that to edit one variant, or a label, does not train the others again."""
        return [str(p) for p in parents(self.finder.locate(name)[0])]

    def run_changes(self, name: str) -> list[str]:
        """Assignments that make a run of the file `run_files(name)[0]`; none for an ordinary run."""
        return self.finder.locate(name)[1]

    def ablation_files(self) -> list[str]:
        return [str(p) for p in files(self.folder)]

    def demo_values(self, name: str) -> dict:
        """The plain values of a demonstration set's configuration."""
        return resolve(self.setup(f"demos/{name}"), self.override, "demos")

    def setup(self, name: str) -> str:
        """The file of setup/ called `name`, such as data or demos/strong: the preset's own or an inherited one."""
        return str(self.finder.files.find(f"setup/{name}.yaml"))

    def all_runs(self) -> list[str]:
        """The runs of every comparison."""
        studies = [r for s in self.studies.values() for r in s["runs"]]
        return list(dict.fromkeys([*self.runs, *studies, *(r for a in self.ablations.values() for r in a.runs)]))


def benchmark_names(folder, override, file="benchmarks") -> list[str]:
    find = Files(folder).find
    if not find("setup/benchmarks.yaml").exists():
        return []
    return load_benchmarks(find(f"setup/{file}.yaml"), override)[0].names


def clear_of(folder, override) -> list[str]:
    return load_benchmarks(Files(folder).find("setup/benchmarks.yaml"), override)[0].clear_of


def load_settings(config: dict) -> Settings:
    """Read and check the workflow's configuration and the preset that it names, runs included."""
    where = "config/config.yaml or --config"
    config = {k: plain(k, v) for k, v in config.items()}
    build(Configuration, config, where)
    presets = sorted(p.parent.name for p in Path("config").glob("*/preset.yaml"))
    if config["preset"] not in presets:
        raise UserError(f"{where}: unknown preset {config['preset']!r}; {near(config['preset'], presets)}")
    folder = f"config/{config['preset']}"
    file = f"{folder}/preset.yaml"
    preset = read_yaml(file)
    smoke = config.get("smoke") or False
    preset_files = Files(folder)
    override = str(preset_files.find("smoke.yaml")) if smoke else None
    if smoke:
        preset = merge(preset, read_section(override, "preset"))
    build(Preset, preset, f"{file} (with {override})" if smoke else file)

    def of_setup(kind, cls):
        """The files of setup/<kind>/ as the class that their command reads: name -> configuration."""
        return {name: load(cls, file, override, kind) for name, file in preset_files.listed(f"setup/{kind}").items()}

    task, data = load_data(preset_files.find("setup/data.yaml"), override)
    made, teachers = of_setup("demos", task.DemosConfig), of_setup("teachers", TeacherConfig)
    read_subsets = of_setup("subsets", SubsetConfig)
    subsets = {n: resolve(file, override, "subsets") for n, file in preset_files.listed("setup/subsets").items()}
    probe = preset_files.find("setup/probe.yaml")
    probe = load(Probe, probe, override, "probe") if probe.exists() else None
    ablations = read_ablations(folder, override)
    finder = Runs(folder, override)
    settings = Settings(
        preset=config["preset"],
        values=preset,
        folder=folder,
        results=f"results/{config['preset']}" + ("-smoke" if smoke else ""),
        override=override,
        seeds=config.get("seeds") or preset["seeds"],
        seeds_given=bool(config.get("seeds")),
        runs=preset["runs"],
        keep_code=config.get("code") == "keep",
        task=task,
        known_runs=[*run_names(folder), *finder.variants],
        bases=base_names(folder),
        demos=list(made),
        splits=task.splits_of(data),
        sources=sorted({d.source for d in made.values()} - set(teachers)),
        teachers={name: teacher.model for name, teacher in teachers.items()},
        subsets=subsets,
        benchmarks=benchmark_names(folder, override),
        deep_benchmarks=benchmark_names(folder, override, "pass_at_k"),
        templates=[data.template] if getattr(data, "template", None) else [],
        studies=preset.get("studies") or {},
        ablations={PREFIX + name: a for name, a in ablations.items()},
        broken={PREFIX + str(name): error for name, error in ablations.broken.items()},
        lr_grid=preset.get("lr_grid"),
        finder=finder,
        snapshots=probe.snapshots if probe else 0,
        probe_demos=probe.demos if probe else "",
        probe_split=probe.split if probe else "train",
        resources=preset.get("resources") or {},
    )
    if getattr(data, "decontaminate", None) and not settings.benchmarks:
        raise UserError(
            f"{settings.setup('data')}: key 'decontaminate': there is no {folder}/setup/benchmarks.yaml to compare problems with;"
            " set it to null"
        )
    check_names(settings, file)
    refuse_unknown_setup(
        *(preset_files, override, task.sources(data)),
        Setup(settings.bases, [*settings.splits, *subsets], made, teachers, read_subsets, probe),
    )
    return without_broken(settings, file)


def check_names(settings: Settings, file: str):
    """The runs that target `all` and the learning-rate grid need are right, and so are the names of studies."""
    for key in settings.studies:
        if key == "main" or key.startswith(PREFIX):
            raise UserError(f"{file}: key 'studies.{key}': a study cannot be called main or begin with {PREFIX}")
    if not settings.bases:
        raise UserError(f"{settings.folder}/setup/bases: has no base model (one YAML file each)")
    check_runs(settings, settings.runs, f"{file}: key 'runs'")
    check_runs(settings, (settings.lr_grid or {}).get("methods", []), f"{file}: key 'lr_grid.methods'")


def check_runs(settings: Settings, names: list[str], where: str):
    """Every run of a comparison exists, its configuration is right, and so are the runs that it starts from. `where`: the file and the
    key that list the runs."""
    for name in names:
        if name not in settings.known_runs:
            near_by = near(name, settings.known_runs)
            raise UserError(f"{where}: no run {name!r} ({settings.folder}/{name}.yaml); {near_by}")
        if name in settings.bases:
            raise UserError(f"{where}: run {name!r} is also a base of {settings.folder}/setup/bases")
        check_run(settings, name)


def check_run(settings: Settings, name: str):
    """A run's names of base, demonstrations and problems exist, and `init_from` ends at a run that starts from a base."""
    run, where = settings.run(name), settings.run_files(name)[0]
    if origin := settings.finder.origin(name):
        where = f"{origin} of {where}"
    problems, known = [*settings.splits, *settings.subsets], settings.known_runs
    refuse_unknown(run, where, settings.bases, settings.demos, problems, known, settings.run_files(name))
    if run.init_from is None:
        return
    chain = [name]
    while (parent := settings.run(chain[-1]).init_from) is not None:
        if parent not in known:
            raise UserError(f"{where}: key 'init_from' = {parent!r}: no such run; {near(parent, known)}")
        if parent in chain:
            raise UserError(f"{where}: key 'init_from' leads back to itself: {' -> '.join([*chain, parent])}")
        chain.append(parent)
    check_run(settings, run.init_from)


def without_broken(settings: Settings, file: str) -> Settings:
    """The settings with the studies and ablations that this preset can make. The others are in `broken`: a comparison beside the main one
    must not stop `rule all`; its error ends the target that asks for it."""
    broken = dict(settings.broken)

    def right(target, names, where):
        try:
            check_runs(settings, names, where)
        except UserError as e:
            broken[target] = str(e)
        return target not in broken

    studies = {
        name: study
        for name, study in settings.studies.items()
        if right(f"study_{name}", study["runs"], f"{file}: key 'studies.{name}.runs'")
    }
    ablations = {name: a for name, a in settings.ablations.items() if right(name, a.runs, f"{settings.folder}: {name}")}
    kept = {e.run for a in ablations.values() for e in a.entries}
    variants = settings.finder.variants
    return replace(
        settings,
        studies=studies,
        ablations=ablations,
        broken=broken,
        known_runs=[name for name in settings.known_runs if name not in variants or name in kept],
    )
