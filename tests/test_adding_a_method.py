"""The worked example of docs/adding_a_method.md: its file, its configuration and its test do what the page says."""

import re
import shutil
import sys

import pytest
from small import make_world, train_args

from prefix_rft import methods, train
from prefix_rft.config import config_hash, load_run
from prefix_rft.errors import UserError
from prefix_rft.io import read_json, read_jsonl


@pytest.fixture
def example(root, tmp_path, monkeypatch):
    """The page's blocks as files: the method where methods are looked for, the configuration beside _rl.yaml."""
    page = (root / "docs" / "adding_a_method.md").read_text()
    method, config, test = re.findall(r"```(?:python|yaml)\n(.*?)```", page, re.DOTALL)
    folder = tmp_path / "methods"
    folder.mkdir()
    (folder / "rejection.py").write_text(method)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(folder)])
    shutil.copy(root / "config" / "tiny" / "_rl.yaml", tmp_path)
    (tmp_path / "rejection.yaml").write_text(config)
    yield tmp_path, test
    sys.modules.pop("prefix_rft.methods.rejection", None)


def test_the_page_s_own_test(example):
    space = {}
    exec(compile(example[1], "docs/adding_a_method.md", "exec"), space)
    space["test_rejection_by_hand"]()


def test_its_configuration_is_read_and_leaves_other_runs_alone(root, example):
    assert "rejection" in methods.names()
    run = load_run(example[0] / "rejection.yaml")
    assert run.rejection.per_prompt == 2 and run.rollout.group_size == 8
    with pytest.raises(UserError, match="rejection.per_prompt: 9 is more than rollout.group_size = 8"):
        load_run(example[0] / "rejection.yaml", sets=["rejection.per_prompt=9"])
    with pytest.raises(UserError, match="key 'rejection' = .* is the section of method rejection"):
        load_run(root / "config" / "tiny" / "rft.yaml", sets=["rejection.per_prompt=1"])


def test_the_identity_of_another_run_does_not_change(root, request):
    before = config_hash(load_run(root / "config" / "tiny" / "prefix_rft.yaml"))
    request.getfixturevalue("example")
    assert config_hash(load_run(root / "config" / "tiny" / "prefix_rft.yaml")) == before


def test_it_trains(example):
    folder, _ = example
    make_world(folder)
    small = ["steps=3", "batch_prompts=4", "minibatch_prompts=2", "rollout.group_size=4", "rollout.max_response=60"]
    args = train_args(folder, folder / "rejection.yaml", set=small)
    assert train.main(args) == 0
    rows = read_jsonl(folder / "out" / "metrics.jsonl")
    assert read_json(folder / "out" / "run.json")["config"]["rejection"] == {"per_prompt": 2}
    assert all(r["rl_loss"] == 0 for r in rows) and any(r["grad_norm"] > 0 for r in rows)
