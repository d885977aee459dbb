"""The paper's figures, tables and claims from a synthetic results folder with known truth; snapshots and probes from a real small run."""

import json
import signal
import subprocess
import sys

import numpy as np
import pytest
import synthetic
import torch
import yaml
from small import make_world, train_args

from prefix_rft import claims, figures, paper_claims, paper_tables, published, tables, train
from prefix_rft.config import load
from prefix_rft.errors import UserError
from prefix_rft.figures import Context
from prefix_rft.io import read_json, read_parquet, write_json
from prefix_rft.probes import change, hardest, trajectories
from prefix_rft.study import load_study
from scripts import costs
from tests.conftest import ENVIRONMENT, ROOT
from tests.test_figures import command
from tests.test_tables import rows


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    preset, results = synthetic.build_paper(tmp_path_factory.mktemp("paper"))
    for study in ("main", "ablation_quantity", "ablation_quality"):
        common = ("--preset-config", preset, "--results", results, "--study", study)
        command(tables, *common, "--out", results / f"tables/{study}.csv")
    return preset, results


@pytest.mark.parametrize("name", [n for n in figures.PAPER if n != "figure_4"])
def test_every_figure_of_the_paper_is_drawn_without_a_warning(made, name, recwarn):
    preset, results = made
    out = results / "figures" / f"{name}.pdf"
    command(figures, name, "--preset-config", preset, "--results", results, "--out", out)
    assert out.read_bytes().startswith(b"%PDF") and rows(out.with_suffix(".csv"))
    assert not [w for w in recwarn if issubclass(w.category, UserWarning | RuntimeWarning)]


@pytest.mark.parametrize("name", paper_tables.TABLES)
def test_every_table_of_the_paper_is_made(made, name):
    preset, results = made
    out = results / "tables" / f"{name}.csv"
    command(paper_tables, name, "--preset-config", preset, "--results", results, "--out", out)
    text = out.with_suffix(".md").read_text()
    assert (
        rows(out)
        and text.startswith(f"## Table {name[-1]}")
        and "Not the paper's setting" in text
        and "nan" not in text
    )


def paper_table(made, name):
    preset, results = made
    out = results / "tables" / f"{name}.csv"
    command(paper_tables, name, "--preset-config", preset, "--results", results, "--out", out)
    return rows(out)


def test_figure_2_goes_to_the_largest_k_and_table_7_is_its_end(made):
    preset, results = made
    command(
        figures, "figure_2", "--preset-config", preset, "--results", results, "--out", results / "figures/figure_2.pdf"
    )
    drawn = {(r["method"], r["split"], int(r["k"])): float(r["mean"]) for r in rows(results / "figures/figure_2.csv")}
    assert max(k for _, _, k in drawn) == 64
    for r in paper_table(made, "table_7"):
        assert r["metric"] == "pass@64"
        if (r["method"], r["split"], 64) in drawn:
            assert float(r["mean"]) == pytest.approx(drawn[r["method"], r["split"], 64], abs=1e-6)


def test_figure_3a_moves_as_the_numbers_were_made(made):
    preset, results = made
    command(
        figures,
        "figure_3a",
        "--preset-config",
        preset,
        "--results",
        results,
        "--out",
        results / "figures/figure_3a.pdf",
    )
    drawn = rows(results / "figures/figure_3a.csv")
    for run, (fall, rise) in synthetic.ENDS.items():
        own = [r for r in drawn if r["method"] == run]
        assert [int(r["step"]) for r in own] == [0, 20, 40, 60]
        assert float(own[0]["nll"]) - float(own[-1]["nll"]) == pytest.approx(fall, abs=0.02)
        assert float(own[-1]["avg"]) - float(own[0]["avg"]) == pytest.approx(rise, abs=0.06)
        assert all(float(r["best"]) >= float(r["avg"]) for r in own)


def test_hardest_problems_and_change_between_snapshots(made):
    found = trajectories(load_study(*made, evaluation=None).trained())
    keep = hardest(found)
    assert keep.sum() == 10 and keep[:10].sum() >= 8  # problems 0 to 9 were made the hardest
    ours = next(t for t in found if t.member.run == "prefix_rft")
    delta, accuracy, (start, end) = change(ours)
    assert (start, end) == (20, 40) and delta.shape == accuracy.shape == (2, 40)
    assert delta[:, :20].mean() < delta[:, 20:].mean() < 0  # it falls most on the hard half


def test_probes_of_another_training_are_refused(tmp_path):
    preset, results = synthetic.build_paper(tmp_path, seeds=(0,), problems=2)
    synthetic.edit_json(results / "probes/rft/seed0/probe.json", model_sha256="other")
    with pytest.raises(UserError, match="probes/rft/seed0/probe.json: key 'model_sha256'"):
        trajectories(load_study(preset, results, evaluation=None).trained())


def test_table_4_measures_norms_share_and_angle(made):
    table = {(r["measure"], r["part"]): float(r["mean"]) for r in paper_table(made, "table_4")}
    assert table["share of prefix tokens (%)", "first third"] == pytest.approx(10)
    assert table["angle between them (degrees)", "last third"] == pytest.approx(90)  # the cosine was made 0


