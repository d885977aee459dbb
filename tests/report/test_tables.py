"""Tables and claims from a synthetic results folder with known truth, and the refusals of what does not belong together."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from prefix_rft.commands.group import cli
from prefix_rft.common.errors import UserError
from prefix_rft.common.files import read_parquet, write_parquet
from prefix_rft.config.reading import config_hash
from prefix_rft.report import claims, summary, tables
from prefix_rft.report.difference import difference_md
from prefix_rft.report.outcome import standing
from prefix_rft.report.study import load_study
from prefix_rft.runs.load import load_run
from tests.helpers import synthetic


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    preset, results = synthetic.build(tmp_path_factory.mktemp("made"), seeds=(0, 1, 2))
    for name in ("main", "few"):
        run(preset, results, name)
    return preset, results


def run(preset, results, name="main"):
    tables.make_tables(preset, results, results / "tables", name)


def rows(path):
    with open(path, newline="") as f:
        return list(csv.DictReader(f))


def pick(table, **where):
    found = [r for r in table if all(r[k] == v for k, v in where.items())]
    assert len(found) == 1, f"{len(found)} rows for {where}"
    return found[0]


def test_main_table_has_the_promised_columns_and_the_plain_means(made):
    preset, results = made
    table = rows(results / "tables" / "main.csv")
    assert list(table[0]) == "method split metric temperature mean ci_low ci_high n_seeds n_problems".split()
    assert list(dict.fromkeys(r["split"] for r in table)) == ["test", "test/easy", "test/medium", "test/hard", "ood"]
    cell = pick(table, method="rft", split="test/medium", metric="avg@8", temperature="0.6")
    samples = [s for k in range(3) for s in read_parquet(results / "eval" / "rft" / f"seed{k}" / "samples.parquet")]
    chosen = [s["correct"] for s in samples if s["level"] == "medium" and s["temperature"] == 0.6]
    assert float(cell["mean"]) == pytest.approx(np.mean(chosen), abs=1e-5)
    assert (cell["n_seeds"], cell["n_problems"]) == ("3", "30")
    for r in table:
        assert 0 <= float(r["ci_low"]) <= float(r["mean"]) <= float(r["ci_high"]) <= 1
    assert all(
        float(pick(table, **{**key, "metric": "pass@8"})["mean"]) >= float(r["mean"])
        for r in table
        if r["metric"] == "avg@8"
        for key in [{k: r[k] for k in ("method", "split", "temperature")}]
    )


def test_paired_differences_are_differences_of_the_main_table(made):
    _, results = made
    main, paired = rows(results / "tables" / "main.csv"), rows(results / "tables" / "paired.csv")
    assert {r["rival"] for r in paired} == {"base", "sft", "rft", "sft_then_rft", "luffy"}
    for r in paired:
        key = {k: r[k] for k in ("split", "metric", "temperature")}
        ours, rival = (float(pick(main, method=m, **key)["mean"]) for m in ("prefix_rft", r["rival"]))
        assert float(r["difference"]) == pytest.approx(ours - rival, abs=2e-5)


def test_one_outcome_is_corrected_and_its_p_values_agree_with_the_intervals(made):
    """avg@8 on the whole test split at the paper's temperature, against each rival; the base model is none."""
    _, results = made
    paired = rows(results / "tables/paired.csv")
    judged = [r for r in paired if r["p_holm"]]
    assert {(r["split"], r["metric"], r["temperature"]) for r in judged} == {("test", "avg@8", "0.6")}
    assert [r["rival"] for r in judged] == ["sft", "rft", "sft_then_rft", "luffy"]
    order = sorted(judged, key=lambda r: float(r["p"]))
    for left, r in zip((4, 3, 2, 1), order, strict=True):  # Holm: the smallest by 4, the next by 3 ...
        assert float(r["p_holm"]) >= min(1, left * float(r["p"])) * (1 - 1e-5)
    assert float(order[0]["p_holm"]) == pytest.approx(min(1, 4 * float(order[0]["p"])), rel=1e-4)
    for r in paired:
        assert (float(r["p"]) < 0.05) == (float(r["ci_low"]) > 0 or float(r["ci_high"]) < 0)
    text = (results / "tables/paired.md").read_text()
    assert "**The outcome** is avg@8 on test, temperature 0.6; Holm corrects for its 4 rivals." in text
    assert "Descriptive: these intervals are not corrected" in text


