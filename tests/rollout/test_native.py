"""The native engine against the model itself."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from prefix_rft.common.errors import UserError
from prefix_rft.model.kernels import decoding as kernels_cpu
from prefix_rft.model.kernels import decoding_torch as kernels_torch
from prefix_rft.model.kernels.compiled import exp
from prefix_rft.rollout import Sampling, make_engine, native, vllm
from prefix_rft.rollout.drawing import draw, nucleus
from tests.helpers.small import small_model, small_qwen, small_qwen3

MODELS = {
    "llama": small_model,
    "qwen2 (biases, tied embeddings, one kv head)": small_qwen,
    "qwen3 (norms of q and k)": small_qwen3,
}


def reference(model, prompt, ids, temperature=1.0):
    """[ids, vocabulary] log-probs."""
    logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1] / temperature
    return torch.log_softmax(logits, -1).detach().numpy()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_log_probs_are_the_models(name, temperature):
    """Rows of very different lengths, some sharing a prompt, some ending early: each log-prob is the model's own."""
    model, rng = MODELS[name](), np.random.default_rng(0)
    prompts = [rng.integers(2, 32, n).tolist() for n in (1, 2, 3, 9, 30, 60)]
    prompts += [prompts[3]] * 3
    limits = [40, 1, 60, 30, 20, 10, 5, 30, 30]
    out = make_engine("native", model, [1, 7]).generate(prompts, limits, Sampling(temperature, 3))
    assert len({tuple(c.ids) for c in (out[3], out[7], out[8])}) == 3  # one prompt, three samples
    for p, limit, c in zip(prompts, limits, out, strict=True):
        table = reference(model, p, c.ids, temperature)
        np.testing.assert_allclose(c.logprobs, table[range(len(c.ids)), c.ids], atol=1e-4)
        np.testing.assert_allclose(c.entropies, -(np.exp(table) * table).sum(-1), atol=1e-4)
        assert c.finished == (c.ids[-1] in (1, 7)) and not set(c.ids[:-1]) & {1, 7}
        assert len(c.ids) == limit or c.finished


def test_samples_do_not_depend_on_the_batch():
    model, rng = small_model(), np.random.default_rng(1)
    prompts = [rng.integers(2, 32, rng.integers(1, 20)).tolist() for _ in range(40)]
    whole = make_engine("native", model, [1], max_rows=64).generate(prompts, [30] * 40, Sampling(1.0, 5))
    for rows in (1, 7):
        parts = make_engine("native", model, [1], max_rows=rows).generate(prompts, [30] * 40, Sampling(1.0, 5))
        assert [c.ids for c in parts] == [c.ids for c in whole]
    other = make_engine("native", model, [1]).generate(prompts, [30] * 40, Sampling(1.0, 6))
    assert [c.ids for c in other] != [c.ids for c in whole]


def test_same_seed_gives_the_same_bits_wherever_memory_lies():
    model, rng = small_model(hidden_size=32, intermediate_size=64), np.random.default_rng(0)
    prompts = [rng.integers(2, 32, rng.integers(5, 30)).tolist() for _ in range(16)]
    seen = set()
    for _ in range(20):
        pushed_around = [np.empty(int(n), np.float32) for n in rng.integers(1, 5000, 100)]
        out = make_engine("native", model, [1]).generate(prompts, [40] * 16, Sampling(1.0, 3))
        seen.add(b"".join(c.logprobs.tobytes() for c in out))
        del pushed_around
    assert len(seen) == 1


def test_samples_follow_the_distribution():
    """4,000 first tokens after one prompt against the model's probabilities (chi-squared)."""
    model, prompt = small_model(), [3, 4, 5]
    out = make_engine("native", model, [1], max_rows=4000).generate([prompt] * 4000, [1] * 4000, Sampling(1.0, 11))
    p = torch.softmax(model(torch.tensor([prompt])).logits[0, -1].double(), -1).detach().numpy()
    counts = np.bincount([c.ids[0] for c in out], minlength=32)
    common = p * 4000 >= 5
    observed = np.append(counts[common], counts[~common].sum())
    expected = np.append(p[common], p[~common].sum()) * 4000
    assert chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3


