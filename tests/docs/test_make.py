"""The Makefile as a reader meets it: help, and mistakes that end before anything is set up."""

import re
import shutil

import pytest

from tests.conftest import run

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")


def test_make_alone_lists_the_targets_and_does_nothing(root):
    text = run("make", root)
    targets = re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE)
    assert {"reproduce", "test", "results", "gpu"} <= set(targets)
    for target in set(targets) - {"help", "slurm-installed"}:
        assert re.search(rf"^  {target} +\S", text, re.MULTILINE), target
    assert "pip" not in text and "snakemake --cores" not in text


@pytest.mark.parametrize(
    ("preset", "expected"), [("tinny", "did you mean PRESET=tiny?"), ("zzz", "known: extension paper-1.5b paper-7b")]
)
def test_unknown_preset_ends_before_set_up(root, preset, expected):
    text = run(f"make reproduce PRESET={preset} VENV=nowhere", root, fails=True)
    assert f"PRESET={preset}: no such preset" in text and expected in text and "venv" not in text
    assert not (root / "nowhere").exists()


def test_make_results_asks_for_a_source(root):
    assert "make results needs FROM=" in run("make -o .venv/core.stamp results", root, fails=True)
