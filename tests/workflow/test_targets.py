"""Targets by name: every one exists, a misspelt one ends in one line, and Snakemake runs in the clone only."""

import re
from types import SimpleNamespace

import pytest
import yaml

from prefix_rft.common.errors import UserError
from prefix_rft.planning.cost import planned
from tests.conftest import ROOT, run
from workflow.inputs import STAGES, Plan
from workflow.internals import State
from workflow.launch import cpus_per_gpu
from workflow.settings import load_settings
from workflow.start import check_command, check_slurm, enter_clone


def last_line(command, folder) -> str:
    return run(command, folder, fails=True).strip().splitlines()[-1]


def test_snakemake_lists_the_targets_of_the_plan(root, monkeypatch):
    monkeypatch.chdir(root)
    listed = re.findall(r"^([\w.+-]+)(?: \(|$)", run("snakemake --list-target-rules", root), re.M)
    assert set(listed) >= {*STAGES, *Plan(load_settings({"preset": "tiny"})).targets}
    written = re.findall(r"^rule (\w+):", (root / "workflow/rules/targets.smk").read_text(), re.M)
    assert {*written, "all"} == {*STAGES, "unknown_target"}


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("ablation_scheduel", "did you mean 'ablation_schedule'?"),
        ("study_methodz", "did you mean 'study_methods'?"),
        ("figure_22", "did you mean 'figure_2'?"),
    ],
)
def test_a_misspelt_target_ends_in_one_line(root, target, expected):
    line = last_line(f"snakemake -n --cores 1 {target}", root)
    assert line == f"error: no target {target!r} in preset 'tiny'; {expected}"


def test_an_ablation_that_the_preset_cannot_make_stops_its_own_targets_only(copy):
    file = copy / "config/tiny/preset.yaml"
    values = yaml.safe_load(file.read_text())
    values["studies"]["few"]["runs"] = ["rft", "prefixrft"]
    file.write_text(yaml.safe_dump(values))
    run("snakemake -n --cores 1", copy)
    for target in ("study_few", "studies"):
        line = last_line(f"snakemake -n --cores 1 {target}", copy)
        assert line.startswith("error: config/tiny/preset.yaml: key 'studies.few.runs': no run 'prefixrft'"), line


def test_a_misspelt_target_of_cost_ends_in_the_same_line():
    with pytest.raises(UserError, match=r"^--target figure_22: no target 'figure_22' .* did you mean 'figure_2'\?$"):
        planned("paper-7b", "figure_22")


def test_the_target_of_a_run_trains_and_evaluates_that_run(root):
    text = run("snakemake -n --cores 1 -- run_entropy_top50", root)
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", text, re.M))
    assert jobs["train"] == jobs["evaluate"] == "3" and "evaluate_base" not in jobs


def test_in_another_folder_snakemake_ends_in_one_line(tmp_path):
    text = run(f"snakemake -n --cores 1 --snakefile {ROOT}/Snakefile", tmp_path, fails=True)
    assert text.startswith("error: Snakemake must run in the folder of the clone") and text.count("\n") == 1
    assert f"--directory {ROOT}" in text
    run(f"snakemake -n --cores 1 --snakefile {ROOT}/Snakefile --directory {ROOT} data", tmp_path)
    with pytest.raises(SystemExit, match="must run in the folder of the clone"):
        enter_clone(tmp_path)


def test_check_before_the_first_job_is_told_of_the_jobs():
    settings = SimpleNamespace(folder="config/tiny", results="results/tiny", override="config/tiny/smoke.yaml")
    rest = dict(main=True, defaults=[], resources={}, together=1)
    here = State(local=True, executor="local", jobs=["train:rft"], **rest)
    command = check_command(settings, here)
    assert command[3:] == [
        *("check", "--preset", "config/tiny", "--results", "results/tiny"),
        *("--override", "config/tiny/smoke.yaml", "--devices", "train:rft"),
    ]
    elsewhere = State(local=False, executor="slurm", jobs=[], **rest)
    assert "--devices" not in check_command(settings, elsewhere)


def test_a_missing_slurm_and_a_missing_account_are_said_before_the_first_job(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    rest = dict(main=True, local=False, executor="slurm", jobs=[], resources={}, together=1)
    with pytest.raises(SystemExit, match="there is no command `sbatch` here; start this on a login node"):
        check_slurm(State(defaults=[], **rest))
    (tmp_path / "sbatch").touch(mode=0o755)
    check_slurm(State(defaults=["mem_mb", "slurm_account"], **rest))
    assert "names no partition: Slurm takes its default" in capsys.readouterr().err
    check_slurm(State(defaults=["slurm_account", "slurm_partition"], **rest))
    assert capsys.readouterr().err == ""


def test_cores_of_a_gpu_are_a_number():
    assert cpus_per_gpu("train", {}) == 1
    assert cpus_per_gpu("train", {"cpus_per_gpu": SimpleNamespace(value="6")}) == 6
    with pytest.raises(UserError, match="cpus_per_gpu of rule train = 8 [*] attempt: must be a whole number"):
        cpus_per_gpu("train", {"cpus_per_gpu": "8 * attempt"})


def test_every_word_of_a_shell_line_is_quoted():
    """But the launcher, which is shell code itself."""
    for file in (ROOT / "workflow/rules").glob("*.smk"):
        for line in re.findall(r'^ +" ?.*"$', file.read_text(), re.M):
            found = re.findall(r"\{((?:input|output|params|wildcards|log)[^}]*)\}", line)
            assert all(f.endswith(":q") or f == "params.launcher" for f in found), (file, line)