def test_variance_table_has_the_components_of_scores_and_differences(made):
    _, results = made
    table = rows(results / "tables/variance.csv")
    assert {r["method"] for r in table if not r["rival"]} == {
        "base",
        "sft",
        "rft",
        "sft_then_rft",
        "luffy",
        "prefix_rft",
    }
    cell = pick(table, method="rft", rival="", split="ood", metric="avg@8", temperature="0.6")
    samples = [read_parquet(results / f"eval/rft/seed{k}/samples.parquet") for k in range(3)]
    means = {}
    for k, own in enumerate(samples):
        for s in own:
            if (s["split"], s["temperature"]) == ("ood", 0.6):
                means.setdefault(s["problem_id"], [[], [], []])[k].append(s["correct"])
    x = np.array([[np.mean(of[k]) for of in means.values()] for k in range(3)])
    residual = x - x.mean(0) - x.mean(1)[:, None] + x.mean()
    error = (residual**2).sum() / (2 * (x.shape[1] - 1))
    problem = (3 * x.mean(0).var(ddof=1) - error) / 3
    assert float(cell["sd_residual"]) == pytest.approx(np.sqrt(error), rel=1e-4)
    assert float(cell["sd_problem"]) == pytest.approx(np.sqrt(max(problem, 0)), rel=1e-4)
    assert (
        pick(table, method="prefix_rft", rival="rft", split="test", metric="pass@8", temperature="1")["n_seeds"] == "3"
    )


def test_budget_of_sft_then_rft_counts_both_stages(made):
    _, results = made
    table = rows(results / "tables" / "budgets.csv")
    both, rft, sft = (pick(table, method=m) for m in ("sft_then_rft", "rft", "sft"))
    assert (both["rl_steps"], both["sft_steps"]) == (rft["rl_steps"], sft["sft_steps"])
    for key in ("total_flops", "trained_tokens", "cpu_seconds", "demonstrations_seen"):
        assert float(both[key]) == float(rft[key]) + float(sft[key])


def test_claims_find_the_truth_that_the_numbers_were_drawn_from(made):
    _, results = made
    table = rows(results / "tables" / "claims.csv")
    key = dict(split="test", metric="avg@8", temperature="1")
    table = [{**r, "temperature": f"{float(r['temperature'] or 0):g}"} for r in table]
    assert pick(table, claim="Prefix-RFT beats SFT in domain", **key)["verdict"] == "holds"
    assert pick(table, claim="Prefix-RFT beats SFT in domain", **key)["paper"] == "7.7"
    assert pick(table, claim="Prefix-RFT beats SFT then RFT in domain", **key)["verdict"] in (
        "undecided",
        "does not hold",
    )
    assert [r for r in table if r["metric"] == "reward"][0]["verdict"] == "holds"  # the synthetic gap closes
    untested = [r for r in table if r["verdict"] == claims.NOT_TESTED]
    assert {r["target"] for r in untested} >= {"ablation_entropy", "study_methods", "figure_3a", "figure_2"}
    for r in table:
        if r not in untested:
            assert r["verdict"] == claims.verdict(float(r["ci_low"]), float(r["ci_high"]), r["unit"])


@pytest.mark.parametrize(
    "low, high, word",
    [
        (0.01, 0.2, "holds"),
        (0.001, 0.02, "holds"),
        (-0.2, -0.01, "does not hold"),
        (-0.1, 0.1, "undecided"),
        (0, 1, "undecided"),
        (-0.029, 0.029, "about equal"),
        (-0.03, 0.01, "undecided"),
        (-0.01, 0.03, "undecided"),
    ],
)
def test_verdict_rule(low, high, word):
    assert claims.verdict(low, high) == word
    if word == "about equal":
        assert claims.verdict(low, high, "tokens") == "undecided"


@pytest.mark.parametrize(
    "difference, p, low, high, word",
    [
        (0.02, 0.04, 0.001, 0.04, "better"),
        (-0.02, 0.04, -0.04, -0.001, "worse"),
        (0.02, 0.06, 0.001, 0.04, "undecided"),
        (0.005, 0.5, -0.02, 0.029, "about equal"),
    ],
)
def test_standing_after_correction(difference, p, low, high, word):
    assert standing(difference, p, low, high) == word


