"""docs/own_data.md: its blocks and commands on a tiny model; and what `init` says of data and models that do not fit."""

import json
import re
import sys

import pytest
import yaml

from prefix_rft.common.errors import UserError
from prefix_rft.common.files import read_json, read_jsonl, read_parquet
from prefix_rft.planning.new_preset import look, make_preset, verifier_for
from tests.conftest import ROOT, run
from tests.helpers.own import chat_model

COLUMNS = {"prompt": None, "answer": None, "demonstration": None}


def blocks(root, kind):
    return re.findall(rf"```{kind}\n(.*?)```", (root / "docs/own_data.md").read_text(), re.DOTALL)


def lines(root, count=30):
    """So many lines like the two of the page."""
    with_demonstration, without = (json.loads(line) for line in blocks(root, "json")[0].splitlines())
    made = []
    for i in range(count):
        a, b = i, i * 7 % 10
        text = json.dumps(with_demonstration if i % 3 else without)
        for old, new in (
            ("3+4", f"{a}+{b}"),
            ("5+1", f"{a}+{b}"),
            ('"7"', f'"{a + b}"'),
            ("=7 #### 7", f"={a + b} #### {a + b}"),
        ):
            text = text.replace(old, new)
        made.append(text.replace('"answer": 6', f'"answer": {a + b}'))
    return "\n".join(made) + "\n"


@pytest.mark.slow
def test_the_page(root, copy):
    """Filter, SFT, RFT, SFT then RFT, Prefix-RFT, evaluation, figures, tables and the report, from the page's own blocks."""
    (copy / "mine.jsonl").write_text(lines(root))
    (copy / "my_reward.py").write_text(blocks(root, "python")[0])
    chat_model(copy / "models/mine")
    init, trial, three = blocks(root, "bash")
    told = run(init.strip(), copy)
    assert "config/mine: 30 problems, 20 demonstrations, the longest of " in told and "verifier math" in told
    rl = (copy / "config/mine/_rl.yaml").read_text()
    assert "reward: {path: my_reward.py, name: score}" in rl and "steps: 100" in rl
    run(trial.strip() + " --show-failed-logs", copy)
    results = copy / "results/mine-smoke"
    main = (results / "tables/main.md").read_text()
    assert all(label in main for label in ("Base", "SFT", "RFT", "SFT then RFT", "Prefix-RFT"))
    record = read_json(results / "runs/prefix_rft/seed0/run.json")
    assert any(name.startswith("reward my_reward.py") for name in record["code"]["files"])
    rewards = [r["reward"] for r in read_jsonl(results / "runs/prefix_rft/seed0/metrics.jsonl")]
    assert any(r not in (0.0, 1.0) for r in rewards)  # partial credit
    shown = (results / "runs/prefix_rft/seed0/first_prompt.txt").read_text()
    assert re.match(r"<user>\d+\+\d+\|<assistant>\n--- prefix", shown)
    assert (
        len(read_parquet(results / "data/demos.own.parquet")) < 20
    )  # those of validation and test problems are not trained on
    assert "Trained by method `prefix_rft`" in (results / "runs/prefix_rft/seed0/model/README.md").read_text()
    plan, long, report = three.strip().splitlines()
    planned = run(plan, copy)
    assert "train" in planned and "evaluate" in planned
    run(f"{long} -n --quiet rules", copy)
    run(f"{report} --results results/mine-smoke", copy)
    assert (results / "report.html").stat().st_size > 10_000


def written(folder, rows):
    file = folder / "mine.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return file


