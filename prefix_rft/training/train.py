"""Command `train`: one training run of any method, from a configuration to a model and its run.json.

    prefix-rft train --preset tiny --run prefix_rft --seed 0

Writes model/, metrics.jsonl, timing.jsonl and, last, run.json. A run that was killed at any moment resumes from its newest
checkpoint when it is started again with the same arguments. Weights and metrics are then the same bits as without the kill
(one device, same thread count).

What a step does is in step.py, the parts of a run in trainer.py, what a run writes in results.py.
"""

import logging
import os
import signal
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from ..common.errors import UserError
from ..common.files import check_out_folder, hash_of, read_mapping, remove_folder, sha256, sweep, write_text
from ..config.run import Run
from ..data.problems import draw, load_problems, say_short_limit
from ..data.tasks import task_of
from ..methods import method_class
from ..model.folder import check_folder, file_hashes, load_model, load_tokenizer, refuse_changed, stop_ids
from ..runs import finished
from ..runs.card import base_of, card
from ..runs.fingerprint import code_record, fingerprint
from ..runs.load import load_run
from ..verifier.rewards import Reward, RewardError, Rewards, check_signatures, columns_of, parts_of, source_hashes
from ..verifier.verifier import Verifier
from . import checkpoint, distributed, memory
from .learner import use_tensor_cores
from .progress import Clock, Progress
from .results import Records, first_prompt, save_model, write_results
from .symptoms import Watch
from .tracking import Trackers
from .trainer import Trainer

log = logging.getLogger(__name__)
# run.json last: it says that the others are complete
RESULTS = ("model", "snapshots", "metrics.jsonl", "timing.jsonl", "first_prompt.txt", "run.json")
STOPPED = 75  # exit code of a run that saved itself on a signal and wants to be started again (EX_TEMPFAIL)


# ------------------------------------------------------------------------------------------------ what a run starts from


@dataclass(frozen=True)
class TrainJob:
    """What names a training run: files, folders and the run's name.

    config_file: config/<preset>/<run>.yaml
    override: file whose section `run` overrides the configuration
    changes: single values, such as optimizer.lr=1e-3
    preset, run, seed: the run's name
    data: folder with problems.*.parquet and demos.*.parquet
    init: folder of the model to start from
    checkpoints: folder that survives a kill
    out: folder for model/, metrics.jsonl, timing.jsonl and run.json
    snapshots: so many models are kept, evenly over the steps, and the first; no part of the run's identity
    reward: functions that reward the responses, in place of those of the configuration
    """

    config_file: Path
    preset: str
    run: str
    seed: int
    data: Path
    init: Path
    checkpoints: Path
    out: Path
    override: Path | None = None
    changes: tuple[str, ...] = ()
    snapshots: int | None = None
    reward: tuple[Reward, ...] = ()


@dataclass
class Inputs:
    """What a run reads before its first step."""

    run: Run
    task: object
    device: str
    ranks: distributed.Ranks
    tokenizer: object
    model: torch.nn.Module
    problems: list
    reward: list[Reward]  # empty: the task's verifier
    identity: dict  # `identify`


def identify(job) -> dict:
    """What the run is: its configuration, seed, data, starting model and code (`checkpoint.identity_of`)."""
    run, task = load_run(job.config_file, job.override, job.changes), task_of(job.data)
    demos = run.demos if method_class(run.method).uses_demos else None
    files = [f"problems.{run.train_split}.parquet"] + ([f"demos.{demos}.parquet"] if demos else [])
    data = {name: sha256(Path(job.data) / name) for name in files}
    code, model = fingerprint(run, task)["files"] | source_hashes(job.reward), file_hashes(job.init)
    refuse_changed(job.init, model)
    return checkpoint.identity_of(run, job.seed, data, model, code)


def digest(job, identity) -> str:
    """The identity as 16 hex digits; results with snapshots are others than those without."""
    return hash_of(identity)[:16] + (f"-snapshots{job.snapshots}" if job.snapshots else "")


def handed_back(job) -> bool:
    """Whether a finished run of the same identity was found and put into the output folder, so that nothing is left to train."""
    if not finished.store(job.checkpoints).is_dir():
        return False
    check_folder(job.init)
    identity = identify(job)
    same = digest(job, identity)
    if finished.kept(job.checkpoints, same) is None:
        return False
    if int(os.environ.get("RANK", 0)) > 0:  # one process of several does it
        return True
    if finished.hand_back(job.checkpoints, same, job.out):
        sweep(job.checkpoints)  # the start before may have been killed while it cleaned up
        if checkpoint.belong(job.checkpoints, identity):
            remove_folder(job.checkpoints)
        return True
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:  # the others have left
        raise UserError(f"{job.checkpoints}: kept results were damaged and are removed; start the run again")
    return False


