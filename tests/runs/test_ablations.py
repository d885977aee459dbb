"""Ablations: variants resolve to the right configuration, targets ask for no more than they need, tables and figures compare what belongs
together, and mistakes end in one line."""

import re
import shutil

import pytest
import yaml

from prefix_rft.common.errors import UserError
from prefix_rft.config.reading import config_hash
from prefix_rft.evaluation.statistics import Interval, paired_difference
from prefix_rft.methods import names as methods
from prefix_rft.report.figures import style
from prefix_rft.report.figures.ablation import BREAK, finding, places_of
from prefix_rft.report.study import KINDS, Member, Study, load_study, paired_scores
from prefix_rft.runs.ablations import Ablation, Entry, Runs, flatten, read_ablations
from prefix_rft.runs.load import load_run
from tests.conftest import ROOT
from tests.helpers import pictures, synthetic
from tests.helpers.commands import call
from tests.report.test_tables import rows
from tests.workflow.test_workflow import plan

PRESETS = sorted(p.parent for p in (ROOT / "config").glob("*/ablations.yaml"))
NAMES = {"entropy", "schedule", "quantity", "quality", "estimator", "group", "sft_budget", "reward_noise", "lr"}
TINY = ROOT / "config/tiny"


def runs_of(name, folder=TINY):
    return set(read_ablations(folder)[name].runs)


@pytest.mark.parametrize("folder", PRESETS, ids=lambda p: p.name)
def test_every_preset_has_every_ablation(folder):
    assert set(read_ablations(folder)) >= NAMES  # and those of one's own


@pytest.mark.parametrize("folder", PRESETS, ids=lambda p: p.name)
def test_every_method_is_in_the_grid_and_sft_in_the_quantities_of_every_preset(folder):
    find, ablations = Runs(folder), read_ablations(folder)
    assert {find.load(e.run).method for e in ablations["lr"].entries} >= set(methods()) & set(KINDS)
    quantity = ablations["quantity"].entries
    assert {(e.series, e.at) for e in quantity} == {
        *(("Prefix-RFT", at) for at in (100, 10, 1, 0)),
        *(("SFT", at) for at in (100, 10, 1, 0)),
        ("RFT", 0),
    }


def test_points_stand_at_their_value_and_0_before_a_break():
    assert places_of([0, 1, 2, 4, 8], False) == ({p: p for p in (0, 1, 2, 4, 8)}, False)
    assert places_of([0.25, 1], True) == (pytest.approx({0.25: -0.60206, 1: 0}), False)
    assert places_of([0, 1, 10, 100], False) == ({0: pytest.approx(-2 / 3), 1: 0, 10: 1, 100: 2}, True)


def test_a_variant_is_its_parent_with_its_keys_changed():
    variant, parent = Runs(TINY).load("entropy_top50"), load_run(TINY / "prefix_rft.yaml")
    assert variant.prefix.keep_share == 0.5 and config_hash(variant) != config_hash(parent)
    assert {k for k, v in flatten(vars(variant)) if v != dict(flatten(vars(parent)))[k]} == {"prefix"}
    assert config_hash(Runs(TINY).load("prefix_rft")) == config_hash(parent)


def test_no_variant_is_another_run_under_another_name():
    find, seen = Runs(TINY), {}
    for run in [
        *(p.stem for p in TINY.glob("[a-z]*.yaml") if p.stem not in ("preset", "smoke", "ablations")),
        *find.variants,
    ]:
        seen.setdefault(config_hash(find.load(run)), []).append(run)
    twice = [v for v in seen.values() if len(v) > 1 and any(run in find.variants for run in v)]
    assert not twice


