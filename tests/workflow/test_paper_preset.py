"""The paper presets: their plans have every job of the paper's targets, their settings are the paper's, their rules run on the local hub
with tiny models of the same architectures."""

import re

import pytest
import yaml

from prefix_rft.common.files import read_json, read_parquet
from prefix_rft.config.preset import Files
from prefix_rft.config.reading import load, plain, resolve
from prefix_rft.evaluation.benchmarks import load_benchmarks
from prefix_rft.evaluation.probe import Probe
from prefix_rft.evaluation.teach import TeacherConfig
from prefix_rft.runs.ablations import run_names
from prefix_rft.runs.load import load_run
from tests.conftest import run
from tests.workflow.test_workflow import plan

NAMES = ["aime24", "aime25", "amc", "math500", "minerva", "olympiad", "arc_c", "gpqa_diamond", "mmlu_pro"]
SETTINGS = "--config preset=paper-7b"


def test_the_plan_lists_every_data_demonstration_and_benchmark_job(root):
    text = run(f"snakemake -n --cores 1 {SETTINGS}", root)
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE))
    expected = {"contamination": 1, "problems": 1, "base": 1, "demonstrations": 1, "benchmark_problems": 9, "train": 15}
    expected |= {"evaluate_base_on_benchmark": 27, "evaluate_on_benchmark": 135, "table_benchmarks": 1}
    assert {name: int(jobs[name]) for name in expected} == expected
    for name in NAMES:
        assert f"benchmark_data/problems.{name}.parquet" in text
        assert f"eval/prefix_rft/seed2/benchmarks/{name}/samples.parquet" in text


def test_subsets_teachers_and_one_benchmark_have_targets(root):
    target = "results/paper-7b/data/problems.train_2k.parquet results/paper-7b/data/demos.r1_distill.parquet"
    rules = [rule for rule, _ in plan(root, f"{SETTINGS} -- {target}")]
    assert {"teach", "subset", "demonstrations", "problems", "contamination"} <= set(rules) and "train" not in rules
    rules = {rule for rule, _ in plan(root, f"{SETTINGS} -- benchmark_aime25 benchmark_bases")}
    assert "evaluate_on_benchmark" in rules and "table_benchmarks" not in rules


def test_runs_have_the_settings_of_the_paper(root):
    folder = root / "config/paper-7b"
    for name in ("rft", "luffy", "prefix_rft", "sft_then_rft"):
        rl = load_run(folder / f"{name}.yaml")
        assert (rl.steps, rl.batch_prompts, rl.minibatch_prompts, rl.optimizer.lr) == (500, 128, 64, 1e-6)
        assert (rl.rollout.group_size, rl.rollout.max_response, rl.rollout.temperature) == (8, 8192, 1.0)
        assert (rl.optimizer.weight_decay, rl.optimizer.grad_clip, rl.optimizer.schedule) == (0.01, 1.0, "constant")
    sft = load_run(folder / "sft.yaml")
    assert (sft.epochs, sft.batch_prompts, sft.optimizer.lr, sft.optimizer.warmup, sft.optimizer.final) == (
        3,
        64,
        5e-5,
        0.1,
        0.1,
    )
    for preset, name in (("paper-7b", "Qwen/Qwen2.5-Math-7B"), ("paper-1.5b", "Qwen/Qwen2.5-Math-1.5B")):
        base = yaml.safe_load((root / f"config/{preset}/setup/bases/base.yaml").read_text())
        assert (base["rope_theta"], base["window"], base["name"]) == (40000, 16384, name)


def test_data_are_those_of_the_authors(root):
    """SFT then RFT has problems of its own, teachers sample at top-p 0.95, and all right demonstrations of Table 2 are kept."""
    assert load_run(root / "config/paper-7b/sft_then_rft.yaml").train_split == "complement"
    for preset in ("paper-7b", "paper-1.5b"):
        find = Files(root / f"config/{preset}").find
        for name in ("r1_distill", "r1_distill_32b"):
            teacher = load(TeacherConfig, find(f"setup/teachers/{name}.yaml"))
            assert (teacher.samples, teacher.temperature, teacher.top_p) == (8, 0.6, 0.95)
        assert all(
            "per_prompt" not in resolve(find(f"setup/demos/{n}.yaml")) for n in ("r1_distill_all", "r1_distill_32b")
        )
        templates = {
            resolve(find(f"setup/{n}.yaml"))["template"] for n in ("data", "benchmarks", "pass_at_k", "teachers/own")
        }
        assert len(templates) == 1 and load(Probe, find("setup/probe.yaml")).top_p == 0.95
    relift = load_run(root / "config/paper-7b/relift.yaml")
    assert (relift.relift.batch, relift.optimizer.grad_clip) == (128, 0.7)