def test_table_5_corrects_for_the_number_of_comparisons(made):
    table = paper_table(made, "table_5")
    p, corrected = (np.array([float(r[k]) for r in table]) for k in ("p", "p_holm"))
    assert (corrected >= p - 1e-9).all() and corrected.min() == pytest.approx(min(1, p.min() * len(p)), rel=1e-3)
    assert {r["split"] for r in table} == {"test", "ood"}


def test_published_numbers_stand_there_only_where_the_preset_is_the_paper_s(made):
    preset, results = made
    before = preset.read_text()
    try:
        preset.write_text(yaml.safe_dump(yaml.safe_load(before) | {"published": "Qwen2.5-Math-7B"}))
        paper_table(made, "table_8")
        text = (results / "tables/table_8.md").read_text()
        assert "paper |" in text and "51.8" in text and "Qwen2.5-Math-7B" in text
    finally:
        preset.write_text(before)
    paper_table(made, "table_8")
    assert "51.8" not in (results / "tables/table_8.md").read_text()
    assert published.TABLE_1["prefix_rft"][6] == published.TABLE_8["prefix_rft"]


def test_claims_are_tested_where_their_runs_are_and_listed_where_not(made):
    preset, results = made
    names = ["main", "controls", "ablation_entropy", "ablation_schedule", "pass_at_k", "probes"]
    out = results / "tables/paper_claims.csv"
    common = ("--preset-config", preset, "--results", results)
    command(paper_claims, *common, "--studies", ",".join(names), "--out", out)
    table = {r["claim"]: r for r in rows(out)}
    nll = next(r for c, r in table.items() if c.startswith("It fits the demonstrations more"))
    assert nll["verdict"] == "holds" and float(nll["difference"]) == pytest.approx(0.35, abs=0.02)
    assert table["Its NLL falls most on hard problems (harder minus easier half)"]["verdict"] == "holds"
    assert (
        table["Prefix-RFT beats UFT"]["verdict"] == claims.NOT_TESTED
        and table["Prefix-RFT beats UFT"]["target"] == "study_methods"
    )
    assert table["Prefix-RFT beats DR-PO"]["target"] == "study controls has no run drpo"
    tested = [r for r in table.values() if r["verdict"] != claims.NOT_TESTED]
    assert all(r["verdict"] == claims.verdict(float(r["ci_low"]), float(r["ci_high"])) for r in tested)
    assert {c.text for c in claims.FURTHER} | {t for t, _, _ in claims.OUT_OF_REACH} <= set(table)
    assert "Not tested by these runs" in out.with_suffix(".md").read_text()


def test_every_target_of_a_claim_exists(root):
    """A reader who wants an untested claim tested is told a target that there is."""
    from prefix_rft.ablations import read_ablations

    preset = yaml.safe_load((root / "config/tiny/preset.yaml").read_text())
    known = {f"study_{s}" for s in preset["studies"]} | {f"ablation_{a}" for a in read_ablations(root / "config/tiny")}
    assert {c.target for c in claims.FURTHER if c.study != "main"} <= known | {"figure_2", "figure_3a", "figure_5"}


# ------------------------------------------------------------------------------------------------ snapshots, probe


KILLED = """
import argparse, os, signal, sys
from prefix_rft import probe
real, calls = probe.demonstration_nll, []
def third(*arguments):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
probe.demonstration_nll = third
parser = argparse.ArgumentParser()
probe.add_arguments(parser)
probe.main(parser.parse_args(sys.argv[1:]))
"""


