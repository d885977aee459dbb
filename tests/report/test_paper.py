"""The paper's figures, tables and claims from a synthetic results folder with known truth; snapshots and probes from a real small run."""

import json
import re

import numpy as np
import pytest
import torch
import yaml

from prefix_rft.common.errors import UserError
from prefix_rft.common.files import read_json, read_jsonl, read_parquet, sha256, write_json, write_jsonl, write_parquet
from prefix_rft.config.reading import config_hash, load
from prefix_rft.report import claim_list, claims, figures, paper_tables, published
from prefix_rft.report.figures import figure_3a, figure_3b, style
from prefix_rft.report.study import Context, load_study
from prefix_rft.report.trajectories import change, hardest, trajectories
from prefix_rft.runs.load import load_run
from prefix_rft.training import train
from scripts import costs, nll_by_correction, publish
from tests.conftest import ROOT
from tests.helpers import pictures, synthetic
from tests.helpers.commands import call
from tests.helpers.small import make_world, train_job
from tests.report.test_tables import rows

TINY = ROOT / "config/tiny/preset.yaml"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    preset, results = synthetic.build_paper(tmp_path_factory.mktemp("paper"))
    for study in ("main", "ablation_quantity", "ablation_quality"):
        common = ("--preset", preset, "--results", results, "--study", study)
        call("tables", *common, "--out", results / "tables")
    return preset, results


@pytest.mark.parametrize("name", [n for n in figures.PAPER if n != "figure_4"])
def test_every_figure_of_the_paper_is_drawn_without_a_warning(made, name, recwarn):
    preset, results = made
    out = results / "figures" / f"{name}.pdf"
    call("figure", name, "--preset", preset, "--results", results, "--out", out)
    assert out.read_bytes().startswith(b"%PDF") and rows(out.with_suffix(".csv"))
    pictures.check(pictures.picture(name, preset, results)[0])
    assert not [w for w in recwarn if issubclass(w.category, UserWarning | RuntimeWarning)]


def test_a_variant_in_figure_6a_has_the_look_of_no_other_method(made):
    figure, _ = pictures.picture("figure_6a", *made)
    others = {look[0] for kind, look in style.LOOKS.items() if kind != "prefix_rft"}
    colors = {line.get_color() for axis in figure.axes for line in axis.lines}
    assert len(colors) == 5 and style.VERMILION in colors and not colors & others
    markers = {line.get_marker() for axis in figure.axes for line in axis.lines}
    assert markers == {"*", "None"}


def test_figure_3a_marks_start_and_end_of_each_path(made):
    figure, drawn = pictures.picture("figure_3a", *made)
    for run in synthetic.ENDS:
        own = [r for r in drawn if r["method"] == run]
        marks = [
            (line.get_marker(), line.get_markerfacecolor(), line.get_xdata()[0])
            for line in figure.axes[0].lines
            if len(line.get_xdata()) == 1
        ]
        assert ("o", "none", own[0]["nll"]) in marks
        assert (style.LOOKS[run][1], style.LOOKS[run][0], own[-1]["nll"]) in marks


def test_titles_of_figure_3_are_the_paths_of_the_numbers():
    nll, accuracy = np.array([0.9, 0.7, 1.25]), np.array([0.1, 0.5, 0.34])
    said = "Ours: NLL of the demonstrations rises by 0.35 nats a token, correct samples rise by 24 points"
    assert figure_3a.moved("Ours", nll, accuracy) == said
    said = "Ours: NLL changes by -0.30 nats a token on the harder half of the problems, by +0.05 on the easier"
    assert figure_3b.halves("Ours", np.array([0.9, 0.0, 0.8, 0.1]), np.array([0.1, -0.2, 0.0, -0.4])) == said


@pytest.mark.parametrize("name", paper_tables.TABLES)
def test_every_table_of_the_paper_is_made(made, name):
    preset, results = made
    out = results / "tables" / f"{name}.csv"
    call("paper-table", name, "--preset", preset, "--results", results, "--out", out)
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
    call("paper-table", name, "--preset", preset, "--results", results, "--out", out)
    return rows(out)