@pytest.mark.parametrize("preset", ["paper-1.5b", "paper-llama"])
def test_presets_share_what_the_paper_shares(root, preset):
    """A run differs from that of paper-7b by its model and its data alone."""
    for name in run_names(root / "config" / preset):
        own, theirs = (plain(load_run(root / f"config/{p}/{name}.yaml")) for p in (preset, "paper-7b"))
        assert {k for k in own | theirs if own.get(k) != theirs.get(k)} <= {"demos", "train_split", name} & (
            {"demos", "train_split", "hpt"}
        ), name
        if name == "hpt":  # as its authors have it
            changed = {"paper-1.5b": {"coefficient": 0.3}, "paper-llama": {"gate": 2}}[preset]
            assert own["hpt"] == theirs["hpt"] | changed and own["optimizer"]["lr"] == 5e-6
    if preset == "paper-llama":
        assert load_run(root / f"config/{preset}/sft_then_rft.yaml").train_split == "easy"
        runs = [load_run(root / f"config/{preset}/{name}.yaml") for name in run_names(root / "config" / preset)]
        assert {(r.train_split, r.demos) for r in runs} == {("easy", "easy")}
        assert resolve(Files(root / f"config/{preset}").find("setup/demos/easy.yaml"))["max_tokens"] == 2048


def test_analysis_runs_are_those_of_the_paper(root):
    folder, find = root / "config/paper-1.5b", Files(root / "config/paper-1.5b").find
    for name in ("analysis_rft", "analysis_prefix_rft"):
        run = load_run(folder / f"{name}.yaml")
        assert (run.steps, run.batch_prompts, run.train_split, run.optimizer.lr) == (640, 128, "analysis", 1e-6)
    sft = load_run(folder / "analysis_sft.yaml")
    assert (sft.epochs, sft.batch_prompts, sft.optimizer.lr, sft.demos) == (5, 128, 5e-5, "r1_distill")
    assert 16384 * sft.epochs / sft.batch_prompts == 640
    probe = load(Probe, find("setup/probe.yaml"))
    assert (640 / probe.snapshots, probe.per_level, probe.samples, probe.temperature) == (32, 256, 16, 1.0)
    deep, _ = load_benchmarks(find("setup/pass_at_k.yaml"))
    assert (deep.samples, deep.names) == (2048, ["aime24", "aime25"])


def test_every_target_of_the_paper_plans(root):
    """Figures, tables and ablations of each preset, with the runs that they need; analysis runs keep their snapshots in training."""
    jobs = plan(root, "--config preset=paper-7b -- paper_figures ablations studies")
    trained = {name for rule, name in jobs if rule.startswith("train")}
    methods = {
        "sft",
        "rft",
        "sft_then_rft",
        "rl_with_sft",
        "uft",
        "relift",
        "luffy",
        "hpt",
        "srft",
        "chord_mu",
        "chord_phi",
        "trapo",
        "g2rpo_a",
        "prefix_shown",
        "drpo",
        "prefix_rft",
    }
    controls = {"prefix_rft_frozen", "prefix_rft_all", "prefix_rft_static", "rft_entropy"}
    assert methods | controls <= trained
    assert {n for r, n in jobs if r == "train_with_snapshots"} == {
        "analysis_sft",
        "analysis_rft",
        "analysis_prefix_rft",
    }
    assert not any(rule in ("replay", "evaluate", "sample") for rule, _ in jobs)
    jobs = plan(root, "--config preset=paper-1.5b -- figure_3a table_2")
    assert {n for r, n in jobs if r == "probe"} == {"analysis_sft", "analysis_rft", "analysis_prefix_rft"}
    assert {"quantity_prefix_1", "prefix_rft_weak", "quality_prefix_32b"} <= {n for r, n in jobs if r == "train"}
    jobs = plan(root, "--config preset=paper-llama -- all figure_2 figure_5 figure_6a")
    assert {n for r, n in jobs if r == "subset"} <= {""} and any(r == "subset" for r, _ in jobs)


def test_jobs_ask_for_what_the_preset_says(root):
    text = run(
        "snakemake -n --cores 1 --config preset=paper-7b -- results/paper-7b/runs/prefix_rft/seed0/run.json", root
    )
    block = next(b for b in text.split("\n\n") + re.split(r"\n(?=rule )", text) if b.startswith("rule train:"))
    asked = re.search(r"resources: (.*)", block)[1]
    assert "gpu=8" in asked and "mem_mb=512000" in asked and "runtime=2880" in asked


def test_many_samples_ask_for_more_time_than_an_evaluation(root):
    """A benchmark of nine in one job of the cluster asks for an hour; 2,048 samples a problem ask for what `pass_at_k` says."""
    text = run("snakemake -n --cores 1 --config preset=paper-7b -- figure_2 all", root)
    found = re.findall(r"wildcards: kind=(\w+), .*\n\s+resources: .*runtime=(\d+)", text)
    assert set(found) == {("eval", "60"), ("pass_at_k", "480")}