def test_what_init_writes_is_right_and_read(root, tmp_path, monkeypatch):
    """Other column names, no reward function, no demonstration: the files hold what was found, and are read without a complaint."""
    from prefix_rft.planning.check import check_preset

    chat_model(tmp_path / "base")
    monkeypatch.chdir(tmp_path)
    questions = [
        {"question": f"{i}+1", "target": i + 1, "solution": f"{i}+1={i + 1} #### {i + 1}" * (1 + i % 2)}
        for i in range(12)
    ]
    make_preset(tmp_path / "config/own", written(tmp_path, questions), "base", COLUMNS)
    data = yaml.safe_load((tmp_path / "config/own/setup/data.yaml").read_text())
    assert (data["question"], data["answer"], data["demonstration"], data["verifier"]) == (
        "question",
        "target",
        "solution",
        "math",
    )
    rl = yaml.safe_load((tmp_path / "config/own/_rl.yaml").read_text())
    assert rl["rollout"]["max_response"] >= 1.25 * 24 and "reward" not in rl
    assert check_preset(tmp_path / "config/own") >= 8
    smoke = tmp_path / "config/own/smoke.yaml"
    assert check_preset(tmp_path / "config/own", smoke) >= 8
    plain = [{k: v for k, v in q.items() if k != "solution"} for q in questions]
    make_preset(tmp_path / "config/rl", written(tmp_path, plain), "base", COLUMNS)
    assert yaml.safe_load((tmp_path / "config/rl/preset.yaml").read_text())["runs"] == ["rft"]
    assert check_preset(tmp_path / "config/rl") and not (tmp_path / "config/rl/sft.yaml").exists()
    with pytest.raises(UserError, match="config/rl: is there already"):
        make_preset(tmp_path / "config/rl", tmp_path / "mine.jsonl", "base", COLUMNS)


def test_a_model_that_is_neither_a_folder_nor_on_the_hub(tmp_path, monkeypatch):
    """A path of two parts looks like a name on the hub. The error says first that there is no such folder."""
    path = written(tmp_path, [{"question": f"{i}+1", "target": i + 1} for i in range(12)])
    (tmp_path / "config").mkdir()
    command = f"{sys.executable} -m prefix_rft init x --data {path} --model models/mine"
    text = run(f"env HF_HUB_OFFLINE=1 PYTHONPATH={ROOT} {command}", tmp_path, fails=True)
    assert "--model models/mine: no such folder (one with config.json" in text and "HF_HUB_OFFLINE is set" in text


def test_the_verifier_follows_the_answers():
    assert verifier_for(["A", "(C)", "B"]) == "choice"
    assert verifier_for(["12", "-3.5", r"\frac{1}{2}", "1,000", "50 %"]) == "math"
    assert verifier_for(["12", "blue"]) == "exact"


GOOD = [{"prompt": f"{i}", "answer": "1"} for i in range(12)]
TURNS = [{"role": r, "content": "1"} for r in ("user", "assistant", "user")]


@pytest.mark.parametrize(
    ("rows", "columns", "told"),
    [
        ([], {}, "row 1: the file holds no row"),
        (GOOD[:5], {}, "5 problems are too few"),
        ([{"a": "1", "answer": "1"}], {}, "which column is the prompt\\? Name it with --prompt; there are a, answer"),
        (GOOD, {"prompt": "promt"}, "--prompt promt: .* has the columns answer, prompt; did you mean prompt\\?"),
        ([*GOOD, {"prompt": TURNS, "answer": "1"}], {}, "row 13: .*user, assistant, user: several turns"),
        ([*GOOD, {"prompt": "1"}], {}, "row 13: column 'answer' is missing"),
        ([*GOOD, {"prompt": "1", "answer": None}], {}, "row 13: answer None is not a text"),
        ([*GOOD, {"prompt": "ÄÖ", "answer": "1"}], {}, "row 13: "),
        ([*GOOD, {"prompt": "1", "answer": "1", "demonstration": "1" * 200}], {}, r"exceed the model's window of 128"),
    ],
)
def test_data_that_do_not_fit_are_named_by_their_row(tmp_path, rows, columns, told):
    chat_model(tmp_path / "base")
    with pytest.raises(UserError, match=told):
        look(written(tmp_path, rows), tmp_path / "base", COLUMNS | columns, None)


def test_messages_need_a_chat_template_and_a_model_its_files(tmp_path):
    chat_model(tmp_path / "base")
    (tmp_path / "base/chat_template.jinja").unlink()
    rows = [{"prompt": [{"role": "user", "content": "1"}], "answer": "1"}] * 12
    with pytest.raises(
        UserError, match="row 1: the prompt is a list of messages, but the model's tokenizer has no chat template"
    ):
        look(written(tmp_path, rows), tmp_path / "base", COLUMNS, None)
    with pytest.raises(UserError, match="--model ./none: no such folder"):
        look(written(tmp_path, GOOD), "./none", COLUMNS, None)
