"""Rollouts by vLLM itself: log-probs, weights after a sync, engines that die or hang, training and evaluation. `make test-vllm`"""

import os
import signal
import subprocess
import time

import numpy as np
import psutil
import pytest
import torch
import yaml

from prefix_rft.__main__ import main
from prefix_rft.common.errors import UserError
from prefix_rft.common.files import read_json, read_jsonl, read_parquet, sha256, write_json
from prefix_rft.config.reading import config_hash, load
from prefix_rft.config.run import Vllm
from prefix_rft.evaluation.evaluate import Evaluation
from prefix_rft.rollout import Sampling, make_engine, vllm
from scripts.local_hub_samples import jsonl, tiny_model
from tests.conftest import ROOT
from tests.helpers.small import RUN, make_world, small_model, small_qwen
from tests.training.test_learner_deepspeed import command as on_ranks
from tests.training.test_learner_deepspeed import finish
from tests.training.test_train import command

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]
HEADS = dict(num_attention_heads=2, num_key_value_heads=1, head_dim=32)  # on a CPU vLLM knows head sizes from 32 up
MODELS = {
    "llama": lambda **changes: small_model(**HEADS, **changes),
    # biases, tied embeddings
    "qwen2": lambda **changes: small_qwen(hidden_size=64, num_attention_heads=2, num_key_value_heads=1, **changes),
}
SMALL = dict(kv_cache_gib=0.05, timeout_minutes=5)


@pytest.fixture(scope="module")
def qwen():
    """A model and its engine. Tests that change the weights sync."""
    model = MODELS["qwen2"](max_position_embeddings=512)
    engine = make_engine("vllm", model, [1, 7], 64, options=Vllm(**SMALL))
    yield model, engine
    engine.close()


def reference(model, prompt, ids, temperature=1.0):
    """[ids] log-probs by the model."""
    with torch.no_grad():
        logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1] / temperature
    return torch.log_softmax(logits, -1)[range(len(ids)), ids].numpy()


def disturb(model, size):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p += size * torch.randn(p.shape, generator=generator)


def check_rollouts(model, engine, temperature):
    """Rows of different lengths, some sharing a prompt, one with nothing to sample; each log-prob is the model's own."""
    rng = np.random.default_rng(0)
    prompts = [rng.integers(2, 32, n).tolist() for n in (1, 2, 3, 9, 30, 60)]
    prompts += [prompts[3]] * 3
    limits = [40, 1, 60, 30, 0, 10, 5, 30, 30]
    before = engine.generated_tokens
    out = engine.generate(prompts, limits, Sampling(temperature, 3))
    gaps = []
    for p, limit, c in zip(prompts, limits, out, strict=True):
        assert len(c.ids) == limit or c.finished
        assert c.finished == bool(c.ids and c.ids[-1] in (1, 7)) and not set(c.ids[:-1]) & {1, 7}
        if c.ids:
            gaps.append(np.abs(c.logprobs - reference(model, p, c.ids, temperature)))
    assert len({tuple(c.ids) for c in (out[3], out[7], out[8])}) == 3  # one prompt, three samples
    assert engine.generated_tokens - before == sum(len(c.ids) for c in out)
    mean = np.concatenate(gaps).mean()
    assert mean < 1e-3
    return out, mean


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probs_are_the_models_at_the_temperature(qwen, temperature, capsys):
    model, engine = qwen
    engine.sync(model)
    out, mean = check_rollouts(model, engine, temperature)
    again, _ = check_rollouts(model, engine, temperature)
    assert [c.ids for c in out] == [c.ids for c in again]  # the same seed
    with capsys.disabled():
        print(f"\nmean |vLLM - transformers| at temperature {temperature}: {mean:.2g}")


def test_responses_stay_in_the_nucleus(qwen):
    """Each token is among the most likely ones that have probability 0.8 together, and has its log-prob among them."""
    model, engine = qwen
    engine.sync(model)
    prompts = [[3, 9, 5], [4], [7, 8]] * 4
    for prompt, c in zip(prompts, engine.generate(prompts, [20] * 12, Sampling(0.6, 3, top_p=0.8)), strict=True):
        logits = model(torch.tensor([prompt + c.ids])).logits[0, len(prompt) - 1 : -1].detach() / 0.6
        for p, token, logp in zip(torch.softmax(logits.double(), -1), c.ids, c.logprobs, strict=True):
            inside = sum(float(q) for q in p if float(p[p > q].sum()) < 0.8)
            assert float(p[p > p[token]].sum()) < 0.8 and logp == pytest.approx(
                np.log(float(p[token]) / inside), abs=2e-2
            )


