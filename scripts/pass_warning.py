"""Run a command, and hand SIGUSR1 on to those of its descendants that wait for it.

    python -m scripts.pass_warning COMMAND ARGUMENT ...

Slurm warns a job before its time limit with a signal to its steps (`sbatch --signal=USR1@300`). Which processes get it is the site's
choice: with `proctrack/cgroup` the one process of each task that Slurm itself started, with `proctrack/linuxproc` and `pgid` all of them.
The trainer, which saves itself on SIGUSR1, is a grandchild: of Snakemake, a shell, `torchrun`. So whoever stands at the top of a
step hands the signal on to every descendant that has a handler for it, and everything between ignores it. The others would
die of it: what SIGUSR1 does to a process without a handler is to end it.

Snakemake itself is the top of most steps; workflow/rules/common.smk calls `install` for it. Linux only (/proc).
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

WARNING = signal.SIGUSR1


def parents() -> dict[int, int]:
    """Parent of every process: {pid: ppid}."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            # the name of the program stands in brackets and may have spaces and brackets of its own
            found[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, UnicodeDecodeError):
            continue  # it has ended
    return found


def descendants(root: int) -> list[int]:
    parent_of = parents()
    found, level = [], {root}
    while level:
        level = {pid for pid, parent in parent_of.items() if parent in level} - set(found)
        found += sorted(level)
    return found


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal: bit `number - 1` of its mask SigCgt."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (OSError, UnicodeDecodeError):
        return False
    mask = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(mask, 16) >> (number - 1) & 1)


def hand_on(number=WARNING, frame=None):
    for pid in descendants(os.getpid()):
        if catches(pid, number):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass


def install():
    """From now on this process hands the warning on instead of dying of it."""
    signal.signal(WARNING, hand_on)


def main():
    signal.signal(WARNING, signal.SIG_IGN)  # what is ignored is ignored by the command and its children, too
    child = subprocess.Popen(sys.argv[1:])
    install()
    signal.signal(signal.SIGTERM, lambda number, frame: child.send_signal(number))
    code = child.wait()
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
