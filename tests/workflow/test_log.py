"""The log of a run: what it says of time left and scores, by hand and from a real graph."""

import json
import re
import sys

import pytest

from tests.conftest import ROOT, run

sys.path.insert(0, str(ROOT / "workflow/logger"))
import snakemake_logger_plugin_short as short

LOG = "env PYTHONPATH=workflow/logger snakemake --logger short --cores 1"


def job(jobid, rule, **wildcards):
    return {"jobid": jobid, "rule_name": rule, "wildcards": wildcards, "output": []}


def test_time_left_by_hand():
    p = short.Progress({"train": 5, "evaluate": 1}, 0.0)
    assert p.time_left(5.0) is None  # nothing has finished
    q = short.Progress({"data": 1, "train": 4}, 0.0)
    q.start(job(1, "data"), 0.0)
    q.finish(1, 2.0)
    assert q.time_left(2.0) is None  # two seconds of data say nothing of trainings
    p.start(job(1, "train"), 0.0)
    p.start(job(2, "train"), 0.0)
    assert p.finish(1, 60.0)[1] == 60.0
    p.finish(2, 60.0)
    # three of 60 s, an evaluation that counts as long: 240 s of work, two at once
    assert p.time_left(60.0) == pytest.approx(120.0)
    p.start(job(3, "train"), 60.0)
    p.start(job(4, "evaluate"), 60.0)
    p.finish(4, 70.0)
    # left: a training of which 10 s are done (50 s) and two whole ones (60 s each); still two at once
    assert p.time_left(70.0) == pytest.approx((50 + 60 + 60) / 2)


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.4, "4 s"), (65, "1 min 05 s"), (7380, "2 h 03 min"), (59.6, "1 min 00 s")]
)
def test_duration(seconds, text):
    assert short.duration(seconds) == text


def test_title_and_scores(tmp_path):
    assert short.title(job(1, "train", run="luffy", seed="1")) == "train luffy, seed 1"
    rows = [
        {"split": s, "level": level, "temperature": t, "metric": m, "value": v}
        for t, v in ((1.0, 0.2), (0.6, 0.514))
        for s in ("test", "ood")
        for level in ("all", "5")
        for m in ("avg@8", "pass@8")
    ]
    file = tmp_path / "scores.json"
    file.write_text(json.dumps({"results": rows}))
    assert short.result(["model", str(file)]) == "test 51 %, ood 51 % (avg@8, T = 0.6)"
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("".join(json.dumps({"reward_plain": i / 100, "ce_loss": 0.0}) + "\n" for i in range(20)))
    assert short.result([str(metrics)]) == "reward 0.14"  # mean of 0.10 to 0.19
    metrics.write_text(json.dumps({"reward_plain": None, "ce_loss": 0.25}) + "\n")
    assert short.result([str(metrics)]) == "loss 0.25"
    file.write_text("{")
    assert short.result([str(file)]) == ""  # a broken file is the business of the next rule, not of the log


def test_log_of_a_run(finished_copy):
    scores = next(finished_copy.glob("results/*/eval/rft/seed0/scores.json"))
    target = scores.relative_to(finished_copy)
    scores.unlink()
    text = run(f"{LOG} {target}", finished_copy)
    done = re.findall(r"^ +(\d+) of (\d+)  (.*)$", text, re.M)
    assert [(n, total) for n, total, _ in done] == [("1", "1")]
    evaluated = done[0][2]
    assert evaluated.startswith("evaluate rft, seed 0 ") and re.search(
        r"test \d+ %, ood \d+ % \(avg@\d, T = 0\.6\)", evaluated
    )
    assert re.search(r"^What running jobs say: tail -f results/\S+/logs/\*\.log$", text, re.M)
    assert not re.search(r"jobid|resources:|SNAKEMAKE|wildcards", text)
    assert "Nothing to be done" in run(f"{LOG} {target}", finished_copy)


def test_a_failed_job_shows_its_log(finished_copy):
    scores = next(finished_copy.glob("results/*/eval/rft/seed0/scores.json"))
    model = scores.parents[3] / "runs/rft/seed0/model/model.safetensors"
    scores.unlink()
    model.write_bytes(b"broken" + model.read_bytes()[6:])
    text = run(f"{LOG} --show-failed-logs {scores.relative_to(finished_copy)}", finished_copy, fails=True)
    assert "Error in rule evaluate:" in text and "model.safetensors" in text


@pytest.mark.parametrize("preset", ["tiny", "paper-7b"])
def test_plan_is_short(root, preset):
    lines = run(f"{LOG} --dry-run --config preset={preset}", root).splitlines()
    assert len(lines) <= 40
    assert any(
        re.match(r"  train +15  run luffy, prefix_rft, rft, sft, sft_then_rft; seed 0, 1, 2$", line) for line in lines
    )
