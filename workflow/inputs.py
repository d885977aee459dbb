"""Which files every rule reads and which files every target asks for, as functions of the settings.

The rules hand over their wildcards: `input: lambda w: plan.train_sets(w.run)`. Nothing here imports Snakemake, so tests call the
functions directly.
"""

import difflib
import re
from collections.abc import Iterable
from functools import cached_property
from itertools import product

from prefix_rft.common.errors import UserError, shown
from prefix_rft.config.names import RULE, is_name
from prefix_rft.config.reading import resolve
from prefix_rft.evaluation.benchmarks import entry_hash, scoring_hash
from prefix_rft.report.claim_list import FURTHER, runs_asked
from prefix_rft.report.published import beside_figure
from prefix_rft.runs.ablations import PREFIX
from prefix_rft.runs.layout import Layout
from workflow.records import Records
from workflow.settings import (
    FIGURES,
    MAIN_FIGURES,
    PAPER_FIGURES,
    PAPER_TABLES,
    Settings,
    clear_of,
    figure_target,
    reads_demos,
)

# what the report calls the tables of a study
TABLE_NAMES = {
    "scores": "scores",
    "paired": "paired differences",
    "variance": "variance",
    "claims": "claims and verdicts",
    "budgets": "budgets",
}


def table_page(study: str, kind: str) -> dict:
    """Caption, category and labels of a table of a study in the report: arguments of Snakemake's `report`."""
    return {
        "caption": f"../report/{'main' if kind == 'scores' else kind}.rst",
        "category": {"main": "Main comparison", "{ablation}": "Ablations"}.get(study, "Studies"),
        "labels": {"comparison": study, "table": TABLE_NAMES[kind]},
    }


# targets with a rule of their own in targets.smk; `Plan.targets` has the others
STAGES = (
    *("all", "data", "bases", "demos", "runs", "evaluations", "tables", "figures", "studies", "ablations"),
    *("paper_figures", "paper_claims", "lr_grid", "benchmarks", "benchmark_bases"),
)
# figures and tables of the paper that are made from other comparisons than the main one -> their targets
NEEDS = {
    "figure_6a": ("ablation_entropy",),
    "figure_6b": ("ablation_schedule",),
    "table_2": ("ablation_quantity", "ablation_quality"),
    "table_8": ("study_controls",),
}
SCORES = ("scores.json", "samples.parquet")
DRAWN = ("pdf", "png", "csv")
SHOWN = ("csv", "md", "html")


def unique(items: Iterable) -> list:
    """The items without repetitions, in order."""
    return list(dict.fromkeys(items))