def test_the_issue_s_values_are_there():
    find = Runs(TINY)

    def values(name, key):
        return {find.load(r).prefix.__getattribute__(key) for r in runs_of(name) if find.load(r).method == "prefix_rft"}

    assert values("schedule", "schedule") == {
        "cosine",
        "linear",
        "uniform",
        "constant",
        "reverse",
        "to_zero",
        "difficulty",
    }
    assert values("group", "per_group") == {0, 1, 2, 4, 8}
    assert values("entropy", "keep") == {"top", "all", "random", "bottom", "matched"}
    assert values("entropy", "keep_share") == {0.2, 0.5, 0.8}
    assert values("estimator", "baseline") == {"inside", "outside"} and values("estimator", "clip") == {True, False}
    assert values("estimator", "rank_over") == {"minibatch", "group", "sequence"}
    assert {find.load(r).reward_noise for r in runs_of("reward_noise")} == {None, 0.05, 0.1, 0.2}
    quality = {find.load(r).demos for r in runs_of("quality") if r != "rft"}
    assert quality == {"strong", "weak", "weak_unfiltered", "wrong"}
    assert {e.at for e in read_ablations(TINY)["quantity"].entries if e.series == "Prefix-RFT"} == {100, 10, 1, 0}
    for preset in ROOT.glob("config/*/ablations.yaml"):
        quantity = read_ablations(preset.parent)["quantity"]
        for series in ("Prefix-RFT", "SFT"):
            assert {e.at for e in quantity.entries if e.series == series} == {100, 10, 1, 0}
        assert quantity.bases == ["base"] and quantity.entry("rft").at == 0
    lr = read_ablations(TINY)["lr"].entries
    assert {find.load(e.run).method for e in lr} >= set(methods()) & set(KINDS)  # a new method need not be there
    by_series = {s: {e.at for e in lr if e.series == s} for s in {e.series for e in lr}}
    assert set.intersection(*by_series.values()) == {0.00025, 0.0005, 0.001}
    assert all(find.load(e.run).optimizer.lr == e.at for e in lr)
    assert lr[0].run == "prefix_rft"  # what all are compared with: at its own rate
    assert {e.series: e.run for e in reversed(lr)}["RFT"] == "rft"  # the others of a series with its own rate


def test_smoke_wins_over_a_variant():
    find = Runs(TINY, str(TINY / "smoke.yaml"))
    assert find.load("sft_budget_rft_2").steps == 2 and find.load("sft_budget_sft_2").epochs == 0.25
    assert find.load("entropy_top50").prefix.keep_share == 0.5


# ------------------------------------------------------------------------------------------------------------- graph


@pytest.mark.parametrize("name", sorted(NAMES))
def test_target_trains_and_evaluates_only_what_it_needs(name, root):
    jobs = plan(root, f"ablation_{name} --config seeds=[0]")
    expected = runs_of(name)
    evaluated = {run for rule, run in jobs if rule == "evaluate"}
    trained = {run for rule, run in jobs if rule == "train"}
    assert evaluated == expected
    parents = {p for r in expected if (p := Runs(TINY).load(r).init_from)}
    assert trained == expected | parents
    assert {job for job in jobs if job[0].startswith(("draw_", "tables_"))} == {
        ("draw_ablation", f"ablation_{name}"),
        ("tables_ablation", f"ablation_{name}"),
    }
    assert not any(rule in ("train_grid", "validate_grid") for rule, _ in jobs)


def test_ablations_is_all_of_them_and_the_main_comparison_none(root):
    jobs = plan(root, "ablations --config seeds=[0]")
    assert {run for rule, run in jobs if rule == "evaluate"} == set().union(*map(runs_of, read_ablations(TINY)))
    everything = {run for _, run in plan(root, "--config seeds=[0]")}
    assert not everything & set(Runs(TINY).variants)


# ---------------------------------------------------------------------------------------------------- tables, figure


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    preset, results = synthetic.build(
        tmp_path_factory.mktemp("made"), seeds=(0, 1), problems=6, ablations=("rows", "lines")
    )
    for name in ("rows", "lines"):
        common = ("--preset", preset, "--results", results, "--study", f"ablation_{name}", "--out")
        call("tables", *common, results / "tables")
        call("figure", "ablation", *common, results / f"figures/ablation_{name}.pdf")
    return preset, results


def test_paired_table_compares_with_the_first_within_a_series_and_at_one_place(made):
    pairs = {(r["method"], r["rival"]) for r in rows(made[1] / "tables/ablation_lines.paired.csv")}
    first = {("prefix_rft", r) for r in ("lines_10", "lines_100", "rft", "lines_rft_10", "luffy", "base")}
    assert pairs == first | {("rft", "lines_rft_10"), ("lines_10", "lines_rft_10")}
    assert not (made[1] / "tables/ablation_lines.claims.csv").exists()