def test_greedy_is_the_argmax(qwen):
    model, engine = qwen
    engine.sync(model)
    prompt = [3, 9, 5]
    ids = engine.generate([prompt], [12], Sampling(0.0, 0))[0].ids
    for k in range(len(ids)):
        assert ids[k] == int(model(torch.tensor([prompt + ids[:k]])).logits[0, -1].argmax())


def test_new_weights_are_taken_over(qwen):
    """After a sync samples and log-probs are the new model's; keys and values of the old one are forgotten."""
    model, engine = qwen
    prompt = [3, 4, 5] * 100  # two blocks of vLLM's prefix cache, and a bit
    for _ in range(2):
        stale = engine.generate([prompt], [20], Sampling(1.0, 0))[0]
        read = engine.prefilled_tokens
        engine.generate([prompt], [1], Sampling(1.0, 0))
        assert engine.prefilled_tokens - read == 300 - 256  # the blocks were found
        disturb(model, 0.05)
        assert np.abs(stale.logprobs - reference(model, prompt, stale.ids)).max() > 1e-2
        engine.sync(model)
        assert engine.mismatch < 1e-4
        fresh = engine.generate([prompt], [20], Sampling(1.0, 0))[0]
        np.testing.assert_allclose(fresh.logprobs, reference(model, prompt, fresh.ids), atol=1e-3)


@pytest.mark.parametrize(
    "size, words",
    [
        (0.05, "engine 0 gives the probe text other log-probs than the learner: they differ by"),
        (
            1e-5,
            "gives the probe text the same log-probs as before it, while the learner's moved by .* left on old weights",
        ),
    ],
    ids=["large update", "update below the tolerance"],
)
def test_an_engine_on_old_weights_stops_the_run(qwen, monkeypatch, size, words):
    model, engine = qwen
    engine.sync(model)
    disturb(model, size)
    ask = type(engine)._ask
    with monkeypatch.context() as patch:  # the message that hands over the weights is lost
        lost = lambda self, what, arguments, *rest: ask(self, what, [None] if what == "load" else arguments, *rest)  # noqa: E731
        patch.setattr(type(engine), "_ask", lost)
        with pytest.raises(UserError, match=words):
            engine.sync(model)
    engine.sync(model)
    assert engine.mismatch < 1e-4


def test_bad_input(qwen):
    _, engine = qwen
    with pytest.raises(UserError, match="exceed the engine's window of 512"):
        engine.generate([[2] * 500], [13], Sampling(1.0, 0))
    with pytest.raises(UserError, match="must be False without a GPU"):
        make_engine("vllm", small_model(), [1], options=Vllm(sleep=True))


def test_two_engines_share_the_rows():
    """Data parallel: the same samples as one engine gives, for a row's random numbers hang on its place among all rows."""
    model = MODELS["llama"]()
    engine = make_engine("vllm", model, [1, 7], 64, options=Vllm(**SMALL, data_parallel=2))
    try:
        assert len({p.process.pid for p in engine.processes}) == 2
        two, _ = check_rollouts(model, engine, 1.0)
        disturb(model, 0.05)
        engine.sync(model)
        check_rollouts(model, engine, 1.0)
    finally:
        engine.close()
    model = MODELS["llama"]()
    engine = make_engine("vllm", model, [1, 7], 64, options=Vllm(**SMALL))
    try:
        one, _ = check_rollouts(model, engine, 1.0)
    finally:
        engine.close()
    assert [c.ids for c in one] == [c.ids for c in two]


def test_one_engine_over_two_processes():
    """Tensor parallel: each process of the engine takes its own part of the weights from shared memory."""
    model = small_qwen(hidden_size=128, num_attention_heads=4, num_key_value_heads=2)
    engine = make_engine("vllm", model, [1, 7], 64, options=Vllm(**SMALL, tensor_parallel=2))
    try:
        check_rollouts(model, engine, 1.0)
        disturb(model, 0.05)
        engine.sync(model)
        check_rollouts(model, engine, 1.0)
    finally:
        engine.close()


