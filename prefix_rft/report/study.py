"""A study: the runs that one table or figure compares, read from a results folder and checked to belong together.

`preset.yaml` names the runs: key `runs` is the study `main`, `studies.<name>.runs` are the others, and every ablation is a
study `ablation_<name>` (prefix_rft/runs/ablations.py). Tables and figures get
their numbers only through `load_study`, which refuses a run whose run.json or scores.json was made from another
configuration than the present one, or whose evaluation is of another model. This module only reads; nothing here trains or samples.
"""

import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ..common.errors import UserError, shown
from ..common.files import read_jsonl, sha256
from ..config.preset import preset_values
from ..config.run import Run
from ..evaluation.statistics import Counts
from ..runs.ablations import PREFIX, Ablation, Runs, read_ablations
from ..runs.layout import Layout
from ..runs.record import check_run
from .evaluations import Benchmarked, benchmarks_of, files, read_counts, read_scores

log = logging.getLogger(__name__)

MAIN = "main"
BUDGET_KEYS = (
    *("rollouts", "sampled_tokens", "trained_tokens", "demonstrations_seen", "total_flops"),
    *("cpu_seconds", "wall_seconds"),
)
# The kinds of runs, independent of file names. Colours, order and the paper's claims refer to them.
KINDS = {
    "base": "Base model",
    "sft": "SFT",
    "rft": "RFT",
    "sft_then_rft": "SFT then RFT",
    "rl_with_sft": "RL with SFT loss",
    "uft": "UFT",
    "relift": "ReLIFT",
    "hpt": "HPT",
    "srft": "SRFT",
    "chord_mu": "CHORD-mu",
    "chord_phi": "CHORD-phi",
    "chord_hybrid": "CHORD, hybrid",
    "trapo": "TRAPO",
    "g2rpo_a": "G2RPO-A",
    "drpo": "DR-PO",
    "prefix_shown": "Prefix shown, not trained",
    "luffy": "LUFFY",
    "rft_entropy": "RFT, entropy clip",
    "prefix_rft_all": "Prefix-RFT, all prefix tokens",
    "prefix_rft_frozen": "Prefix-RFT, frozen prefix",
    "prefix_rft_static": "Prefix-RFT, static weight",
    "prefix_rft": "Prefix-RFT",
}


def ordered(kinds) -> list[str]:
    """Distinct kinds: first the known ones in the order of KINDS, then others (a method added later) as they appear."""
    kinds = dict.fromkeys(kinds)
    return [*(k for k in KINDS if k in kinds), *(k for k in kinds if k not in KINDS)]


def kind_of(config: Run | None) -> str:
    """The kind of a run's configuration; None is a base model."""
    if config is None:
        return "base"
    if config.method == "rft" and config.init_from is not None:
        return "sft_then_rft"
    if config.method == "rft" and config.rft.keep_share is not None:
        return "rft_entropy"
    if config.method == "prefix_rft" and (config.prefix.weight is not None or config.prefix.fixed is not None):
        return "prefix_rft_static"
    if config.method == "prefix_rft":
        return {"all": "prefix_rft_all", "none": "prefix_rft_frozen"}.get(config.prefix.keep, "prefix_rft")
    if config.method == "chord":
        return f"chord_{config.chord.variant}"
    return config.method


@dataclass
class Member:
    """One run of a study (or a base model) with the seeds that it was evaluated under."""

    run: str
    label: str
    kind: str
    config: Run | None
    results: Path
    seeds: list[int]
    samples: int = 0  # responses a problem
    evaluation: str | None = "eval"  # folder of its evaluations in `results`
    benchmarks: Benchmarked | None = None  # None: its evaluations are of splits of the task
    meta: dict = field(default_factory=dict)  # seed -> {run.json, scores.json}

    def eval_dir(self, seed):
        return self.results / self.evaluation / self.run / f"seed{seed}"

    def run_dir(self, seed, run=None):
        return self.results / "runs" / (run or self.run) / f"seed{seed}"

    @cached_property
    def counts(self) -> dict:
        """(split, temperature) -> Counts."""
        per_seed = [read_counts(self.eval_dir(s), self.benchmarks) for s in self.seeds]
        out = {}
        for key, (first, _) in per_seed[0].items():
            rows = []
            for seed, table in zip(self.seeds, per_seed, strict=True):
                if key not in table or table[key][0] != first:
                    raise UserError(
                        f"{self.eval_dir(seed)}/samples.parquet: split {key[0]} at temperature {key[1]} has other"
                        f" problems than seed{self.seeds[0]}; evaluate it again on the present data"
                    )
                rows.append(table[key][1])
            right, judged = (np.array([[c[i] for c in row] for row in rows]) for i in (0, 1))
            levels, alike = np.array([level for _, level in first]), self.benchmarks is not None
            out[key] = Counts([p for p, _ in first], levels, right, judged, alike)
        return out

    def metrics(self):
        """seed -> rows of metrics.jsonl; empty for a base model."""
        if self.config is None:
            return {}
        return {s: self._metrics(s) for s in self.seeds}

    def _metrics(self, seed):
        path = self.run_dir(seed) / "metrics.jsonl"
        rows, written = read_jsonl(path), self.meta[seed]["run"].get("metrics_sha256")
        if written is not None and sha256(path) != written:
            raise UserError(
                f"{path}: is not the file that {path.parent}/run.json names (key 'metrics_sha256'); train the run again"
            )
        return rows


