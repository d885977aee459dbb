"""Command `probe`: measure a run's snapshots on a fixed subset of its training problems (paper Figure 3, its "Train-2k").

Two values of every snapshot and problem: the mean negative log-likelihood of the demonstration's tokens, and the number of correct
responses among a few samples. Writes probe.parquet (run, seed, step, problem_id, level, nll, right, judged, tokens) and probe.json.

The command `train --snapshots` writes the snapshots. It trains the run again, bit for bit; a replay with other final weights is refused.
The subset is the first `per_level` problems of each level that have a demonstration. It is the same for every run, even for runs
without demonstrations. A killed probe resumes with its saved likelihoods and responses.
"""

import re
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..common.errors import UserError
from ..common.files import (
    check_out_folder,
    hash_of,
    read_json,
    read_mapping,
    read_parquet,
    remove_folder,
    sha256,
    write_json,
    write_parquet,
)
from ..config.reading import config_hash, load, opt
from ..config.run import TOP_P, ModelEngine
from ..rollout import sampling_seed
from .sampling import Job, sample_and_judge


class Probe(ModelEngine):
    """`setup/probe.yaml` (paper section 3, analysis runs: 256 prompts of each of 8 levels, 16 samples, T = 1, a snapshot every 32 of
    640 steps)."""

    demos: str = opt(..., "demonstration set whose likelihood is measured")
    max_response: int = opt(..., "response limit in tokens", ge=1)
    per_level: int = opt(40, "problems a level: the first ones with a demonstration", ge=1)
    samples: int = opt(16, "responses a problem", ge=1)
    temperature: float = opt(1.0, "sampling temperature", gt=0)
    top_p: float | None = opt(None, TOP_P, gt=0, le=1)
    snapshots: int = opt(10, "snapshots of a run, evenly over its steps, beside the start model", ge=1)
    split: str = opt("train", "problem file: data/problems.<split>.parquet")
    seed: int = opt(0, "seed of sampling; combined with the run's seed, the same for every snapshot", ge=0)
    save_rows: int = opt(
        4096, "responses between two saves: the most that a kill loses; never changes the samples", ge=1, identity=False
    )


def subset(rows, problems, per_level):
    """The first `per_level` problems of each level that have a demonstration. rows: of the problem file."""
    by_id, taken, out = {p.id: p for p in problems}, {}, []
    for row in rows:
        problem, level = by_id[row["id"]], row["level"]
        if problem.demos and taken.get(level, 0) < per_level:
            taken[level] = taken.get(level, 0) + 1
            out.append(problem)
    return out


def demonstration_nll(model, problems):
    """[problems]: mean negative log-likelihood of the tokens of each problem's first demonstration, in nats a token."""
    import torch

    from ..model.forward import make_forward
    from ..model.logprobs import logprobs

    forward = make_forward(model, next(model.parameters()).device.type, "float32")
    responses = [p.demos[0].ids for p in problems]
    logp = np.zeros(sum(map(len, responses)))
    with torch.no_grad():
        for micro in forward.micro_batches([p.prompt for p in problems], responses, 4096):
            values, _ = logprobs(forward.hidden(micro), model.get_output_embeddings(), micro.targets)
            logp[micro.tokens.cpu().numpy()] = values.cpu().numpy()
    parts = np.split(-logp, np.cumsum([len(r) for r in responses])[:-1])
    return np.array([part.mean() for part in parts])


def same_run(replay: Path, record: Path) -> dict:
    """run.json of the run. Raises `UserError` if the replay in the folder `replay` has another configuration or other weights."""
    run, again = read_mapping(record), read_mapping(replay / "run.json")
    for key in ("config_hash", "model_sha256"):
        if run.get(key) != again.get(key):
            raise UserError(
                f"{replay}/run.json: key {key!r} differs from {record}: the snapshots are of another training; remove both"
                " folders and train again (another machine or version gives other bits)"
            )
    return run


def probe(config_file: Path, run: str, seed: int, data: Path, replay: Path, record: Path, out: Path, override=None):
    """Write probe.parquet and probe.json into the folder `out`.

    Args:
        config_file: setup/probe.yaml of a preset.
        replay: folder that `train --snapshots` wrote.
        record: run.json of the run itself.
    """
    import torch

    from ..data.problems import load_problems
    from ..data.tasks import task_of
    from ..model.folder import check_folder, load_model, load_tokenizer, stop_ids

    config = load(Probe, config_file, override, "probe")
    check_out_folder(out)
    record = same_run(replay, record)
    folders = sorted(p for p in (replay / "snapshots").glob("step-*") if re.fullmatch(r"step-\d+", p.name))
    if len(folders) < 2:
        raise UserError(
            f"{replay}/snapshots: has {len(folders)} snapshots, must have at least 2; make them with train --snapshots"
        )
    for folder in folders:
        check_folder(folder)
    task, tokenizer, parts = task_of(data), load_tokenizer(folders[0]), out / "parts"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    files = [f"problems.{config.split}.parquet", f"demos.{config.demos}.parquet"]
    note = {
        "run": run,
        "seed": seed,
        "config_hash": record["config_hash"],
        "model_sha256": record["model_sha256"],
        "probe": config.model_dump(),
        "probe_hash": config_hash(config),
        "data": {name: sha256(data / name) for name in files},
    }

    model = load_model(folders[0], attn_implementation="sdpa")
    problems = load_problems(
        *(data, config.split, config.demos, task, tokenizer, stop_ids(model, tokenizer)),
        vocabulary=model.get_input_embeddings().num_embeddings,
    )
    table = read_parquet(data / files[0], ("id", "level", "answer"))
    chosen = subset(table, problems, config.per_level)
    asked = [{"id": p.id, "level": p.level, "answer": p.answer} for p in chosen]
    stream = sampling_seed(config.seed, seed, "probe", float(config.temperature))
    jobs, likelihoods = [], []
    for folder in tqdm(folders, desc=f"likelihoods {run} seed {seed}", disable=None):
        # a replay has the run's bits, so the run's hash and the step identify a snapshot's weights
        weights = f"{record['model_sha256']} {folder.name}"
        saved = parts / f"nll-{hash_of([weights, note['data'], [p.id for p in chosen]])[:16]}.json"
        if not saved.exists():
            model = load_model(folder, attn_implementation="sdpa").to(device)
            write_json(saved, demonstration_nll(model, chosen).tolist())
        likelihoods.append(read_json(saved))
        prompts = [p.prompt for p in chosen]
        jobs.append(Job(folder, weights, config.split, asked, prompts, config.samples, config.temperature, stream))
    del model  # the engine needs its memory

    title = f"probe {run} seed {seed}"
    sampled = sample_and_judge(config, jobs, tokenizer, task, parts, config_file, title)
    rows = []
    for folder, nll, responses in zip(folders, likelihoods, sampled, strict=True):
        for i, problem in enumerate(chosen):
            own = responses[i * config.samples : (i + 1) * config.samples]
            rows.append(
                {
                    "run": run,
                    "seed": seed,
                    "step": int(folder.name.removeprefix("step-")),
                    "problem_id": problem.id,
                    "level": problem.level,
                    "nll": nll[i],
                    "right": sum(r["correct"] for r in own),
                    "judged": sum(not r["timed_out"] for r in own),
                    "tokens": float(np.mean([r["n_tokens"] for r in own])),
                }
            )
    rows.sort(key=lambda row: row["step"])  # stable: problems stay in their order
    write_parquet(out / "probe.parquet", rows)
    write_json(out / "probe.json", note)
    remove_folder(parts)