def test_an_engine_that_hangs_ends_within_its_bound(caplog):
    model = MODELS["llama"]()
    engine = make_engine("vllm", model, [1], 64, options=Vllm(**SMALL))
    engine.options = Vllm(**SMALL | {"timeout_minutes": 0.1})
    process = engine.processes[0].process
    os.kill(process.pid, signal.SIGSTOP)
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"engine 0 hangs: no sign of life for 6 s; phase: sampling; start again"):
        engine.generate([[3, 4]], [20], Sampling(1.0, 0))
    assert 5 < time.monotonic() - begun < 20
    assert process.poll() is not None  # it is gone, and so is its folder
    assert "end of the log of engine 0" in caplog.text and not engine.folder.exists()


def test_an_engine_that_does_not_start_says_why(caplog):
    with pytest.raises(UserError, match=r"engine 0 failed: .*; phase: starting the engine"):
        make_engine("vllm", MODELS["llama"](), [1], 64, options=Vllm(**SMALL | {"kv_cache_gib": 1e-6}))


# ----------------------------------------------------------------------------------------------- training, evaluation

VLLM = {"engine": "vllm", "vllm": SMALL, "max_rows": 64}
HYBRID = {"method": "prefix_rft", "demos": "strong", "steps": 6, "rollout": RUN["rollout"] | VLLM}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    make_world(folder, **HEADS)
    return folder


def engine_of(process):
    """The engine's process of a training process, once it is there."""
    for child in psutil.Process(process.pid).children():
        if any("vllm_worker" in part for part in child.cmdline()):
            return child