def test_figure_2_goes_to_the_largest_k_and_table_7_is_its_end(made):
    preset, results = made
    call("figure", "figure_2", "--preset", preset, "--results", results, "--out", results / "figures/figure_2.pdf")
    drawn = {(r["method"], r["split"], int(r["k"])): float(r["mean"]) for r in rows(results / "figures/figure_2.csv")}
    assert max(k for _, _, k in drawn) == 64
    for r in paper_table(made, "table_7"):
        assert r["metric"] == "pass@64"
        if (r["method"], r["split"], 64) in drawn:
            assert float(r["mean"]) == pytest.approx(drawn[r["method"], r["split"], 64], abs=1e-6)


def test_figure_3a_moves_as_the_numbers_were_made(made):
    preset, results = made
    call(
        "figure",
        "figure_3a",
        "--preset",
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


def test_table_4_without_norms_says_so_and_keeps_the_share(tmp_path):
    """With part_norms_every: 0 nothing measures the norms. A run that should have measured them and did not is refused."""
    preset, results = synthetic.build(tmp_path, seeds=(0, 1), problems=2, runs=("prefix_rft",))
    norms = ("grad_norm_prefix", "grad_norm_rollout", "grad_cosine")
    for file in results.glob("runs/prefix_rft/seed*/metrics.jsonl"):
        write_jsonl(file, [r | dict.fromkeys(norms) for r in read_jsonl(file)])
    with pytest.raises(UserError, match="no gradient norms of the parts, although part_norms_every is 1"):
        paper_table((preset, results), "table_4")
    config = preset.parent / "prefix_rft.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"part_norms_every": 0}))
    for file in results.glob("runs/prefix_rft/seed*/run.json"):
        synthetic.edit_json(file, config_hash=config_hash(load_run(config)))
    table = paper_table((preset, results), "table_4")
    assert {r["measure"] for r in table} == {"share of prefix tokens (%)"} and len(table) == 3
    text = (results / "tables/table_4.md").read_text()
    assert "Norms and angle: not measured, part_norms_every is 0." in text
    assert re.search(r"^\| angle between them \(degrees\) +\| +\| +\| +\|$", text, re.MULTILINE)


def test_table_5_corrects_one_outcome_for_the_number_of_rivals(made):
    table = paper_table(made, "table_5")
    judged = [r for r in table if r["p_holm"]]
    assert judged == table[:4]  # first in the table; the rest is descriptive and has no verdict
    assert {(r["split"], r["metric"], r["temperature"]) for r in judged} == {("test", "avg@8", "1")}
    assert {r["rival"] for r in judged} == {"sft", "rft", "sft_then_rft", "luffy"}
    assert all(r["verdict"] for r in judged) and not any(r["verdict"] for r in table[4:])
    p, corrected = (np.array([float(r[k]) for r in judged]) for k in ("p", "p_holm"))
    assert (corrected >= p - 1e-9).all() and corrected.min() == pytest.approx(min(1, p.min() * 4), rel=1e-3)
    assert {r["split"] for r in table} == {"test", "ood"}
    assert "2 seeds" in (made[1] / "tables/table_5.md").read_text()


def test_table_5_has_every_rival_of_table_1(tmp_path):
    """The study of every method where the preset has one; the correction counts its comparisons."""
    preset, results = synthetic.build(tmp_path, seeds=(0, 1), problems=4, temperatures=(1.0,))
    values = yaml.safe_load(preset.read_text())
    values["studies"]["methods"] = {"runs": values["runs"]}
    preset.write_text(yaml.safe_dump(values | {"runs": ["rft", "prefix_rft"]}))
    for study in ("main", "methods"):
        common = ("--preset", preset, "--results", results, "--study", study)
        call("tables", *common, "--out", results / "tables")
    rivals = {r["rival"] for r in paper_table((preset, results), "table_5")}
    assert rivals == {r["method"] for r in paper_table((preset, results), "table_1")} - {"prefix_rft"}
    assert "corrects its p-values for 4 rivals" in (results / "tables/table_5.md").read_text()


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
    of = published.of("Qwen2.5-Math-7B", "table_1")
    assert of["prefix_rft"]["test"] == published.TABLE_8["prefix_rft"]
    for kind, numbers in of.items():  # a whole split is the mean over its benchmarks
        for split in ("test", "ood"):
            parts = [v for k, v in numbers.items() if k.startswith(f"{split}/")]
            assert not parts or np.mean(parts) == pytest.approx(numbers[split], abs=0.06), (kind, split)


def test_the_paper_s_numbers_stand_below_ours_benchmark_by_benchmark(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "LEVELS", {"test": ("aime24", "aime25"), "ood": ("arc_c", "mmlu_pro")})
    monkeypatch.setattr(synthetic, "DIFFICULTY", dict.fromkeys(("aime24", "aime25", "arc_c", "mmlu_pro"), 0.0))
    preset, results = synthetic.build_paper(tmp_path, seeds=(0,), problems=2)
    preset.write_text(yaml.safe_dump(yaml.safe_load(preset.read_text()) | {"published": "Qwen2.5-Math-7B"}))
    call("tables", "--preset", preset, "--results", results, "--out", results / "tables")
    found = {}
    for name in ("table_1", "table_7"):
        paper_table((preset, results), name)
        text = (results / f"tables/{name}.md").read_text()
        lines = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
        found[name] = {line[0]: dict(zip(lines[0][1:], line[1:], strict=True)) for line in lines}
        assert "1 seed, 95 % intervals over problems only" in text
    whole = {"aime24": "29.4", "aime25": "23.1", "test (avg)": "50.1", "arc_c": "80.5", "mmlu_pro": "53.0"}
    assert found["table_1"]["LUFFY, paper"] == whole | {"ood (avg)": "57.8"}
    ours = {k: v for k, v in found["table_7"]["Prefix-RFT, paper"].items() if v}
    assert ours == {"aime24": "96.67", "aime25": "76.67"}
    assert {k for k, v in found["table_7"]["RFT, paper"].items() if v} == {"aime24"}
    assert "SFT, paper" not in found["table_7"]
    paper_table((preset, results), "table_4")  # none of its numbers is known exactly
    assert "Model: Qwen2.5-Math-7B." in (results / "tables/table_4.md").read_text()


@pytest.mark.parametrize("name", [n for n in figures.PAPER if n != "figure_1"])
def test_captions_say_how_many_seeds_and_what_differs(tmp_path, name):
    """One text for the report and for the page that scripts/publish.py writes."""
    (tmp_path / "x.csv").write_text("base,n_seeds\nbase,2\nbase2,3\n")
    text = publish.caption(name, tmp_path / "x.csv", "tiny")
    assert (
        text.startswith(("The paper's", "As Figure", "Prefix-RFT, the paper's"))
        and "{{" not in text
        and "``" not in text
    )
    drawn = "2 base models, 2 to 3 seeds" if name == "figure_5" else "2 to 3 seeds"
    assert text.endswith(f"Drawn from {drawn}. Not the paper's setting: {yaml.safe_load(TINY.read_text())['differs']}.")
    (tmp_path / "x.csv").write_text("base,n_seeds\nbase,3\n")
    text = publish.caption(name, tmp_path / "x.csv", "paper-7b")
    assert text.endswith("3 seeds. Model here: Qwen2.5-Math-7B.") and ("1 base model," in text) == (name == "figure_5")


def test_claims_are_tested_where_their_runs_are_and_listed_where_not(made):
    preset, results = made
    names = ["main", "controls", "ablation_entropy", "ablation_schedule", "pass_at_k", "probes"]
    out = results / "tables/paper_claims.csv"
    common = ("--preset", preset, "--results", results)
    call("paper-claims", *common, "--studies", ",".join(names), "--out", out)
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
    assert all(r["verdict"] == claims.verdict(float(r["ci_low"]), float(r["ci_high"]), r["unit"]) for r in tested)
    # a row may say more than its claim: the compute, the epochs, the share of prefix tokens
    said = [c.text for c in claim_list.FURTHER] + [text for text, _, _ in claim_list.OUT_OF_REACH]
    assert all(any(row.startswith(text) for row in table) for text in said)
    assert {r["n_seeds"] for r in tested} == {"2"}
    assert "Not tested by these runs" in out.with_suffix(".md").read_text()


# ------------------------------------------------------------------------------------------------ snapshots, probe


def test_snapshots_change_nothing_and_the_probe_measures_them(tmp_path):
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
    plain = train_job(tmp_path, config, out=tmp_path / "run")
    again = train_job(tmp_path, config, out=tmp_path / "replay", snapshots=2)
    assert train.train(plain) == train.train(again) == 0
    run, replay = (read_json(tmp_path / f / "run.json") for f in ("run", "replay"))
    assert run["model_sha256"] == replay["model_sha256"] and run["config_hash"] == replay["config_hash"]
    assert [p.name for p in sorted((tmp_path / "replay/snapshots").iterdir())] == [
        "step-000000",
        "step-000002",
        "step-000003",
    ]
    (tmp_path / "probe.yaml").write_text(yaml.safe_dump(dict(demos="strong", max_response=60, per_level=5, samples=2)))
    parts = ("--config", tmp_path / "probe.yaml", "--run", "r", "--seed", 0, "--data", tmp_path / "data")
    parts += ("--replay", tmp_path / "replay", "--record", tmp_path / "run/run.json", "--out", tmp_path / "probes")
    call("probe", *parts)
    table = read_parquet(tmp_path / "probes/probe.parquet")
    assert {p.name for p in (tmp_path / "probes").iterdir()} == {"probe.parquet", "probe.json"}
    assert len(table) == 3 * 5 and {r["step"] for r in table} == {0, 2, 3}
    assert table[0]["nll"] == pytest.approx(nll_by_hand(tmp_path, table[0]["problem_id"]), abs=1e-4)
    record = json.loads((tmp_path / "run/run.json").read_text()) | {"model_sha256": "other"}
    (tmp_path / "run/run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="replay/run.json: key 'model_sha256' differs from"):
        call("probe", *parts)


def nll_by_hand(folder, problem):
    """Mean NLL of a demonstration's tokens under the first model: a plain call of transformers, float64 softmax."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from prefix_rft.data.tasks import registers

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
    from prefix_rft.evaluation.probe import Probe

    for file in root.glob("config/*/setup/probe.yaml"):
        assert load(Probe, file).samples == 16


# ------------------------------------------------------------------------------------------------------------ cost


def test_costs_are_read_from_timing_files(tmp_path):
    text = "rule a:\n    benchmark: x/train.a.tsv\nrule b:\n    benchmark: x/b.tsv\nrule a:\n    benchmark: x/train.a.tsv\n"
    assert costs.timings(text) == ["x/train.a.tsv", "x/b.tsv"]
    head = "s\th:m:s\tmax_rss\tcpu_time\n"
    folder = tmp_path / "timings"
    folder.mkdir()
    (folder / "train.a.seed0.tsv").write_text(head + "100\t0:01:40\t5\t60\n")
    (folder / "b.tsv").write_text(head + "10\t0:00:10\t5\t6\n")
    files = [str(folder / f) for f in ("train.a.seed0.tsv", "b.tsv", "none.tsv")]
    found = costs.cost(files, already=[files[1]])
    assert found == {"jobs": 3, "trainings": 1, "cpu": 66, "further_cpu": 60, "longest": 60, "missing": 1}
    assert "| `t`" in costs.table({"t": found}) and " 1.1 |" in costs.table({"t": found})
    # Snakemake missed the last half minute; the training did not
    write_json(tmp_path / "runs" / "a" / "seed0" / "run.json", {"budget": {"cpu_seconds": 85.0}})
    assert costs.cost(files)["cpu"] == 91
    (folder / "train_grid.a.lr0.00025.seed1.tsv").write_text(head + "100\t0:01:40\t5\t60\n")
    write_json(tmp_path / "lr_grid" / "a" / "lr0.00025" / "seed1" / "run.json", {"budget": {"cpu_seconds": 88.0}})
    assert costs.counted(folder / "train_grid.a.lr0.00025.seed1.tsv") == 88
    write_json(tmp_path / "runs" / "lr_a_0.00025" / "seed1" / "run.json", {"budget": {"cpu_seconds": 89.0}})
    assert costs.counted(folder / "train.lr_a_0.00025.seed1.tsv") == 89
    replay = folder / "replay.a.seed0.tsv"  # a second training, with a record of its own
    replay.write_text(head + "100\t0:01:40\t5\t60\n")
    assert costs.cost([str(replay)])["cpu"] == 60
    write_json(tmp_path / "replay" / "a" / "seed0" / "run.json", {"budget": {"cpu_seconds": 90.0}})
    assert costs.cost([str(replay)])["cpu"] == costs.cost([str(replay)])["longest"] == 90


def test_costs_of_every_target_of_the_issue():
    """Read from the list of rules as Snakemake prints it; rules that are no one's target are left out."""
    listed = "ablation_b\nablations (Target: the figure\nand the tables.)\nall\ndraw_figure_1\nfigure_1\nfigure_3a_hard\nfigure_training\n"
    listed += "html_table_1\nlr_grid\npaper_claims (Target: every claim.)\npaper_figures\nstudies\nstudy_a\nstudy_b\ntable_1\n"
    assert list(costs.grouped(listed).values()) == [
        ["all", "lr_grid"],
        ["ablation_b", "ablations"],
        ["study_a", "study_b", "studies"],
        ["figure_1", "figure_3a_hard", "paper_claims", "table_1", "paper_figures"],
    ]


def test_likelihood_by_correction(tmp_path):
    """Two problems of three steps' worth of numbers; the second's demonstration has a correction."""
    write_json(tmp_path / "data.json", {"task": "registers"})
    rows = [("p", "a+11+1=2200;#200"), ("q", "a+11+1=3!a+11+1=2200;#200"), ("p", "a+11+1=3!#200")]
    rows = [{"problem_id": p, "response": r} for p, r in rows]
    write_parquet(tmp_path / "demos.strong.parquet", rows)
    note = {"probe": {"demos": "strong"}, "data": {"demos.strong.parquet": sha256(tmp_path / "demos.strong.parquet")}}
    marked = nll_by_correction.corrected(tmp_path, note)
    assert marked == {"p": False, "q": True}
    probed = [("p", 0, 1.0), ("q", 0, 3.0), ("p", 0, 2.0), ("q", 0, 5.0), ("p", 9, 0.5)]
    probed = [dict(zip(("problem_id", "step", "nll"), r, strict=True)) for r in probed]
    start, end = nll_by_correction.split(probed, marked)
    assert start == (0, 2.75, 4.0, 1.5) and end[:2] == (9, 0.5) and np.isnan(end[2]) and end[3] == 0.5
    with pytest.raises(UserError, match="is not what was probed"):
        nll_by_correction.corrected(tmp_path, note | {"data": {"demos.strong.parquet": "other"}})
    write_json(tmp_path / "data.json", {"task": "gsm"})
    with pytest.raises(UserError, match="only demonstrations of task registers"):
        nll_by_correction.corrected(tmp_path, note)


def test_context_reads_another_study(made):
    context = Context(*made, "main", None, None)
    assert {m.run for m in context.load("ablation_schedule", only=("schedule_uniform",)).members} == {
        "schedule_uniform"
    }