def test_snapshots_change_nothing_and_the_probe_measures_them(tmp_path, monkeypatch):
    make_world(tmp_path)
    config = tmp_path / "r.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "method": "prefix_rft",
                "demos": "strong",
                "steps": 3,
                "batch_prompts": 4,
                "micro_tokens": 512,
                "device": "cpu",
            }
            | {"rollout": {"group_size": 4, "max_response": 60}, "optimizer": {"lr": 0.001}, "checkpoint": {"every": 2}}
        )
    )
    plain = train_args(tmp_path, config, out=str(tmp_path / "run"))
    again = train_args(tmp_path, config, out=str(tmp_path / "replay"), snapshots=2)
    assert train.main(plain) == train.main(again) == 0
    run, replay = (read_json(tmp_path / f / "run.json") for f in ("run", "replay"))
    assert run["model_sha256"] == replay["model_sha256"] and run["config_hash"] == replay["config_hash"]
    assert [p.name for p in sorted((tmp_path / "replay/snapshots").iterdir())] == [
        "step-000000",
        "step-000002",
        "step-000003",
    ]
    (tmp_path / "probe.yaml").write_text(yaml.safe_dump(dict(demos="strong", max_response=60, per_level=5, samples=2)))
    from prefix_rft import probe

    parts = ("--config", tmp_path / "probe.yaml", "--run", "r", "--seed", 0, "--data", tmp_path / "data")
    parts += ("--replay", tmp_path / "replay", "--record", tmp_path / "run/run.json", "--out", tmp_path / "probes")
    parts += ("--checkpoints", tmp_path / "parts")
    command(probe, *parts)
    table = read_parquet(tmp_path / "probes/probe.parquet")
    assert not (tmp_path / "parts").exists()
    assert len(table) == 3 * 5 and {r["step"] for r in table} == {0, 2, 3}
    assert table[0]["nll"] == pytest.approx(nll_by_hand(tmp_path, table[0]["problem_id"]), abs=1e-4)
    # killed at its third snapshot, it goes on there, and the files are the same
    again = [str(p) for p in (*parts, "--out", tmp_path / "after")]
    environment = ENVIRONMENT | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run([sys.executable, "-c", KILLED, *again], cwd=ROOT, env=environment)
    assert done.returncode == -signal.SIGKILL and not (tmp_path / "after").exists()
    assert len(list((tmp_path / "parts").glob("rows-*.parquet"))) == 2
    called, real = [], probe.demonstration_nll
    monkeypatch.setattr(probe, "demonstration_nll", lambda *a: called.append(1) or real(*a))
    command(probe, *again)
    assert len(called) == 1 and not (tmp_path / "parts").exists()
    for name in ("probe.parquet", "probe.json"):
        assert (tmp_path / "after" / name).read_bytes() == (tmp_path / "probes" / name).read_bytes()
    record = json.loads((tmp_path / "run/run.json").read_text()) | {"model_sha256": "other"}
    (tmp_path / "run/run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="replay/run.json: key 'model_sha256' is not that of"):
        command(probe, *parts)


def nll_by_hand(folder, problem):
    """Mean NLL of a demonstration's tokens under the first model: a plain call of transformers, float64 softmax."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from prefix_rft.tasks import registers

    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder / "base"),
        AutoTokenizer.from_pretrained(folder / "base"),
    )
    row = next(r for r in read_parquet(folder / "data/problems.train.parquet") if r["id"] == problem)
    demo = next(r for r in read_parquet(folder / "data/demos.strong.parquet") if r["problem_id"] == problem)
    prompt, answer = registers.TASK.prompt_ids(tokenizer, row["prompt"]), list(demo["response_ids"])
    with torch.no_grad():
        logits = model(torch.tensor([prompt + answer])).logits[0].double().log_softmax(-1)
    return float(-np.mean([logits[len(prompt) - 1 + i, token] for i, token in enumerate(answer)]))


def test_snapshot_steps_are_even_and_end_with_the_run():
    assert train.snapshot_steps(2, 5) == [0, 2, 5] and train.snapshot_steps(10, 200)[1] == 20
    assert train.snapshot_steps(10, 3) == [0, 1, 2, 3] and train.snapshot_steps(None, 9) == []


def test_setups_of_the_presets_are_probes(root):
    from prefix_rft.probe import Probe

    for file in root.glob("config/*/setup/probe.yaml"):
        assert load(Probe, file).samples == 16


# ------------------------------------------------------------------------------------------------------------ cost


def test_costs_are_read_from_benchmark_files(tmp_path):
    text = "rule a:\n    benchmark: x/train.a.tsv\nrule b:\n    benchmark: x/b.tsv\nrule a:\n    benchmark: x/train.a.tsv\n"
    assert costs.benchmarks(text) == ["x/train.a.tsv", "x/b.tsv"]
    head = "s\th:m:s\tmax_rss\tcpu_time\n"
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "train.a.seed0.tsv").write_text(head + "100\t0:01:40\t5\t60\n")
    (folder / "b.tsv").write_text(head + "10\t0:00:10\t5\t6\n")
    files = [str(folder / f) for f in ("train.a.seed0.tsv", "b.tsv", "none.tsv")]
    found = costs.cost(files, already=[files[1]])
    assert found == {"jobs": 3, "trainings": 1, "cpu": 66, "further_cpu": 60, "longest": 100, "missing": 1}
    assert "| `t`" in costs.table({"t": found}) and " 1.1 |" in costs.table({"t": found})
    # Snakemake missed the last half minute; the training did not
    write_json(tmp_path / "runs" / "a" / "seed0" / "run.json", {"budget": {"cpu_seconds": 85.0}})
    assert costs.cost(files)["cpu"] == 91
    (folder / "train_grid.a.lr0.00025.seed1.tsv").write_text(head + "100\t0:01:40\t5\t60\n")
    write_json(tmp_path / "lr_grid" / "a" / "lr0.00025" / "seed1" / "run.json", {"budget": {"cpu_seconds": 88.0}})
    assert costs.counted(folder / "train_grid.a.lr0.00025.seed1.tsv") == 88
    write_json(tmp_path / "runs" / "lr_a_0.00025" / "seed1" / "run.json", {"budget": {"cpu_seconds": 89.0}})
    assert costs.counted(folder / "train.lr_a_0.00025.seed1.tsv") == 89


def test_context_reads_another_study(made):
    context = Context(*made, "main", None, None)
    assert {m.run for m in context.load("ablation_schedule", only=("schedule_uniform",)).members} == {
        "schedule_uniform"
    }
