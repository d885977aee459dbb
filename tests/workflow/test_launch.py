"""How training is started on one node and on several, and Slurm's warning on its way to the trainer."""

import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import yaml

from scripts import pass_warning
from tests.conftest import ENVIRONMENT, ROOT, run
from workflow.launch import demand, launcher, resources


def a_run(nodes=1, processes=1, device="auto"):
    return SimpleNamespace(device=device, parallel=SimpleNamespace(nodes=nodes, processes_per_node=processes))


def test_one_process_is_plain_python():
    assert launcher(SimpleNamespace(device="cpu")) == launcher(a_run()) == "python -m"


def test_processes_of_one_node_are_torchruns():
    assert launcher(a_run(1, 8)) == "torchrun --standalone --nproc-per-node 8 --shutdown-timeout 600 -m --"


def test_several_nodes_start_one_torchrun_each():
    words = launcher(a_run(4, 8)).split()
    for option, value in (("--nodes", "4"), ("--ntasks-per-node", "1"), ("--nnodes", "4"), ("--nproc-per-node", "8")):
        assert words[words.index(option) + 1] == value
    assert words[0] == "srun" and words.index("torchrun") > words.index("scripts.pass_warning")


def test_several_nodes_without_slurm_end_in_one_line():
    environment = {k: v for k, v in ENVIRONMENT.items() if k != "SLURM_JOB_ID"}
    done = subprocess.run(["bash", "-c", launcher(a_run(2))], env=environment, text=True, stderr=subprocess.PIPE)
    assert done.returncode != 0 and len(done.stderr.strip().splitlines()) == 1
    assert "parallel.nodes = 2: several nodes need --profile slurm, see docs/cluster.md" in done.stderr


def test_what_a_job_asks_for():
    asked = {k: v for k, v in resources(a_run(1, 8)).items() if v is not None}
    assert asked == {"gpu": 8, "nodes": 1}  # without nodes, Slurm may take eight GPUs from two nodes
    assert resources(a_run(1, 2, device="cpu"))["gpu"] == 0
    # cpus_per_gpu has no effect beside --gres: the cores are those of a node's one task
    asked = {k: v for k, v in resources(a_run(2, 8), cpus_per_gpu=6).items() if v is not None}
    assert asked == {"gres": "gpu:8", "nodes": 2, "tasks": 2, "tasks_per_gpu": 0, "mpi": "srun", "cpus_per_task": 48}
    on_cpus = resources(a_run(2, 8, device="cpu"), cpus_per_gpu=6)
    assert on_cpus["gres"] is None and on_cpus["cpus_per_task"] == 8


def test_three_values_of_the_site_reach_every_job(copy):
    target = "results/paper-7b/runs/sft/seed0/run.json"

    def asked(arguments=""):
        plan = f"snakemake -n --cores all --profile slurm --config preset=paper-7b {arguments} -- {target}"
        listed = re.findall(r"^rule (\w+):\n(?: .*\n)*? +resources: (.*)", run(plan, copy), re.M)
        return {rule: dict(pair.split("=", 1) for pair in text.split(", ")) for rule, text in listed}

    before = asked()
    assert before["train"]["runtime"] == "2880" and "slurm_account" not in before["train"]
    (copy / "site.yaml").write_text("{account: abc, partition: gpu, longest_job: 200}")
    after = asked()
    assert before.keys() == after.keys() and len(after) > 3
    for rule, values in after.items():
        assert (values["slurm_account"], values["slurm_partition"]) == ("abc", "gpu"), rule
        assert int(values["runtime"]) == min(200, int(before[rule]["runtime"])), rule
    assert asked("--set-resources train:slurm_partition=big")["train"]["slurm_partition"] == "big"  # a rule's own wins
    (copy / "site.yaml").write_text("longest_job: 24h")
    text = run("snakemake -n --cores all", copy, fails=True)
    assert text.splitlines()[-1].startswith("error: site.yaml: key 'longest_job' = '24h'"), text


