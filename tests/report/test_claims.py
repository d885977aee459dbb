"""The claims: known answers from a study made by hand, and that each has its runs in every preset."""

from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from prefix_rft.config.preset import Files
from prefix_rft.evaluation.statistics import Counts
from prefix_rft.report import claims
from prefix_rft.report.claim_list import FURTHER, Claim, runs_asked
from prefix_rft.report.study import Member, Study, kind_of
from prefix_rft.runs.ablations import Ablation, Entry, Runs, read_ablations

LEVELS = ("easy", "easy", "hard", "hard")
SAMPLES = 4


def member(run, right, kind=None, metrics=(), flops=1.0):
    """A run of two seeds with these numbers of right answers of 4 for each problem, the same at both temperatures; T = 0.6 has none."""
    found = Member(
        run, run, kind or run, None if run == "base" else SimpleNamespace(init_from=None, method="rft"), None, [0, 1]
    )
    found.samples = SAMPLES
    found.meta = {seed: {"run": {"budget": {"total_flops": flops}}, "scores": {}} for seed in found.seeds}
    counts = np.array([right, right])
    full = np.full(counts.shape, SAMPLES)
    names = [f"p{i}" for i in range(len(right))]
    found.counts = {
        ("test", 1.0): Counts(names, np.array(LEVELS), counts, full),
        ("test", 0.6): Counts(names, np.array(LEVELS), 0 * counts, full),
    }
    found.metrics = lambda: {} if run == "base" else {seed: list(metrics) for seed in found.seeds}
    return found


def study(*members, entries=()):
    ablation = Ablation("a", "a", tuple(entries)) if entries else None
    return Study("s", "s", "tiny", None, None, list(members), [0, 1], None, ablation)


def at(rows, temperature):
    return next(r for r in rows if r["temperature"] == temperature)


def test_scores_are_compared_at_every_temperature_and_compute_is_said():
    s = study(member("base", (0, 0, 0, 0)), member("a", (4, 4, 2, 2), flops=1.0), member("b", (2, 2, 2, 2), flops=4.0))
    rows = claims.scores(Claim("A beats B", "x", "s", "a", "b", paper=(1.7, 4.6), compute=True), s)
    assert [r["temperature"] for r in rows] == [1.0, 0.6] and {r["n_seeds"] for r in rows} == {2}
    assert at(rows, 1.0)["difference"] == pytest.approx(0.25) and at(rows, 0.6)["difference"] == 0
    assert rows[0]["claim"] == "A beats B (with 0.25 of its compute)" and rows[0]["paper"] == "+1.7 / +4.6"


def test_the_hardest_level_is_the_one_that_the_base_solves_least():
    s = study(member("base", (1, 1, 0, 0)), member("a", (0, 0, 4, 4)), member("b", (4, 4, 2, 2)))
    row = at(claims.scores(Claim("c", "x", "s", "a", "b", hardest=True), s), 1.0)
    assert row["split"] == "test/hard" and row["difference"] == pytest.approx(0.5)


def test_no_ceiling_is_above_that_of_a_base_that_solves_all():
    claim = Claim("c", "x", "s", "a", "base", family="pass")
    rows = claims.scores(claim, study(member("base", (1, 2, 1, 4)), member("a", (4, 4, 4, 0))))
    assert at(rows, 1.0)["verdict"] == claims.NOT_TESTED
    assert at(rows, 1.0)["target"] == "saturated: the base model solves every problem at k = 4"
    assert at(rows, 0.6)["verdict"] == "undecided"  # there the base solves none
    rows = claims.scores(claim, study(member("base", (0, 2, 1, 4)), member("a", (4, 4, 4, 0))))
    assert at(rows, 1.0)["difference"] == 0


