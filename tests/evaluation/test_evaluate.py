"""The command `evaluate` on a small random model: files and their sums, determinism, and what it refuses."""

import json
import logging
from types import SimpleNamespace

import pytest
import yaml

from prefix_rft.bases.tokenizer import char_tokenizer
from prefix_rft.common.errors import UserError
from prefix_rft.common.files import read_json, read_parquet, sha256, write_json, write_parquet
from prefix_rft.config.reading import config_hash
from prefix_rft.data.tasks.registers import CHARACTERS, final_state, parse
from prefix_rft.evaluation import evaluate
from prefix_rft.evaluation.sampling import Job, judge
from prefix_rft.evaluation.scores import diagnostics, summarise
from prefix_rft.rollout import sampling_seed
from prefix_rft.runs.load import load_run
from tests.helpers.commands import call


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A data folder with real problems, a base model and a trained run that knows nothing, and their configurations."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    root = tmp_path_factory.mktemp("world")
    data, base, run = root / "data", root / "models" / "base", root / "runs" / "rft" / "seed1"
    for split, prompts in {"test": ["a+1|012", "b*3;c-a|345"], "ood": ["a+b;b+c;c+a|678"]}.items():
        rows = [
            {
                "id": f"{split}{i}",
                "prompt": p,
                "answer": final_state(*parse(p)),
                "level": f"T{p.count(';')}",
                "canonical": p,
            }
            for i, p in enumerate(prompts)
        ]
        write_parquet(data / f"problems.{split}.parquet", rows)
    write_parquet(data / "problems.train.parquet", [dict(rows[0], id="train0")])
    write_json(data / "data.json", {"task": "registers"})
    tokenizer = char_tokenizer(CHARACTERS)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=64,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    for folder in (base, run / "model"):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    write_json(base / "base.json", {})
    rl = {"method": "rft", "batch_prompts": 2, "steps": 1, "optimizer": {"lr": 1e-3}, "rollout": {"max_response": 8}}
    (root / "rft.yaml").write_text(yaml.safe_dump(rl))
    write_json(
        run / "run.json",
        {
            "status": "complete",
            "config_hash": config_hash(load_run(root / "rft.yaml")),
            "model_sha256": sha256(run / "model" / "model.safetensors"),
            "data": {"problems.train.parquet": sha256(data / "problems.train.parquet")},
        },
    )
    return root


def run(world, out, *extra, base=False, **config):
    setup = world / f"{out}.yaml"
    setup.write_text(yaml.safe_dump({"max_response": 12, "samples": 3, **config}))
    what = ["--run", "base", "--model", world / "models" / "base"]
    if not base:
        what = ["--run", "rft", "--model", world / "runs/rft/seed1/model", "--run-config", world / "rft.yaml"]
    args = [
        "--config",
        setup,
        "--preset",
        "tiny",
        "--seed",
        1,
        "--data",
        world / "data",
        "--out",
        world / out,
        *what,
        *extra,
    ]
    call("evaluate", *args)
    return read_json(world / out / "scores.json"), read_parquet(world / out / "samples.parquet")


def test_files_hold_every_response_and_scores_are_their_means(world):
    scores, samples = run(world, "a")
    assert len(samples) == 3 * 3 * 2  # problems x samples x temperatures
    keys = [(s["split"], s["problem_id"], s["temperature"], s["sample"]) for s in samples]
    assert len(set(keys)) == len(keys)
    assert scores["config_hash"] == config_hash(load_run(world / "rft.yaml"))
    assert scores["model_sha256"] == sha256(world / "runs/rft/seed1/model/model.safetensors")
    assert scores["template"]["example"] == "a+1|012>"
    assert {r["metric"] for r in scores["results"]} == {"avg@3", "pass@3"}
    for r in scores["results"]:
        part = [s for s in samples if (s["split"], s["temperature"]) == (r["split"], r["temperature"])]
        part = [s for s in part if r["level"] in ("all", s["level"])]
        assert r["n_problems"] == len({s["problem_id"] for s in part})
        assert r["ci_low"] <= r["value"] <= r["ci_high"]
        if r["metric"] == "avg@3":
            assert r["value"] == sum(s["correct"] for s in part) / len(part)