def test_nucleus_by_hand():
    """Probabilities 0.4, 0.1, 0.3, 0.2: which tokens stay, and that they are drawn with their own probabilities."""
    logits = torch.tensor([[0.4, 0.1, 0.3, 0.2]]).log()
    for top_p, kept in (
        (1e-6, [0]),
        (0.4, [0]),
        (0.41, [0, 2]),
        (0.7, [0, 2]),
        (0.71, [0, 2, 3]),
        (0.95, [0, 1, 2, 3]),
    ):
        p = torch.softmax(nucleus(logits, top_p), -1)[0]
        expected = torch.zeros(4)
        expected[kept] = logits.exp()[0, kept] / logits.exp()[0, kept].sum()
        assert torch.allclose(p, expected, atol=1e-6) and torch.equal(p > 0, expected > 0), top_p
    equal = torch.zeros(1, 4)  # of equally likely tokens, the first ones
    assert (torch.softmax(nucleus(equal, 0.5), -1) > 0).tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("kernels", [kernels_torch, kernels_cpu], ids=["torch", "compiled"])
def test_tokens_outside_the_nucleus_are_never_drawn(kernels):
    """0.4, 0.1, 0.3, 0.2 at top-p 0.7: 4/7 and 3/7, with log-probs and entropy of these two, for the least and the greatest random number
    too."""
    uniform = torch.cat([torch.tensor([2.0**-24, 1.0]), torch.linspace(2.0**-24, 1, 7001)])
    logits = torch.tensor([0.4, 0.1, 0.3, 0.2]).log().expand(len(uniform), -1).contiguous()
    tokens, logp, entropy = draw(logits, 1.0, uniform, kernels, 0.7)
    assert tokens[:2].tolist() == [0, 2]
    assert torch.bincount(tokens[2:], minlength=4).tolist() == pytest.approx([4000, 0, 3000, 0], abs=2)
    p = torch.tensor([4 / 7, 0, 3 / 7, 0])
    assert torch.allclose(logp, p[tokens].log(), atol=1e-5)
    assert torch.allclose(entropy, -(p[p > 0] * p[p > 0].log()).sum(), atol=1e-5)
    hot, _, _ = draw(logits, 2.0, uniform, kernels, 0.6)  # first the temperature: 0.325, 0.163, 0.282, 0.230
    assert torch.bincount(hot[2:], minlength=4).tolist() == pytest.approx([7001 * 0.536, 0, 7001 * 0.464, 0], abs=5)


def test_responses_stay_in_the_nucleus_of_the_model():
    """Each token of a response is in the nucleus at its place, computed from the model's own log-probs, and has its log-prob there."""
    model, rng = small_model(), np.random.default_rng(0)
    prompts = [rng.integers(2, 32, n).tolist() for n in (1, 4, 9, 30)] * 4
    out = make_engine("native", model, [1]).generate(prompts, [30] * 16, Sampling(0.6, 3, top_p=0.8))
    left = 0
    for prompt, c in zip(prompts, out, strict=True):
        p = np.exp(reference(model, prompt, c.ids, 0.6))
        for at, token in enumerate(c.ids):
            more = p[at][p[at] > p[at, token]].sum()
            inside = p[at][[p[at][p[at] > q].sum() < 0.8 for q in p[at]]].sum()
            assert more < 0.8 and c.logprobs[at] == pytest.approx(np.log(p[at, token] / inside), abs=1e-4)
            left += inside < 0.99
    assert left > 50  # the nucleus was smaller than all
    whole = make_engine("native", model, [1]).generate(prompts, [30] * 16, Sampling(0.6, 3))
    assert [c.ids for c in whole] != [c.ids for c in out]
    assert [c.ids for c in whole] == [
        c.ids for c in make_engine("native", model, [1]).generate(prompts, [30] * 16, Sampling(0.6, 3, top_p=1.0))
    ]


def test_greedy_is_the_argmax():
    model, prompt = small_model(), [3, 9, 5]
    ids = make_engine("native", model, [1]).generate([prompt], [12], Sampling(0.0, 0))[0].ids
    for k in range(len(ids)):
        assert ids[k] == int(model(torch.tensor([prompt + ids[:k]])).logits[0, -1].argmax())