@dataclass
class Study:
    name: str
    label: str
    preset: str
    results: Path
    preset_config: Path
    members: list[Member]
    seeds: list[int]
    runs: Runs
    ablation: Ablation | None = None

    def of_kind(self, kind):
        return next((m for m in self.members if m.kind == kind), None)

    @property
    def reference(self):
        """The run that others are compared with: the first Prefix-RFT run of a study, the first run of an ablation."""
        if self.ablation is not None:
            return self.member(self.ablation.entries[0].run)
        return self.of_kind("prefix_rft") or self.of_kind("prefix_rft_all") or self.of_kind("prefix_rft_frozen")

    def member(self, run):
        return next(m for m in self.members if m.run == run)

    def pairs(self):
        """(ours, rival) whose differences the paired table shows."""
        if self.ablation is not None:
            found = [(self.member(a), self.member(b)) for a, b in self.ablation.pairs()]
            bases = [m for m in self.members if m.kind == "base" and m.run not in self.ablation.bases]
            return found + [(self.reference, m) for m in bases]
        ours = self.reference
        return [(ours, m) for m in self.members if m is not ours] if ours else []

    @property
    def samples(self):
        return min(m.samples for m in self.members)

    def cells(self, per_level=True):
        """(split, level, temperature) that every member was evaluated on: whole splits first, then their levels."""
        first = self.members[0].counts
        for split, temperature in first:
            for member in self.members:
                other = member.counts.get((split, temperature))
                if other is None or other.problems != first[split, temperature].problems:
                    raise UserError(
                        f"{self.results}/eval/{member.run}: split {split} at temperature {temperature} has other problems than"
                        f" {self.members[0].run}; evaluate both on the same data with the same setup/evaluation.yaml"
                    )
            yield split, "all", temperature
            levels = list(dict.fromkeys(first[split, temperature].levels))
            if per_level and len(levels) > 1:
                for level in levels:
                    yield split, level, temperature

    def trained(self):
        return [m for m in self.members if m.config is not None]

    def budget(self, member: Member) -> dict[str, float]:
        """What a run used, from its run.json: steps of both kinds and BUDGET_KEYS, means over seeds. An earlier stage (the SFT of "SFT then
        RFT") counts too."""
        totals = []
        for seed in member.seeds:
            stages = [(member.config, member.meta[seed]["run"])]
            while (parent := stages[-1][0].init_from) is not None:
                config = self.runs.load(parent)
                stages.append((config, check_run(member.run_dir(seed, parent) / "run.json", config)))
            total = dict.fromkeys(("rl_steps", "sft_steps", *BUDGET_KEYS), 0)
            for config, record in stages:
                budget = record.get("budget") or {}
                total["sft_steps" if config.method == "sft" else "rl_steps"] += budget.get(
                    "steps", record.get("steps", 0)
                )
                for key in BUDGET_KEYS:
                    total[key] += budget.get(key) or 0
            totals.append(total)
        return {key: float(np.mean([t[key] for t in totals])) for key in totals[0]}

    def compute_share(self, ours: Member, rival: Member) -> float | None:
        """Compute of one run over the compute of another; None where the other's is unknown."""
        a, b = (self.budget(member)["total_flops"] for member in (ours, rival))
        return a / b if b else None


def known(levels, *matrices):
    """Drop every problem that has no verdict in one of the matrices [seeds, problems]; return the matrices, then the remaining levels."""
    keep = np.all([~np.isnan(m).any(0) for m in matrices], axis=0)
    if not keep.any():
        raise UserError("no problem has a verdict under every run and seed: the verifications timed out")
    return *(m[:, keep] for m in matrices), levels[keep]


def paired_scores(ours, rival, split, level, temperature, metric):
    """(x, y, levels): score matrices of two members, rows paired by seed. A base model with other seeds becomes one row, its mean."""
    counts = ours.counts[split, temperature].at(level)
    x = counts.scores(metric)
    y = rival.counts[split, temperature].at(level).scores(metric)
    if rival.seeds != ours.seeds and ours.kind == "base":
        x = x.mean(0, keepdims=True)
    elif rival.seeds != ours.seeds:
        y = y.mean(0, keepdims=True)
    return known(counts.levels, x, y)


