"""Mistakes in a preset's files end in one line that names file, key and value when the workflow's settings are read: before any job."""

import shutil

import pytest
import yaml

from prefix_rft.common.errors import UserError
from prefix_rft.config.reading import read_yaml
from prefix_rft.planning.check import check_preset
from tests.conftest import ROOT
from workflow.settings import load_settings


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """config/tiny of a copy of config/ that the settings are read from."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config/tiny"


def edit(file, **values):
    there = read_yaml(file) if file.exists() else {}
    file.write_text(yaml.safe_dump(there | values, sort_keys=False))


def refused(*expected, **config):
    with pytest.raises(UserError) as caught:
        load_settings({"preset": "tiny"} | config)
    message = str(caught.value)
    assert "\n" not in message and all(e in message for e in expected), message


@pytest.mark.parametrize("preset", sorted(p.parent.name for p in (ROOT / "config").glob("*/preset.yaml")))
def test_presets_are_read(preset, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert load_settings({"preset": preset}).sources and load_settings({"preset": preset, "smoke": True}).sources


@pytest.mark.parametrize(
    ("file", "values", "expected"),
    [
        ("demos/strong", {"source": "strng"}, ["'source' = 'strng'", "did you mean 'strong'?"]),
        ("demos/strong", {"source": ["strong"]}, ["'source' = ['strong']: must be a string"]),
        ("demos/strong", {"split": "trian"}, ["'split' = 'trian'", "did you mean 'train'?"]),
        ("teachers/large", {"model": "bas"}, ["'model' = 'bas'", "did you mean 'base'?"]),
        ("teachers/large", {"model": "base", "split": "tests"}, ["'split' = 'tests'", "did you mean 'test'?"]),
        ("subsets/part", {"source": "trian"}, ["'source' = 'trian'", "did you mean 'train'?"]),
        ("subsets/part", {"with_demos": "stron"}, ["'with_demos' = 'stron'", "did you mean 'strong'?"]),
        ("probe", {"snapshots": "ten"}, ["'snapshots' = 'ten': must be a whole number"]),
        ("probe", {"demos": "stron"}, ["'demos' = 'stron'", "did you mean 'strong'?"]),
        ("data", {"task": "register"}, ["'task'", "unknown task 'register'; did you mean 'registers'?"]),
        ("data", {"extends": "bases"}, ["setup/bases: cannot be read"]),
        (
            "demos/strong",
            {"extends": "wek.yaml"},
            ["strong.yaml: key 'extends' = 'wek.yaml': no such file; did you mean 'weak.yaml'?"],
        ),
    ],
)
def test_names_in_setup(tiny, file, values, expected):
    """Of these, a wrong `source` alone once made rule `problems` end without one of its outputs, and lose the others."""
    template = {"template": "config/templates/deepseek.txt"} if "teachers" in file else {}
    (tiny / f"setup/{file}.yaml").parent.mkdir(exist_ok=True)
    edit(tiny / f"setup/{file}.yaml", **template, **values)
    refused("config/tiny/setup/", *expected)


def test_sources_are_those_that_the_task_writes(tiny):
    """A teacher that is sampled here is no source of the task."""
    (tiny / "setup/teachers").mkdir()
    edit(tiny / "setup/teachers/large.yaml", model="base", template="config/templates/deepseek.txt")
    edit(tiny / "setup/demos/large.yaml", source="large")
    settings = load_settings({"preset": "tiny"})
    assert settings.sources == ["own", "strong", "weak"] and settings.teachers == {"large": "base"}


def test_a_local_file_needs_no_name_on_the_hub(tiny):
    """A preset of one's own: what it does not use, it need not say."""
    data = tiny / "setup/data.yaml"
    own = {"task": "math", "source": {"path": "mine.jsonl"}, "template": "config/templates/qwen_math.txt"}
    data.write_text(yaml.safe_dump(own))
    refused("data.yaml: key 'decontaminate': there is no config/tiny/setup/benchmarks.yaml", "set it to null")
    data.write_text(yaml.safe_dump(own | {"source": {"name": "a/b"}, "decontaminate": None}))
    refused("data.yaml: source.split: is missing; name a data set of the hub, or a local file with `path`")
    data.write_text(yaml.safe_dump(own | {"decontaminate": None}))
    refused("'source' = 'strong': there is none; known: r1")  # a demonstration set of the task that tiny has


