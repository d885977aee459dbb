"""The example and the comparison of learning, at their smallest size."""

import runpy
import sys

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from prefix_rft.common.files import read_json
from scripts import trl_learning
from tests.conftest import ROOT
from tests.helpers.small import make_world


def test_the_example_on_a_cpu(tmp_path, monkeypatch):
    """`--smoke` trains two steps from prefixes of the solutions and saves a model that transformers loads."""
    monkeypatch.setattr(sys, "argv", ["trl_gsm8k.py", "--smoke", "--out", str(tmp_path)])
    runpy.run_path(str(ROOT / "examples/trl_gsm8k.py"), run_name="__main__")
    log = read_json(tmp_path / "checkpoint-2/trainer_state.json")["log_history"]
    assert [row["prefix/length"] > 1 for row in log if "prefix/length" in row] == [True, True]
    assert AutoModelForCausalLM.from_pretrained(tmp_path).num_parameters() > 50_000


@pytest.mark.parametrize("text, right", [("so 7.\n#### 7", 1), ("#### 1,007.", 0), ("7", 0), ("#### 7 #### 8", 0)])
def test_the_example_rewards_the_last_marked_number(text, right):
    example = runpy.run_path(str(ROOT / "examples/trl_gsm8k.py"))
    row = example["row"](example["EXAMPLES"][0])
    assert row["answer"] == "7" and "<<" not in row["demonstration"]
    assert example["correct"]([text], [row["answer"]]) == [right]
    assert example["correct"](["#### 1,007."], ["1007"]) == [1]


def test_the_comparison_of_learning(tmp_path, monkeypatch):
    """Both trainers' rewards of two steps, their figure, and no training of what is there already."""
    make_world(tmp_path, max_position_embeddings=320)
    (tmp_path / "models/base").mkdir(parents=True)
    (tmp_path / "base").rename(tmp_path / "models/base/seed0")
    out = tmp_path / "learning"
    arguments = [str(tmp_path), str(out), "--seeds", "0", "--override", str(ROOT / "config/tiny/smoke.yaml")]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["trl_learning", *arguments])
    trl_learning.main()
    seed = read_json(f"{out}.json")["seeds"]["0"]
    assert all(
        len(seed[name]) == 2 and np.all((0 <= np.array(seed[name])) & (np.array(seed[name]) <= 1))
        for name in ("ours", "trl")
    )
    assert out.with_suffix(".png").stat().st_size > 10_000
    monkeypatch.setattr(trl_learning, "train_trl", None)
    trl_learning.main()
    assert read_json(f"{out}.json")["seeds"]["0"] == seed