def read_inputs(job) -> Inputs:
    """Read and check everything that `job` names; `UserError` before work is spent."""
    run = load_run(job.config_file, job.override, job.changes)
    method = method_class(run.method)
    if method.uses_demos and run.demos is None:
        raise UserError(f"{job.config_file}: key 'demos' is missing: method {run.method} needs a demonstration set")
    demos = run.demos if method.uses_demos else None
    task = task_of(job.data)
    device = "cuda" if run.device != "cpu" and torch.cuda.is_available() else "cpu"
    if run.device == "cuda" and device == "cpu":
        raise UserError(
            f"{job.config_file}: key 'device' = 'cuda': this machine has no usable GPU; set it to auto or cpu"
        )
    reward = [*job.reward] or parts_of(run.reward or ())
    use_tensor_cores(device, run.dtype)
    ranks = distributed.start(run.parallel, device, job.config_file)
    check_folder(job.init)
    for folder in (job.out, job.checkpoints):
        check_out_folder(folder)
    memory.refuse_too_little(job.config_file, run, method(run), job.init, device)
    identity = identify(job)  # refuses a model that is not what was written, before it is loaded
    tokenizer = load_tokenizer(job.init)
    model = load_model(job.init, parameters_only=embedded(run, device), attn_implementation="sdpa")
    stops, vocabulary = stop_ids(model, tokenizer), model.get_input_embeddings().num_embeddings
    problems = load_problems(job.data, run.train_split, demos, task, tokenizer, stops, vocabulary)
    problems = draw(problems, run.prompts, job.seed, job.config_file)
    check_signatures(reward, columns_of(problems))
    if run.rollout and ranks.first:
        say_short_limit(problems, run.rollout.max_response, job.config_file)
    return Inputs(run, task, device, ranks, tokenizer, model, problems, reward, identity)


def embedded(run, device) -> bool:
    """Whether the run reads the model's parameters only: with the embedded engine and the compiled forward pass."""
    engine = run.rollout.engine if run.rollout else "native"
    parts = run.parallel
    return (
        device == "cpu"
        and run.dtype == "float32"
        and engine == "native"
        and parts.zero is None
        and not parts.activation_checkpointing
    )


# ----------------------------------------------------------------------------------------------------- save and resume


def restore(trainer, folder, identity):
    """Load the newest intact checkpoint of `folder` into `trainer`.

    Returns:
        (steps that are done, the rows of their metrics as `Records.text` gave them or None).
    """
    found = trainer.ranks.from_first(lambda: checkpoint.newest(folder, identity), "search for a checkpoint")
    if found is None:
        return 0, None
    step, path = found
    state = checkpoint.load(path, mmap=trainer.ranks.world > 1)
    rows = state.pop("records")
    trainer.load_state(state)
    return step, rows


def save(trainer, records, folder, step, identity):
    """Write a checkpoint after `step` steps."""
    with trainer.ranks.phase(f"checkpoint, step {step}"):
        state, keep = trainer.state() | {"records": records.text()}, trainer.run.checkpoint.keep
        trainer.ranks.from_first(lambda: checkpoint.save(folder, step, state, identity, keep), "checkpoint")


def refuse_full_disk(trainer, folder):
    """A checkpoint is weights and two moments of each AdamW. There are `keep` of them, one being written, and the final model."""
    parts = 5 if trainer.learner.further else 3
    needed = 4 * trainer.parameters * (parts * (trainer.run.checkpoint.keep + 1) + 1)
    trainer.ranks.from_first(lambda: checkpoint.refuse_full_disk(folder, needed), "check of the disk")


def snapshot_steps(count, steps):
    """Steps after which a model is kept, the first (0) and the last included. Example: 2 of 5 steps -> 0, 2, 5."""
    return sorted({round(i * steps / count) for i in range(count + 1)}) if count else []


# ------------------------------------------------------------------------------------------------------- the main loop


def train(job: TrainJob) -> int:
    """Train a run, or resume it; the exit code of the command: 0, or `STOPPED` of a run that saved itself on a signal."""
    if handed_back(job):
        return 0
    inputs = read_inputs(job)
    with ExitStack() as stack:
        parts = (
            inputs.problems,
            inputs.model,
            inputs.tokenizer,
            open_reward(stack, inputs),
            inputs.device,
            inputs.ranks,
            job.config_file,
        )
        trainer = Trainer(inputs.run, job.seed, *parts)
        refuse_full_disk(trainer, job.checkpoints)
        code = steps(trainer, job, inputs)
    trainer.ranks.end()
    return code


def open_reward(stack, inputs):
    """The reward of the run; its verifiers are closed with `stack`."""
    if not inputs.reward:
        return stack.enter_context(Verifier(inputs.task))
    return Rewards(inputs.reward, lambda kind: stack.enter_context(Verifier(inputs.task if kind == "task" else kind)))


