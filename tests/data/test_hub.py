"""Data sets and models from the hub, against a server on the loopback that speaks its protocol: pins, faults, errors, local files."""

import os
import subprocess
import sys

import pytest

from prefix_rft.common.errors import UserError
from prefix_rft.common.files import sha256
from prefix_rft.data import hub as client
from prefix_rft.data.hub import Source, fetch, fetch_model, read_table
from scripts.local_hub import Fault, LocalHub, environment
from scripts.local_hub_samples import jsonl, parquet, repositories, table
from tests.conftest import ROOT

ROWS = [{"question": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(400)]
DATA = "data/test-00000-of-00001.parquet"


@pytest.fixture(scope="module")
def server():
    with LocalHub() as hub:
        for (kind, name), files in repositories().items():
            hub.add(kind, name, files)
        yield hub


@pytest.fixture
def hub(server, tmp_path, monkeypatch):
    """The server, with a client whose caches are empty; huggingface_hub reads its settings when it is imported, so they are set there."""
    import datasets
    import huggingface_hub.constants as constants
    from huggingface_hub import hf_api, hf_file_system

    for key, value in environment(server, tmp_path / "home").items():
        monkeypatch.setenv(key, value)
    for module in (constants, datasets.config):
        monkeypatch.setattr(module, "HF_ENDPOINT" if module is datasets.config else "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home/hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "home/datasets"))
    monkeypatch.setattr(hf_api, "api", hf_api.HfApi(endpoint=server.url))
    hf_file_system.HfFileSystem.clear_instance_cache()
    monkeypatch.setattr(client, "WAIT", 0.01)
    server.faults.clear()
    server.log.clear()
    return server


def source(name, **changes):
    return Source(**{"name": name, "split": "test", "revision": "main"} | changes)


@pytest.mark.parametrize(
    ("name", "subset", "split", "column", "rows"),
    [
        ("Elliott/Openr1-Math-46k-8192", None, "train", "target", 48),
        ("Elliott/Openr1-Math-48k-Complement", None, "train", "prompt", 13),
        ("AI-MO/aimo-validation-amc", None, "train", "problem", 3),
        ("openai/gsm8k", "main", "test", "question", 4),
        ("HuggingFaceH4/aime_2024", None, "train", "problem", 3),
        ("math-ai/aime25", None, "test", "problem", 3),
        ("allenai/ai2_arc", "ARC-Challenge", "test", "choices", 3),
        ("Idavidrein/gpqa", "gpqa_diamond", "train", "Correct Answer", 3),
        ("TIGER-Lab/MMLU-Pro", None, "test", "options", 3),
    ],
)
def test_the_layouts_of_the_real_data_sets(hub, name, subset, split, column, rows):
    fetched = fetch(source(name, subset=subset, split=split), "table.yaml: x.source")
    assert len(fetched.rows) == rows == fetched.origin["rows"] and not fetched.broken
    assert [n for n, _ in fetched.rows] == list(range(1, rows + 1)) and column in fetched.rows[0][1]
    assert len(fetched.origin["revision"]) == 40 and len(fetched.origin["sha256"][0]) == 64


def test_a_pinned_revision_gives_the_old_rows_and_a_branch_is_recorded(hub, caplog):
    old = hub.add("dataset", "a/pinned", {DATA: parquet(ROWS[:2])})
    new = hub.add("dataset", "a/pinned", {DATA: parquet(ROWS[:5])})
    assert len(fetch(source("a/pinned", revision=old), "x").rows) == 2
    assert "can change" not in caplog.text
    fetched = fetch(source("a/pinned"), "x")
    assert len(fetched.rows) == 5 and fetched.origin["revision"] == new
    assert f"to keep the same data, set revision: {new}" in caplog.text


def test_what_is_there_is_not_downloaded_again(hub):
    hub.add("dataset", "a/cached", {DATA: parquet(ROWS)})
    for _ in range(2):
        assert len(fetch(source("a/cached"), "x").rows) == 400
    assert sum(what == "GET" and path.endswith(".parquet") for what, path in hub.log) == 1


def test_a_connection_that_breaks_off_half_way_is_resumed(hub):
    hub.add("dataset", "a/broken", {DATA: parquet(ROWS)})
    hub.faults[DATA] = Fault("cut", times=2)
    assert len(fetch(source("a/broken"), "x").rows) == 400
    assert hub.faults[DATA].times == 0  # it did break off


def test_a_connection_that_always_breaks_off_is_an_error_and_leaves_no_rows(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda s: None)
    hub.add("dataset", "a/hopeless", {DATA: parquet(ROWS)})
    hub.faults[DATA] = Fault("cut", times=10**6)
    with pytest.raises(
        UserError, match=r"x: a/hopeless, file data/test.*cannot be fetched after 4 attempts.*with x.path"
    ):
        fetch(source("a/hopeless"), "x")


def test_a_file_with_a_wrong_checksum_is_fetched_again_and_never_read(hub):
    hub.add("dataset", "a/damaged", {DATA: parquet(ROWS)})
    hub.faults[DATA] = Fault("wrong", times=1)
    assert len(fetch(source("a/damaged"), "x").rows) == 400 and hub.faults[DATA].times == 0

    hub.add("dataset", "a/rotten", {"test.jsonl": jsonl(ROWS)})  # no LFS file: its git hash counts
    hub.faults["test.jsonl"] = Fault("wrong", times=10**6)
    with pytest.raises(UserError, match="a/rotten: file test.jsonl has the wrong checksum .* after 4 downloads"):
        fetch(source("a/rotten"), "x")


def test_the_configured_checksum_counts(hub):
    hub.add("dataset", "a/sum", {"test.jsonl": jsonl(ROWS)})
    right = fetch(source("a/sum"), "x").origin["sha256"][0]
    assert len(fetch(source("a/sum", sha256=right), "x").rows) == 400
    with pytest.raises(UserError, match=rf"x.sha256 = '{'0' * 64}': the data have {right}"):
        fetch(source("a/sum", sha256="0" * 64), "x")


def test_a_server_that_is_busy_is_asked_again(hub):
    hub.add("dataset", "a/busy", {DATA: parquet(ROWS[:3])})
    hub.faults[DATA] = Fault("status", times=1, status=503)
    assert len(fetch(source("a/busy"), "x").rows) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "nobody/nothing"}, "nobody/nothing .*no such repository"),
        ({"revision": "f" * 40}, "no such revision"),
        ({"name": "allenai/ai2_arc", "subset": "ARC-Hard"}, "x.subset = 'ARC-Hard'"),
        (
            {"name": "allenai/ai2_arc", "subset": "ARC-Easy", "split": "train"},
            "x.split = 'train': allenai/ai2_arc has test",
        ),
    ],
)
def test_errors_name_the_key_and_what_is_there(hub, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        fetch(source(**{"name": "math-ai/aime25"} | changes), "x")
    assert "\n" not in str(caught.value)


def test_a_gated_data_set_says_what_to_do(hub, monkeypatch):
    hub.add("dataset", "a/gated", {DATA: parquet(ROWS[:3])}, gated=True)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(UserError, match="gated; accept its conditions .* HF_TOKEN, or give a local copy with x.path"):
        fetch(source("a/gated"), "x")


def test_offline_the_command_ends_in_one_line(tmp_path):
    """In its own process, as a user meets it; nothing listens at that address."""
    env = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path)}
    code = (
        "from prefix_rft.data import hub; hub.WAIT = 0.01\n"
        "from prefix_rft.data.hub import Source, fetch\n"
        "from prefix_rft.common.errors import UserError\n"
        "try: fetch(Source(name='a/b', split='test', revision='main'), 'table.yaml: aime24.source')\n"
        "except UserError as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, text=True, capture_output=True, timeout=120)
    assert done.stdout.startswith(
        "table.yaml: aime24.source: a/b (revision main): cannot be fetched after 4 attempts"
    ), done
    assert "give a local copy with table.yaml: aime24.source.path" in done.stdout and done.stdout.count("\n") == 1


# ------------------------------------------------------------------------------------------------------- local files


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.parquet", parquet(ROWS[:3])),
        ("x.jsonl", jsonl(ROWS[:3])),
        ("x.csv", table(ROWS[:3])),
        ("x.json", b"[" + b",".join(jsonl(ROWS[:3]).splitlines()) + b"]"),
    ],
)
def test_a_local_path_is_used_instead(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    fetched = fetch(source("a/b", path=str(tmp_path / name), sha256=sha256(tmp_path / name)), "x")
    assert [str(row["answer"]) for _, row in fetched.rows] == ["0", "2", "4"] and fetched.origin["path"]


def test_broken_rows_are_numbered_and_broken_files_refused(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n{"a": \n[1, 2]\n{"a": 4}\n')
    rows, broken = read_table(path)
    assert [n for n, _ in rows] == [1, 4]
    assert broken[0][0] == 2 and "not JSON" in broken[0][1] and broken[1] == (3, "is a list, must be a mapping")
    half = tmp_path / "x.parquet"
    half.write_bytes(parquet(ROWS)[:-20])
    with pytest.raises(UserError, match="x.parquet: not readable as parquet"):
        read_table(half)
    with pytest.raises(UserError, match="x.path = .*: no such file"):
        fetch(source("a/b", path=str(tmp_path / "none.jsonl")), "x")
    with pytest.raises(UserError, match="x.path = .*: is a folder, must be a file"):
        fetch(source("a/b", path=str(tmp_path)), "x")
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(UserError, match="must be a .parquet"):
        read_table(tmp_path / "x.txt")


def test_models_come_as_safetensors_with_their_commit(hub):
    files = {"config.json": b"{}", "model.safetensors": b"weights", "pytorch_model.bin": b"code", "README.md": b""}
    commit = hub.add("model", "a/model", files)
    folder, found = fetch_model("a/model", "main", "x")
    assert found == commit and {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    hub.add("model", "a/pickled", {"config.json": b"{}", "pytorch_model.bin": b"code"})
    with pytest.raises(UserError, match="has no .safetensors file"):
        fetch_model("a/pickled", "main", "x")
