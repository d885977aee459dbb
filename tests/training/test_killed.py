"""SIGKILL at every file-system event: each run resumes to the same bits, none is stuck, nothing is left behind.

`make test` kills at a sample of the events; `pytest tests/training/test_killed.py -m slow -s` at all of them.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
import yaml

from prefix_rft.common.files import write_json
from tests.helpers import killed
from tests.helpers.small import RUN, make_world

RUNS = {
    "prefix_rft": {"method": "prefix_rft", "demos": "strong"},
    "rft": {"prompts": {"half": "reinforcement"}},
    "sft": {"method": "sft", "demos": "strong"},
    # pairs of rollouts often fail altogether: the buffer and its AdamW are in use
    "relift": {
        "method": "relift",
        "demos": "strong",
        "relift": {"batch": 3},
        "rollout": {"group_size": 2, "max_response": 60},
    },
    "evaluate": None,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    make_world(folder)
    write_json(folder / "base/base.json", {})
    sampling = {"samples": 2, "save_rows": 4, "max_response": 20}
    (folder / "evaluation.yaml").write_text(yaml.safe_dump(sampling | {"splits": ["test"], "temperatures": [0.6]}))
    for name, values in RUNS.items():
        if values is not None:
            (folder / f"{name}.yaml").write_text(
                yaml.safe_dump(RUN | values | {"steps": 5, "checkpoint": {"every": 1}})
            )
    return folder


def command(world, name, folder):
    if RUNS[name] is None:
        line = ["evaluate", "--config", world / "evaluation.yaml", "--preset", "p", "--run", "base", "--seed", 0]
        return [*line, "--model", world / "base", "--data", world / "data", "--out", folder / "out"]
    line = [
        "train",
        "--config",
        world / f"{name}.yaml",
        "--preset",
        "p",
        "--run",
        name,
        "--seed",
        0,
        "--data",
        world / "data",
    ]
    return [*line, "--init", world / "base", "--checkpoints", folder / "ck", "--out", folder / "out"]


@pytest.fixture(scope="module")
def whole(world):
    """{kind: (number of events, files)} of commands that nothing has killed."""
    found = {}

    def run(name):
        if name not in found:
            folder = world / f"whole-{name}/run"
            folder.mkdir(parents=True)
            code, events, text = killed.run(command(world, name, folder), folder)
            assert code == 0, text
            found[name] = events, killed.files(folder)
        return found[name]

    return run


def kill_and_resume(world, whole, name, number, fresh=False):
    """How a run ends that is killed at event `number` and started again, as (word of `ENDS`, what is wrong or None)."""
    _, expected = whole(name)
    folder = world / f"{name}-{number}/run"
    folder.mkdir(parents=True)
    code, _, text = killed.run(command(world, name, folder), folder, number, fresh)
    if code != -9:
        return "left", f"was not killed: exit code {code}: {text[-300:]}"
    code, _, text = killed.run(command(world, name, folder), folder, fresh=fresh)
    if code != 0:
        clear = code == 2 and "Traceback" not in text and "\nerror: " in text
        return "clear" if clear else "left", f"exit code {code}: {text[-300:]}"
    found = killed.files(folder)
    if differs := sorted(found.keys() ^ expected.keys()):
        return "left", f"files left or missing: {differs}"
    if differs := [n for n in found if found[n] != expected[n]]:
        return "left", f"other bits: {differs}"
    shutil.rmtree(folder.parent)
    return "identical", None


ENDS = ("identical", "clear", "left")  # the same files; one line of error; anything else


def sample_of(name, events):
    return random.Random(name).sample(range(1, events), 3) + [events - 1]  # the last clean-up too


@pytest.mark.parametrize("name", RUNS)
def test_killed_at_some_events(world, whole, name):
    events, _ = whole(name)
    found = {n: kill_and_resume(world, whole, name, n) for n in sample_of(name, events)}
    assert {n: why for n, (_, why) in found.items() if why} == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_killed_in_new_processes(world, whole, name):
    """The fork server changes nothing: the same events, the same files."""
    events, expected = whole(name)
    folder = world / f"fresh-{name}/run"
    folder.mkdir(parents=True)
    code, counted, text = killed.run(command(world, name, folder), folder, fresh=True)
    assert (code, counted) == (0, events), text
    assert killed.files(folder) == expected
    found = {n: kill_and_resume(world, whole, name, n, fresh=True) for n in sample_of(name, events)}
    assert {n: why for n, (_, why) in found.items() if why} == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_killed_at_every_event(world, whole, name):
    events, _ = whole(name)
    ends, wrong, started = Counter(), {}, time.monotonic()
    for n in range(1, events + 1):
        end, why = kill_and_resume(world, whole, name, n)
        ends[end] += 1
        if why:
            wrong[n] = why
            print(f"\n{name}: event {n} of {events}: {end}: {why}", flush=True)
    counted = " | ".join(str(ends[end]) for end in ENDS)
    print(
        f"\nkind | events | {' | '.join(ENDS)} | seconds\n{name} | {events} | {counted} | {time.monotonic() - started:.0f}"
    )
    assert wrong == {}


# -------------------------------------------------------------------------------------------------- damaged checkpoints


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def manifest(change):
    def damage(newest):
        path = newest / "manifest.json"
        path.write_text(json.dumps(change(json.loads(path.read_text()))))

    return damage


DAMAGES = {
    "state cut off": lambda c: os.truncate(c / "state.pt", 100),
    "state empty": lambda c: os.truncate(c / "state.pt", 0),
    "a bit of the state": lambda c: flip(c / "state.pt"),
    "no state": lambda c: (c / "state.pt").unlink(),
    "state a folder": lambda c: ((c / "state.pt").unlink(), (c / "state.pt").mkdir()),
    "no manifest": lambda c: (c / "manifest.json").unlink(),
    "manifest not UTF-8": lambda c: (c / "manifest.json").write_bytes(b"\xff\xfe"),
    "manifest a list": manifest(lambda m: []),
    "manifest null": manifest(lambda m: None),
    "manifest nested": lambda c: (c / "manifest.json").write_text("[" * 100_000),
    "no identity": manifest(lambda m: {k: v for k, v in m.items() if k != "identity"}),
    "no step": manifest(lambda m: {k: v for k, v in m.items() if k != "step"}),
    "another step": manifest(lambda m: m | {"step": m["step"] + 6}),
    "step a text": manifest(lambda m: m | {"step": "3"}),
    "no checksum": manifest(lambda m: {k: v for k, v in m.items() if k != "manifest_sha256"}),
    "renamed": lambda c: c.rename(c.with_name("step-00000009")),
    "metrics torn": lambda c: os.truncate(c.parent / "metrics.jsonl", 50),
    "metrics changed": lambda c: flip(c.parent / "metrics.jsonl"),
    "metrics gone": lambda c: (c.parent / "metrics.jsonl").unlink(),
    "metrics zeros": lambda c: (c.parent / "metrics.jsonl").write_bytes(bytes(500)),
    "timing half a row": lambda c: os.truncate(c.parent / "timing.jsonl", 30),
    "timing gone": lambda c: (c.parent / "timing.jsonl").unlink(),
    "a stray folder": lambda c: (c.parent / "step-abc").mkdir(),
    "a stray file": lambda c: (c.parent / "step-99999999").write_text(""),
    "everything": lambda c: [(p / "state.pt").unlink() for p in c.parent.glob("step-0*")],
}


@pytest.fixture(scope="module")
def stopped(world):
    """A run that was killed after its second checkpoint."""
    folder = world / "stopped/run"
    folder.mkdir(parents=True)
    assert killed.run(command(world, "prefix_rft", folder), folder, 60)[0] == -9
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
def test_any_damage_resumes_with_the_same_bits(world, whole, stopped, damage):
    _, expected = whole("prefix_rft")
    folder = world / f"damage-{damage}/run"
    shutil.copytree(stopped, folder)
    newest = sorted((folder / "ck").glob("step-*"))[-1]
    assert newest.name != "step-00000001"  # there is one before it
    DAMAGES[damage](newest)
    code, _, text = killed.run(command(world, "prefix_rft", folder), folder)
    assert code == 0 and "Traceback" not in text, text
    assert killed.files(folder) == expected


# ---------------------------------------------------------------------------------------------------------- full disks

LIMITED = """
import resource, sys
from prefix_rft.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.exit(main(sys.argv[2:]))
"""


def says(done, *parts):
    """Whether a command ended with one line of error that has these parts, and no traceback."""
    errors = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
    assert done.returncode == 2 and "Traceback" not in done.stderr and len(errors) == 1, done.stderr
    assert all(p in errors[0] for p in parts), errors[0]


@pytest.mark.parametrize(
    ("name", "limit", "what"),  # what is too large: a checkpoint (by torch), a model (by Rust), a table (by arrow)
    [("sft", 60_000, "step-00000001"), ("sft", 300, "metrics.jsonl"), ("evaluate", 1_000, "rows-00000000.parquet")],
)
def test_a_file_that_does_not_fit_is_one_line_and_loses_nothing(world, whole, root, name, limit, what):
    _, expected = whole(name)
    folder = world / f"full-{name}-{limit}/run"
    folder.mkdir(parents=True)
    line = [*map(str, command(world, name, folder))]
    done = subprocess.run([sys.executable, "-c", LIMITED, str(limit), *line], cwd=root, capture_output=True, text=True)
    says(done, what, "cannot be written: File too large", "MiB are free", "start again")
    code, _, text = killed.run(line, folder)
    assert code == 0 and killed.files(folder) == expected, text


@pytest.fixture
def disk(tmp_path):
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("may not mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder, spare):
    """A file that leaves `spare` bytes free."""
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(max(shutil.disk_usage(folder).free - spare, 0)))
    return ballast


@pytest.mark.parametrize("spare", [0, 20_000, 60_000])
def test_a_disk_that_fills_up_in_a_training(world, whole, root, disk, spare):
    """The disk is full while the run goes on, as by another program; space is freed and the run started again."""
    _, expected = whole("prefix_rft")
    folder = disk / "run"
    line = [sys.executable, "-m", "prefix_rft", *map(str, command(world, "prefix_rft", folder))]
    process = subprocess.Popen(line, cwd=root, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 300
    while not (folder / "ck/step-00000002").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGSTOP)
    ballast = fill(disk, spare)
    process.send_signal(signal.SIGCONT)
    _, stderr = process.communicate(timeout=300)
    says(
        subprocess.CompletedProcess(line, process.returncode, "", stderr),
        "cannot be written: No space left",
        "free some",
    )
    ballast.unlink()
    code, _, text = killed.run(command(world, "prefix_rft", folder), folder)
    assert code == 0 and killed.files(folder) == expected, text


def test_a_disk_that_fills_up_in_an_evaluation(world, whole, root, disk):
    _, expected = whole("evaluate")
    folder = disk / "run"
    ballast = fill(disk, 8_192)
    line = [sys.executable, "-m", "prefix_rft", *map(str, command(world, "evaluate", folder))]
    says(
        subprocess.run(line, cwd=root, capture_output=True, text=True),
        ".parquet: cannot be written: No space left",
        "MiB are needed",
    )
    ballast.unlink()
    code, _, text = killed.run(command(world, "evaluate", folder), folder)
    assert code == 0 and killed.files(folder) == expected, text