def steps(trainer, job, inputs):
    """Every step from the newest checkpoint on; the exit code."""
    scratch, ranks, steps, identity = Path(job.checkpoints), trainer.ranks, trainer.steps, inputs.identity
    ranks.from_first(lambda: sweep(scratch), "removal of what a killed start has left")
    start, rows = restore(trainer, scratch, identity)
    if start and ranks.first:
        log.info("%s seed %d: resumes from step %d of %d", job.run, job.seed, start, steps)
    records = Records(scratch, rows, ranks)
    ranks.from_first(
        lambda: write_text(scratch / "first_prompt.txt", first_prompt(trainer)), "writing of the first prompt"
    )
    watch = Watch(trainer.run, records.rows["metrics"])
    # beside the checkpoints until the run is complete: a retry deletes what is declared as output
    kept = snapshot_steps(job.snapshots, steps)
    if start == 0 and kept:
        save_model(trainer, snapshot(scratch, 0))
    clock = Clock()
    title, tracking = f"{job.preset}-{job.run}-seed{job.seed}", Path(job.out) / "tracking"
    with (
        records,
        Trackers(trainer.run.report_to, trainer.run, title, tracking, ranks.first) as trackers,
        Progress(job, trainer, start) as progress,
        noted_signals() as signals,
    ):
        for t in range(start, steps):
            try:
                row, timing = trainer.step(t)
            except FloatingPointError as e:
                raise UserError(diverged(trainer, job, t, e)) from e
            except RewardError as e:
                raise UserError(
                    f"{job.config_file}: run {job.run}, seed {job.seed}, step {t}: {e}; {kept_checkpoints(job)}"
                ) from e
            records.add(row, timing)
            trackers.add(row, timing)
            progress.show(t, row)
            for warning in watch.follow(row) if ranks.first else ():
                log.warning("%s seed %d: %s", job.run, job.seed, warning)
            if t + 1 in kept:
                save_model(trainer, snapshot(scratch, t + 1))
            last = t + 1 == steps
            signalled = ranks.most(max(signals, default=0), f"end of step {t}")  # one rank's signal stops all of them
            if signalled or last or (t + 1) % trainer.run.checkpoint.every == 0:
                clock.add_to(trainer.budget, ranks)
                save(trainer, records, scratch, t + 1, identity)
            if signalled and not last:
                if ranks.first:
                    log.warning("signal %d: saved at step %d of %d; start again to resume", signalled, t + 1, steps)
                return STOPPED
    done = len(records.rows["metrics"])
    if done != steps or trainer.learner.updates != trainer.learner.total_updates:
        raise UserError(f"{job.run}: {done} steps done of {steps} asked for; the run is not complete")
    described = partial(card, base=base_of(job.init), data=read_mapping(Path(job.data) / "data.json"))
    write_results(
        trainer, records, job.out, scratch, run_identity(trainer, job, inputs), watch.warnings(), card=described
    )
    if ranks.first:
        finished.keep(scratch, digest(job, identity), job.out, RESULTS)
        # last, since a run that is killed here is handed back; a complete run has no use for optimizer states
        remove_folder(scratch)
    return 0


@contextmanager
def noted_signals():
    """A list of the signals that arrive in this block and ask for the end: Slurm's warning before the time limit, scancel. Python lets
    the main thread alone handle signals."""
    if threading.current_thread() is not threading.main_thread():
        yield []
        return
    signals = []
    before = {n: signal.signal(n, lambda n, frame: signals.append(n)) for n in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_identity(trainer, job, inputs):
    """The keys of run.json that say which run it is."""
    identity = inputs.identity
    return {
        "identity": hash_of(identity)[:16],
        "run": job.run,
        "preset": job.preset,
        "seed": job.seed,
        "method": trainer.run.method,
        "config": identity["config"],
        "init": {"name": trainer.run.init_from or trainer.run.base, "sha256": identity["init"]["model.safetensors"]},
        "data": identity["data"],
        "code": code_record(identity["code"]),
        "template_sha256": inputs.task.template().sha256,
    }


def snapshot(scratch, step):
    """Folder of the model after `step` steps."""
    return scratch / "snapshots" / f"step-{step:06d}"


def kept_checkpoints(job):
    """What is left of a run whose step failed. The checkpoints are of steps before it."""
    saved = checkpoint.checkpoints(job.checkpoints)
    return f"checkpoints up to {saved[-1].name} stay in {job.checkpoints}" if saved else "no checkpoint was due yet"


def diverged(trainer, job, t, why):
    """The error of a step that ended in numbers that are not finite."""
    return (
        f"{job.config_file}: run {job.run}, seed {job.seed}, step {t} of {trainer.steps}: the training diverged ({why}):"
        f" key 'optimizer.lr' = {trainer.run.optimizer.lr:g}: try a tenth of it, a longer optimizer.warmup or a smaller"
        f" optimizer.grad_clip; {kept_checkpoints(job)}"
    )
