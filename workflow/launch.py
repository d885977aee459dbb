"""How the processes of a training job are started, and what the job asks a cluster for: both follow from the run's section `parallel`.

`Snakemake` evaluates these where it plans and again where the job runs, so they depend on the configuration alone.
"""

# a port of the first node; jobs that share a node have other numbers, so nearly always other ports
PATIENCE = "--shutdown-timeout 600"  # seconds that ranks have for a checkpoint between SIGTERM and SIGKILL
PORT = "$((20000 + SLURM_JOB_ID % 10000))"


def ranks(run) -> tuple[int, int]:
    """(nodes, processes on each) of a run; (1, 1) without a section `parallel`."""
    parallel = getattr(run, "parallel", None)
    return (parallel.nodes, parallel.processes_per_node) if parallel else (1, 1)


def launcher(run) -> str:
    """What stands before `prefix_rft train`: `python -m`; `torchrun` for several processes; one `torchrun` a node for several nodes.

    Snakemake runs the shell command of a job with several nodes once, on its first node; `srun` takes it to all of them.
    """
    nodes, processes = ranks(run)
    if nodes == 1:
        # after --, torchrun takes no option of the trainer's for one of its own
        return "python -m" if processes == 1 else f"torchrun --standalone --nproc-per-node {processes} {PATIENCE} -m --"
    return (
        # the whole of the job's memory and GPUs, and no binding to a single core
        f"srun --jobid ${{SLURM_JOB_ID:?parallel.nodes = {nodes}: several nodes need --profile slurm, see docs/cluster.md}}"
        f" --nodes {nodes} --ntasks {nodes} --ntasks-per-node 1 --mem 0 --cpu-bind none --kill-on-bad-exit=1"
        f" python -m scripts.pass_warning torchrun --nnodes {nodes} --nproc-per-node {processes} {PATIENCE}"
        f" --rdzv-backend c10d --rdzv-id $SLURM_JOB_ID --rdzv-endpoint $(hostname):{PORT} -m --"
    )


def resources(run, cpus_per_gpu=1) -> dict:
    """What the executor for Slurm needs to know: GPUs (none for `device: cpu`), nodes, cores. None: not asked for at all.

    cpus_per_gpu: that of the profile. On one node it goes to Slurm as it is; with --gres, which several nodes need, it would have no
    effect (one core a node), so there the cores of a node's task are worked out here.
    """
    nodes, processes = ranks(run)
    gpus = 0 if run.device == "cpu" else processes
    if nodes == 1:
        none = dict.fromkeys(("gres", "tasks", "tasks_per_gpu", "mpi", "cpus_per_task"))
        return {"gpu": gpus, "nodes": 1, **none}
    # so many GPUs on every node: a sum over nodes (--gpus) may be shared out unevenly
    gres = f"gpu:{gpus}" if gpus else None
    # mpi: Snakemake leaves it to the rule to call srun; tasks_per_gpu 0: the executor adds no --ntasks-per-gpu
    cores = processes * (cpus_per_gpu if gpus else 1)
    return {
        **{"gpu": None, "nodes": nodes, "gres": gres, "tasks": nodes, "tasks_per_gpu": 0, "mpi": "srun"},
        "cpus_per_task": cores,
    }


def warning(seconds: int) -> str:
    """What asks Slurm to warn a job `seconds` before its time limit; no `B:` before USR1: the signal is for the job's steps."""
    return f"--signal=USR1@{seconds}"
