"""Every figure is drawn from a synthetic results folder; its csv holds the numbers that are drawn."""

import csv

import numpy as np
import pytest

from prefix_rft.common.errors import UserError
from prefix_rft.common.files import read_jsonl, write_jsonl
from prefix_rft.report import figures
from prefix_rft.report.figures import comparison, curves, regimes, style
from prefix_rft.report.figures.figure_3b import smoothed
from prefix_rft.report.study import KINDS, Member
from tests.helpers import pictures, synthetic
from tests.helpers.commands import call

# tests/runs/test_ablations.py and tests/report/test_paper.py draw the others
OWN = [n for n in figures.FIGURES if n == "figure_4" or n not in (*figures.PAPER, "ablation")]


def draw(name, preset, results):
    call("figure", name, "--preset", preset, "--results", results, "--out", results / "figures" / f"{name}.pdf")
    with open(results / "figures" / f"{name}.csv", newline="") as f:
        return list(csv.DictReader(f))


def make_tables(preset, results, name="main"):
    call("tables", "--preset", preset, "--results", results, "--study", name, "--out", results / "tables")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    preset, results = synthetic.build(tmp_path_factory.mktemp("made"), seeds=(0, 1, 2), problems=12)
    make_tables(preset, results)
    make_tables(preset, results, "few")
    grid = ["method,lr,score,seed"]
    grid += [
        f"{m},{lr},{0.3 + 0.1 * i},{s}" for m in synthetic.RUNS for i, lr in enumerate((1e-4, 1e-3)) for s in (0, 1)
    ]
    (results / "tables" / "lr_grid.csv").write_text("\n".join(grid) + "\n")
    return preset, results


@pytest.mark.parametrize("name", OWN)
def test_every_figure_is_drawn_without_a_warning(made, name, recwarn):
    rows = draw(name, *made)
    folder = made[1] / "figures"
    assert rows
    assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    pictures.check(pictures.picture(name, *made)[0])
    assert not [
        w for w in recwarn if issubclass(w.category, UserWarning | RuntimeWarning)
    ]  # clipped or empty layouts warn


def test_the_same_numbers_give_the_same_pdf(made):
    path = made[1] / "figures" / "figure_4.pdf"
    draw("figure_4", *made)
    before = path.read_bytes()
    draw("figure_4", *made)
    assert path.read_bytes() == before


def test_figure_4_shows_the_smoothed_mean_over_seeds(made):
    preset, results = made
    rows = [r for r in draw("figure_4", preset, results) if r["metric"] == "reward_prefixed"]
    runs = [read_jsonl(results / "runs" / "prefix_rft" / f"seed{k}" / "metrics.jsonl") for k in range(3)]
    raw = np.array([[r["reward_prefixed"] for r in run] for run in runs])
    assert len(rows) == 60
    assert float(rows[30]["mean"]) == pytest.approx(raw[:, 29:32].mean(), abs=1e-5)  # 60 steps: a window of 3


def test_pass_at_k_rises_with_k_and_begins_at_avg(made):
    preset, results = made
    rows = draw("pass_at_k", preset, results)
    with open(results / "tables" / "main.csv", newline="") as f:
        main = {
            (r["method"], r["split"], r["metric"], float(r["temperature"])): float(r["mean"]) for r in csv.DictReader(f)
        }
    for method in synthetic.ABILITY:
        for split in ("test/easy", "test/hard", "ood"):
            curve = {int(r["k"]): float(r["mean"]) for r in rows if (r["method"], r["split"]) == (method, split)}
            assert list(curve) == [1, 2, 4, 8] and sorted(curve.values()) == list(curve.values())
            assert curve[1] == pytest.approx(main[method, split, "avg@8", 1.0], abs=1e-5)
            assert curve[8] == pytest.approx(main[method, split, "pass@8", 1.0], abs=1e-5)


def test_regimes_has_one_row_for_each_study_rival_and_split(made):
    rows = draw("regimes", *made)
    found = {(r["study"], r["rival"], r["split"]) for r in rows}
    expected = {("main", m, s) for m in ("sft", "rft", "sft_then_rft", "luffy") for s in ("test", "ood")}
    assert found == expected | {("few", "rft", "test"), ("few", "rft", "ood")} and len(rows) == len(found)


