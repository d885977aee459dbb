"""YAML that breaks its reader, as a file and as a value of --set: one line, whatever is wrong."""

import re
import shutil
from datetime import date
from pathlib import Path

import pytest
import yaml

from prefix_rft.common.errors import UserError
from prefix_rft.config.reading import read_yaml
from prefix_rft.planning.check import check_preset
from prefix_rft.runs.load import load_run
from tests.conftest import ROOT

VALUES = {
    "deep list": ("[" * 3000 + "]" * 3000, "nested too deeply"),
    "deep map": ("{a: " * 3000 + "1" + "}" * 3000, "nested too deeply"),
    "open list": ("[" * 3000, "not YAML"),
    "a date that is none": ("2001-99-99", "month must be in 1..12"),
    "many digits": ("9" * 5000, "4300 digits"),
    "twice": ("{a: 1, a: 2}", "twice"),
    "Python object": ("!!python/object/apply:os.getcwd []", "not YAML"),
    "control character": ("\x01", "not YAML"),
    "holds itself": ("&a {b: [*a]}", "holds itself, by the alias in line 1"),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_that_cannot_be_read_is_one_line(tmp_path, name):
    value, message = VALUES[name]
    with pytest.raises(UserError, match=message) as of_set:
        load_run(ROOT / "config/tiny/rft.yaml", None, [f"optimizer.lr={value}"])
    file = tmp_path / "x.yaml"
    file.write_text(f"a: {value}\n")
    with pytest.raises(UserError, match=message) as of_file:
        read_yaml(file)
    for caught, start in ((of_set, "--set optimizer.lr="), (of_file, str(file))):
        assert str(caught.value).startswith(start) and "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_number_that_no_float_holds_is_one_line():
    for value in ("1" + "0" * 400, "1e400", ".nan", ".inf"):
        with pytest.raises(UserError, match="key 'optimizer.lr' = .*must be") as caught:
            load_run(ROOT / "config/tiny/rft.yaml", None, [f"optimizer.lr={value}"])
        assert "\n" not in str(caught.value)


def test_a_deep_file_of_block_mappings_is_one_line(tmp_path):
    file = tmp_path / "deep.yaml"
    file.write_text("\n".join(" " * i + "a:" for i in range(3000)))
    with pytest.raises(UserError, match="nested too deeply"):
        read_yaml(file)


# ------------------------------------------------------------------------- what mutations of the presets have found


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    return Path("config/tiny")


def put(file, values):
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **values}, sort_keys=False))


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("setup/bases/base.yaml", {"kind": {}}, "base.yaml: key 'kind' = {}: must be one of"),
        ("rft.yaml", {"extends": "x" * 5000}, "rft.yaml: key 'extends' = 'xxx.*: no such file"),
        ("rft.yaml", {"extends": "setup"}, "rft.yaml: key 'extends' = 'setup': .*Is a directory"),
        (
            "_rl.yaml",
            {"steps": []},
            "chord_mu.yaml: key 'steps' = .*must be a whole number.*; it is in config/tiny/_rl.yaml",
        ),
        ("_rl.yaml", {None: 1}, "chord_mu.yaml: key None: must be text.*; it is in config/tiny/_rl.yaml"),
        (
            "_rl.yaml",
            {"base": "bse"},
            "'base' = 'bse': no such file in setup; did you mean 'base'.*; it is in .*_rl.yaml",
        ),
        ("rft.yaml", {"demos": "x" * 5000}, "rft.yaml: key 'demos' = 'x{1,60}.*: no such file in setup"),
        (
            "setup/demos/few.yaml",
            {"source": "strng"},
            "few.yaml: key 'source' = 'strng': there is none; did you mean 'strong'",
        ),
        ("setup/demos/few.yaml", {"source": ""}, "key 'source' = '': must be a text that is not empty"),
        ("preset.yaml", {"labels": {"rtf": "RFT"}}, "preset.yaml: key 'labels': there is no 'rtf'; did you mean 'rft'"),
        (
            "preset.yaml",
            {"expected": {"problems": {"trian": 3}}},
            "key 'expected.problems': there is no 'trian'; did you mean",
        ),
        ("preset.yaml", {"expected": {"problms": {}}}, "expected: unknown key 'problms'.*did you mean 'problems'"),
        ("preset.yaml", {"unknwon": 1}, "preset.yaml: unknown key 'unknwon' = 1"),
        ("sft.yaml", {"batch_prompts": "y" * 5000}, "key 'batch_prompts' = 'y{50,}\\.\\.\\.: must be a whole number"),
    ],
)
def test_check_names_file_key_and_value(tiny, file, values, message):
    put(tiny / file, values)
    with pytest.raises(UserError, match=message) as caught:
        check_preset(tiny)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"run_rtf": {}}, "smoke.yaml: unknown section 'run_rtf'; did you mean 'run_rft'"),
        ({7: {}}, "smoke.yaml: unknown section 7"),
    ],
)
def test_sections_of_an_override_are_known(tiny, values, message):
    put(tiny / "smoke.yaml", values)
    with pytest.raises(UserError, match=message):
        check_preset(tiny, tiny / "smoke.yaml")


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (
            {"prefix_rft": {}, "x": {"extends": "prefix_rft"}},
            "'odd.runs.x'.extends = 'prefix_rft': the variant changes no key",
        ),
        ({"prefix_rft": {}, "x" * 200: {"extends": "rft", "steps": 3}}, "'odd.runs': run 'xxx.*at most 100 characters"),
        (
            {"prefix_rft": {}, "x": {"extends": "rft", "steps": date(2026, 1, 2)}},
            "'steps' = '2026-01-02': must be a whole number",
        ),
    ],
)
def test_a_broken_ablation_is_noted(tiny, capsys, runs, message):
    put(tiny / "ablations.yaml", {"odd": {"runs": runs}})
    check_preset(tiny)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1 and re.search(message, notes[0]), notes


def test_a_missing_method_and_a_misspelt_one(tiny):
    put(tiny / "sft.yaml", {})
    values = yaml.safe_load((tiny / "sft.yaml").read_text())
    (tiny / "sft.yaml").write_text(yaml.safe_dump({"METHOD" if k == "method" else k: v for k, v in values.items()}))
    with pytest.raises(UserError, match="unknown key 'METHOD'"):
        check_preset(tiny)
    (tiny / "sft.yaml").write_text("prefix: {keep: all}\n")
    with pytest.raises(UserError, match="key 'method' is missing"):
        check_preset(tiny)


def test_numbers_are_those_of_yaml_1_2(tmp_path):
    """YAML 1.1 reads 010 as eight, 1:30 as ninety and 1_000 as a thousand."""
    file = tmp_path / "x.yaml"
    file.write_text("a: 010\nb: 1:30\nc: 1_000\nd: 0x10\ne: -1e-6\nf: .5\ng: +3\nh: 6e4ed1a\ni: 0b1\n")
    assert read_yaml(file) == dict(a=10, b="1:30", c="1_000", d=16, e=-1e-6, f=0.5, g=3, h="6e4ed1a", i="0b1")
