"""The graph: its plan, what a change of one configuration reruns, its targets, its report, and bad settings."""

import json
import re
import shutil
import sys

import pytest
import yaml

from prefix_rft.common.errors import UserError
from prefix_rft.common.files import read_json, sha256
from prefix_rft.planning.check import RESULTS_FORMAT, check_preset, check_results
from prefix_rft.report.formats import read_csv
from scripts.choose_lr import choose
from tests.conftest import ROOT, run

NOTHING = "Nothing to be done"


def plan(folder, arguments="") -> set[tuple[str, str]]:
    """(rule, run, base, study ... that it is for) of every job that a dry run announces."""
    return jobs_in(run(f"snakemake -n --cores 1 {arguments}", folder))


def jobs_in(text) -> set[tuple[str, str]]:
    """The same from the text of a dry run."""
    jobs = set()
    for block in re.split(r"\n(?= *(?:local)?rule )", text)[1:]:  # those of a group are indented
        rule = re.match(r" *(?:local)?rule (\w+):", block)[1]
        name = re.search(r"wildcards: .*?(?:run|base|demos|study|ablation|figure|table)=([\w.-]+)", block)
        jobs.add((rule, name[1] if name else ""))
    return jobs


def edit(file, **values):
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | values))


# ------------------------------------------------------------------------------------------------ a finished graph


def test_finished_graph_has_nothing_to_do_and_all_its_files(finished):
    assert NOTHING in run("snakemake -n --cores 1", finished)
    results = finished / "results/tiny-smoke"
    for run_name in ("sft", "rft", "sft_then_rft", "luffy", "prefix_rft"):
        record = json.loads((results / f"runs/{run_name}/seed0/run.json").read_text())
        assert record["status"] == "complete" and record["run"] == run_name
    for table in ("main", "claims", "budgets"):
        assert (results / f"tables/{table}.csv").stat().st_size and (results / f"tables/{table}.md").stat().st_size
    reward = json.loads((results / "tables/metrics.json").read_text())
    assert all(0 <= v <= 1 for method in reward.values() for split in method.values() for v in split.values())


def test_changed_run_retrains_itself_and_what_follows(finished_copy):
    config = finished_copy / "config/tiny"
    everything = {("tables_main", ""), ("html_main", ""), ("dvc_metrics", ""), ("all", "")}

    edit(config / "luffy.yaml", luffy={"gamma": 0.2})
    jobs = plan(finished_copy)
    assert {j for j in jobs if j[0] in ("train", "evaluate")} == {("train", "luffy"), ("evaluate", "luffy")}
    assert everything <= jobs and not any(rule in ("problems", "base", "demonstrations") for rule, _ in jobs)

    edit(config / "sft.yaml", micro_tokens=1024)
    trained = {name for rule, name in plan(finished_copy) if rule == "train"}
    assert trained == {"luffy", "sft", "sft_then_rft"}  # the last goes on from the model of sft


def test_changed_parent_is_a_change_of_every_child(finished_copy):
    edit(finished_copy / "config/tiny/_rl.yaml", micro_tokens=512)
    trained = {name for rule, name in plan(finished_copy) if rule == "train"}
    assert trained == {"rft", "sft_then_rft", "luffy", "prefix_rft"}


def test_changed_evaluation_evaluates_and_does_not_train(finished_copy):
    edit(finished_copy / "config/tiny/setup/evaluation.yaml", seed=7)
    rules = {rule for rule, _ in plan(finished_copy)}
    assert {"evaluate", "evaluate_base", "tables_main"} <= rules and "train" not in rules


def test_code_that_decides_no_number_is_no_input(finished_copy):
    for name in ("evaluation/evaluate.py", "report/tables.py", "training/checkpoint.py"):
        file = finished_copy / "prefix_rft" / name
        file.write_text(file.read_text() + "\nANOTHER = 1\n")
    assert NOTHING in run("snakemake -n --cores 1", finished_copy)