def test_figure_s_numbers_are_those_of_the_tables(made):
    for name in ("rows", "lines"):
        drawn = rows(made[1] / f"figures/ablation_{name}.csv")
        scores = {
            (r["method"], r["split"], r["metric"], float(r["temperature"])): r
            for r in rows(made[1] / f"tables/ablation_{name}.csv")
        }
        paired = {
            (r["rival"], r["split"], r["metric"], float(r["temperature"])): r
            for r in rows(made[1] / f"tables/ablation_{name}.paired.csv")
            if r["method"] == "prefix_rft"
        }
        assert {r["split"] for r in drawn} == {"test", "test/hard"}
        for r in drawn:
            key = (r["method"], r["split"], r["metric"], float(r["temperature"]))
            assert float(r["mean"]) == pytest.approx(float(scores[key]["mean"]), abs=1e-6)
            if r["method"] != "prefix_rft":  # the figure shows variant minus first, the table first minus variant
                assert float(r["difference"]) == pytest.approx(-float(paired[key]["difference"]), abs=1e-6)


def test_points_of_a_series_are_at_their_value_and_look_as_their_method(made):
    figure, _ = pictures.picture("ablation", *made, "ablation_lines")
    pictures.check(figure)
    lines = [line for line in figure.axes[0].lines if line.get_marker() not in ("None", BREAK["marker"])]
    at = {line.get_marker(): sorted(line.get_xdata()) for line in lines}
    assert at == {style.LOOKS["prefix_rft"][1]: pytest.approx([0, 1, 2]), style.LOOKS["rft"][1]: pytest.approx([0, 1])}
    assert all(line.get_color() == {v[1]: v[0] for v in style.LOOKS.values()}[line.get_marker()] for line in lines)


def test_a_row_is_open_where_undecided_and_the_first_has_no_difference(made):
    figure, drawn = pictures.picture("ablation", *made, "ablation_rows")
    pictures.check(figure)
    second = next(r for r in drawn if r["method"] == "rows_half" and r["metric"] == "avg@8" and r["split"] == "test")
    points = [line for line in figure.axes[1].lines if line.get_marker() == "*"]
    assert [line.get_ydata()[0] for line in points] == [1, 2]  # the reference is row 0
    undecided = second["difference_low"] <= 0 <= second["difference_high"]
    assert (points[0].get_markerfacecolor() == "white") == undecided
    assert points[0].get_xdata()[0] == pytest.approx(100 * second["difference"])


def test_the_title_is_the_largest_decided_difference():
    entries = [Entry(run, label) for run, label in (("a", "first"), ("b", "second"), ("c", "third"))]
    members = [Member(e.run, e.label, "prefix_rft", None, None, []) for e in entries]
    study = Study("x", "Choice", "p", None, None, members, [0], None, Ablation("x", "Choice", tuple(entries)))

    def title(b, c):
        found = {"a": None, "b": Interval(*b, 0.5, 3, 9), "c": Interval(*c, 0.5, 3, 9)}
        return finding(
            study, {(run, "test", "all", "avg@8"): (None, i) for run, i in found.items()}, ("test", "all"), "avg@8"
        )

    assert title((0.3, -0.1, 0.7), (0.1, -0.1, 0.3)) == "Choice: no variant told apart from first"
    decided = "Choice: third below first by 12 points [5.0, 19]; 1 of 2 variants differ (avg@8)"
    assert title((0.3, -0.1, 0.7), (-0.12, -0.19, -0.05)) == decided


def test_an_edited_variant_is_refused_until_it_is_trained_again(tmp_path):
    preset, results = synthetic.build(tmp_path, seeds=(0,), problems=3, ablations=("rows",))
    load_study(preset, results, "ablation_rows")
    file = preset.parent / "ablations.yaml"
    file.write_text(file.read_text().replace("keep_share: 0.5", "keep_share: 0.6"))
    with pytest.raises(UserError, match="runs/rows_half/seed0/run.json: key 'config_hash'"):
        load_study(preset, results, "ablation_rows")


