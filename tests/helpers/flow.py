"""A copy of the repository whose Snakemake submits to a cluster, and what a test does to its jobs."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ENVIRONMENT
from tests.helpers.cluster import Cluster, wait_for

RESULTS = "results/tiny-smoke"
# what a cluster without accounting needs, and answers that do not keep a test waiting
FLAGS = "--jobs 4 --slurm-status-command squeue --slurm-init-seconds-before-status-checks 2"


class Workflow:
    """A copy of the repository, whose Snakemake submits to a cluster."""

    def __init__(self, folder: Path, cluster: Cluster, preset="tiny", before=""):
        """before: a command that starts the one that follows it, as `python -m scripts.local_hub --`."""
        self.folder, self.cluster, self.process = folder, cluster, None
        self.preset, self.before = preset, before
        self.results = folder / f"results/{preset}-smoke"
        self.output = folder / "snakemake.out"

    def configure(self, run: str, **values):
        """Change the smoke configuration of the method of the same name and forget that its run has been trained. The time of
        the file stays, so that nothing else is made again."""
        file = self.folder / "config/tiny/smoke.yaml"
        times = file.stat()
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {f"run_{run}": values}))
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        shutil.rmtree(self.results / f"runs/{run}", ignore_errors=True)

    def target(self, run: str) -> str:
        return f"{RESULTS}/runs/{run}/seed0/run.json"

    def log(self, run: str) -> str:
        file = self.results / f"logs/train.{run}.seed0.log"
        return file.read_text() if file.exists() else ""

    def steps_done(self, run: str) -> int:
        """Rows of the live metrics, which stand beside the checkpoints."""
        file = self.results / f"checkpoints/{run}/seed0/metrics.jsonl"
        return len(file.read_text().splitlines()) if file.exists() else 0

    def train_here(self, run: str) -> Path:
        """The same run without Slurm and without a kill; returns its folder."""
        out = self.folder / "undisturbed"
        command = (
            f"{sys.executable} -m prefix_rft train --preset tiny --override config/tiny/smoke.yaml --run {run} --seed 0"
        )
        command += f" --out {out}"
        subprocess.run(command.split(), cwd=self.folder, env=ENVIRONMENT, check=True, capture_output=True)
        return out

    def trainers(self) -> list[int]:
        """Processes `python -m prefix_rft train` of this copy."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                # what starts it (srun, torchrun) has -- before the module's name
                ours = b"-m\0prefix_rft\0train\0" in (process / "cmdline").read_bytes()
                if ours and os.readlink(process / "cwd") == str(self.folder):
                    found.append(int(process.name))
            except OSError:
                continue
        return found

    def jobs(self, states="all") -> list[dict]:
        return [j for j in self.cluster.jobs(states) if j["folder"] == str(self.folder)]

    def start(self, arguments: str, *more: str):
        """Start `snakemake --profile slurm`; `more` are arguments that may have blanks."""
        environment = ENVIRONMENT | self.cluster.environment
        environment["PATH"] = f"{self.cluster.folder}/bin{os.pathsep}{ENVIRONMENT['PATH']}{os.pathsep}/usr/sbin"
        command = f"{self.before} snakemake --cores all --profile slurm {FLAGS} {arguments}".split()
        with open(self.output, "w") as out:
            self.process = subprocess.Popen(
                [*command, *more, "--config", "smoke=true", f"preset={self.preset}"],
                cwd=self.folder,
                env=environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        return self

    def end(self, seconds: float, fails=False) -> str:
        """What Snakemake printed, when it has ended as it should."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            pytest.fail(f"snakemake ran for more than {seconds:g} s\n{self.output.read_text()[-6000:]}")
        text = self.output.read_text()
        assert (self.process.returncode != 0) == fails, text[-8000:]
        return text

    def stop(self):
        """End Snakemake and its jobs, if they are not at their end."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)  # with what it started: `before` is a process of its own
            self.process.wait()
        for job in self.jobs("PENDING,RUNNING"):
            self.cluster.run("scancel", job["id"])

    def wait(self, condition, seconds: float, what: str):
        """The first true value of `condition()`; fails at once when Snakemake has ended before."""

        def ended_or_true():
            value = condition()
            assert value or self.process.poll() is None, f"ended before {what}\n{self.output.read_text()[-8000:]}"
            return value

        return wait_for(ended_or_true, seconds, what)