def test_more_seeds_keep_those_that_are_done(finished_copy):
    trained = [j for j in plan(finished_copy, "--config seeds=[0,1]") if j[0] == "train"]
    text = run("snakemake -n --cores 1 --config seeds=[0,1]", finished_copy)
    assert len(trained) == 5 and "runs/rft/seed1/run.json" in text
    assert not re.search(r"output: \S*runs/\w+/seed0/run.json", text)


def test_audit_trail_is_one_file_with_captions(finished_copy):
    run("snakemake --report audit.html", finished_copy)
    text = (finished_copy / "audit.html").read_text()
    assert "Prefix-RFT" in text and "figure 4" in text and "claims and verdicts" in text
    assert not re.search(r"<(?:script|link)[^>]+(?:src|href)=[\"']https?:", text)  # self-contained


# ----------------------------------------------------------------------------------------------------------- plans


def test_every_seed_has_its_own_base_model_and_its_own_problems(copy):
    """From a base model of each seed and from halves of the problems to the table, and once more for a third seed."""
    config, results = copy / "config/tiny", copy / "results/tiny-smoke"
    edit(config / "setup/bases/base.yaml", seed="run")
    edit(config / "sft.yaml", prompts={"half": "demonstrations", "count": 12})
    edit(config / "_rl.yaml", prompts={"half": "reinforcement", "count": 8})
    smoke = yaml.safe_load((config / "smoke.yaml").read_text())["run"]
    smoke.pop("prompts")
    edit(config / "smoke.yaml", preset={"seeds": [0, 1], "runs": ["sft", "sft_then_rft"]}, run=smoke)
    table = "results/tiny-smoke/tables/main.csv"
    assert ("base_of_seed", "base") in plan(copy, f"--config smoke=true -- {table}")
    run(f"snakemake --cores 2 --show-failed-logs --config smoke=true -- {table}", copy)
    weights = [sha256(results / f"models/base/seed{s}/model.safetensors") for s in (0, 1)]
    assert weights[0] != weights[1] and not (results / "models/base/model.safetensors").exists()
    for seed in (0, 1):
        sft, then = (read_json(results / f"runs/{name}/seed{seed}/run.json") for name in ("sft", "sft_then_rft"))
        assert sft["init"]["sha256"] == weights[seed] and then["init"]["sha256"] == sft["model_sha256"]
        assert sft["steps"] == 1  # a quarter of an epoch of 12 demonstrations, 4 a step; of all 40 it were 3
        assert read_json(results / f"eval/base/seed{seed}/scores.json")["model_sha256"] == weights[seed]
    assert {r["n_seeds"] for r in read_csv(copy / table)} == {"2"}
    assert NOTHING in run(f"snakemake -n --cores 1 --config smoke=true -- {table}", copy)
    more = plan(copy, f"--config smoke=true seeds=[0,1,2] -- {table}")
    assert {("base_of_seed", "base"), ("train", "sft"), ("evaluate_base", "base")} <= more
    assert not {"problems", "demonstrations"} & {rule for rule, _ in more}


def test_every_target_has_a_plan(copy):
    targets = (
        "all data demos bases runs evaluations tables figures studies lr_grid figure_4 figure_training figure_pass_at_k"
    )
    targets += " figure_comparison figure_lr_sensitivity figure_regimes"
    preset = yaml.safe_load((copy / "config/tiny/preset.yaml").read_text())
    targets += "".join(f" study_{name}" for name in preset.get("studies") or {})
    jobs = plan(copy, targets)
    assert {name for rule, name in jobs if rule == "train"} >= set(preset["runs"])
    assert {name for rule, name in jobs if rule == "train_grid"} == set(preset["lr_grid"]["methods"])


def test_figure_4_trains_and_evaluates_one_method(copy):
    assert {job for job in plan(copy, "figure_4") if job[0] in ("train", "evaluate", "evaluate_base")} == {
        ("train", "prefix_rft"),
        ("evaluate", "prefix_rft"),
    }