def test_a_base_model_stands_where_nothing_is_trained(tmp_path):
    """`quantity` names the base as SFT on nothing: it is compared with the series, also where it was evaluated under fewer seeds."""
    preset, results = synthetic.build(tmp_path, seeds=(0, 1), problems=3, ablations=("quantity",))
    shutil.rmtree(results / "eval/base/seed1")
    study = load_study(preset, results, "ablation_quantity")
    base = study.member("base")
    assert base.label == "SFT, none" and base.seeds == [0] and "base" not in study.ablation.runs
    pairs = [(a.run, b.run) for a, b in study.pairs()]
    assert len(set(pairs)) == len(pairs) and {("prefix_rft", "base"), ("sft", "base"), ("group_0", "base")} <= set(
        pairs
    )
    there = paired_difference(*paired_scores(study.member("sft"), base, "test", "all", 1.0, "avg@8"))
    back = paired_difference(*paired_scores(base, study.member("sft"), "test", "all", 1.0, "avg@8"))
    assert there.n_seeds == back.n_seeds == 2 and there.mean == pytest.approx(-back.mean)
    shutil.rmtree(results / "eval/base")
    with pytest.raises(UserError, match="eval/base: ablation_quantity names this base model, which was not evaluated"):
        load_study(preset, results, "ablation_quantity")


# --------------------------------------------------------------------------------------------------------- bad input


GRID = {"key": "optimizer.lr", "values": [0.001], "runs": {"rft": "RFT"}}


def with_ablations(tmp_path, **spec):
    preset, _ = synthetic.build(tmp_path, seeds=(0,), problems=1, runs=("rft", "prefix_rft"), steps=1)
    (preset.parent / "setup/bases").mkdir(parents=True)
    (preset.parent / "setup/bases/base.yaml").write_text("{}")
    (preset.parent / "ablations.yaml").write_text(yaml.safe_dump(spec))
    return preset.parent


@pytest.mark.parametrize(
    "spec, message",
    [
        ({"runs": {"prefix_rtf": {}}}, "'a.runs.prefix_rtf': no run 'prefix_rtf'.*did you mean 'prefix_rft'"),
        ({"runs": {"x": {"extends": "rtf"}}}, "'a.runs.x'.extends = 'rtf': no such run.*did you mean 'rft'"),
        ({"runs": {"x": {"steps": 3}}}, "'a.runs.x.steps' = 3: a variant needs the key 'extends'"),
        ({"runs": {"rft": {"extends": "prefix_rft"}}}, "another run has this name"),
        ({"runs": {"rft": {"at": "two"}}}, "'a.runs.rft.at' = 'two': must be a finite number"),
        ({"runs": {"base": {}, "rft": {}}}, "'a.runs.base': .* first one, which must be a run, not a base model"),
        ({"runs": {"rft": {}, "base": {"extends": "rft"}}}, "'base' is a base model; give the variant another name"),
        ({"run": {}}, "unknown key 'a.run' = {}; did you mean 'runs'"),
        ({"runs": {}}, "'a.runs' = {}: must be a mapping that names at least one run"),
        ({"runs": {"rft": {}}, "seeds": 3}, "'a.seeds' = 3: must be a list"),
        ({"runs": {"rft": {}}, "seeds": [0, 0]}, r"'a.seeds' = \[0, 0\]: must be a list of different whole numbers"),
        ({"runs": {"rft": {}}, "seeds": [-1]}, r"'a.seeds' = \[-1\]: must be"),
        ({"runs": {"rft": {}}, "seeds": [True]}, r"'a.seeds' = \[True\]: must be"),
        ({"runs": {"rft": "top 20 %"}}, "'a.runs.rft' = 'top 20 %': must be a mapping"),
        ({"runs": {"rft": ["x"]}}, r"'a.runs.rft' = \['x'\]: must be a mapping"),
        ({"runs": {"rft": {"label": {"a": 1}}}}, "'a.runs.rft.label' = {'a': 1}: must be text"),
        ({"runs": {"rft": {"at": float("inf")}}}, "'a.runs.rft.at' = inf: must be a finite number"),
        ({"runs": {"rft": {"at": float("nan")}}}, "'a.runs.rft.at' = nan: must be a finite number"),
        ({"runs": {"rft": {}}, "log": "maybe"}, "'a.log' = 'maybe': must be true or false"),
        ({"runs": {"rft": {"at": 0}}, "log": True}, "'a.log' = True: must be false: no run has a position"),
        ({"runs": {"rft": {}}, "x": {"a": 1}}, "'a.x' = {'a': 1}: must be text"),
        ({"runs": {"rft": {}}, "label": {"a": 1}}, "'a.label' = {'a': 1}: must be text"),
        ({"grid": GRID | {"values": ["fast"]}}, r"'a.grid.values' = \['fast'\]: must be a list of finite numbers"),
        ({"grid": GRID | {"values": 0.001}}, "'a.grid.values' = 0.001: must be a list of finite numbers"),
        ({"grid": GRID | {"values": [float("inf")]}}, r"'a.grid.values' = \[inf\]: must be a list of finite numbers"),
        ({"grid": GRID | {"key": 3}}, "'a.grid.key' = 3: must be the key that varies"),
        ({"grid": GRID | {"key": "method"}}, "'a.grid.key' = 'method': run 'rft' has 'rft' there, not a number"),
        ({"runs": {"own_half": {"label": "half"}}}, "no run 'own_half'.*; a variant must say which run it extends"),
        ({"grid": {"key": "optimizer.lr"}}, "'a.grid' = .*must have the keys key, values and runs"),
    ],
)
def test_mistakes_in_ablations_are_one_line(tmp_path, spec, message):
    with pytest.raises(UserError, match=message) as caught:
        read_ablations(with_ablations(tmp_path, a=spec))["a"]
    assert "\n" not in str(caught.value) and "ablations.yaml" in str(caught.value)


