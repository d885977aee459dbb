"""Command `evaluate`: sample responses to held-out problems, verify them, write samples.parquet and scores.json.

The problems are the splits in `setup/evaluation.yaml`. With `--benchmark` they are one entry of the benchmark table, as a split of its
own. Each benchmark has its own call, so that a change of one entry does not repeat the others.

Every response is kept, so that scores, intervals and pass@k for every k are computed from files (report/study.py). The random stream of
a split depends only on the evaluation's seed, the run's seed, the split and the temperature, not on other splits. A killed evaluation
resumes from its saved parts.

A response whose verification timed out is neither correct nor wrong: it counts in `timed_out` and in no score.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import PositiveFloat

from ..common.errors import UserError
from ..common.files import check_out_folder, hash_of, read_mapping, remove_folder, sha256, write_json, write_parquet
from ..config.reading import config_hash, load, opt
from ..config.run import TOP_P, Engine
from ..data.files import path_of, prompt_ids, read_problems
from ..data.templates import read_template
from ..model.folder import check_folder, file_hashes, load_tokenizer, refuse_changed
from ..rollout import engine_version, sampling_seed
from ..runs.load import load_run
from ..runs.record import check_run
from .benchmarks import entry_hash, load_benchmarks, scoring_hash
from .sampling import Job, sample_and_judge, top_p_of
from .scores import diagnostics, powers, summarise, warn

PARTS = "parts"  # folder beside scores.json


class Evaluation(Engine):
    """`setup/evaluation.yaml` (paper section 3: T = 0.6, avg@32 on small test sets)."""

    max_response: int = opt(..., "response limit in tokens", ge=1)
    samples: int = opt(8, "responses a problem at each temperature: avg@samples and pass@samples", ge=1)
    temperatures: list[PositiveFloat] = opt([1.0, 0.6], "sampling temperatures")
    top_p: float | None = opt(None, TOP_P, gt=0, le=1)
    splits: list[Literal["train", "validation", "test", "ood"]] = opt(
        ["test", "ood"], "problem files: data/problems.<split>.parquet"
    )
    per_level: int | None = opt(None, "problems of each level of a split, the first ones; unset: all", ge=1)
    seed: int = opt(0, "seed of sampling; combined with the run's seed", ge=0)
    save_rows: int = opt(
        4096, "responses between two saves: the most that a kill loses; never changes the samples", ge=1, identity=False
    )

    def check(self):
        super().check()
        for key in ("temperatures", "splits"):
            values = getattr(self, key)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{key}: {values} must have at least one value, and none twice")


@dataclass(frozen=True)
class EvaluationJob:
    """What names an evaluation: files, folders and the model's name.

    config_file: setup/evaluation.yaml; with `benchmark`, setup/benchmarks.yaml
    preset, run, seed: the run's name; `run` may be a base model
    data: folder made by the command `data`
    model: model folder
    out: folder for scores.json, samples.parquet and, until then, parts
    benchmark: entry of the benchmark table; None: the splits of the configuration
    override: file whose section overrides the configuration
    run_config: configuration of the run; None: a base model
    changes: single values of the run's configuration, such as optimizer.lr=1e-3
    problems: folder of the problem files; None: `data`
    keep_parts: leave the parts beside the outputs, so that a start after their loss samples nothing again (`remove_parts`)
    """

    config_file: Path
    preset: str
    run: str
    seed: int
    data: Path
    model: Path
    out: Path
    benchmark: str | None = None
    override: Path | None = None
    run_config: Path | None = None
    changes: tuple[str, ...] = ()
    problems: Path | None = None
    keep_parts: bool = False


@dataclass(frozen=True)
class Questions:
    """The problems of an evaluation, and how the responses are scored.

    problems: split -> rows of its problem file
    seeds: (split, temperature) -> values that decide the random stream
    encode: (tokenizer, prompt) -> token ids
    verifier: a task or the name of a verifier
    samples: responses a problem
    metrics: names of the scores in scores.json
    template: keys of the prompt template in scores.json, beside an example
    record: other keys of scores.json
    """

    config: object
    problems: dict[str, list[dict]]
    seeds: dict[tuple[str, float], tuple]
    encode: Callable
    verifier: object
    samples: int
    metrics: list[str]
    template: dict
    record: dict


def questions_of_splits(job, folder) -> Questions:
    """The splits of `setup/evaluation.yaml`. folder: folder of the problem files."""
    from ..data.tasks import task_of

    config, task = load(Evaluation, job.config_file, job.override, "evaluation"), task_of(job.data)
    return Questions(
        config=config,
        problems={split: first_of(read_problems(folder, split), config.per_level) for split in config.splits},
        seeds={(s, t): (config.seed, job.seed, s, float(t)) for s in config.splits for t in config.temperatures},
        encode=task.prompt_ids,
        verifier=task,
        samples=config.samples,
        metrics=[f"avg@{config.samples}", f"pass@{config.samples}"],
        template={},
        record={"evaluation_hash": config_hash(config)},
    )


def questions_of_benchmark(job, folder) -> Questions:
    """One entry of the benchmark table. Raises `UserError` if the problems were fetched for another version of the entry."""
    (config, entries), name = load_benchmarks(job.config_file, job.override), job.benchmark
    if name not in config.names:
        raise UserError(f"--benchmark {name}: {job.config_file} has {', '.join(config.names)}")
    entry, about, version = (
        entries[name],
        read_mapping(folder / f"{name}.json"),
        entry_hash(job.config_file, name, job.override),
    )
    if about.get("entry_hash") != version:
        raise UserError(
            f"{folder}/{name}.json: key 'entry_hash' is not the hash of {config.table}: {name}; the entry was changed, fetch the"
            " benchmark again"
        )
    template, samples = (
        read_template(config.template, f"{job.config_file}: key 'template'"),
        config.samples or entry.samples,
    )
    if job.run_config is not None:
        trained = read_mapping(job.model.parent / "run.json").get("template_sha256")
        if trained != template.sha256:
            raise UserError(
                f"{job.config_file}: key 'template' = {config.template!r}: is not the template of the run's training (run.json:"
                f" template_sha256 = {trained})"
            )
    metrics = [entry.metric_of(samples), f"avg@{samples}", *(f"pass@{k}" for k in powers(samples))]
    return Questions(
        config=config,
        problems={name: read_problems(folder, name)},
        seeds={(name, config.temperature): (config.seed, job.seed, name)},
        encode=template.ids,
        verifier=entry.verifier,
        samples=samples,
        metrics=list(dict.fromkeys(metrics)),
        template={"file": config.template, "sha256": template.sha256},
        record={
            "benchmark": name,
            "scoring_hash": scoring_hash(job.config_file, job.override),
            "entry_hash": version,
            "origin": about["origin"],
            "verifier": entry.verifier,
            "metric": entry.metric_of(samples),
            "group": entry.group,
            "choice_template_sha256": about["choice_template_sha256"],
        },
    )


def check_model(model: Path, data: Path, run_config=None, override=None, sets=()) -> dict:
    """{config_hash, model_sha256} of the model folder, after a comparison with the run's record.

    Raises `UserError` if the run was trained with another configuration or on other data, or if the weights changed after training.
    """
    check_folder(model)
    weights, hashes = model / "model.safetensors", file_hashes(model)
    measured = hashes[weights.name]
    if run_config is None:
        if not (model / "base.json").exists():
            raise UserError(
                f"{model}/base.json: no such file; a trained model needs --run-config, a base model its base.json"
            )
        refuse_changed(model, hashes)
        return {"config_hash": None, "model_sha256": measured}
    path = model.parent / "run.json"
    record = check_run(path, load_run(run_config, override, sets))
    for name, expected in (record.get("data") or {}).items():
        file = data / name
        if file.exists() and sha256(file) != expected:
            raise UserError(
                f"{path}: key 'data.{name}' is not the hash of {file}; the run was trained on other data, train it again"
            )
    if record.get("model_sha256") != measured:
        raise UserError(
            f"{path}: key 'model_sha256' is not the hash of {weights}; the model was changed after training, train it again"
        )
    refuse_changed(model, hashes)
    return {"config_hash": record["config_hash"], "model_sha256": measured}


def first_of(problems, per_level):
    """The first `per_level` problems of each level, in the order of the file; None: all."""
    taken, out = {}, []
    for p in problems:
        taken[p["level"]] = taken.get(p["level"], 0) + 1
        if per_level is None or taken[p["level"]] <= per_level:
            out.append(p)
    return out


def evaluate(job: EvaluationJob):
    """Write scores.json and samples.parquet into the folder `job.out`."""
    check_out_folder(job.out)
    folder = job.problems or job.data
    questions = questions_of_benchmark(job, folder) if job.benchmark else questions_of_splits(job, folder)
    config, samples = questions.config, questions.samples
    identity = check_model(job.model, job.data, job.run_config, job.override, job.changes)

    from ..common.provenance import git_revision, hardware, versions

    tokenizer = load_tokenizer(job.model)
    prompts = {
        split: prompt_ids(path_of(folder, split), rows, lambda prompt: questions.encode(tokenizer, prompt))
        for split, rows in questions.problems.items()
    }
    jobs = [
        Job(
            *(job.model, identity["model_sha256"], split, questions.problems[split], prompts[split], samples),
            *(temperature, sampling_seed(*parts)),
        )
        for (split, temperature), parts in questions.seeds.items()
    ]
    title, parts = f"evaluate {job.run} {job.benchmark or ''}".strip(), job.out / PARTS
    sampled = sample_and_judge(config, jobs, tokenizer, questions.verifier, parts, job.config_file, title)
    rows = [row for part in sampled for row in part]
    report, example = diagnostics(rows), next(iter(prompts.values()))[0]
    warn(report, job.out)
    if not job.benchmark:  # the final answer of a task's response is easy to find
        rows = [{k: v for k, v in row.items() if k != "extracted"} for row in rows]
    write_parquet(job.out / "samples.parquet", rows)
    write_json(
        job.out / "scores.json",
        {
            "run": job.run,
            "seed": job.seed,
            "preset": job.preset,
            **identity,
            **questions.record,
            "engine": config.engine,
            "engine_version": engine_version(config.engine),
            "versions": versions(),
            "git_revision": git_revision(),
            "hardware": hardware(),
            "sampling": {**config.model_dump(), "samples": samples, "top_p": top_p_of(config)},
            "data": {path_of(folder, s).name: sha256(path_of(folder, s)) for s in questions.problems},
            "samples_sha256": sha256(job.out / "samples.parquet"),
            "template": {"sha256": hash_of(example), **questions.template, "example": tokenizer.decode(example)},
            "results": summarise(rows, questions.metrics),
            "diagnostics": report,
        },
    )
    if not job.keep_parts:
        remove_folder(parts)


def remove_parts(results):
    """Remove the parts of all finished evaluations below the folder `results`."""
    for parts in Path(results).rglob(PARTS):
        if (parts.parent / "scores.json").exists():
            remove_folder(parts)
