"""Two Slurm clusters on this machine and the smallest graph of preset `tiny`, run through `--profile slurm`."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from cluster import Cluster, missing, wait_for

from tests.conftest import ENVIRONMENT, copy_repository

RESULTS = "results/tiny-smoke"
# what a cluster without accounting needs, and answers that do not keep a test waiting
FLAGS = "--slurm-status-command squeue --slurm-init-seconds-before-status-checks 2"


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slurm)


@pytest.fixture(scope="session")
def clusters(tmp_path_factory):
    """`clusters(nodes, gpus, proctrack)` gives a running cluster of that kind; all are stopped at the end."""
    if missing():
        pytest.skip(f"no Slurm here ({', '.join(missing())} missing): apt-get install slurm-wlm munge")
    started = {}

    def get(nodes=1, gpus=2, proctrack="linuxproc"):
        kind = (nodes, gpus, proctrack)
        if kind not in started:
            cluster = Cluster(tmp_path_factory.mktemp("cluster"), *kind)
            cluster.__enter__()
            started[kind] = cluster
        return started[kind]

    yield get
    for cluster in started.values():
        cluster.stop()


@pytest.fixture(scope="session")
def cluster(clusters):
    """One node with two GPUs."""
    return clusters()


class Workflow:
    """A copy of the repository, whose Snakemake submits to a cluster."""

    def __init__(self, folder: Path, cluster: Cluster):
        self.folder, self.cluster, self.process = folder, cluster, None
        self.results = folder / RESULTS
        self.output = folder / "snakemake.out"

    def start(self, arguments: str, *more: str):
        """Start `snakemake --profile slurm`; `more` are arguments that may have blanks."""
        environment = ENVIRONMENT | self.cluster.environment
        environment["PATH"] = f"{self.cluster.folder}/bin{os.pathsep}{ENVIRONMENT['PATH']}{os.pathsep}/usr/sbin"
        command = f"snakemake --cores all --profile slurm {FLAGS} {arguments}".split()
        with open(self.output, "w") as out:
            self.process = subprocess.Popen(
                [*command, *more, "--config", "smoke=true"],
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
            self.process.send_signal(signal.SIGINT)  # cancels its jobs
            self.process.wait(60)
            pytest.fail(f"snakemake ran for more than {seconds:g} s\n{self.output.read_text()[-6000:]}")
        text = self.output.read_text()
        assert (self.process.returncode != 0) == fails, text[-8000:]
        return text

    def wait(self, condition, seconds: float, what: str):
        """The first true value of `condition()`; fails at once when Snakemake has ended before."""

        def ended_or_true():
            value = condition()
            assert value or self.process.poll() is None, f"ended before {what}\n{self.output.read_text()[-8000:]}"
            return value

        return wait_for(ended_or_true, seconds, what)


@pytest.fixture(scope="session")
def finished_on_slurm(cluster, tmp_path_factory):
    """The whole smoke graph, run by Slurm: (workflow, what Snakemake printed). Read only."""
    folder = tmp_path_factory.mktemp("slurm") / "copy"
    copy_repository(folder)
    workflow = Workflow(folder, cluster)
    return workflow, workflow.start("").end(1800)


@pytest.fixture
def trained(finished_on_slurm, tmp_path):
    """`trained(cluster)`: a copy of the finished graph for a test to change."""

    def copy(cluster):
        folder = tmp_path / "copy"
        shutil.copytree(finished_on_slurm[0].folder, folder, symlinks=True)
        return Workflow(folder, cluster)

    return copy