def test_a_variant_is_checked_when_it_is_asked_for(tmp_path):
    folder = with_ablations(tmp_path, a={"runs": {"x": {"extends": "prefix_rft", "prefix": {"keep_shar": 0.5}}}})
    with pytest.raises(UserError, match="ablations.yaml: key 'a.runs.x': variant x of .*prefix_rft.yaml: unknown key"):
        Runs(folder).load("x")


@pytest.mark.parametrize("name", [7, "a b", "entropy.paired"])
def test_an_ablation_s_name_is_part_of_a_target(tmp_path, name):
    folder = with_ablations(tmp_path)
    (folder / "ablations.yaml").write_text(yaml.safe_dump({name: {"runs": {"rft": {}}}}))
    with pytest.raises(UserError, match=f"ablations.yaml: key {name!r}: an ablation's name must be text made of"):
        read_ablations(folder)[name]


def test_a_broken_ablation_breaks_those_that_share_its_variants_and_no_other(tmp_path):
    variant = {"x": {"extends": "rft", "steps": 1}}
    folder = with_ablations(
        tmp_path,
        a={"runs": variant | {"y": {"extends": "rtf"}}},
        b={"runs": {"rft": {}, "x": {"label": "as in a"}}},
        c={"runs": {"rft": {}, "z": {"extends": "prefix_rft", "steps": 2}}},
    )
    ablations = read_ablations(folder)
    assert list(ablations) == ["c"] and set(ablations.broken) == {"a", "b"}
    assert ablations.broken["a"] == ablations.broken["b"] and "'a.runs.y'.extends = 'rtf'" in ablations.broken["a"]
    assert set(Runs(folder).variants) == {"z"}
    with pytest.raises(KeyError):
        ablations["d"]


def test_a_grid_of_1e_6_is_read_as_a_number(tmp_path):
    folder = with_ablations(tmp_path, a={"grid": GRID})
    file = folder / "ablations.yaml"
    file.write_text(file.read_text().replace("0.001", "1e-6"))
    assert {e.at for e in read_ablations(folder)["a"].entries} >= {1e-6}


def test_unknown_ablation_names_the_known_ones(made):
    with pytest.raises(UserError, match="known ablations: ablation_rows, ablation_lines"):
        load_study(*made, "ablation_row")


def test_docs_name_every_ablation(root):
    text = (root / "workflow/README.md").read_text()
    assert NAMES <= set(re.findall(r"ablation_(\w+)", text))