def pattern(names: Iterable[str]) -> str:
    """A regular expression for exactly these names; without any, one that matches nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


def check_names(kind: str, names: Iterable[str]):
    """Names become files, wildcards and words of a shell line (`prefix_rft/config/names.py`)."""
    for name in names:
        if not is_name(name):
            raise UserError(f"{kind} {shown(name)}: its name {RULE}")


class Plan:
    """The files of a preset. Attributes hold what the whole workflow asks for once: bases, demonstration sets, figures, tables."""

    def __init__(self, settings: Settings, main: bool = False):
        """`main`: the Snakemake that a user started, which writes the records."""
        s, self.records = settings, Records(settings, main)
        self.settings = s
        for kind, names in (
            ("preset", [s.preset]),
            ("run", s.known_runs),
            ("base model", s.bases),
            ("demonstration set", s.demos),
            ("teacher", s.teachers),
            ("problem subset", s.subsets),
            ("benchmark", s.benchmarks),
            ("study", s.studies),
            ("ablation", s.ablations),
        ):
            check_names(f"config/{s.preset}: {kind}", names)
        self.results = s.results
        self.layout = Layout(s.folder, s.results, s.override)
        self.bases_per_seed = self.layout.bases_per_seed
        self.override_flag = ["--override", s.override] if s.override else []
        runs = [s.run(name) for name in s.runs]
        self.bases = unique(r.base for r in runs)
        self.demos = unique(r.demos for r in runs if reads_demos(r))
        self.subsets = [name for name in unique(r.train_split for r in runs) if name in s.subsets]
        # runs that keep snapshots while they are trained; other presets train a run a second time for its snapshots (rule replay)
        self.keeping = s.studies.get("analysis", {}).get("runs", [])
        self.probed = "analysis" if self.keeping else "main"
        self.widest = "methods" if "methods" in s.studies else "main"  # Tables 1 and 5 have every method
        missing = set() if s.probe_demos else {"figure_3a", "figure_3a_hard", "figure_3b"}
        missing |= set() if s.lr_grid else {"lr_sensitivity"}
        there = {*(f"study_{name}" for name in s.studies), *s.ablations}
        missing |= {name for name, comparisons in NEEDS.items() if not there.issuperset(comparisons)}
        self.figures, self.paper_figures, self.paper_tables = (
            [name for name in names if name not in missing] for names in (FIGURES, PAPER_FIGURES, PAPER_TABLES)
        )

    # ------------------------------------------------------------------------------------------------------ names

    def wildcards(self) -> dict[str, str]:
        """Wildcard -> regular expression."""
        s = self.settings
        return {
            "run": pattern(s.known_runs),
            "base": pattern(s.bases),
            "demos": pattern(s.demos),
            "teacher": pattern(s.teachers),
            "subset": pattern(s.subsets),
            "benchmark": pattern(s.benchmarks),
            "study": pattern(s.studies),
            "ablation": pattern(s.ablations),
            "figure": pattern(self.figures),
            "table": pattern([*self.paper_tables, "paper_claims"]),
            "kind": "eval|pass_at_k",
            "seed": "[0-9]+",
            "lr": "[0-9.e+-]+",
        }

    def train_runs(self) -> list[str]:
        """Runs that keep no snapshots in training."""
        return [name for name in self.settings.known_runs if name not in self.keeping]

    @cached_property
    def other_bases(self) -> list[str]:
        """Studies whose runs start from another base model (Figure 5)."""
        studies = self.settings.studies.items()
        return [name for name, s in studies if not set(self.bases) & set(self.bases_of(s["runs"]))]

    @cached_property
    def claim_studies(self) -> list[str]:
        """Studies that the claims of the paper and of its critics are about."""
        s = self.settings
        ablations = unique(c.study for c in FURTHER if c.study.startswith(PREFIX))
        return [
            "main",
            *[name for name in ("methods", "controls") if name in s.studies],
            *self.other_bases,
            *[name for name in ablations if name in s.ablations],
            "pass_at_k",
            *(["probes"] if s.probe_demos else []),
        ]

    def study_runs(self, study: str) -> list[str]:
        s = self.settings
        if study in s.ablations:
            return s.ablations[study].runs
        return s.runs if study == "main" else s.studies[study]["runs"]

    def study_seeds(self, study: str) -> list[int]:
        """The study's own seeds, unless the command line or config.yaml gives some."""
        s = self.settings
        own = s.ablations[study].seeds if study in s.ablations else s.studies.get(study, {}).get("seeds")
        return list(own) if own and not s.seeds_given else s.seeds

    def seed_list(self, study: str) -> str:
        return ",".join(map(str, self.study_seeds(study)))

    def bases_of(self, runs: Iterable[str]) -> list[str]:
        return unique(self.settings.run(r).base for r in runs)

    # ------------------------------------------------------------------------------------- data and demonstrations

    def problems(self, splits: Iterable[str] | None = None) -> list[str]:
        """Problem files; default: every split that rule `problems` writes."""
        names = self.settings.splits if splits is None else splits
        return [f"{self.results}/data/problems.{name}.parquet" for name in names]

    def setup(self, file: str):
        """The file of setup/ called `file`, such as data, own or inherited; an input function for a name such as demos/{demos}."""
        find = self.settings.setup
        return (lambda wildcards: find(file.format(**dict(wildcards.items())))) if "{" in file else find(file)

    def clear_versions(self) -> list[str]:
        """Identity of every benchmark that training problems are compared with."""
        s = self.settings
        if not s.benchmarks:
            return []
        return [self.benchmark_version(name) for name in clear_of(s.folder, s.override)]

    def contamination(self) -> list[str]:
        """The questions of the benchmarks, which training problems must not be; presets without benchmarks have none."""
        files = [f"{self.results}/data/contamination.parquet", f"{self.results}/data/contamination.report.json"]
        return files if self.settings.benchmarks else []

    def subset_inputs(self, subset: str) -> list[str]:
        values, data = self.settings.subsets[subset], f"{self.results}/data"
        demos, teacher = values.get("with_demos"), values.get("teacher")
        return [
            *self.problems([values.get("source", "train")]),
            *([f"{data}/demos.{demos}.parquet"] if demos else []),
            *([f"{data}/levels.{teacher}.parquet"] if teacher else []),
        ]

    def raw_demonstrations(self, demos: str) -> list[str]:
        """The teacher's file of a demonstration set, if the teacher is sampled here; the subset of problems that the set names."""
        values = self.settings.demo_values(demos)
        sampled = values["source"] in self.settings.teachers
        return [
            *([f"{self.results}/data/raw.{values['source']}.parquet"] if sampled else []),
            *(self.problems([values["subset"]]) if values.get("subset") else []),
        ]

    def teacher_values(self, teacher: str) -> dict:
        """The plain values of a teacher's configuration."""
        return resolve(self.settings.setup(f"teachers/{teacher}"), self.settings.override, "teachers")

    def teacher_problems(self, teacher: str) -> list[str]:
        """The problems that a teacher is asked: a split of the data, or a subset."""
        return self.problems([self.teacher_values(teacher).get("split", "train")])

    def teacher_model(self, teacher: str) -> str:
        return self.base_model(self.settings.teachers[teacher])

    # -------------------------------------------------------------------------------------------------------- runs

    def base_model(self, base: str, seed: str | int | None = None) -> str:
        """The folder of a base model; seed: as of `Layout.base`."""
        return str(self.layout.base(base, seed))

    def base_record(self, base: str, seed: str | int | None = None) -> str:
        return f"{self.base_model(base, seed)}.json"

    def tokenizer(self) -> str:
        return str(self.layout.tokenizer())

    def base_models(self) -> list[str]:
        """The base models of the main comparison and their records, under every seed where each has its own."""
        folders = unique(self.base_model(base, seed) for base, seed in product(self.bases, self.settings.seeds))
        return [file for folder in folders for file in (folder, f"{folder}.json")]

    def run_config(self, run: str) -> str:
        return self.settings.run_files(run)[0]

    def train_sets(self, run: str) -> list[str]:
        """The problems that a run trains on, and the demonstrations if its method reads any."""
        r = self.settings.run(run)
        demos = [f"{self.results}/data/demos.{r.demos}.parquet"] if reads_demos(r) else []
        return self.problems([r.train_split]) + demos

    def initial_model(self, run: str, seed: str | int) -> str:
        """The base model, or the model of the run with the same seed that this run starts from."""
        r = self.settings.run(run)
        if r.init_from is None:
            return self.base_model(r.base, seed)
        return f"{self.results}/runs/{r.init_from}/seed{seed}/model"

    def initial_record(self, run: str, seed: str | int) -> str:
        """The record of that model."""
        r = self.settings.run(run)
        if r.init_from is None:
            return self.base_record(r.base, seed)
        return f"{self.results}/runs/{r.init_from}/seed{seed}/run.json"

    def with_reports(self, files: Iterable[str]) -> list[str]:
        """The files, and the report of each file of problems or demonstrations that has one of its own. data.json is the report of the
        files that rule `problems` writes."""
        s, data = self.settings, f"{self.results}/data"
        reports = {f"{data}/problems.{name}.parquet": f"{data}/problems.{name}.report.json" for name in s.subsets}
        reports |= {f"{data}/demos.{name}.parquet": f"{data}/demos.{name}.report.json" for name in s.demos}
        for name in s.teachers:
            reports |= {f"{data}/{kind}.{name}.parquet": f"{data}/raw.{name}.report.json" for kind in ("raw", "levels")}
        return unique(f for file in files for f in (file, reports.get(file)) if f)

    def kept(self, files: Iterable[str]) -> list[str]:
        """Runs whose results are among these files and which are kept though their code has changed.

        A parameter of tables and figures, which mark these runs. Snakemake compares no parameter that is made from `input`.
        """
        folder = f"{self.results}/runs/"
        runs = unique(f.removeprefix(folder).split("/")[0] for f in files if f.startswith(folder))
        return self.records.kept(runs)

    def of_runs(self, folder: str, runs: Iterable[str], seeds: Iterable[int], files: Iterable[str]) -> list[str]:
        """Files of runs in results/<preset>/<folder>, run by run, seed by seed."""
        return [f"{self.results}/{folder}/{r}/seed{s}/{f}" for r, s, f in product(runs, seeds, files)]

    def models(self, runs, seeds) -> list[str]:
        return self.of_runs("runs", runs, seeds, ["run.json"])

    def metrics(self, runs, seeds) -> list[str]:
        return self.of_runs("runs", runs, seeds, ["metrics.jsonl"])

    def scores(self, models, seeds, benchmarks: Iterable[str] | None = None) -> list[str]:
        """Evaluations of runs and base models; on these benchmarks (default: all) where the preset has some."""
        return self._evaluations("eval", models, seeds, benchmarks or self.settings.benchmarks)

    def _evaluations(self, kind, models, seeds, benchmarks) -> list[str]:
        """What `evaluate` writes, one evaluation a benchmark. `kind`: eval or pass_at_k."""
        folders = [f"benchmarks/{name}/" for name in benchmarks] if self.settings.benchmarks else [""]
        return self.of_runs(kind, models, seeds, [f"{folder}{file}" for folder, file in product(folders, SCORES)])

    def configs(self, runs: Iterable[str]) -> list[str]:
        return [self.records.run(r) for r in runs]

    def run_results(self, runs: list[str], seeds: list[int]) -> list[str]:
        """What tables and figures read of a run: record, metrics, evaluation, and the configuration that they must agree with."""
        described = [self.records.ablations()] if any(map(self.settings.run_changes, runs)) else []
        files = unique([*self.configs(runs), *described])
        return [*files, *self.models(runs, seeds), *self.metrics(runs, seeds), *self.scores(runs, seeds)]

    # -------------------------------------------------------------------------------------------------- benchmarks

    def benchmark_version(self, benchmark: str) -> str:
        """Identity of one entry of the benchmark table, so that a change of another entry reruns nothing of this one."""
        return entry_hash(self.settings.setup("benchmarks"), benchmark, self.settings.override)

    def sampling_config(self, kind: str) -> str:
        """How a benchmark is sampled: for the evaluation of a run, or many samples for pass@k."""
        return self.settings.setup("pass_at_k" if kind == "pass_at_k" else "benchmarks")

    def sampling_values(self, kind: str) -> dict:
        """The plain values of that configuration."""
        return resolve(self.sampling_config(kind), self.settings.override, "benchmarks")

    def scoring(self, kind: str) -> str:
        """Identity of the sampling; one more name in the preset's list does not change it."""
        return scoring_hash(self.sampling_config(kind), self.settings.override)

    def evaluations(self) -> list[str]:
        """Base models and runs of the main comparison, evaluated."""
        return self.scores([*self.bases, *self.settings.runs], self.settings.seeds)

    # ------------------------------------------------------------------------- learning rates, snapshots, many samples

    def grid_scores(self) -> list[str]:
        """scores.json of every run, rate and seed of preset.yaml's lr_grid."""
        grid = self.settings.lr_grid or {"methods": [], "rates": []}
        return [
            f"{self.results}/lr_grid/{run}/lr{float(rate):g}/seed{seed}/validation/scores.json"
            for run in grid["methods"]
            for rate in grid["rates"] + grid.get("further", {}).get(run, [])
            for seed in grid.get("seeds", [0])
        ]

    def snapshots_of(self, run: str, seed: str | int) -> str:
        """The folder that has the snapshots of a run."""
        return f"{self.results}/{'runs' if run in self.keeping else 'replay'}/{run}/seed{seed}"

    def probe_inputs(self) -> list[str]:
        """Probed snapshots of the analysis runs, or of the main comparison where there are none."""
        runs, seeds = self.study_runs(self.probed), self.study_seeds(self.probed)
        probes = self.of_runs("probes", runs, seeds, ["probe.parquet", "probe.json"])
        return [*probes, *self.models(runs, seeds), *self.configs(runs)]

    def deep_inputs(self) -> list[str]:
        """Many samples of few problems: base models and runs of the main comparison."""
        runs, seeds = self.settings.runs, self.settings.seeds
        samples = self._evaluations("pass_at_k", self.bases + runs, seeds, self.settings.deep_benchmarks)
        return [*samples, *self.models(runs, seeds), *self.configs(runs)]

    # ------------------------------------------------------------------------------------------- tables and figures

    def study_inputs(self, study: str, runs: list[str] | None = None) -> list[str]:
        """Results of the runs of a study (default: all), and evaluations of the base models that they start from or that an ablation
        names."""
        runs, seeds = runs or self.study_runs(study), self.study_seeds(study)
        named = self.settings.ablations[study].bases if study in self.settings.ablations else []
        return self.run_results(runs, seeds) + self.scores(unique([*self.bases_of(runs), *named]), seeds)

    def table(self, study: str, kind: str, suffix: str) -> str:
        """Path of a table: main.csv, claims.csv ...; of another study <study>.csv, <study>.claims.csv ..."""
        stem = study if kind == "scores" else kind if study == "main" else f"{study}.{kind}"
        return f"{self.results}/tables/{stem}.{suffix}"

    def tables(self, study: str, suffix: str, claims=True) -> list[str]:
        """Every table of a study. An ablation has no claims: there is none about an ablation as a whole."""
        return [self.table(study, kind, suffix) for kind in TABLE_NAMES if claims or kind != "claims"]

    def study_tables(self, study: str) -> list[str]:
        claims = study not in self.settings.ablations
        tables = [file for suffix in SHOWN for file in self.tables(study, suffix, claims)]
        return [*tables, f"{self.results}/tables/{study}.runs.json"]

    def study_files(self, study: str) -> list[str]:
        """Tables of a study; of a regime with a Prefix-RFT of its own also Figure 4: do prefixed rollouts stay ahead there?"""
        s = self.settings
        own = [r for r in self.study_runs(study) if r not in s.runs and s.run(r).method == "prefix_rft"]
        shown = own and s.studies[study].get("regime", True)
        return self.study_tables(study) + (self.figure_files(study) if shown else [])

    def ablation_files(self, ablation: str) -> list[str]:
        return self.study_tables(ablation) + self.figure_files(ablation)

    def figure_files(self, *figures: str) -> list[str]:
        return [f"{self.results}/figures/{name}.{kind}" for name, kind in product(figures, DRAWN)]

    def table_files(self, *tables: str) -> list[str]:
        """A table of the paper from our runs."""
        return [f"{self.results}/tables/{name}.{kind}" for name, kind in product(tables, SHOWN)]

    def comparison(self) -> list[str]:
        """Tables and figures of the main comparison, and the table of the benchmarks."""
        benchmarks = [f"{self.results}/tables/benchmarks.{kind}" for kind in ("csv", "md")]
        return [
            *(benchmarks if self.settings.benchmarks else []),
            *self.study_tables("main"),
            f"{self.results}/tables/metrics.json",
            *self.figure_files(*MAIN_FIGURES),
        ]

    def figure_inputs(self, figure: str) -> list[str]:
        """The files that a figure is drawn from. Figure 4 is about one method, so it asks for no other run."""
        s = self.settings
        if figure == "figure_1":  # a drawing
            return []
        if figure == "figure_2":
            return self.deep_inputs()
        if figure in ("figure_3a", "figure_3a_hard", "figure_3b"):
            return self.probe_inputs()
        if figure == "figure_4":
            return self.run_results([r for r in s.runs if s.run(r).method == "prefix_rft"], s.seeds)
        if figure == "figure_5":
            return [self.table(study, "scores", "csv") for study in ["main", *self.other_bases]]
        if figure == "figure_6a":
            return [*self.study_inputs("ablation_entropy"), self.records.ablations()]
        if figure == "figure_6b":
            seeds = self.study_seeds("ablation_schedule")
            return [*self.run_results(["prefix_rft", "schedule_uniform"], seeds), self.records.ablations()]
        if figure == "lr_sensitivity":
            return [f"{self.results}/tables/lr_grid.csv"]
        if figure == "regimes":
            shown = [name for name, study in s.studies.items() if study.get("regime", True)]
            return [self.table(study, kind, "csv") for study in ["main", *shown] for kind in ("paired", "scores")]
        if figure == "comparison":
            return [*(self.table("main", kind, "csv") for kind in ("scores", "paired")), *self.study_inputs("main")]
        return self.study_inputs("main")

    def table_inputs(self, table: str) -> list[str]:
        """The files that a table of the paper is made from."""
        s, widest = self.settings, self.table(self.widest, "scores", "csv")
        if table == "table_1":
            return [widest]
        if table == "table_2":
            return [widest, *(self.table(f"{PREFIX}{name}", "scores", "csv") for name in ("quantity", "quality"))]
        if table == "table_4":
            ours = [r for r in s.runs if s.run(r).method == "prefix_rft"]
            return [*self.models(ours, s.seeds), *self.metrics(ours, s.seeds), *self.configs(ours)]
        if table == "table_5":
            return [self.table(self.widest, "paired", "csv"), widest]
        if table == "table_7":
            return self.deep_inputs()
        return self.study_inputs("controls")

    def paper_claims_inputs(self) -> list[str]:
        s = self.settings
        files = [*self.deep_inputs(), *(self.probe_inputs() if s.probe_demos else []), self.records.ablations()]
        for study in self.claim_studies:
            if study not in ("pass_at_k", "probes"):
                files += self.study_inputs(study, runs_asked(s.ablations[study]) if study in s.ablations else None)
        return unique(files)

    def figure_category(self, figure: str) -> str:
        """The section of the report."""
        return "Paper" if figure in PAPER_FIGURES else "Figures"

    def setting(self, study: str, figure: str | None = None) -> str:
        """The end of a figure's caption: seeds, base models, and how far the setting is the paper's. A drawing and the figures that the
        paper does not have get none."""
        if figure and (figure == "figure_1" or figure not in PAPER_FIGURES):
            return ""
        bases = 1 + len(self.other_bases) if figure == "figure_5" else None
        return beside_figure(self.settings.values, {len(self.study_seeds(study))}, bases)

    # ----------------------------------------------------------------------------------------------------- targets

    @cached_property
    def targets(self) -> dict[str, tuple]:
        """Targets beside `STAGES`: name -> (function, argument) that gives their files. Nothing is computed before a target is asked
        for."""
        s = self.settings
        return {
            **{figure_target(name): (self.figure_files, name) for name in self.figures},
            **{name: (self.table_files, name) for name in self.paper_tables},
            **{f"study_{name}": (self.study_files, name) for name in s.studies},
            **{name: (self.ablation_files, name) for name in s.ablations},
            **{f"benchmark_{name}": (self.benchmark_target, name) for name in s.benchmarks},
            **{f"run_{name}": (self.run_target, name) for name in s.known_runs},
        }

    def target_files(self, target: str, wildcards=None) -> list[str]:
        """The files of a target. `wildcards`: handed over by Snakemake, always empty."""
        function, argument = self.targets[target]
        return function(argument)

    def benchmark_target(self, benchmark: str) -> list[str]:
        return self.scores([*self.bases, *self.settings.runs], self.settings.seeds, [benchmark])

    def run_target(self, run: str) -> list[str]:
        """One run, trained and evaluated under every seed."""
        seeds = self.settings.seeds
        return self.models([run], seeds) + self.scores([run], seeds)

    def unknown_target(self, target: str) -> str:
        """The error for a target that does not exist, or that this preset cannot make."""
        for name in (target, *NEEDS.get(target, ())):
            if name in self.settings.broken:
                return self.settings.broken[name]
        close = difflib.get_close_matches(target, [*self.targets, *STAGES], 1)
        hint = f"did you mean {close[0]!r}?" if close else "`snakemake --list-target-rules` lists all"
        return f"no target {target!r} in preset {self.settings.preset!r}; {hint}"