def test_sync_takes_over_new_weights():
    model, prompt = small_model(), [3, 4, 5]
    engine = make_engine("native", model, [1])
    with torch.no_grad():
        for p in model.parameters():
            p += 0.05 * torch.randn_like(p)
    stale = engine.generate([prompt], [20], Sampling(1.0, 0))[0]
    assert np.abs(stale.logprobs - reference(model, prompt, stale.ids)[range(20), stale.ids]).max() > 1e-3
    engine.sync(model)
    fresh = engine.generate([prompt], [20], Sampling(1.0, 0))[0]
    np.testing.assert_allclose(fresh.logprobs, reference(model, prompt, fresh.ids)[range(20), fresh.ids], atol=1e-4)


def test_bad_input():
    with pytest.raises(UserError, match="window of 128"):
        make_engine("native", small_model(), [1]).generate([[2] * 100], [29], Sampling(1.0, 0))
    with pytest.raises(UserError, match="native"):
        make_engine("nativ", small_model(), [1])
    with pytest.raises(UserError, match="cannot run this model: it has a bias of o_proj"):
        native.NativeEngine(small_model(attention_bias=True), [1])


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("bfloat16", 1e-3)])
def test_an_engine_on_old_weights_is_caught_however_small_the_steps(dtype, bound):
    """vLLM's check with two stub engines, the second of which keeps its first weights: steps of a 20th of the bound add up, and none of the
    first engine's, whose answers move along, is refused. (With the real vLLM: test_vllm.py.)"""
    model, caught = small_model(), None
    probe = np.random.default_rng(0).integers(0, 32, 64).tolist()

    def logprobs():
        return vllm.probe_logprobs(model, probe, "float32")

    first, direction = logprobs(), torch.randn(model.lm_head.weight.shape, generator=torch.Generator().manual_seed(0))
    engine = object.__new__(vllm.VllmEngine)
    engine.dtype, engine.probe, engine.processes, engine.seen, engine.syncs = dtype, probe, [None, None], None, 0
    engine._ask = lambda what, arguments: [logprobs(), first]
    with torch.no_grad():
        model.lm_head.weight += 1e-3 * direction
        size = 1e-3 * bound / 20 / np.abs(logprobs() - first).mean()  # of a step
        model.lm_head.weight -= 1e-3 * direction
        first = logprobs()
        steps = 0
        while caught is None and steps < 60:
            engine._check(logprobs())
            engine.syncs = steps = steps + 1
            model.lm_head.weight += size * direction
            try:
                engine._check(logprobs())
            except UserError as e:
                caught = str(e)
    assert caught and "engine 1 gives the probe text the same log-probs as before" in caught
    assert 15 <= steps <= 30  # 20 of them are the bound


def test_an_engine_gets_nothing_of_torchrun_and_its_model_one_name(tmp_path, monkeypatch):
    """vLLM's cache of compiled code hashes the model's name: the same configuration has the same in every folder, another one another."""
    names = []
    for folder, changes in (("a", {}), ("b", {}), ("c", {"hidden_size": 24})):
        (tmp_path / folder).mkdir()
        names.append(vllm.save_config(small_model(**changes).config, tmp_path / folder))
        assert (tmp_path / folder / names[-1] / "config.json").exists()
    assert names[0] == names[1] != names[2]
    told = "RANK LOCAL_RANK WORLD_SIZE GROUP_RANK GROUP_WORLD_SIZE ROLE_RANK ROLE_NAME MASTER_PORT TORCHELASTIC_USE_AGENT_STORE"
    for key in told.split():
        monkeypatch.setenv(key, "1")
    (tmp_path / "show").write_text("#!/bin/sh\nenv; pwd\n")
    (tmp_path / "show").chmod(0o755)
    monkeypatch.setattr(vllm.sys, "executable", str(tmp_path / "show"))
    with open(tmp_path / "weights", "wb") as weights:
        process = vllm.Process(0, weights.fileno(), tmp_path, None)
        process.process.wait(60)
    seen = process.log.read_text().splitlines()
    assert seen[-1] == str(tmp_path) and any(s.startswith("VLLM_NO_USAGE_STATS=") for s in seen)
    assert not {s.partition("=")[0] for s in seen} & set(told.split())