def test_another_study_has_its_own_files_and_hashes(made):
    _, results = made
    assert {r["method"] for r in rows(results / "tables" / "few.csv")} == {"base", "rft", "prefix_rft"}
    assert {r["rival"] for r in rows(results / "tables" / "few.paired.csv")} == {"base", "rft"}
    record = json.loads((results / "tables" / "few.runs.json").read_text())
    config = load_run(results.parent.parent / "config" / "tiny" / "rft.yaml")
    assert record["runs"]["rft"]["1"]["config_hash"] == config_hash(config)
    assert record["runs"]["rft"]["1"]["model_sha256"] == "weights of rft 1"


def test_tables_are_the_same_every_time(made):
    preset, results = made
    before = (results / "tables" / "main.csv").read_bytes(), (results / "tables" / "claims.md").read_bytes()
    run(preset, results)
    assert before == ((results / "tables" / "main.csv").read_bytes(), (results / "tables" / "claims.md").read_bytes())


def test_summary_prints_sentences_scores_and_the_report(made, capsys):
    _, results = made
    summary.print_summary(results)
    text = capsys.readouterr().out
    score = pick(
        rows(results / "tables" / "main.csv"), method="prefix_rft", split="ood", metric="avg@8", temperature="1"
    )
    assert f"{100 * float(score['mean']):.1f} [" in text
    assert "Prefix-RFT is " in text and "At T = 1 it is " in text and "Out of domain it is " in text
    assert "corrected for 4 comparisons" in text and "report.html" in text


def test_difference_is_that_of_two_scores_for_any_two_runs(made):
    preset, results = made
    study, table = load_study(preset, results), rows(results / "tables" / "main.csv")
    for ours, rival in (("rft", "sft"), ("sft", "rft"), ("luffy", "base")):
        text = difference_md(study, ours, rival)
        a, b = (pick(table, method=m, split="ood", metric="avg@8", temperature="1") for m in (ours, rival))
        found = re.search(r"\| ood +\| +avg@8 \| +1 \| +([-+][0-9.]+) \[", text)[1]
        assert float(found) == pytest.approx(100 * (float(a["mean"]) - float(b["mean"])), abs=0.06)
    with pytest.raises(UserError, match="study 'main' of preset 'tiny': has no run 'lufy'; did you mean 'luffy'"):
        difference_md(study, "lufy", "rft")
    done = CliRunner().invoke(
        cli, ["difference", "rft", "sft", "--preset", str(preset.parent), "--results", str(results)]
    )
    assert done.exit_code == 0 and done.output == difference_md(study, "rft", "sft")


def test_summary_reads_a_published_folder(root, capsys):
    summary.print_summary(root / "docs/results/tiny")
    text = capsys.readouterr().out
    assert "Prefix-RFT is worse than SFT (" in text and "| RFT (Dr.GRPO) |" in text and "README.md" in text
    assert "prefix_rft" not in text  # the names that people read


def test_timed_out_verdicts_are_left_out_of_the_mean(tmp_path):
    preset, results = synthetic.build(tmp_path, runs=("rft",), seeds=(0,), temperatures=(1.0,))
    path = results / "eval" / "rft" / "seed0" / "samples.parquet"
    samples = read_parquet(path)
    first = samples[0]["problem_id"]
    for s in samples:
        if s["problem_id"] == first:  # one problem without any verdict
            s.update(correct=False, timed_out=True)
    write_parquet(path, samples)
    run(preset, results)
    cell = pick(rows(results / "tables" / "main.csv"), method="rft", split="test/easy", metric="avg@8")
    rest = [s["correct"] for s in samples if s["level"] == "easy" and s["problem_id"] != first]
    assert cell["n_problems"] == "29" and float(cell["mean"]) == pytest.approx(np.mean(rest), abs=1e-5)


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda r: synthetic.edit_json(r / "runs/rft/seed0/run.json", config_hash="other"), "config_hash"),
        (lambda r: synthetic.edit_json(r / "runs/rft/seed0/run.json", status="running"), "status"),
        (lambda r: synthetic.edit_json(r / "eval/rft/seed0/scores.json", model_sha256="other"), "model_sha256"),
        (lambda r: synthetic.edit_json(r / "eval/rft/seed0/scores.json", evaluation_hash="x"), "different setup"),
        (lambda r: synthetic.edit_json(r / "runs/rft/seed0/run.json", init={"sha256": "other"}), "init.sha256"),
        (
            lambda r: synthetic.edit_json(r / "runs/sft_then_rft/seed0/run.json", init={"sha256": "other"}),
            "init.sha256",
        ),
        (lambda r: (r / "eval/rft/seed0/samples.parquet").unlink(), "no such file"),
        (lambda r: (r / "eval/rft/seed0/samples.parquet").write_bytes(b"x"), "not readable"),
        (lambda r: (r / "runs/sft/seed0/run.json").write_text("{"), "JSON"),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path, damage, message):
    preset, results = synthetic.build(tmp_path, seeds=(0,), problems=4)
    damage(results)
    with pytest.raises(UserError, match=message) as caught:
        run(preset, results)
    assert "\n" not in str(caught.value) and str(results) in str(caught.value)


