"""docs/troubleshooting.md: every mistake of the page is made, and ends in the message of the page."""

import json
import os
import re
import subprocess

import pytest
import torch

from prefix_rft import RFT, PrefixRFT, UserError, train
from prefix_rft.runs.load import load_run
from prefix_rft.training.symptoms import symptoms
from tests.conftest import ENVIRONMENT, ROOT
from tests.helpers.own import chat_model

PAGE = (ROOT / "docs/troubleshooting.md").read_text()
SECTIONS = {
    head: re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for head, text in re.findall(r"^## (\d+)\. .*?\n(.*?)(?=^## )", PAGE, re.DOTALL | re.MULTILINE)
}


def rows(folder, name, row):
    (folder / name).write_text("".join(json.dumps(row(i)) + "\n" for i in range(12)))


def key(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


PREPARE = {  # section -> what makes the mistake; where nothing stands, the command itself is it
    "4": lambda copy: key(copy / "config/tiny/_rl.yaml", "\nsteps: ", "\nstepz: "),
    "5": lambda copy: rows(copy, "mine.jsonl", lambda i: {"task": f"{i}+1", "answer": f"{i + 1}"}),
    "6": lambda copy: rows(
        copy, "long.jsonl", lambda i: {"prompt": f"{i}+1", "answer": f"{i + 1}", "demonstration": "1+" * 150}
    ),
    "10": lambda copy: key(copy / "config/tiny/prefix_rft.yaml", "method:", "device: cuda\nmethod:"),
}


def says(message, expected):
    """Whether a message is that of the page, in which … stands for any text."""
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("…"))
    assert re.fullmatch(pattern, message.strip()), f"{message}\n{expected}"


def test_the_page_has_ten_errors():
    assert list(SECTIONS) == [str(n) for n in range(1, 11)]
    assert all(
        [kind for kind, _ in blocks] in (["bash", "output"], ["python", "output"]) for blocks in SECTIONS.values()
    )


@pytest.mark.parametrize("section", [s for s, blocks in SECTIONS.items() if blocks[0][0] == "bash"])
def test_commands(section, copy, tmp_path):
    if section == "10" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    (_, command), (_, expected) = SECTIONS[section]
    environment = dict(ENVIRONMENT)
    folder = copy
    if section == "1":
        environment["PATH"] = os.defpath
    if section == "2":
        folder = tmp_path
        environment["PYTHONPATH"] = str(copy)
    if section in ("5", "6"):
        chat_model(copy / "models/mine")
    PREPARE.get(section, lambda copy: None)(copy)
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, text=True, capture_output=True)
    assert done.returncode != 0
    message = done.stderr.strip().splitlines()[-1]
    says(re.sub(r"^bash: line \d+: ", "bash: ", message), expected)  # a shell of its own names its line


@pytest.mark.parametrize("section", [s for s, blocks in SECTIONS.items() if blocks[0][0] == "python"])
def test_calls(section, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chat_model(tmp_path / "models/mine")
    (_, code), (_, expected) = SECTIONS[section]
    with pytest.raises(UserError) as caught:
        exec(code, {"train": train, "RFT": RFT, "PrefixRFT": PrefixRFT})
    says(str(caught.value), expected)


def test_symptoms_have_the_names_of_the_page():
    advice = [f"{s.name}: {s.advice}" for s in symptoms(load_run(ROOT / "config/tiny/rft.yaml"))]
    for message in ("responses cut off: hardly a response ended by itself", "no group with a signal"):
        assert f"`{message}`" in PAGE and any(line.startswith(message) for line in advice)