def read_preset(preset_config, override=None):
    """The values of preset.yaml (section `preset` of the override merged in), its list of runs checked."""
    values = preset_values(preset_config, override)
    runs = values.get("runs")
    if not isinstance(runs, list) or not runs:
        raise UserError(f"{preset_config}: key 'runs' = {runs!r}: must be a list of run names")
    return values


def study_names(preset):
    return [MAIN, *(preset.get("studies") or {})]


def _study_values(preset, name, preset_config, ablation):
    if ablation is not None:
        return {
            "runs": ablation.runs,
            "bases": ablation.bases,
            "label": ablation.label,
            "labels": {e.run: e.full_label for e in ablation.entries},
            "seeds": ablation.seeds,
        }
    if name == MAIN:
        return {"runs": preset["runs"], "label": preset.get("label", "Main comparison")}
    studies = preset.get("studies") or {}
    if name not in studies:
        raise UserError(f"{preset_config}: unknown study {name!r}; known studies: {', '.join(study_names(preset))}")
    values = studies[name] or {}
    if not values.get("runs"):
        raise UserError(f"{preset_config}: key 'studies.{name}.runs' is missing: a list of run names")
    return values


def load_study(
    preset_config, results, name=MAIN, seeds=None, override=None, method=None, only=None, evaluation="eval"
) -> Study:
    """Read a study or a part of it; files of runs outside the part need not exist.

    Args:
        preset_config: preset.yaml.
        results: results/<preset>.
        name: `main`, a name under `studies`, or `ablation_<name>`.
        seeds: None takes the study's, else the preset's.
        override: the override file (smoke.yaml) of the commands that made the results; it is part of every configuration's hash.
        method: load only runs of this method, without base models.
        only: load only these runs, without base models.
        evaluation: folder of the evaluations in `results`; None loads runs without evaluations.

    Raises:
        UserError: a run, model or evaluation is missing, or does not belong to the present configuration.
    """
    preset_config, results = Path(preset_config), Path(results)
    if not results.is_dir():
        raise UserError(f"{results}: no such results folder")
    preset = read_preset(preset_config, override)
    ablations = read_ablations(preset_config.parent, override) if name.startswith(PREFIX) else {}
    try:
        ablation = ablations[name.removeprefix(PREFIX)] if name.startswith(PREFIX) else None
    except KeyError as e:
        known = ", ".join(PREFIX + a for a in ablations)
        raise UserError(f"{preset_config}: unknown ablation {name!r}; known ablations: {known}") from e
    values, find = _study_values(preset, name, preset_config, ablation), Runs(preset_config.parent, override)
    seeds = list(seeds or values.get("seeds") or preset.get("seeds") or [0])
    labels = preset.get("labels") or {}
    benchmarks = benchmarks_of(preset_config.parent, override, evaluation)
    layout = {"evaluation": evaluation, "benchmarks": benchmarks}
    members, bases = [], []
    for run in values["runs"]:
        if only is not None and run not in only:
            continue
        config = find.load(run)
        if method is not None and config.method != method:
            continue
        kind = kind_of(config)
        label = (values.get("labels") or {}).get(run) or labels.get(run) or KINDS.get(kind, run)
        members.append(Member(run, str(label), kind, config, results, seeds, **layout))
        if config.base not in bases and method is None and only is None and evaluation is not None:
            bases.append(config.base)
    named = [] if method is not None or evaluation is None else values.get("bases") or []
    named = [b for b in named if only is None or b in only]
    bases += [b for b in named if b not in bases]
    several, per_seed = len(bases) > 1, Layout(preset_config.parent, results, override).bases_per_seed
    for base in reversed(bases):
        places = {s: files(results / evaluation / base / f"seed{s}", benchmarks, "scores.json") for s in seeds}
        evaluated = [s for s, scores in places.items() if all(path.exists() for path in scores)]
        if evaluated and evaluated != seeds and base in per_seed:
            left = next(s for s in seeds if s not in evaluated)
            raise UserError(
                f"{results}/{evaluation}/{base}/seed{left}: every seed has its own base model, and that of seed {left} was not evaluated;"
                " evaluate it"
            )
        if not evaluated and base in named:
            raise UserError(
                f"{results}/{evaluation}/{base}: {name} names this base model, which was not evaluated under these seeds; evaluate it"
            )
        if not evaluated:
            log.warning(
                "%s/%s/%s: the base model was not evaluated, so the tables go without it", results, evaluation, base
            )
            continue
        own = (values.get("labels") or {}).get(base) or labels.get(base)
        label = own or (f"Base model {base}" if several else KINDS["base"])
        members.insert(0, Member(base, str(label), "base", None, results, evaluated, **layout))
    used = [m.label for m in members]
    for member in members:
        if used.count(member.label) > 1:  # two runs of a kind without labels of their own
            member.label = f"{member.label} ({member.run})"
        for seed in member.seeds:
            _check(member, seed)
        if evaluation is None:
            continue
        sizes = {m["scores"]["sampling"]["samples"] for m in member.meta.values()}
        if len(sizes) > 1:
            raise UserError(
                f"{results}/{evaluation}/{member.run}: seeds have different numbers of samples a problem: {sorted(sizes)}"
            )
        member.samples = sizes.pop()
    setups = {}  # hash -> the first file that has it
    for member in members:
        for seed, m in member.meta.items():
            if m["scores"]:
                where = f"{member.run} ({member.eval_dir(seed)}/scores.json)"
                setups.setdefault(m["scores"].get("evaluation_hash"), where)
    if len(setups) > 1:
        raise UserError(
            f"{results}/{evaluation}: key 'evaluation_hash' has the values {', '.join(shown(h) for h in setups)}:"
            f" {' and '.join(setups.values())} were evaluated with different setup/*.yaml; evaluate all again"
        )
    _check_start(members, find)
    label, preset = str(values.get("label") or name), preset_config.parent.name
    return Study(name, label, preset, results, preset_config, members, seeds, find, ablation)