def own_bases(root):
    """Results whose runs of seed k started from a base model of seed k."""
    preset, results = synthetic.build(root)
    (preset.parent / "setup/bases").mkdir(parents=True)
    (preset.parent / "setup/bases/base.yaml").write_text("seed: run")
    for seed in (0, 1):
        synthetic.edit_json(results / f"eval/base/seed{seed}/scores.json", model_sha256=f"base {seed}")
        for name in ("sft", "rft", "luffy", "prefix_rft"):
            synthetic.edit_json(results / f"runs/{name}/seed{seed}/run.json", init={"sha256": f"base {seed}"})
    return preset, results


def test_a_run_of_seed_k_started_from_the_base_model_of_seed_k(tmp_path):
    preset, results = own_bases(tmp_path)
    run(preset, results)
    base = pick(
        rows(results / "tables/main.csv"), method="base", split="test", metric="avg@8", temperature="1"
    )  # the mean over the base models of both seeds
    right = [
        s["correct"]
        for seed in (0, 1)
        for s in read_parquet(results / f"eval/base/seed{seed}/samples.parquet")
        if s["split"] == "test" and s["temperature"] == 1.0
    ]
    assert base["n_seeds"] == "2" and float(base["mean"]) == pytest.approx(np.mean(right), abs=1e-5)
    synthetic.edit_json(results / "runs/rft/seed1/run.json", init={"sha256": "base 0"})
    with pytest.raises(
        UserError, match="runs/rft/seed1/run.json: key 'init.sha256' is not the model_sha256 of .*eval/base/seed1/"
    ):
        run(preset, results)


def test_a_base_model_of_every_seed_must_be_evaluated_under_every_seed(tmp_path):
    preset, results = own_bases(tmp_path)
    shutil.rmtree(results / "eval/base/seed1")
    with pytest.raises(
        UserError, match="eval/base/seed1: every seed has its own base model, and that of seed 1 was not evaluated"
    ):
        run(preset, results)


def test_an_edited_config_is_refused_until_the_run_is_trained_again(tmp_path):
    preset, results = synthetic.build(tmp_path, seeds=(0,), problems=4)
    config = preset.parent / "rft.yaml"
    config.write_text(config.read_text().replace("lr: 0.0005", "lr: 0.0006"))
    with pytest.raises(UserError, match="runs/rft/seed0/run.json: key 'config_hash'"):
        run(preset, results)


def test_other_problems_are_refused(tmp_path):
    preset, results = synthetic.build(tmp_path, seeds=(0,), problems=4)
    path = results / "eval" / "luffy" / "seed0" / "samples.parquet"
    write_parquet(path, [s | {"problem_id": s["problem_id"] + "x"} for s in read_parquet(path)])
    with pytest.raises(UserError, match="other problems"):
        run(preset, results)


def test_unknown_study_names_the_known_ones(tmp_path):
    preset, results = synthetic.build(tmp_path, seeds=(0,), problems=4)
    with pytest.raises(UserError, match="known studies: main, few"):
        run(preset, results, "fwe")


def test_one_seed_without_a_prefix_run_still_gives_tables(tmp_path):
    preset, results = synthetic.build(tmp_path, runs=("sft", "rft"), seeds=(0,), problems=4)
    run(preset, results)
    assert rows(results / "tables" / "claims.csv") == [] and rows(results / "tables" / "paired.csv") == []
    assert "1 seed" in (results / "tables" / "main.md").read_text()
