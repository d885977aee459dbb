"""How a job is started and what it asks a cluster for: GPUs, nodes, cores, memory, time.

Training follows the section `parallel` of its run; a job that samples follows the engine of its configuration. Snakemake evaluates
these functions where it plans and again where the job runs, so they depend on the configuration alone.
"""

import math
import os
import tempfile

from prefix_rft.common.errors import UserError

PATIENCE = "--shutdown-timeout 600"  # seconds that ranks have for a checkpoint between SIGTERM and SIGKILL
# a port of the first node; jobs that share a node have different job numbers, so nearly always different ports
PORT = "$((20000 + SLURM_JOB_ID % 10000))"
RESOURCES = ("nodes", "gpu", "gres", "tasks", "tasks_per_gpu", "mpi", "cpus_per_task")


def ranks(run) -> tuple[int, int]:
    """(nodes, processes on each) of a run; (1, 1) without a section `parallel`."""
    parallel = getattr(run, "parallel", None)
    return (parallel.nodes, parallel.processes_per_node) if parallel else (1, 1)


def launcher(run) -> str:
    """The start of the command `prefix_rft train`: `python -m`; `torchrun` for several processes; one `torchrun` a node for several nodes.

    Snakemake runs the shell command of a job with several nodes once, on its first node; `srun` starts it on all of them.
    """
    nodes, processes = ranks(run)
    if nodes == 1:
        # after --, torchrun reads no option of the trainer as its own
        return "python -m" if processes == 1 else f"torchrun --standalone --nproc-per-node {processes} {PATIENCE} -m --"
    return (
        # all memory and all GPUs of the job, and no binding to a single core
        f"srun --jobid ${{SLURM_JOB_ID:?parallel.nodes = {nodes}: several nodes need --profile slurm, see docs/cluster.md}}"
        f" --nodes {nodes} --ntasks {nodes} --ntasks-per-node 1 --mem 0 --cpu-bind none --kill-on-bad-exit=1"
        f" python -m scripts.pass_warning torchrun --nnodes {nodes} --nproc-per-node {processes} {PATIENCE}"
        f" --rdzv-backend c10d --rdzv-id $SLURM_JOB_ID --rdzv-endpoint $(hostname):{PORT} -m --"
    )


def resources(run, cpus_per_gpu=1) -> dict:
    """What a training job asks the Slurm executor for: GPUs (none for `device: cpu`), nodes, cores. None: not asked for.

    Args:
        run: a run's configuration.
        cpus_per_gpu: the profile's value. On one node Slurm gets it as it is. Several nodes need --gres, beside which it has no effect
            (one core a node), so the cores of a node's task are computed here.
    """
    nodes, processes = ranks(run)
    gpus = 0 if run.device == "cpu" else processes
    if nodes == 1:
        none = dict.fromkeys(("gres", "tasks", "tasks_per_gpu", "mpi", "cpus_per_task"))
        return {"gpu": gpus, "nodes": 1, **none}
    # so many GPUs on every node: a sum over nodes (--gpus) may be split unevenly
    gres = f"gpu:{gpus}" if gpus else None
    # mpi: Snakemake leaves it to the rule to call srun; tasks_per_gpu 0: the executor adds no --ntasks-per-gpu
    cores = processes * (cpus_per_gpu if gpus else 1)
    return {
        **{"gpu": None, "nodes": nodes, "gres": gres, "tasks": nodes, "tasks_per_gpu": 0, "mpi": "srun"},
        "cpus_per_task": cores,
    }


def warning(seconds: int) -> str:
    """The option that makes Slurm warn a job `seconds` before its time limit; no `B:` before USR1: the signal is for the job's steps."""
    return f"--signal=USR1@{seconds}"


def cpus_per_gpu(rule: str, given: dict) -> int:
    """Cores per GPU that a profile or --set-resources gives to a rule; one without.

    Args:
        rule: its name.
        given: its resources, see `internals.State.resources`.

    Raises:
        UserError: the value is an expression, not a number.
    """
    value = given.get("cpus_per_gpu", 1)
    try:
        return int(getattr(value, "value", value))
    except (TypeError, ValueError) as e:
        raise UserError(
            f"cpus_per_gpu of rule {rule} = {value}: must be a whole number where a job has several nodes"
        ) from e


def take_turns():
    """Let the benchmarks in a cluster's job follow each other: their commands begin with IN_TURN.

    Snakemake starts the members of a group at once, and one engine fills a GPU. If one of them fails, Snakemake deletes the outputs of
    all and starts all again, so they keep the parts of their outputs.
    """
    os.environ["IN_TURN"] = f"flock {tempfile.gettempdir()}/prefix_rft.{os.environ['SLURM_JOB_ID']}.lock"


def demand(settings, rule: str, longest: int | None = None, together: int = 1) -> dict:
    """Main memory and time of a rule's jobs, times the attempt: `resources` of preset.yaml. The profile gives what is missing there.

    Args:
        settings: `workflow.settings.Settings`.
        rule: its name.
        longest: minutes that the site allows a job.
        together: how many of the rule's jobs may follow each other in one of the cluster's.
    """

    asked = settings.resources.get(rule, {})
    many = asked | settings.resources.get("pass_at_k", {})  # many samples of few problems

    def times_attempt(name, value):
        cap = longest // together if name == "runtime" and longest else math.inf
        return lambda wildcards, attempt: min(
            (many[name] if getattr(wildcards, "kind", None) == "pass_at_k" else value) * attempt, cap
        )

    return {name: times_attempt(name, value) for name, value in asked.items() if name != "warning"}


def training(settings, rule: str, state, longest: int | None = None) -> dict:
    """The resources of a rule that trains: nodes, GPUs, cores, memory, time, and Slurm's warning before the time limit.

    Args:
        settings: `workflow.settings.Settings`.
        rule: its name.
        state: function that returns `workflow.internals.State`, called when a job is planned.
        longest: minutes that the site allows a job.
    """

    def asks_for(resource):
        def value(wildcards):
            run = settings.run(wildcards.run)
            cores = cpus_per_gpu(rule, state().resources.get(rule, {})) if ranks(run)[0] > 1 else 1
            return resources(run, cores)[resource]

        return value

    seconds = settings.resources.get("train", {}).get("warning", 300)
    asked = {name: asks_for(name) for name in RESOURCES}
    return {**asked, "slurm_extra": warning(seconds), **demand(settings, "train", longest)}


def one_gpu(settings) -> int:
    """GPUs of a job that uses one where there is one: 0 if all runs of the main comparison have `device: cpu`."""
    return int(any(settings.run(name).device != "cpu" for name in settings.runs))


def engine_gpus(settings, values: dict) -> int:
    """GPUs of a job that samples by the engine that `values`, its configuration, names."""
    options = (values.get("vllm") or {}) if values.get("engine") == "vllm" else {}
    return one_gpu(settings) * options.get("tensor_parallel", 1) * options.get("data_parallel", 1)
