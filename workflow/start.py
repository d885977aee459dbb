"""What happens before the first rule is read, before the first job and after the last. Nothing here knows a rule.

Snakemake adds the folder of every Snakefile to `sys.path`, so `workflow/Snakefile` can import this module by its bare name.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STARTED = time.time()


def enter_clone(here: str | os.PathLike = "."):
    """Make the packages of the clone importable; put the running Python first on the PATH, for jobs on other machines too.

    Rules and commands read config/ and write results/ relative to the clone. Started in another folder, Snakemake ends here.
    """
    if not ROOT.samefile(here):
        sys.exit(
            f"error: Snakemake must run in the folder of the clone, and runs in {Path(here).resolve()};"
            f" add `--directory {ROOT}`, or `cd {ROOT}` first. Results are written to {ROOT / 'results'}"
        )
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def free_lock(folder: Path = ROOT):
    """Remove the lock that a killed Snakemake left in the clone, and say so in one line.

    The lock stays, and Snakemake explains it, while another Snakemake works here, or where this host cannot know: after a start on
    another host, or with jobs on a cluster. A job that outlives its Snakemake ends this one: two would write the same files.
    """
    locks, record = folder / ".snakemake/locks", folder / STARTER
    if not any(locks.glob("*.lock")) or not record.exists():
        return
    starter = json.loads(record.read_text() or "{}")
    if starter.get("host") != socket.gethostname() or not starter.get("local"):
        return
    alive = living(folder)
    if any("snakemake" in command for _, command in alive):
        return
    if alive:
        pid, command = alive[0]
        sys.exit(
            f"error: {folder}: process {pid} of a Snakemake that was killed still runs ({command[:120]});"
            f" wait for its end, or `kill {pid}`, then start again"
        )
    shutil.rmtree(locks, ignore_errors=True)
    print(f"note: {folder}: the lock of a Snakemake that was killed is removed; finished jobs stay", file=sys.stderr)


STARTER = ".snakemake/prefix_rft.started.json"


def living(folder: Path) -> list[tuple[int, str]]:
    """(number, command) of every process that works in this folder for a Snakemake, jobs included; not this one and those above it."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            here = folder.samefile(process / "cwd")
        except OSError:  # it has ended, or is another user's
            continue
        found[int(process.name)] = parent, command, here
    above, pid = set(), os.getpid()
    while pid in found:
        above.add(pid)
        pid = found[pid][0]
    return [
        (pid, command)
        for pid, (_, command, here) in sorted(found.items())
        if here and pid not in above and any(name in command for name in ("snakemake", "prefix_rft", "-m scripts."))
    ]


def note_start(local: bool, folder: Path = ROOT):
    """Record who holds the lock: this host, and whether its jobs run here. Snakemake has taken the lock before `onstart`."""
    path = folder / STARTER
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({"host": socket.gethostname(), "local": local}))
    os.replace(temporary, path)


def check_command(settings, state) -> list[str]:
    """`python -m prefix_rft check` for the jobs that are going to run.

    Args:
        settings: `workflow.settings.Settings`.
        state: `workflow.internals.State` once the graph is drawn.
    """
    command = [sys.executable, "-m", "prefix_rft", "check", "--preset", settings.folder]
    command += ["--results", settings.results]
    command += ["--override", settings.override] if settings.override else []
    command += ["--devices"] if state.local else []  # the nodes of a cluster have other devices than this machine
    return [*command, *state.jobs]


def check_configuration(settings, state):
    """Before the first job: check every configuration of the preset, the packages of its jobs, and the version of the results."""
    note_start(state.local)
    if state.executor == "slurm":
        check_slurm(state)
    if subprocess.run(check_command(settings, state)).returncode:
        sys.exit(2)


def check_slurm(state):
    """Ends where there is no Slurm; says which of its defaults Slurm is going to take."""
    if not shutil.which("sbatch"):
        sys.exit(
            "error: --profile slurm: there is no command `sbatch` here; start this on a login node of the cluster,"
            " or leave the option out to run the jobs on this machine"
        )
    unset = [name for name in ("account", "partition") if f"slurm_{name}" not in state.defaults]
    if unset:
        print(
            f"note: site.yaml names no {' and no '.join(unset)}: Slurm takes its default where a rule of the profile has none"
            " (docs/cluster.md)",
            file=sys.stderr,
        )


def handed_back(results: str | os.PathLike, since: float = STARTED) -> list[str]:
    """Jobs that gave back the results of a finished job of the same identity, by their logs: "train.luffy.seed0"."""
    logs = [p for p in sorted(Path(results, "logs").glob("*.log")) if p.stat().st_mtime >= since]
    return [p.stem for p in logs if ": handed back: " in p.read_text(errors="replace")]


def tidy_up(settings):
    """After the last job: remove what retries of evaluations would have needed, and name the jobs whose work was not done again."""
    from prefix_rft.evaluation.evaluate import remove_parts

    remove_parts(settings.results)
    if names := handed_back(settings.results):
        print(f"handed back, not computed again: {', '.join(names)}", file=sys.stderr)