def test_a_series_without_values_is_left_out(tmp_path):
    preset, results = synthetic.build(tmp_path, seeds=(0,), problems=4, steps=5)
    path = results / "runs" / "luffy" / "seed0" / "metrics.jsonl"
    write_jsonl(
        path, [{k: v for k, v in r.items() if k not in ("entropy", "reward_plain", "reward")} for r in read_jsonl(path)]
    )
    rows = draw("training", preset, results)
    assert not [r for r in rows if r["method"] == "luffy" and r["metric"] in ("entropy", "reward_plain", "reward")]
    assert [r for r in rows if r["method"] == "luffy" and r["metric"] == "grad_norm"]


@pytest.mark.parametrize(
    "name, message",
    [
        ("figure_4", "no run with prefixed rollouts"),
        ("comparison", "main.csv"),
        ("regimes", "no paired table"),
        ("lr_sensitivity", "lr_grid.csv"),
    ],
)
def test_missing_input_is_one_line(tmp_path, name, message):
    preset, results = synthetic.build(tmp_path, runs=("rft",), seeds=(0,), problems=4, steps=5)
    with pytest.raises(UserError, match=message) as caught:
        draw(name, preset, results)
    assert "\n" not in str(caught.value)


def members(*kinds):
    return [Member(f"{k}{i}", k, k, None, None, []) for i, k in enumerate(kinds)]


def test_methods_keep_their_look_and_no_two_runs_share_a_colour():
    first = style.looks(members("base", "sft", "prefix_rft"))
    second = style.looks(members("rft", "prefix_rft", "prefix_rft", "new_method", "newer_method"))
    assert first["prefix_rft2"] == second["prefix_rft1"]
    assert len({v["color"] for v in second.values()}) == 5
    everything = style.looks(members(*KINDS)).values()
    assert len({v["color"] for v in everything}) == len({v["marker"] for v in everything}) == len(KINDS)


@pytest.mark.parametrize("kind", ["prefix_rft", "rft", "sft"])
def test_a_variant_has_a_shade_of_its_method_and_no_other_method_s_colour(kind):
    own, *variants = style.looks(members(*[kind] * 7)).values()
    others = {look[0].lower() for look in style.LOOKS.values()}
    assert len({v["color"] for v in variants}) == 6
    for v in variants:
        assert v["marker"] == own["marker"] and v["color"].lower() not in others


def test_points_of_one_seed_are_exactly_at_their_rate(made, tmp_path):
    preset, results = made
    (tmp_path / "tables").mkdir()
    rates = {"sft": (1e-4, 1e-3, 4e-3), "rft": (1e-4, 1e-3), "prefix_rft": (1e-4, 1e-3)}
    grid = ["method,lr,score,seed", *(f"{m},{v},{0.2 + 0.1 * i},0" for m, x in rates.items() for i, v in enumerate(x))]
    (tmp_path / "tables/lr_grid.csv").write_text("\n".join(grid) + "\n")
    figure, rows = pictures.picture("lr_sensitivity", preset, tmp_path)
    assert pictures.title(figure) == "Learning rates by validation: best from 0.001 for RFT to 0.004 for SFT"
    assert any(text.startswith("1 seed.") for text in pictures.words(figure))
    for axis, x in zip(figure.axes, rates.values(), strict=True):
        points = [line for line in axis.lines if line.get_marker() not in ("None", "o") or len(line.get_xdata()) > 1]
        (own,) = [line for line in points if line.get_color() != style.PALE]
        assert tuple(own.get_xdata()) == x and own.get_ydata() == pytest.approx([20 + 10 * i for i in range(len(x))])
        (ring,) = [line for line in axis.lines if line.get_markerfacecolor() == "none"]
        assert ring.get_xdata()[0] == x[-1]


def test_the_words_of_a_difference():
    assert style.versus("A", "B", -0.42, -0.56, -0.29) == "A below B by 42 points [29, 56]"
    assert style.versus("A", "B", 0.055, 0.01, 0.1, 0.01) == "A above B by 5.5 points [1.0, 10]"
    assert style.versus("A", "B", -0.1, -0.3, 0.1) == "A and B not told apart (-10 points [-30, 10])"
    assert style.versus("A", "B", 0.01, -0.01, 0.025) == "A and B about equal (1.0 points [-1.0, 2.5])"
    assert (
        style.versus("A", "B", 0.1, 0.01, 0.2, 0.3)
        == "A and B not told apart (10 points [1.0, 20], corrected p = 0.300)"
    )


def paired(rival, kind, difference, low, high, p, temperature="0.6"):
    row = dict(method="ours", rival=rival, rival_kind=kind, split="test", metric="avg@8", temperature=temperature)
    return row | dict(difference=difference, ci_low=low, ci_high=high, p_holm=p)