def test_one_changed_entry_of_the_table_fetches_and_evaluates_that_benchmark_only(copy):
    """The jobs' identities, as Snakemake's params see them: a changed entry changes its own and nobody else's."""
    import os

    from prefix_rft.evaluation.benchmarks import entry_hash, scoring_hash

    before = os.getcwd()
    os.chdir(copy)
    try:
        path = "config/paper-7b/setup/benchmarks.yaml"
        hashes = {name: entry_hash(path, name) for name in NAMES}
        table = yaml.safe_load((copy / "config/benchmarks.yaml").read_text())
        table["amc"]["problems"] = 40
        (copy / "config/benchmarks.yaml").write_text(yaml.safe_dump(table))
        assert [n for n in NAMES if entry_hash(path, n) != hashes[n]] == ["amc"]
        settings = yaml.safe_load((copy / path).read_text())
        scoring = scoring_hash(path)
        (copy / path).write_text(yaml.safe_dump(settings | {"save_rows": 7, "names": NAMES[:2]}))
        assert scoring_hash(path) == scoring
    finally:
        os.chdir(before)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_data_demonstrations_training_and_benchmarks_on_the_local_hub(copy):
    """The whole graph in its smoke configuration, with one benchmark that cannot be fetched at first."""
    hub = "python -m scripts.local_hub --gone TIGER-Lab/MMLU-Pro -- snakemake --cores all --keep-going"
    text = run(f"{hub} --show-failed-logs {SETTINGS} smoke=true", copy, fails=True)
    results = copy / "results/paper-7b-smoke"
    assert "TIGER-Lab/MMLU-Pro" in text and "no such repository" in text
    for name in NAMES[:-1]:  # all others are done: base and run
        for who in ("base", "prefix_rft"):
            folder = results / f"eval/{who}/seed0/benchmarks/{name}"
            scores = read_json(folder / "scores.json")
            assert len(read_parquet(folder / "samples.parquet")) == scores["results"][0]["n_problems"] * 2
    assert not (results / "tables/benchmarks.csv").exists()
    assert read_json(results / "data/data.json")["not_compared_with"][0].startswith("mmlu_pro")

    run(f"python -m scripts.local_hub -- snakemake --cores all {SETTINGS} smoke=true", copy)
    table = (results / "tables/benchmarks.md").read_text()
    assert "average of 6" in table and "average of 3" in table and "Prefix-RFT" in table
    record = read_json(results / "runs/prefix_rft/seed0/run.json")
    assert (
        record["status"] == "complete"
        and record["template_sha256"] == read_json(results / "data/data.json")["prompt_template_sha256"]
    )
    prompt = (results / "runs/prefix_rft/seed0/first_prompt.txt").read_text()
    assert "<|im_start|>user" in prompt and "--- prefix of the demonstration" in prompt
    base = read_json(results / "models/base/base.json")
    assert base["rope"]["rope_theta"] == 40000 and base["window"] == 1024
    for demo in read_parquet(results / "data/demos.r1.parquet"):
        assert demo["response_ids"][-1] == base["stop_ids"][0]
    # a teacher, the difficulty that it makes, and what is chosen by it
    targets = "results/paper-7b-smoke/data/levels.r1_distill.parquet results/paper-7b-smoke/data/problems.easy.parquet"
    run(f"python -m scripts.local_hub -- snakemake --cores all {SETTINGS} smoke=true -- {targets}", copy)
    levels = read_parquet(results / "data/levels.r1_distill.parquet")
    assert all(r["tried"] == 4 for r in levels) and len(levels) == len(
        read_parquet(results / "data/problems.train.parquet")
    )


SMOKE = {  # targets; files that must be there
    "paper-1.5b": (
        "all figure_3a figure_3b",
        ("figures/figure_3a.pdf", "figures/figure_3b.pdf", "probes/analysis_sft/seed0/probe.json"),
    ),
    "paper-llama": ("all figure_2", ("figures/figure_2.pdf", "pass_at_k/base/seed0/benchmarks/aime24/samples.parquet")),
}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("preset", SMOKE)
def test_smoke_of_the_other_presets_ends_in_figures(copy, preset):
    targets, files = SMOKE[preset]
    hub = "python -m scripts.local_hub -- snakemake --cores all --show-failed-logs --config"
    run(f"{hub} preset={preset} smoke=true -- {targets}", copy)
    results = copy / f"results/{preset}-smoke"
    for file in (*files, "tables/benchmarks.md", "tables/main.md", "figures/comparison.pdf", "figures/figure_4.pdf"):
        assert (results / file).stat().st_size
    shape = read_json(results / "models/base/config.json")
    if preset == "paper-llama":
        assert shape["model_type"] == "llama" and shape["rope_parameters"]["rope_type"] == "llama3"
        prompt = (results / "runs/prefix_rft/seed0/first_prompt.txt").read_text()
        assert prompt.startswith("<|begin_of_text|>Question: ")
    else:
        assert shape["model_type"] == "qwen2" and shape["tie_word_embeddings"]
        assert shape["rope_parameters"]["rope_theta"] == 40000
        steps = sorted(p.name for p in (results / "runs/analysis_rft/seed0/snapshots").glob("step-*"))
        assert steps == ["step-000000", "step-000001", "step-000002"]