def test_the_same_seeds_give_the_same_samples_whatever_else_is_evaluated(world):
    _, samples = run(world, "b")
    _, again = run(world, "c", max_rows=2)
    _, alone = run(world, "d", splits=["ood"], temperatures=[0.6])
    _, other = run(world, "e", seed=1)
    assert samples == again
    assert alone == [s for s in samples if (s["split"], s["temperature"]) == ("ood", 0.6)]
    assert [s["response"] for s in samples] != [s["response"] for s in other]


def test_top_p_is_recorded_and_narrows_the_samples(world):
    scores, samples = run(world, "f")
    narrow, fewer = run(world, "g", top_p=1e-6)
    whole, same = run(world, "h", top_p=1.0)
    assert [s["sampling"]["top_p"] for s in (scores, narrow, whole)] == [1.0, 1e-6, 1.0]
    responses = {}
    for s in fewer:
        responses.setdefault((s["split"], s["problem_id"], s["temperature"]), set()).add(s["response"])
    assert all(len(r) == 1 for r in responses.values())  # nothing but the most likely token
    assert same == samples != fewer and narrow["evaluation_hash"] != scores["evaluation_hash"]


def test_sampling_seed_depends_on_everything_that_it_should():
    import itertools

    every = itertools.product((0, 1), (0, 1), ("test", "ood"), (1.0, 0.6))
    seeds = [sampling_seed(*key) for key in every]
    assert len(set(seeds)) == 16 and all(0 <= s < 2**63 for s in seeds)


def test_a_base_model_has_no_config_hash(world):
    scores, _ = run(world, "base_out", base=True)
    assert scores["config_hash"] is None and scores["run"] == "base"


def test_it_warns_when_hardly_any_response_ends(world, caplog):
    with caplog.at_level(logging.WARNING):
        run(world, "f", max_response=1)
    assert "ended with a stop token" in caplog.text


def test_a_run_trained_with_another_value_needs_the_same_set(world):
    with pytest.raises(UserError, match="config_hash"):
        run(world, "g", "--set", "optimizer.lr=2e-3")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"max_response": 60}, "max_response.*window of 64"),
        ({"splits": ["validation"]}, "problems.validation.parquet"),
        ({"splits": []}, "splits"),
        ({"temperatures": [0.0]}, "temperatures"),
        ({"sample": 3}, "did you mean 'samples'"),
    ],
)
def test_bad_configuration_is_one_line(world, change, message):
    with pytest.raises(UserError, match=message) as caught:
        run(world, "h", **change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("config_hash", "other", "train it again"),
        ("status", "running", "did not end"),
        ("model_sha256", "other", "changed after training"),
        ("data", {"problems.train.parquet": "other"}, "other data"),
    ],
)
def test_a_model_that_is_not_that_of_its_run_is_refused(world, key, value, message):
    path = world / "runs/rft/seed1/run.json"
    before = path.read_text()
    try:
        write_json(path, json.loads(before) | {key: value})
        with pytest.raises(UserError, match=message):
            run(world, "i")
    finally:
        path.write_text(before)


def test_a_timed_out_verdict_is_counted_apart():
    completions = [SimpleNamespace(ids=[5, 6, 1], finished=True)] * 4
    verdicts = [SimpleNamespace(correct=c, extracted=None) for c in (True, False, None, None)]
    verifier = SimpleNamespace(score=lambda texts, answers: verdicts)
    job = Job(None, "w", "test", [{"id": "p", "level": "x", "answer": "1"}], [[1]], 4, 1.0, 0)
    rows = judge(job, range(4), completions, char_tokenizer(CHARACTERS), verifier)
    assert [r["timed_out"] for r in rows] == [False, False, True, True] and [r["sample"] for r in rows] == [0, 1, 2, 3]
    assert rows[0]["response"] == CHARACTERS[3:5] and rows[0]["n_tokens"] == 3  # the end mark is no text
    (report,) = diagnostics(rows)
    assert report["timed_out"] == 2
    values = {r["metric"]: r["value"] for r in summarise(rows, ["avg@4", "pass@4"]) if r["level"] == "all"}
    assert values == {"avg@4": 0.5, "pass@4": 1.0}


def test_configuration_of_the_preset_loads(root):
    from prefix_rft.config.reading import load

    for file in ("evaluation", "validation"):
        config = load(evaluate.Evaluation, root / "config" / "tiny" / "setup" / f"{file}.yaml")
        assert config.model_dump()["samples"] == config.samples >= 1
