"""The folder convention: commands find the files that the workflow declares, and say what is not there."""

import shutil
from pathlib import Path

import pytest
import yaml

from prefix_rft.common.errors import UserError
from prefix_rft.runs.layout import Layout
from tests.conftest import ROOT
from workflow.inputs import Plan
from workflow.settings import load_settings


@pytest.fixture(autouse=True)
def in_the_clone(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(
    "preset, smoke", [("tiny", False), ("tiny", True), ("smollm2-gsm", True), ("paper-1.5b", False)]
)
def test_layout_is_the_workflow_s(preset, smoke):
    settings = load_settings({"preset": preset, "smoke": smoke, "seeds": None})
    plan, layout = Plan(settings), Layout(f"config/{preset}", None, settings.override)
    assert str(layout.results) == settings.results
    for run in settings.known_runs:
        file, changes = layout.run(run)
        assert (str(file), changes) == (plan.run_config(run), settings.run_changes(run))
        assert str(layout.initial(run, 1)) == plan.initial_model(run, 1)
        assert f"{layout.of_run(run, 1)}/run.json" in plan.models([run], [1])
    for teacher in settings.teachers:
        assert str(layout.teacher(teacher)) == plan.teacher_model(teacher)
    assert str(layout.tokenizer()) == plan.tokenizer()
    benchmarks = settings.benchmarks[:1] or [None]
    for kind in ("eval", "pass_at_k"):
        folder = layout.evaluation(kind, "rft", 2, benchmarks[0])
        assert f"{folder}/scores.json" in plan._evaluations(kind, ["rft"], [2], benchmarks)
        if benchmarks[0]:
            assert str(layout.sampling(kind, benchmarks[0])) == plan.sampling_config(kind)


def test_a_base_model_of_every_seed_has_a_folder_for_each(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    file, preset = Path("config/tiny/setup/bases/far.yaml"), Path("config/tiny/preset.yaml")
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"seed": 3}))
    preset.write_text(yaml.safe_dump(yaml.safe_load(preset.read_text()) | {"seeds": [4, 5]}))
    plan, layout = Plan(load_settings({"preset": "tiny", "seeds": [7, 8]})), Layout("config/tiny")
    models = "results/tiny/models"
    assert layout.bases_per_seed == ["base"]
    for found in (layout.initial("rft", 7), layout.model("base", 7), plan.initial_model("rft", 7)):
        assert str(found) == f"{models}/base/seed7"
    assert plan.initial_record("rft", 7) == plan.base_record("base", 7) == f"{models}/base/seed7.json"
    assert plan.base_models() == [f"{models}/base/seed{s}{end}" for s in (7, 8) for end in ("", ".json")]
    # what all seeds share: the first seed of the preset, whatever seeds are asked for
    assert str(layout.tokenizer()) == plan.tokenizer() == f"{models}/base/seed4"
    assert plan.initial_model("rft_far", 7) == f"{models}/far"


def test_checkpoints_lie_beside_nothing_that_is_an_output():
    layout = Layout("config/tiny")
    assert layout.checkpoints(layout.of_run("rft", 0)) == Path("results/tiny/checkpoints/rft/seed0")
    assert layout.checkpoints("results/tiny/replay/rft/seed0") == Path("results/tiny/checkpoints/replay/rft/seed0")
    assert layout.checkpoints("elsewhere/run") == Path("elsewhere/run.checkpoints")


def test_results_of_an_override_have_its_name():
    assert Layout("config/tiny", None, "config/tiny/smoke.yaml").results == Path("results/tiny-smoke")
    assert Layout("config/tiny", "mine", "config/tiny/smoke.yaml").data == Path("mine/data")


def test_snapshots_are_the_run_s_own_or_its_replay_s(tmp_path):
    layout = Layout("config/tiny", tmp_path)
    assert layout.snapshots("rft", 0) == tmp_path / "replay/rft/seed0"
    (tmp_path / "runs/rft/seed0/snapshots").mkdir(parents=True)
    assert layout.snapshots("rft", 0) == tmp_path / "runs/rft/seed0"


def test_what_is_not_there_is_named_with_the_nearest():
    layout = Layout("config/tiny")
    with pytest.raises(UserError, match="--run prefix_rtf: config/tiny has no such run; did you mean 'prefix_rft'"):
        layout.run("prefix_rtf")
    with pytest.raises(UserError, match="setup/demos/stronk.yaml: no such file; did you mean 'strong'"):
        layout.setup("demos/stronk")