def test_slurm_profile_is_found_by_name(copy):
    assert (copy / "slurm/config.yaml").exists() and (copy / "slurm").is_symlink()
    assert isinstance(yaml.safe_load((copy / "slurm/config.yaml").read_text()), dict)


# ------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("preset=tinny", ["config/config.yaml", "unknown preset 'tinny'", "did you mean 'tiny'"]),
        ("sede=[1]", ["config/config.yaml", "unknown key 'sede'", "did you mean 'seeds'"]),
        ("seeds=3", ["config/config.yaml", "'seeds' = 3", "[0, 1]"]),
        ("seeds=[0,0]", ["'seeds' = [0, 0]", "different"]),
        ("smoke=perhaps", ["'smoke' = 'perhaps'", "must be true"]),
    ],
)
def test_bad_settings_end_in_one_line(root, arguments, expected):
    *before, line = run(f"snakemake -n --cores 1 --config {arguments}", root, fails=True).strip().splitlines()
    assert line.startswith("error: ") and all(e in line for e in expected), line
    assert all(text.startswith("Config file") for text in before)  # Snakemake's own word on --config


@pytest.mark.parametrize(
    ("file", "values", "expected"),
    [
        ("preset.yaml", {"run": ["rft"]}, ["preset.yaml", "unknown key 'run'", "did you mean 'runs'"]),
        ("preset.yaml", {"seeds": "0"}, ["preset.yaml", "key 'seeds' = '0'", "a list"]),
        (
            "preset.yaml",
            {"runs": ["rft", "prefixrft"]},
            ["key 'runs': no run 'prefixrft'", "did you mean 'prefix_rft'"],
        ),
        ("preset.yaml", {"studies": {"x": {"runs": []}}}, ["preset.yaml", "'studies.x.runs' = []"]),
        (
            "preset.yaml",
            {"resources": {"trian": {}}},
            ["unknown key 'resources.trian'", "did you mean 'resources.train'"],
        ),
        (
            "preset.yaml",
            {"resources": {"train": {"warning": 0}}},
            ["'resources.train.warning' = 0", "must be >= 1 (seconds before the time limit"],
        ),
        (
            "preset.yaml",
            {"resources": {"pass_at_k": {"runtime": 480}}},
            ["preset.yaml", "pass_at_k.runtime replaces evaluate_on_benchmark.runtime, which is not set"],
        ),
        ("luffy.yaml", {"demos": "stron"}, ["luffy.yaml", "'demos' = 'stron'", "did you mean 'strong'"]),
        ("luffy.yaml", {"lufy": {}}, ["luffy.yaml", "unknown key 'lufy'", "did you mean 'luffy'"]),
        ("sft_then_rft.yaml", {"init_from": "stf"}, ["sft_then_rft.yaml", "'init_from' = 'stf'", "did you mean 'sft'"]),
        ("sft.yaml", {"init_from": "sft_then_rft"}, ["'init_from' leads back to itself"]),
    ],
)
def test_bad_preset_ends_in_one_line(copy, file, values, expected):
    edit(copy / "config/tiny" / file, **values)
    text = run("snakemake -n --cores 1", copy, fails=True)
    assert len(text.strip().splitlines()) == 1 and all(e in text for e in expected), text
    assert not (copy / "results").exists()


def test_error_in_any_stage_stops_before_the_first_job(copy):
    edit(copy / "config/tiny/setup/evaluation.yaml", sampels=8)
    text = run("snakemake --cores 1 data", copy, fails=True)
    line = next(x for x in text.splitlines() if x.startswith("error:"))
    assert "evaluation.yaml" in line and "unknown key 'sampels' = 8" in line and "'samples'" in line
    assert not (copy / "results/tiny").exists() or [p.name for p in (copy / "results/tiny").iterdir()] == ["identity"]