def _check_start(members, find):
    """Refuse a run that started from another model than the present one."""
    bases = {m.run: m for m in members if m.config is None}
    for member in members:
        if member.config is None:
            continue
        parent = member.config.init_from
        for seed in member.seeds:
            expected = (member.meta[seed]["run"].get("init") or {}).get("sha256")
            if parent is not None:
                path = member.run_dir(seed, parent) / "run.json"
                found = check_run(path, find.load(parent)).get("model_sha256")
            elif member.config.base in bases:
                base = bases[member.config.base]  # of a base model that all seeds share, any seed's evaluation will do
                of = seed if seed in base.meta else base.seeds[0]
                path = files(base.eval_dir(of), base.benchmarks, "scores.json")[0]
                found = base.meta[of]["scores"].get("model_sha256")
            else:
                continue
            if found != expected:
                raise UserError(
                    f"{member.run_dir(seed)}/run.json: key 'init.sha256' is not the model_sha256 of {path}; the run started from another"
                    " model, train it again"
                )


def _check(member, seed):
    """Read run.json and scores.json of one seed; refuse files of different models."""
    if member.evaluation is None:
        member.meta[seed] = {"scores": None, "run": check_run(member.run_dir(seed) / "run.json", member.config)}
        return
    path = files(member.eval_dir(seed), member.benchmarks, "scores.json")[0]
    scores = read_scores(member.eval_dir(seed), member.benchmarks)
    record = None
    if member.config is not None:
        record = check_run(member.run_dir(seed) / "run.json", member.config)
        if scores.get("model_sha256") != record.get("model_sha256"):
            raise UserError(
                f"{path}: key 'model_sha256' differs from {member.run_dir(seed)}/run.json; evaluate this model again"
            )
    if "samples" not in (scores.get("sampling") or {}):
        raise UserError(f"{path}: key 'sampling.samples' is missing; evaluate this run again with this version")
    member.meta[seed] = {"scores": scores, "run": record}


@dataclass
class Context:
    """Source of a figure's numbers: a study, parts of it, and the tables."""

    preset_config: Path
    results: Path
    study_name: str
    seeds: list[int] | None
    override: str | None
    loaded: list[Study] = field(default_factory=list)  # studies that were read
    tables: list[str] = field(default_factory=list)  # studies whose tables were read

    @cached_property
    def study(self):
        return self.study_of(None)

    def study_of(self, method):
        """The study's runs of one method only; the others need not exist."""
        return self.load(method=method)

    def load(self, name=None, **options):
        """Another study, or a part of this one (options of `load_study`)."""
        study = load_study(
            self.preset_config, self.results, name or self.study_name, self.seeds, self.override, **options
        )
        self.loaded.append(study)
        return study

    def probed(self):
        """The runs whose snapshots Figure 3 shows: study `analysis` if the preset has one, else the main comparison."""
        studies = read_preset(self.preset_config, self.override).get("studies") or {}
        return self.load("analysis" if "analysis" in studies else MAIN, evaluation=None).trained()

    def table(self, name):
        """Path of a table of this study: `main`, `paired`, `budgets` or `claims`; the study's name is in front unless it is main."""
        if name == MAIN:
            return self.results / "tables" / f"{self.study_name}.csv"
        return self.results / "tables" / (f"{name}.csv" if self.study_name == MAIN else f"{self.study_name}.{name}.csv")