@pytest.mark.parametrize(
    "prefixed, plain, measured, verdict",
    [
        ((0.9, 0.8, 0.8), (0.3, 0.5, 0.7), 0.4, "holds"),  # 0.6 ahead, then 0.1; the plain ones rise by 0.4
        ((0.9, 0.6, 0.6), (0.3, 0.5, 0.4), 0.1, "holds"),  # most of it because the prefixed ones fall
        ((0.6, 0.3, 0.0), (0.3, 0.3, 0.7), -0.4, "does not hold"),  # turned round: 0.3 ahead, then 0.7 behind
        ((0.6, 0.1, 0.0), (0.3, 0.1, 0.0), -0.3, "does not hold"),  # closed, since both have collapsed
    ],
)
def test_the_gap_has_to_close_from_below(prefixed, plain, measured, verdict):
    """Two steps a third of the training."""
    steps = [{"reward_prefixed": a, "reward_plain": b} for a, b in zip(prefixed, plain, strict=True) for _ in "12"]
    ours = member("prefix_rft", (1, 1, 1, 1), metrics=steps)
    ours.config.rollout = SimpleNamespace(temperature=1.0)
    (row,) = claims.gap_narrows(study(), ours)
    assert (round(row["difference"], 6), row["verdict"]) == (measured, verdict)


def test_the_measure_of_the_gap_does_not_jump():
    """Where the prefixed rollouts end a little ahead, or a little behind, the numbers are near each other."""

    def measured(end):
        steps = [{"reward_prefixed": a, "reward_plain": b} for a, b in ((0.9, 0.3), (0.7, 0.5), (end, 0.6))]
        ours = member("prefix_rft", (1, 1, 1, 1), metrics=steps)
        ours.config.rollout = SimpleNamespace(temperature=1.0)
        return claims.gap_narrows(study(), ours)[0]["difference"]

    assert measured(0.61) == pytest.approx(measured(0.59)) == pytest.approx(0.3)


def test_collapse_asks_for_more_than_half_prefix_tokens():
    claim = Claim("unstable", "x", "s", None, measure="collapse")
    few = member("few", (4, 4, 4, 4), "prefix_rft", [{"prefix_token_share": 0.9}, {"prefix_token_share": 0.0}])
    many = member("many", (1, 1, 0, 0), "prefix_rft", [{"prefix_token_share": 0.9}, {"prefix_token_share": 0.3}])
    (row, _) = claims.collapse(claim, study(member("base", (2, 2, 2, 2)), few, many))
    assert row["difference"] == pytest.approx(0.375) and "many" in row["claim"] and "60 %" in row["claim"]
    (row,) = claims.collapse(claim, study(member("base", (2, 2, 2, 2)), few))
    assert row["verdict"] == claims.NOT_TESTED and "at most 45 %" in row["target"]


def test_fragility_is_best_minus_worst_of_the_rates_that_both_have():
    """Ours loses 1 of 4 between its rates, the rival 3 of 4; a third rate that only the rival has does not count."""
    entries = [Entry("a", "1", None, (), "A", 1.0), Entry("a2", "2", "a", (), "A", 2.0)]
    entries += [
        Entry("b", "1", None, (), "B", 1.0),
        Entry("b2", "2", "b", (), "B", 2.0),
        Entry("b3", "3", "b", (), "B", 3.0),
    ]
    runs = {"a": (4, 4, 4, 4), "a2": (3, 3, 3, 3), "b": (1, 1, 1, 1), "b2": (4, 4, 4, 4), "b3": (0, 0, 0, 0)}
    s = study(*(member(run, right) for run, right in runs.items()), entries=entries)
    row = at(claims.fragility(Claim("c", "x", "s", "a", "b", measure="fragility"), s), 1.0)
    assert row["difference"] == pytest.approx(0.5)


def test_each_run_of_the_series_is_compared_at_its_own_compute():
    entries = [
        Entry("ours", "ours"),
        Entry("sft", "1", None, (), "SFT", 1.0),
        Entry("sft5", "5", "sft", (), "SFT", 5.0),
    ]
    runs = [
        member("ours", (2, 2, 2, 2), flops=4.0),
        member("sft", (1, 1, 1, 1)),
        member("sft5", (4, 4, 4, 4), flops=5.0),
    ]
    rows = claims.epochs(Claim("SFT wins", "x", "s", "sft", "ours", measure="epochs"), study(*runs, entries=entries))
    assert {r["claim"] for r in rows} == {"SFT wins, 5 epochs of SFT (with 1.25 of its compute)"}
    assert at(rows, 1.0)["difference"] == pytest.approx(0.5)


