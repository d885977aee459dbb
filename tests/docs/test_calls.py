"""The first Python block of docs/library.md and of docs/trl.md, word for word but for the model, the number of steps and the sizes."""

import re

from datasets import Dataset

from prefix_rft.common.files import read_json
from tests.conftest import ROOT
from tests.helpers.own import chat_model, digits, rows
from tests.helpers.small import make_world
from tests.helpers.small_trl import reward, settings
from tests.helpers.small_trl import rows as trl_rows


def block(page, replaced):
    """The block, with text replaced; each must be there."""
    code = re.search(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.DOTALL | re.MULTILINE)[1]
    for old, new in replaced.items():
        assert old in code, old
        code = code.replace(old, new)
    return code


def test_the_call_of_the_library_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chat_model(tmp_path / "model")
    replaced = {
        "HuggingFaceTB/SmolLM2-135M-Instruct": "model",
        "steps=200": "steps=2, device='cpu'",
        "max_response=1024": "max_response=12",
    }
    space = {"rows": rows(), "my_reward": digits}
    exec(block("library.md", replaced), space)
    result = space["result"]
    assert [row["step"] for row in result.metrics] == [0, 1] and result.path.name == "mine"
    assert set(read_json(result.path / "run.json")["config"]["prefix"]) >= {"keep_share"}


def test_the_call_of_the_trl_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_world(tmp_path)
    small = settings("out", num_generations=8, per_device_train_batch_size=8)
    replaced = {"Qwen/Qwen2.5-0.5B": "base", 'output_dir="out", num_generations=8': "**small"}
    space = {"rows": Dataset.from_list(trl_rows(tmp_path, "text")), "my_reward": reward, "small": small}
    exec(block("trl.md", replaced), space)
    log = space["trainer"].state.log_history
    assert [row["prefix/length"] > 0 for row in log if "prefix/length" in row] == [True, True]
