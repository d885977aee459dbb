"""The benchmarks of a model are one job of Slurm's, in which they follow each other."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import copy_repository
from tests.helpers.flow import Workflow

NAMES = ("aime24", "arc_c")


def evaluations(folder: Path) -> dict[int, str]:
    """Process -> benchmark of every `python -m prefix_rft evaluate` that works in a folder. A child that it has just forked, to start
    another program, still has its command line; it is not counted."""
    found, parent = {}, {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode().split("\0")
            if command[1:4] == ["-m", "prefix_rft", "evaluate"] and os.readlink(process / "cwd") == str(folder):
                found[int(process.name)] = command[command.index("--benchmark") + 1]
                parent[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    return {pid: name for pid, name in found.items() if parent.get(pid) not in found}


@pytest.mark.timeout(1800)
def test_benchmarks_of_a_model_are_one_job_and_follow_each_other(cluster, tmp_path):
    """The second is killed once; the first is not sampled again."""
    copy_repository(tmp_path / "copy")
    flow = Workflow(tmp_path / "copy", cluster, preset="paper-1.5b", before="python -m scripts.local_hub --")
    order = []  # of processes, as they were seen
    try:
        flow.start("benchmark_bases")
        while flow.process.poll() is None:
            running = evaluations(flow.folder)
            assert len(running) <= 1, running
            for pid, name in running.items():
                if pid not in [p for p, _ in order]:
                    order.append((pid, name))
                    if len(order) == 2:
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        text = flow.end(60)
    finally:
        flow.stop()
    first = order[0][1]
    assert sorted(name for _, name in order) == ["aime24", "aime24", "arc_c", "arc_c"]
    assert "of 6 responses were saved before" in (flow.results / f"logs/eval.base.seed0.{first}.log").read_text()
    for name in NAMES:
        assert sorted(p.name for p in (flow.results / f"eval/base/seed0/benchmarks/{name}").iterdir()) == [
            "samples.parquet",
            "scores.json",
        ]
    groups = [j for j in flow.jobs() if j["comment"].startswith("rule_benchmarks_eval_base_0")]
    assert "Trying to restart" in text and [g["state"] for g in groups] == ["FAILED", "COMPLETED"]
    # of jobs that follow each other: the sum of their times (an hour each, config/paper-1.5b/preset.yaml), the memory of one
    assert groups[0]["limit"] == "2:00:00" and groups[0]["memory"] == "32000M"