def test_the_angle_is_a_mean_of_cosines():
    ours = member(
        "prefix_rft", (1, 1, 1, 1), metrics=[{"grad_cosine": 0.5}, {"grad_cosine": None}, {"grad_cosine": 0.1}]
    )
    (row,) = claims.angle(Claim("c", "x", "main", measure="angle"), study(ours))
    assert row["difference"] == pytest.approx(0.3) and row["unit"] == "" and row["n_seeds"] == 2


# ------------------------------------------------------------------------------------------------------ presets


def test_every_target_of_a_claim_exists(root):
    """A reader who wants an untested claim tested is told a target that there is."""
    preset = yaml.safe_load((root / "config/tiny/preset.yaml").read_text())
    known = {f"study_{s}" for s in preset["studies"]} | {f"ablation_{a}" for a in read_ablations(root / "config/tiny")}
    assert {c.target for c in FURTHER} <= known | {"tables", "figure_2", "figure_3a", "figure_5"}


# What a preset's claims lack, and why. Anything else that a claim needs and the preset does not have is a mistake in one of the two.
MAIN_ALONE = {"extension", "smollm2-two-cores"}  # presets with neither studies, ablations nor probes
ONE_COMPARISON = "sized for one GPU: the main comparison and the ablations alone"
ABSENT = {
    "tiny": {"quality_prefix_32b": "two teachers, a strong and a weak one"},
    "smollm2-gsm": {
        "bases": ONE_COMPARISON,
        "quality_prefix_32b": "one teacher",
    },
    "paper-7b": {"bases": "presets paper-1.5b and paper-llama"},
    "paper-1.5b": {
        "methods": "preset paper-7b",
        "bases": "presets paper-7b and paper-llama",
    },
    "paper-llama": {
        "methods": "preset paper-7b",
        "bases": "presets paper-7b and paper-1.5b",
        "probes": "Figure 3 is of the 1.5B model",
        "quality_prefix_32b": "one further teacher",
    },
}


@pytest.mark.parametrize("preset", sorted(ABSENT))
def test_every_claim_has_its_runs_in_every_preset_or_a_reason(root, preset):
    """Found in the configuration alone: the studies and runs that a claim names and the preset does not have."""
    folder = root / "config" / preset
    values, find, ablations = yaml.safe_load((folder / "preset.yaml").read_text()), Runs(folder), read_ablations(folder)
    studies = {"main": values["runs"]} | {name: s["runs"] for name, s in (values.get("studies") or {}).items()}
    own = {find.load(run).base for run in values["runs"]}
    other = [s for s in studies.values() if not own & {find.load(run).base for run in s}]
    studies |= {f"ablation_{name}": a.runs for name, a in ablations.items()}
    studies |= {"pass_at_k": values["runs"]} | ({"bases": other[0]} if other else {})
    if Files(folder).find("setup/probe.yaml").exists():
        studies["probes"] = values["runs"]
    known = {name: {None, "base", *runs, *(kind_of(find.load(r)) for r in runs)} for name, runs in studies.items()}
    found = {c.study for c in FURTHER} - set(known)
    found |= {run for c in FURTHER if c.study in known for run in (c.ours, c.rival) if run not in known[c.study]}
    assert found == set(ABSENT[preset])


def test_no_preset_is_forgotten(root):
    assert {p.parent.name for p in root.glob("config/*/preset.yaml")} == {*ABSENT, *MAIN_ALONE}


def test_claims_about_learning_rates_ask_for_the_methods_that_they_compare(root):
    ablation = read_ablations(root / "config/tiny")["lr"]
    assert {ablation.entry(run).series for run in runs_asked(ablation)} == {"Prefix-RFT", "RFT", "LUFFY"}
    group = read_ablations(root / "config/tiny")["group"]
    assert runs_asked(group) == group.runs