@pytest.mark.parametrize("name", MODELS)
def test_compiled_kernels_are_the_plain_ones(monkeypatch, name):
    """The numba kernels and their oracle in PyTorch decode the same tokens with the same log-probs."""
    model, rng = MODELS[name](), np.random.default_rng(2)
    prompts, limits = [rng.integers(2, 32, n).tolist() for n in (1, 5, 40, 40, 12)], [50, 40, 30, 60, 70]
    engine = make_engine("native", model, [1])
    assert engine.kernels is kernels_cpu
    fast = engine.generate(prompts, limits, Sampling(1.0, 9))
    monkeypatch.setattr(native, "_kernels", lambda like, dim: kernels_torch)
    plain = make_engine("native", model, [1]).generate(prompts, limits, Sampling(1.0, 9))
    for a, b in zip(fast, plain, strict=True):
        assert a.ids == b.ids
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-4)
        np.testing.assert_allclose(a.entropies, b.entropies, atol=1e-4)


def test_exponential_of_the_compiled_kernels():
    x = np.linspace(-87, 87, 20_001, dtype=np.float32)
    np.testing.assert_allclose([exp(v) for v in x], np.exp(x.astype(np.float64)), rtol=2e-7)


@pytest.mark.parametrize("kernels", [kernels_cpu, kernels_torch])
@pytest.mark.parametrize(
    "heads, kv_heads, dim", [(4, 4, 8), (4, 2, 24), (6, 2, 16), (8, 1, 32), (2, 1, 64), (2, 2, 128)]
)
def test_attention_of_decoding(kernels, heads, kv_heads, dim):
    """18 steps of rows that continue prompts of 0, 3, 16 and 20 tokens, two of them shared, against float64, for every way in which heads
    share keys."""
    rng, lengths, sources, steps = np.random.default_rng(dim), [0, 3, 16, 20], [0, 1, 1, 2, 3, 3], 18
    rows, room = len(sources), max(lengths) + steps
    angles = rng.standard_normal((room, dim // 2))
    rope = torch.polar(torch.ones(room, dim // 2, dtype=torch.float64), torch.from_numpy(angles)).to(torch.complex64)
    cache = kernels.Cache(1, heads, kv_heads, dim, torch.tensor(sources), lengths, steps, rope, torch.zeros(1))
    prompts = rng.standard_normal((2, 4, kv_heads, 20, dim)).astype(np.float32)
    cache.fill(0, 0, *torch.from_numpy(prompts[:, :2, :, :3]))
    cache.fill(0, 2, *torch.from_numpy(prompts[:, 2:]))
    keys, values = (
        [part[s, :, : lengths[s]] for s in sources] for part in prompts
    )  # [kv_heads, so far, D] of each row
    live = np.arange(rows)
    for step in range(steps):
        if step == 9:  # a row of a shared prompt ends
            live = np.array([0, 1, 3, 4, 5])
            cache.keep(torch.from_numpy(live), room)
        at = np.array([lengths[sources[r]] + step for r in live])
        qkv = rng.standard_normal((len(live), heads + 2 * kv_heads, dim)).astype(np.float32)
        cache.begin(torch.from_numpy(at))
        out = cache.attend(0, torch.from_numpy(qkv)).view(len(live), heads, dim).numpy()
        for i, r in enumerate(live):
            pairs = qkv[i, : heads + kv_heads].astype(np.float64).reshape(-1, dim // 2, 2)
            turned = (pairs[..., 0] + 1j * pairs[..., 1]) * np.exp(1j * angles[at[i]])
            turned = np.stack([turned.real, turned.imag], -1).reshape(-1, dim)
            keys[r] = np.concatenate([keys[r], turned[heads:, None]], 1)
            values[r] = np.concatenate([values[r], qkv[i, heads + kv_heads :, None]], 1)
            for h in range(heads):
                scores = keys[r][h // (heads // kv_heads)] @ turned[h]
                p = np.exp(scores - scores.max())
                expected = p / p.sum() @ values[r][h // (heads // kv_heads)]
                np.testing.assert_allclose(out[i, h], expected, rtol=1e-4, atol=1e-5)