def test_plan_has_the_cores_of_the_profile_and_the_warning_of_the_preset(copy):
    def asked(arguments):
        text = run(f"snakemake -n --cores all --profile slurm {arguments}", copy)
        listed = re.search(r"^rule train:\n(?: .*\n)*? +resources: (.*)", text, re.M)[1]
        return dict(pair.split("=", 1) for pair in listed.split(", "))

    config = copy / "config/tiny/sft.yaml"
    parallel = {"nodes": 2, "processes_per_node": 4, "zero": 2}
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"parallel": parallel, "device": "auto"}))
    target = "results/tiny/runs/sft/seed0/run.json"
    found = asked(f"-- {target}")
    assert (found["nodes"], found["gres"], found["cpus_per_task"]) == ("2", "gpu:4", "32")
    assert found["slurm_extra"] == "--signal=USR1@300"
    assert asked(f"--set-resources train:cpus_per_gpu=2 -- {target}")["cpus_per_task"] == "8"
    assert asked(f"--set-resources train:cpus_per_task=5 -- {target}")["cpus_per_task"] == "5"
    found = asked("--config preset=paper-7b -- results/paper-7b/runs/sft/seed0/run.json")
    assert (found["gpu"], found["cpus_per_gpu"], found["slurm_extra"]) == ("8", "8", "--signal=USR1@900")
    assert "cpus_per_task" not in found and "gres" not in found


# A tree as in a job: the top hands on, a shell ignores, and of two grandchildren one waits for the signal.
LEAF = """
import os, signal, sys, time
os.write(1, b"ready\\n")
{handler}
time.sleep(60)
"""
CATCH = "signal.signal(signal.SIGUSR1, lambda n, f: sys.exit(75))"


@pytest.mark.parametrize("everyone", [False, True], ids=["only the top gets it", "everyone gets it"])
def test_warning_reaches_who_waits_for_it_and_kills_nobody_else(tmp_path, everyone):
    for name, handler in (("catches", CATCH), ("deaf", "")):
        (tmp_path / f"{name}.py").write_text(LEAF.format(handler=handler))
    python = sys.executable
    shell = (
        f"{python} {tmp_path}/deaf.py & {python} {tmp_path}/catches.py; echo code $?; kill $!; wait $!; echo deaf $?"
    )
    top = subprocess.Popen(
        [python, "-m", "scripts.pass_warning", "bash", "-c", shell],
        cwd=ROOT,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert [top.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    deadline = time.monotonic() + 30
    family = pass_warning.descendants(top.pid)
    while not any(pass_warning.catches(pid, signal.SIGUSR1) for pid in family):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if everyone:
        os.killpg(top.pid, signal.SIGUSR1)
    else:
        top.send_signal(signal.SIGUSR1)
    # 75 is the trainer's own code; the deaf one lived until it was told to end with SIGTERM (128 + 15)
    assert top.communicate(timeout=30)[0].split("\n")[:2] == ["code 75", "deaf 143"]
    assert top.returncode == 0


def test_exit_code_is_that_of_the_command():
    def code(command):
        return subprocess.run(
            [sys.executable, "-m", "scripts.pass_warning", "bash", "-c", command], cwd=ROOT
        ).returncode

    assert code("exit 75") == 75
    assert code("kill -KILL $$") == 137


def test_only_the_main_snakemake_starts_jobs_again():
    """Snakemake's rules are read in jobs, too: a number there would start a run again within its own job."""
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        assert set(re.findall(r"^ +retries: *(.*)$", file.read_text(), re.M)) <= {"RETRIES"}, file


def test_profile_says_yaml_in_its_comments_too():
    """Whoever takes away a # gets a key that the executor knows."""
    text = (ROOT / "slurm/config.yaml").read_text()
    lines = []
    for line in text.splitlines():
        stripped = line.lstrip()
        key = stripped[2:].partition(":")[0]
        if stripped.startswith("# ") and key.replace("-", "_").isidentifier() and ": " in stripped:
            line = line.replace("# ", "", 1)
        lines.append(line)
    values = yaml.safe_load("\n".join(lines))
    assert {"slurm-status-command", "slurm-qos", "slurm-reservation"} <= set(values)
    assert {"slurm_account", "slurm_partition"} <= set(values["default-resources"])
    for rule in ("train", "train_grid", "replay"):
        assert {"slurm_partition", "gres", "constraint", "cpus_per_task"} <= set(values["set-resources"][rule])


def test_jobs_that_share_one_of_the_clusters_share_its_time():
    settings = SimpleNamespace(resources={"evaluate_on_benchmark": {"mem_mb": 64000, "runtime": 480}})
    runtime = demand(settings, "evaluate_on_benchmark", longest=1440, together=9)["runtime"]
    assert [runtime(None, attempt) for attempt in (1, 3)] == [160, 160]
    alone = demand(settings, "evaluate_on_benchmark", longest=1440)["runtime"]
    assert [alone(None, attempt) for attempt in (1, 3)] == [480, 1440]