@pytest.mark.parametrize("preset", sorted(p.parent.name for p in (ROOT / "config").glob("*/preset.yaml")))
def test_every_preset_is_right(root, preset):
    folder = root / "config" / preset
    assert check_preset(folder) >= 5
    assert check_preset(folder, str(folder / "smoke.yaml")) >= 5


def test_results_of_another_version_are_refused_and_kept(tmp_path):
    check_results(tmp_path)  # a new folder gets its mark
    mark = tmp_path / "VERSION.json"
    assert json.loads(mark.read_text())["results_format"] == RESULTS_FORMAT
    check_results(tmp_path)
    mark.write_text(json.dumps({"results_format": RESULTS_FORMAT + 1}))
    with pytest.raises(UserError, match=f"VERSION.json: key 'results_format' = {RESULTS_FORMAT + 1}"):
        check_results(tmp_path)
    assert json.loads(mark.read_text()) == {"results_format": RESULTS_FORMAT + 1}


def test_learning_rate_is_the_best_mean_over_seeds_and_ties_go_to_the_smaller():
    rows = [
        *(
            dict(method="a", lr=lr, seed=s, score=v)
            for lr, s, v in [(1e-3, 0, 0.9), (1e-3, 1, 0.1), (1e-4, 0, 0.6), (1e-4, 1, 0.6)]
        ),
        *(dict(method="b", lr=lr, seed=0, score=v) for lr, v in [(1e-2, 0.1), (1e-3, 0.5), (1e-4, 0.5), (1e-5, 0.2)]),
    ]
    a, b = choose(rows)
    assert (a["method"], a["lr"], a["n_seeds"], a["at_edge_of_grid"]) == ("a", 1e-4, 2, True)
    assert a["score"] == pytest.approx(0.6)
    assert (b["method"], b["lr"], b["at_edge_of_grid"]) == ("b", 1e-4, False)


def test_make_knows_when_set_up_is_done(copy):
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    assert "pip install" in run("make -n reproduce", copy)
    (copy / ".venv/bin").mkdir(parents=True)
    for name in ("bin/python", "core.stamp", "smollm2.stamp", "paper.stamp", "test.stamp"):
        (copy / ".venv" / name).touch()
    assert "pip install" not in run("make -n reproduce", copy)
    assert "pip install" not in run("make -n test", copy)
    (copy / "requirements/pins.txt").touch()
    assert "pip install" in run("make -n test", copy)


def test_set_up_lets_scripts_import_the_package(copy, tmp_path):
    """An example, or a script of one's own in another folder, imports the package of the clone."""
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    run(f"{sys.executable} -m venv --without-pip .venv", copy)
    run("make .venv/core.stamp PIP=true", copy)
    (tmp_path / "where.py").write_text("import importlib.util as u; print(u.find_spec('prefix_rft').origin)")
    where = run(f"env -u PYTHONPATH {copy}/.venv/bin/python where.py", tmp_path)
    assert where.strip() == str(copy / "prefix_rft/__init__.py")


def test_make_reports_on_the_folder_that_the_graph_writes(copy):
    if shutil.which("make") is None:
        pytest.skip("no make on this machine")
    assert "--results results/tiny\n" in run("make -n reproduce", copy)
    assert "--results results/tiny-smoke\n" in run("make -n reproduce CONFIG=smoke=true", copy)
    for word in ("True", "yes", "1"):
        text = run(f"make -n reproduce CONFIG=smoke={word}", copy, fails=True)
        assert f"smoke={word}: must be smoke=true or smoke=false" in text and "snakemake" not in text
    assert "PRESET=gsm" in run("make -n reproduce CONFIG=preset=gsm", copy, fails=True)
    settings = copy / "config/config.yaml"
    settings.write_text(settings.read_text().replace("smoke: false", "smoke: true"))
    assert "--results results/tiny-smoke\n" in run("make -n reproduce", copy)