def test_the_title_of_the_comparison_is_the_judged_outcome():
    labels = {"ours": "Prefix-RFT", "rft": "RFT", "both": "SFT then RFT", "sft": "SFT"}
    pairs = [
        paired("sft", "sft", "0.9", "0.8", "1.0", "0.001"),
        paired("rft", "rft", "-0.42", "-0.56", "-0.29", "0.001"),
        paired("rft", "rft", "0.5", "0.4", "0.6", "", "1.0"),
        paired("both", "sft_then_rft", "-0.1", "-0.3", "0.1", "0.4"),
    ]
    said = "Prefix-RFT below RFT by 42 points [29, 56]"
    said += "; Prefix-RFT and SFT then RFT not told apart (-10 points [-30, 10]) (avg@8, T = 0.6)"
    assert comparison.finding(pairs, labels) == said
    assert comparison.finding([], labels) == "Scores by method"


def test_the_title_of_regimes_counts_the_decided():
    rft = [(0.3, 0.1, 0.5), (-0.3, -0.5, -0.1), (0.0, -0.1, 0.1), None]
    said = "Prefix-RFT above RFT in 1 of 3 regimes (below in 1); above SFT then RFT in 0 of 1 regimes (below in 1)"
    assert regimes.finding({"rft": rft, "sft_then_rft": [(-0.2, -0.3, -0.1)], "sft": rft}) == said


def test_a_panel_where_nobody_or_everybody_is_right_is_left_out_and_named():
    def score(metric, method, mean):
        return dict(method=method, metric=metric, temperature="1.0", mean=mean, ci_low=mean, ci_high=mean, n_seeds="3")

    some = [score("avg@8", "sft0", 0.5), score("avg@8", "rft1", 0.01)]
    none = [score("avg@8", "sft0", 0.02), score("avg@8", "rft1", 0.0)]
    every = [score("avg@8", "sft0", 0.98), score("avg@8", "rft1", 1.0)]
    groups = [("Some", some), ("Nobody", none), ("Everybody", every)]
    with style.sheet():
        figure, rows = comparison.panels(members("sft", "rft"), groups, [1.0], "Title")
    assert len(figure.axes) == 1 and rows == some
    left = (
        "Left out, as every method is within 2 points of the end given: Nobody, avg@8 (0 %); Everybody, avg@8 (100 %)."
    )
    assert left in " ".join(figure.get_supxlabel().split())


def test_the_end_of_a_curve_is_its_last_tenth():
    class Run:
        def metrics(self):
            return {
                0: [{"step": t, "reward": float(t)} for t in range(20)],
                1: [{"step": t, "reward": 0.0} for t in range(20)],
            }

    assert curves.last(Run(), "reward") == (18 + 19) / 4
    assert curves.last(Run(), "entropy") is None


def test_a_note_stands_below_the_caption(made):
    figure, _ = pictures.picture("training", *made)
    style.caption(figure, "A note.")
    text = figure.get_supxlabel().split("\n")
    assert "bands: range of the seeds" in " ".join(text) and text[-1] == "A note."


def test_smoothing_keeps_constants_and_leaves_gaps_out():
    assert style.smooth([2.0] * 5, 3).tolist() == [[2.0] * 5]
    assert style.smooth([1.0, np.nan, 3.0], 3).tolist() == [[1.0, 2.0, 3.0]]


def test_the_curve_of_figure_3b_is_a_line_through_points_on_a_line():
    x = np.array([0.0, 0.1, 0.4, 0.45, 0.7, 0.9, 1.0])
    at = np.array([0.05, 0.5, 0.95])
    assert smoothed(x, 3 * x - 1, at, 0.6) == pytest.approx(3 * at - 1)
    # at 0 with all three points: distances 0, 1, 2, tricube weights 1, (7/8)^3, 0: a line through the first two
    assert smoothed(np.array([0.0, 1, 2]), np.array([0.0, 1, 5]), np.array([0.0]), 1.0) == pytest.approx([0], abs=1e-6)
    assert np.isnan(smoothed(np.ones(3), np.arange(3.0), np.ones(1), 1.0)).all()


def test_a_long_note_makes_a_figure_higher_and_leaves_its_panels_their_size():
    with style.sheet():
        figure, axis = style.plt.subplots(figsize=(style.WIDTH, 2.5))
        style.caption(figure, "3 seeds.")
        figure.canvas.draw()
        before = axis.get_window_extent().height
        style.note(
            figure, "Warnings of trainings: " + "Prefix-RFT (seeds 0, 1, 2): prefixed rollouts never right; " * 20
        )
        figure.canvas.draw()
        assert axis.get_window_extent().height > 0.9 * before
        style.plt.close(figure)
