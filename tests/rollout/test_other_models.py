"""Models of other kinds: sampled by transformers' generate where the native engine does not know them, trained on the same log-probs."""

import logging

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from prefix_rft.common.errors import UserError
from prefix_rft.model.forward import make_forward, refuse_other_logits
from prefix_rft.model.forward_cpu import FlatForward
from prefix_rft.model.forward_transformers import TransformersForward
from prefix_rft.model.logprobs import logprobs
from prefix_rft.rollout import Sampling, make_engine
from prefix_rft.rollout.by_transformers import TransformersEngine
from prefix_rft.rollout.native import NativeEngine
from prefix_rft.training.trainer import Trainer
from tests.helpers.small import run_config, small_model
from tests.training.test_step import trainer

SIZES = dict(vocab_size=32, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4)
SIZES |= dict(num_key_value_heads=2, head_dim=8, max_position_embeddings=128, initializer_range=0.3)
WINDOW = dict(sliding_window=5, layer_types=["sliding_attention", "full_attention", "sliding_attention"])
CONFIGS = {
    "llama": lambda: LlamaConfig(**SIZES),
    "qwen2": lambda: Qwen2Config(**SIZES),
    "qwen3": lambda: Qwen3Config(**SIZES),
    "gemma3": lambda: Gemma3TextConfig(**SIZES, **WINDOW),
    "gpt2": lambda: GPT2Config(vocab_size=32, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.3),
    "mistral": lambda: MistralConfig(**SIZES, sliding_window=5),
    "qwen2 with a window": lambda: Qwen2Config(**SIZES, use_sliding_window=True, **WINDOW),
}
NATIVE = ("llama", "qwen2", "qwen3")


def model_of(name, seed=0):
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGS[name](), attn_implementation="sdpa").eval()
    with torch.no_grad():
        for p in model.parameters():
            p += 0.05 * torch.randn_like(p)
    return model


def plain_logprobs(model, prompt, ids, temperature=1.0):
    """[ids, vocabulary]: a call of the model with this one sequence."""
    logits = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1] / temperature
    return torch.log_softmax(logits, -1).detach()


@pytest.mark.parametrize("name", CONFIGS)
def test_sampler_and_learner_compute_the_models_log_probs(name, caplog):
    """Rows of very different lengths, longer than a sliding window, some with a shared prompt: sampler, learner and a plain call agree."""
    model, rng = model_of(name), np.random.default_rng(0)
    prompts = [rng.integers(2, 32, n).tolist() for n in (1, 3, 9, 30, 60)]
    prompts += [prompts[2]] * 2
    limits = [40, 60, 30, 20, 10, 30, 30]
    refuse_other_logits(model, "test")
    with caplog.at_level(logging.WARNING):
        engine = make_engine("native", model, [1, 7])
    assert isinstance(engine, NativeEngine if name in NATIVE else TransformersEngine) and engine.exact
    assert ("transformers' generate, which took 3.5 times as long" in caplog.text) == (name not in NATIVE)
    forward = make_forward(model, "cpu", "float32")
    assert isinstance(forward, FlatForward if name in NATIVE else TransformersForward)
    for temperature in (1.0, 0.6):
        out = engine.generate(prompts, limits, Sampling(temperature, 3))
        assert len({tuple(c.ids) for c in (out[2], out[5], out[6])}) == 3
        responses = [c.ids for c in out]
        learned = torch.empty(sum(map(len, responses)))
        for micro in forward.micro_batches(prompts, responses, 100):
            with torch.no_grad():
                values, _ = logprobs(forward.hidden(micro), model.get_output_embeddings(), micro.targets, temperature)
            learned[micro.tokens] = values
        at = 0
        for p, limit, c in zip(prompts, limits, out, strict=True):
            table = plain_logprobs(model, p, c.ids, temperature)
            expected = table[range(len(c.ids)), c.ids].numpy()
            np.testing.assert_allclose(c.logprobs, expected, atol=1e-4)
            np.testing.assert_allclose(learned[at : at + len(c.ids)], expected, atol=1e-4)
            np.testing.assert_allclose(c.entropies, -(table.exp() * table).sum(-1).numpy(), atol=1e-4)
            assert c.finished == (c.ids[-1] in (1, 7)) and not set(c.ids[:-1]) & {1, 7}
            assert len(c.ids) == limit or c.finished
            at += len(c.ids)


def test_generate_draws_what_the_native_engine_draws():
    """The same random numbers and the same interface: a model that both know gives the same samples, whatever the batch."""
    model, rng = small_model(), np.random.default_rng(1)
    prompts = [rng.integers(2, 32, rng.integers(1, 20)).tolist() for _ in range(20)]
    limits = rng.integers(0, 30, 20).tolist()
    native = NativeEngine(model, [1])
    for temperature, top_p in ((0.0, 1.0), (0.7, 1.0), (1.0, 1.0), (0.7, 0.8)):
        sampling = Sampling(temperature, 5, first=3, top_p=top_p)
        expected = native.generate(prompts, limits, sampling)
        for rows in (3, 64):
            engine = TransformersEngine(model, [1], rows)
            out = engine.generate(prompts, limits, sampling)
            assert [c.ids for c in out] == [c.ids for c in expected]
            assert [c.finished for c in out] == [c.finished for c in expected]
        assert engine.generated_tokens == sum(len(c.ids) for c in out)
        assert engine.prefilled_tokens == sum(len(p) for p, n in zip(prompts, limits, strict=True) if n)


def test_generation_settings_of_the_model_have_no_effect():
    model, prompt = model_of("gpt2"), [3, 4, 5]
    plain = TransformersEngine(model, [1]).generate([prompt], [20], Sampling(1.0, 0))[0]
    model.generation_config.update(
        repetition_penalty=5.0, top_k=1, do_sample=True, temperature=0.1, eos_token_id=plain.ids[0]
    )
    again = TransformersEngine(model, [1]).generate([prompt], [20], Sampling(1.0, 0))[0]
    assert again.ids == plain.ids and model.generation_config.repetition_penalty == 5.0
    with pytest.raises(UserError, match="window of 128"):
        TransformersEngine(model, [1]).generate([[2] * 100], [29], Sampling(1.0, 0))


def test_a_model_that_caps_its_logits_is_refused_by_name():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(Gemma2Config(**SIZES, final_logit_softcapping=2.0)).eval()
    with pytest.raises(
        UserError,
        match=r"run: a model of type 'gemma2': its logits are not the product of hidden states and output head",
    ):
        refuse_other_logits(model, "run")


@pytest.mark.parametrize("name", ["gemma3", "gpt2", "qwen3"])
def test_a_run_trains_such_a_model(name, monkeypatch):
    """Two steps of Prefix-RFT; the weights that are sampled are those that were trained, to the guard's 1e-4."""
    like = trainer(lambda completions, **_: [float(len(c) < 12) for c in completions])
    torch.manual_seed(0)
    config = CONFIGS[name]()
    config.vocab_size, config.eos_token_id = len(like.tokenizer), like.tokenizer.eos_token_id
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
    model.generation_config.eos_token_id = config.eos_token_id
    run = run_config(method="prefix_rft", demos="d", rollout={"group_size": 4, "max_response": 12}, part_norms_every=1)
    own = Trainer(run, 0, like.problems, model, like.tokenizer, like.reward)
    before = own.model.get_input_embeddings().weight.detach().clone()
    rows = [own.step(t)[0] for t in range(2)]
    assert own.sampler_is_old and all(row["mismatch"] < 1e-4 for row in rows)
    assert any(row["grad_norm"] > 0 for row in rows)
    assert not own.model.get_input_embeddings().weight.equal(before)