# ------------------------------------------------------------------------------------ comparisons beside the main one


def test_an_ablation_that_a_preset_cannot_make_stops_no_other_target(tiny):
    """`group_8` has eight prefixes in a group, which now has four rollouts."""
    values = read_yaml(tiny / "_rl.yaml")
    edit(tiny / "_rl.yaml", rollout=values["rollout"] | {"group_size": 4})
    settings = load_settings({"preset": "tiny"})
    assert set(settings.broken) == {"ablation_group"}
    assert settings.broken["ablation_group"] == (
        "config/ablations.yaml: key 'group.runs.group_8': variant group_8 of config/tiny/prefix_rft.yaml: "
        "prefix.per_group: 8 is more than rollout.group_size = 4"
    )
    assert "ablation_entropy" in settings.ablations and "group_8" not in settings.known_runs
    assert "entropy_top50" in settings.known_runs
    check_preset(tiny)


def test_a_preset_without_rft_has_its_main_comparison_and_what_does_not_need_it(tiny):
    (tiny / "rft.yaml").unlink()
    for file in tiny.glob("*.yaml"):  # nor what extends or continues it
        if read_yaml(file).get("extends") == "rft.yaml":
            file.unlink()
    preset = read_yaml(tiny / "preset.yaml")
    edit(tiny / "preset.yaml", runs=["sft", "prefix_rft"], lr_grid=preset["lr_grid"] | {"methods": ["sft"]})
    settings = load_settings({"preset": "tiny"})
    assert settings.runs == ["sft", "prefix_rft"] and "ablation_entropy" in settings.ablations
    assert settings.broken["study_controls"].startswith(
        "config/tiny/preset.yaml: key 'studies.controls.runs': no run 'rft' (config/tiny/rft.yaml); "
    )
    assert "'quantity.runs.rft': no run 'rft'" in settings.broken["ablation_quantity"]
    assert "ablation_quantity" not in settings.ablations and "controls" not in settings.studies
    assert all("\n" not in line for line in settings.broken.values())


def test_a_wrong_run_of_the_main_comparison_stops_everything(tiny):
    edit(tiny / "prefix_rft.yaml", prefix={"per_group": 9})
    refused("config/tiny/prefix_rft.yaml: prefix.per_group: 9 is more than rollout.group_size = 8")


# ------------------------------------------------------------------------------------------------------------- YAML


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("demos: strong\nsteps: 3\ndemos: weak\n", "key 'demos' is given twice, in lines 1 and 3"),
        ("a: {x: 1}\nb: {runs: {x: 1, x: 2}}\n", "key 'b.runs.x' is given twice, in lines 2 and 2"),
        ("a: [{x: 1,\n x: 2}]\n", "key 'a.x' is given twice, in lines 1 and 2"),
        ("label: 2026-13-45\n", "month must be in 1..12"),
        ("a: [1\n", "not YAML"),
        ("- a\n", "must be a mapping"),
        (b"label: gr\xfc\xdf\n", "is not UTF-8"),
    ],
)
def test_yaml_is_read_strictly(tmp_path, text, expected):
    file = tmp_path / "run.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as caught:
        read_yaml(file)
    assert f"{file}: {expected}" in str(caught.value).replace("key 'label'", "") and "\n" not in str(caught.value)


def test_yaml_that_is_right(tmp_path):
    """Anchors and merge keys repeat nothing; 1e-6 is a number, a commit is not."""
    file = tmp_path / "run.yaml"
    file.write_text("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: *a\nlr: 1e-6\nrevision: 6e4ed1a\nn: 5\nother: '1e-6'\n")
    a = {"x": 1, "y": 2}
    assert read_yaml(file) == {
        **{"a": a, "b": a | {"x": 3}, "c": a, "lr": 1e-6, "revision": "6e4ed1a", "n": 5, "other": "1e-6"}
    }