def test_a_run_whose_engine_is_killed_ends_with_its_phase_and_a_retry_goes_on(world, tmp_path, capsys):
    """Prefix-RFT on rollouts by vLLM, to the end; the same with the engine killed in the middle, started again."""
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(RUN | HYBRID | {"objective": {"importance_cap": 2.0}}))
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    folder.mkdir()
    done = subprocess.run(command(world, config, whole), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    expected = read_jsonl(whole / "out" / "metrics.jsonl")
    assert [r["step"] for r in expected] == list(range(6))
    assert all(r["mismatch"] is not None and r["mismatch"] < 1e-3 for r in expected)
    assert all(r["prefix_token_share"] > 0 and 0.9 < r["importance_mean"] < 1.1 for r in expected if r["grad_norm"] > 0)
    assert any(r["grad_norm"] > 0 for r in expected)
    record = read_json(whole / "out" / "run.json")
    assert record["config"]["rollout"]["engine"] == "vllm" and "vllm" not in record["config"]["rollout"]
    assert any(name.startswith("vllm") for name in record["versions"])
    assert all(r["probe_mismatch"] < 1e-3 for r in read_jsonl(whole / "out" / "timing.jsonl"))

    live, process = (
        folder / "ck" / "metrics.jsonl",
        subprocess.Popen(command(world, config, folder), stderr=subprocess.PIPE, text=True),
    )
    while process.poll() is None and (not live.exists() or live.read_text().count("\n") < 2):
        time.sleep(0.01)
    engine_of(process).kill()
    begun = time.monotonic()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2 and time.monotonic() - begun < 60
    assert "rollout engine vllm: engine 0 died (signal 9); phase: " in stderr
    at = len(list((folder / "ck").glob("step-*")))
    assert at >= 1
    again = subprocess.run(command(world, config, folder), capture_output=True, text=True)
    assert again.returncode == 0, again.stderr[-4000:]
    assert "resumes from step" in again.stderr
    rows = read_jsonl(folder / "out" / "metrics.jsonl")
    assert [r["step"] for r in rows] == list(range(6))
    same = sha256(folder / "out" / "model") == sha256(whole / "out" / "model")
    with capsys.disabled():
        print("\nmismatch by step:", " ".join(f"{r['mismatch']:.2g}" for r in expected))
        print(f"{stderr.strip().splitlines()[-1]}")
        print(f"resumed run has the same bits as the one that was never stopped: {same}")
    for a, b in zip(expected, rows, strict=True):
        assert a["reward"] == pytest.approx(b["reward"], abs=0.2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_ranks_under_zero_3_with_an_engine_each(world, tmp_path, dtype):
    """The paper presets' way to train: weights that lie in shares on the ranks are gathered for each engine and its probe. Random numbers
    of a rollout depend on its place in the batch alone, so that one process with one engine has the same rewards."""
    changes = HYBRID | {"dtype": dtype, "reward_noise": 0.5}
    finish(on_ranks(world, tmp_path, changes, ranks=0, out="one"))
    finish(on_ranks(world, tmp_path, changes, zero=3))
    one, out = (read_jsonl(tmp_path / name / "metrics.jsonl") for name in ("one", "out"))
    assert [r["step"] for r in out] == list(range(6)) and any(r["grad_norm"] > 0 for r in out)
    bound = {"float32": 1e-3, "bfloat16": 0.2}[dtype]
    assert all(r["mismatch"] < bound for r in out)
    assert all(r["probe_mismatch"] < bound for r in read_jsonl(tmp_path / "out" / "timing.jsonl"))
    # the first step is before any difference of rounding
    assert out[0]["reward"] == one[0]["reward"] and out[0]["loss"] == pytest.approx(one[0]["loss"], abs=bound)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A base model and a benchmark of three problems, as the command `benchmark-problems` writes it."""
    root = tmp_path_factory.mktemp("models")
    (root / "base").mkdir()
    for name, data in tiny_model(hidden_size=64, num_attention_heads=2, num_key_value_heads=1).items():
        (root / "base" / name).write_bytes(data)
    write_json(root / "base" / "base.json", {})
    (root / "one.jsonl").write_bytes(jsonl([{"q": f"What is {n} + {n}?", "a": str(2 * n)} for n in range(3)]))
    source = {"name": "a/b", "split": "test", "revision": "main", "path": str(root / "one.jsonl")}
    entry = {"source": source, "question": "q", "answer": "a", "problems": 3, "samples": 4}
    (root / "table.yaml").write_text(yaml.safe_dump({"one": entry}))
    settings = {"table": str(root / "table.yaml"), "names": ["one"], "max_response": 12, "save_rows": 5, "max_rows": 16}
    settings |= {
        n: str(ROOT / f"config/templates/{t}.txt")
        for n, t in (("template", "qwen_math"), ("choice_template", "choice"))
    }
    (root / "benchmarks.yaml").write_text(yaml.safe_dump(settings | {"engine": "vllm", "vllm": SMALL}))
    line = [
        "benchmark-problems",
        "--config",
        root / "benchmarks.yaml",
        "--benchmark",
        "one",
        "--out",
        root / "problems",
    ]
    assert main([str(a) for a in line]) == 0
    return root


def check_scores(folder, samples):
    scores = read_json(folder / "scores.json")
    assert scores["engine"] == "vllm" and scores["engine_version"] == vllm.version()
    rows = read_parquet(folder / "samples.parquet")
    assert len(rows) == samples and all(0 < r["n_tokens"] <= 12 for r in rows)
    assert len({r["response"] for r in rows}) > samples / 2
    return scores


def test_evaluation_by_vllm(world, tmp_path):
    (tmp_path / "e.yaml").write_text(
        yaml.safe_dump({"max_response": 12, "samples": 3, "temperatures": [0.6], "engine": "vllm", "vllm": SMALL})
    )
    write_json(world / "base" / "base.json", {})
    line = ["evaluate", "--config", tmp_path / "e.yaml", "--run", "base", "--preset", "p", "--seed", 1]
    line += ["--data", world / "data", "--model", world / "base", "--out", tmp_path / "out"]
    assert main([str(a) for a in line]) == 0
    scores = check_scores(tmp_path / "out", 3 * 8)
    assert scores["evaluation_hash"] == config_hash(load(Evaluation, tmp_path / "e.yaml"))


def test_a_benchmark_by_vllm(models, tmp_path):
    line = ["evaluate", "--config", models / "benchmarks.yaml", "--benchmark", "one", "--run", "base", "--preset", "p"]
    line += ["--data", models / "problems", "--seed", 1, "--model", models / "base", "--out", tmp_path / "out"]
    assert main([str(a) for a in line]) == 0
    check_scores(tmp_path / "out", 3 * 4)
