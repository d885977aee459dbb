"""The learner against independent computations: gradients, packing, micro-batches, SFT's normalisation, log-probs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from prefix_rft.episodes import LEARNER, UPDATE
from prefix_rft.methods import get_method
from prefix_rft.model import logprobs as logprobs_module
from prefix_rft.model.forward_cpu import FlatForward
from prefix_rft.model.forward_transformers import TransformersForward
from prefix_rft.model.logprobs import logprobs
from prefix_rft.model.packing import micro_batches, rows_of
from prefix_rft.training.learner import Learner, learning_rate
from prefix_rft.training.loss import importance_weights
from tests.helpers.small import episode, random_episodes, run_config, small_model, small_qwen, small_qwen3


def flat_gradient(learner):
    """All gradients as one vector; clears them."""
    out = torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in learner.model.parameters()]
    )
    learner.optimizer.zero_grad(set_to_none=True)
    return out.double()


def padded(model):
    """The oracle: the model's own forward pass, one sequence a row."""
    return TransformersForward(model, kind="padded")


def gradient(run, episodes, forward=FlatForward, part_norms=False, model_seed=0):
    """(gradient vector, outputs) of one mini-batch, pi_old being another model than pi so that ratios differ from 1."""
    model = small_model(model_seed)
    old = Learner(model, run, 1, forward=forward(model))
    old.score(episodes)
    model = small_model(model_seed)
    learner = Learner(model, run, 1, forward=forward(model))
    with torch.no_grad():
        rng = torch.Generator().manual_seed(1)
        for p in learner.model.parameters():
            p += 0.02 * torch.randn(p.shape, generator=rng)
    out = learner.gradients(episodes, get_method(run).weigh(episodes), part_norms)
    return flat_gradient(learner), out


def relative(a, b):
    return float((a - b).norm() / b.norm())


RUNS = {
    "rft": run_config(),
    "prefix_rft": run_config(method="prefix_rft", demos="d"),
    "luffy": run_config(method="luffy", demos="d"),
    "sft": run_config(method="sft", demos="d"),
    "bonus": run_config(method="prefix_rft", demos="d", objective={"entropy_bonus": 0.1}),
}


def episodes_for(name, rng):
    episodes = random_episodes(rng, prefixed=0 if name == "rft" else 1)
    if name in ("luffy", "sft"):
        chosen = [e for e in episodes if e.prefix or name == "luffy"]
        episodes = [episode(e.group, e.prompt, e.prefix, [], 1.0, sample=False) if e.prefix else e for e in chosen]
    return episodes


@pytest.mark.parametrize("name", ["rft", "hpt"])
def test_gradient_of_rewards_that_are_any_number_against_float64(name):
    """Dr.GRPO (rft) and GRPO (hpt without demonstrations) on rewards such as -2.7, written out in float64 from the rewards on. One group
    has nothing but 0.1, whose rounded mean is another number."""
    grpo = {"std": True, "clip": True, "denominator": "sequence"}
    run = run_config() if name == "rft" else run_config(method="hpt", demos="d", hpt=grpo)
    rng = np.random.default_rng(3)
    episodes = random_episodes(rng, prefixed=0, size=3)
    for e in episodes:
        e.reward = 0.1 if e.group == 0 else float(rng.normal(scale=3))
    ours, _ = gradient(run, episodes)
    model = small_model().double()
    with torch.no_grad():
        noise = torch.Generator().manual_seed(1)
        for p in model.parameters():
            p += 0.02 * torch.randn(p.shape, generator=noise).double()
    total = torch.zeros((), dtype=torch.float64)
    for e in episodes:
        rewards = [float(o.reward) for o in episodes if o.group == e.group]
        mean = math.fsum(rewards) / len(rewards)
        a, tokens = e.reward - mean, run.rollout.max_response
        if e.group == 0:
            a = 0.0
        elif name == "hpt":
            a /= math.sqrt(math.fsum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1)) + 1e-6
            tokens = len(e.response)
        table = torch.log_softmax(model(torch.tensor([e.ids])).logits[0, len(e.prompt) - 1 : -1], -1)
        old = torch.zeros(len(e.response)) if e.old_logprobs is None else torch.tensor(e.old_logprobs).double()
        r = torch.exp(table[range(len(e.response)), e.response] - old)
        total = total - torch.minimum(r * a, torch.clamp(r, 0.8, 1.2) * a).sum() / tokens / len(episodes)
    total.backward()
    expected = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
    assert relative(ours, expected) < 1e-5
    alone = [e for e in episodes if e.group == 0]
    assert not get_method(run).weigh(alone).active.any() and not any(get_method(run).needs_scoring(alone))


@pytest.mark.parametrize("name", RUNS)
def test_gradient_against_float64(name):
    """Loss and gradient of every method from an independent float64 computation, one sequence at a time."""
    run, rng = RUNS[name], np.random.default_rng(7)
    episodes = episodes_for(name, rng)
    ours, out = gradient(run, episodes)
    streams = get_method(run).weigh(episodes)
    model = small_model().double()
    with torch.no_grad():
        noise = torch.Generator().manual_seed(1)
        for p in model.parameters():
            p += 0.02 * torch.randn(p.shape, generator=noise).double()
    total, at = torch.zeros((), dtype=torch.float64), 0
    for e in episodes:
        ids = torch.tensor([e.ids])
        logits = model(ids).logits[0, len(e.prompt) - 1 : -1]
        table = torch.log_softmax(logits, -1)
        for k, token in enumerate(e.response):
            logp, a, kind = table[k, token], streams.advantage[at], streams.surrogate[at]
            r, p = torch.exp(logp - e.old_logprobs[k]), torch.exp(logp)
            if kind == 1:
                term = -torch.minimum(r * a, torch.clamp(r, 0.8, 1.2) * a)
            elif kind == 2:
                term = -r * a
            else:
                term = -a * p / (p + 0.1) if kind == 3 else 0.0 * logp
            total = total + term / streams.rl_count - streams.ce_weight[at] * logp / streams.ce_count
            if run.objective.entropy_bonus and k >= len(e.prefix):
                sampled = sum(len(e.continuation) for e in episodes)
                total = total + 0.1 * (table[k].exp() * table[k]).sum() / sampled
            at += 1
    total.backward()
    expected = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
    assert relative(ours, expected) < 1e-5
    if not run.objective.entropy_bonus:
        assert out["rl_loss"] + out["ce_loss"] == pytest.approx(float(total.detach()), rel=1e-4, abs=1e-7)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(sorted(RUNS)), st.integers(1, 400))
def test_packed_is_padded_and_any_split_is_the_whole(seed, name, micro_tokens):
    rng = np.random.default_rng(seed)
    episodes = episodes_for(name, rng)
    if name != "sft":
        episodes[0].reward, episodes[1].reward = 1.0, 0.0  # some gradient
    values = dict(vars(RUNS[name]))
    long, short = (type(RUNS[name])(**(values | {"micro_tokens": n})) for n in (100_000, micro_tokens))
    whole, _ = gradient(long, episodes, forward=padded)
    split, _ = gradient(short, episodes, TransformersForward)
    assert relative(split, whole) < 1e-5
    split, _ = gradient(short, episodes, lambda model: TransformersForward(model, kind="rows"))
    assert relative(split, whole) < 1e-5
    flat, _ = gradient(long, episodes, FlatForward)
    split, _ = gradient(short, episodes, FlatForward)
    assert relative(split, flat) < 5e-6
    assert relative(flat, whole) < 3e-5  # two implementations: fp32 rounding was up to 1.4e-5


def test_a_sampled_padding_token_gets_no_gradient_in_any_forward_pass():
    """A model can sample the token that pads. Its embedding has no gradient in transformers; a row of zeros there would have a huge one."""
    episodes = random_episodes(np.random.default_rng(0))
    for e in episodes:
        e.continuation.insert(0, small_model().config.pad_token_id)
        e.sampler_logprobs = np.zeros(len(e.continuation))
        e.entropies = np.zeros(len(e.response))
    flat, _ = gradient(RUNS["prefix_rft"], episodes)
    own, _ = gradient(RUNS["prefix_rft"], episodes, padded)
    assert relative(flat, own) < 3e-5


@torch.no_grad()
def test_a_model_whose_attention_was_replaced_still_answers_plain_calls():
    """The probe of a rollout engine calls the model after a packed pass has replaced its attention."""
    model = small_model()
    ids = torch.tensor([[3, 9, 4, 20, 5]])
    before = model(ids).logits
    forward = TransformersForward(model)
    for micro in forward.micro_batches([[3, 9]], [[4, 20, 5]], 100):
        forward.hidden(micro)
    assert forward.kind == "budget" and model.config._attn_implementation == forward.attention
    torch.testing.assert_close(model(ids).logits, before)


@pytest.mark.parametrize("make", [small_qwen, small_qwen3])
def test_flat_forward_is_the_models_own(make):
    """Biases, tied embeddings, one kv head, or norms of q and k; one prompt for several responses and a response of one token."""
    model, rng = make(), np.random.default_rng(3)
    prompts = [rng.integers(2, 32, n).tolist() for n in (1, 7, 20)]
    prompts += [prompts[1], prompts[1]]
    responses = [rng.integers(2, 32, n).tolist() for n in (30, 1, 5, 17, 33)]
    weights, gradients = torch.randn(86, model.config.hidden_size, generator=torch.Generator().manual_seed(0)), []
    for forward in (FlatForward(model), TransformersForward(model, kind="padded")):
        model.zero_grad()
        hidden = torch.zeros_like(weights)
        for micro in forward.micro_batches(prompts, responses, 60):
            states = forward.hidden(micro)
            hidden[micro.tokens] = states.detach()
            (states * weights[micro.tokens]).sum().backward()
        gradients.append((hidden, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}))
    (flat, flat_grads), (own, own_grads) = gradients
    assert relative(flat, own) < 1e-5 and flat_grads.keys() == own_grads.keys()
    for name, gradient_ in own_grads.items():
        assert relative(flat_grads[name], gradient_) < 2e-5, name


def test_prefix_rft_without_prefixes_is_rft_bit_for_bit():
    episodes = random_episodes(np.random.default_rng(0), prefixed=0)
    rft, out_rft = gradient(RUNS["rft"], episodes)
    none, out_none = gradient(run_config(method="prefix_rft", demos="d", prefix={"per_group": 0}), episodes)
    assert torch.equal(rft, none) and out_rft == out_none


def test_entropy_mask_is_blind_to_micro_batches():
    """The kept tokens are the same set, and 20 % of the prefix tokens of the mini-batch, whatever the micro-batch."""
    kept = []
    for micro_tokens in (1, 40, 10_000):
        episodes = random_episodes(np.random.default_rng(5), groups=6)
        for e in episodes:
            e.reward = float(bool(e.prefix))  # every group has an advantage
        run = run_config(method="prefix_rft", demos="d", micro_tokens=micro_tokens)
        Learner(small_model(), run, 1).score(episodes)
        copied = np.concatenate([e.is_prefix for e in episodes])
        kept.append((get_method(run).weigh(episodes).advantage != 0) & copied)
        assert kept[-1].sum() == copied.sum() - math.floor(0.8 * copied.sum())
    assert np.array_equal(kept[0], kept[1]) and np.array_equal(kept[0], kept[2])


def test_whole_demonstration_with_cross_entropy_is_sft():
    """SFT equals transformers' own loss over the concatenated tokens: sum over tokens / tokens of the whole batch."""
    rng = np.random.default_rng(2)
    demos = [rng.integers(2, 32, n).tolist() for n in (3, 20, 9, 40)]
    episodes = [episode(i, [4, 5 + i], d, [], 1.0, sample=False) for i, d in enumerate(demos)]
    for micro_tokens in (1, 30, 1000):
        run = run_config(method="sft", demos="d", micro_tokens=micro_tokens)
        learner = Learner(small_model(), run, 1)
        out = learner.gradients(episodes, get_method(run).weigh(episodes))
        model, losses = small_model(), []
        for e in episodes:
            labels = [-100] * len(e.prompt) + e.response
            losses.append(model(torch.tensor([e.ids]), labels=torch.tensor([labels])).loss * len(e.response))
        loss = sum(losses) / sum(map(len, demos))
        loss.backward()
        expected = torch.cat([p.grad.reshape(-1) for p in model.parameters()]).double()
        assert relative(flat_gradient(learner), expected) < 1e-5
        assert out["ce_loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
        # the bug that deflates baselines: a mean of means over sequences of unequal length is another number
        means = float(sum(x.detach() / len(d) for x, d in zip(losses, demos, strict=True)) / len(demos))
        assert abs(means - out["ce_loss"]) > 1e-3


def test_gradient_parts_add_up():
    """The logged parts are parts: prefix part + rollout part = the gradient, and their norms obey the cosine rule."""
    episodes = random_episodes(np.random.default_rng(4))
    run = run_config(method="prefix_rft", demos="d", prefix={"keep": "all"})
    plain, _ = gradient(run, episodes)
    with_parts, out = gradient(run, episodes, part_norms=True)
    assert relative(with_parts, plain) < 1e-5
    a, b = out["grad_norm_prefix"], out["grad_norm_rollout"]
    assert a > 0 and b > 0
    assert float(plain.norm()) ** 2 == pytest.approx(a**2 + b**2 + 2 * a * b * out["grad_cosine"], rel=1e-4)


@pytest.mark.parametrize("name", ["prefix_rft", "srft", "rl_with_sft"])
def test_losses_and_counts_do_not_depend_on_the_split_into_parts(name):
    """In SRFT only demonstrations have a surrogate, and yet every sampled token counts for the mismatch."""
    rng, run = np.random.default_rng(4), run_config(method=name, demos="d")
    rollouts = [episode(0, [5, 6], [], rng.integers(2, 32, 4).tolist(), float(i)) for i in range(2)]
    demo = episode(0, [5, 6], rng.integers(2, 32, 6).tolist(), [], 1.0, sample=False)
    for episodes, sampled in ((rollouts + [demo], 8), ([demo], 0))[: 1 if name == "srft" else 2]:
        outs = []
        for part_norms in (False, True):
            for e in episodes:
                e.old_from = UPDATE
            learner = Learner(small_model(), run, 1)
            streams = get_method(run).weigh(episodes)
            streams.ce_weight = streams.ce_weight + 0.1  # a gradient for each episode, whatever the method
            outs.append(
                learner.gradients(episodes, streams, part_norms) | {"norm": float(flat_gradient(learner).norm())}
            )
        assert outs[0]["mismatch_tokens"] == sampled and outs[0]["norm"] > 0
        for key in outs[0]:
            assert outs[1][key] == pytest.approx(outs[0][key], rel=1e-6), key


def test_score_gives_log_probs_of_all_response_tokens():
    episodes = random_episodes(np.random.default_rng(6))
    model = small_model()
    Learner(model, RUNS["prefix_rft"], 1).score(episodes)
    for e in episodes:
        table = torch.log_softmax(model(torch.tensor([e.ids])).logits[0, len(e.prompt) - 1 : -1].double(), -1).detach()
        expected = table.gather(1, torch.tensor(e.response)[:, None])[:, 0]
        np.testing.assert_allclose(e.old_logprobs, expected, atol=1e-5)
        np.testing.assert_allclose(e.entropies, -(table.exp() * table).sum(-1), atol=1e-5)


def test_on_policy_episodes_need_no_scoring():
    """In the first update of a step pi is pi_old: leaving out its pass gives the same gradient, with ratio 1."""
    run, gradients = RUNS["rft"], []
    for on_policy in (False, True):
        episodes = random_episodes(np.random.default_rng(8), prefixed=0)
        learner = Learner(small_model(), run, 1)
        for e in episodes:
            e.old_from = UPDATE
        if not on_policy:
            learner.score(episodes)
        learner.gradients(episodes, get_method(run).weigh(episodes))
        gradients.append(flat_gradient(learner))
    assert float(gradients[0].norm()) > 0 and relative(*gradients) < 1e-5


def test_an_advantage_without_old_log_probs_is_refused():
    episodes = random_episodes(np.random.default_rng(4))
    learner = Learner(small_model(), RUNS["prefix_rft"], 1)
    with pytest.raises(ValueError, match="call score first"):
        learner.gradients(episodes, get_method(RUNS["rft"]).weigh(episodes))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("bias", [True, False])
def test_chunked_log_probs(temperature, bias):
    """Chunks of 3 tokens give value and gradient of the plain float64 formula."""
    rng = torch.Generator().manual_seed(0)
    hidden, head = torch.randn(10, 5, generator=rng, requires_grad=True), torch.nn.Linear(5, 11, bias=bias)
    targets, wl, we = (
        torch.randint(0, 11, (10,), generator=rng),
        torch.randn(10, generator=rng),
        torch.randn(10, generator=rng),
    )
    logp, entropy = logprobs(hidden, head, targets, temperature, with_entropy=True, chunk=3 * 11)
    ((logp * wl).sum() + (entropy * we).sum()).backward()
    table = torch.log_softmax(
        torch.nn.functional.linear(h64 := hidden.detach().double().requires_grad_(), w64 := head.weight.detach().double().requires_grad_(),
                                   head.bias.detach().double() if bias else None) / temperature, -1)  # fmt: skip
    expected = table.gather(1, targets[:, None])[:, 0]
    expected_h = -(table.exp() * table).sum(-1)
    ((expected * wl).sum() + (expected_h * we).sum()).backward()
    torch.testing.assert_close(logp.double(), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(entropy.double(), expected_h, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(hidden.grad.double(), h64.grad, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(head.weight.grad.double(), w64.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
def test_log_probs_of_bfloat16_weights_are_not_those_of_rounded_logits(monkeypatch, bias):
    """What ZeRO hands over: the formula in float64 of the same bfloat16 numbers, where rounded logits are 0.01 off. Weights are made fp32
    in blocks of 7 words."""
    monkeypatch.setattr(logprobs_module, "UPCAST", 7 * 64)
    rng = torch.Generator().manual_seed(0)
    hidden = torch.randn(40, 64, generator=rng).bfloat16().requires_grad_()
    head = torch.nn.Linear(64, 500, bias=bias)
    torch.nn.init.normal_(head.weight, std=0.4, generator=rng)  # logits of some 3
    head = head.bfloat16()
    targets = torch.randint(0, 500, (40,), generator=rng)
    weights = torch.randn(2, 40, generator=rng)
    logp, entropy = logprobs(hidden, head, targets, with_entropy=True, chunk=9 * 500)
    (weights * torch.stack([logp, entropy])).sum().backward()
    wide = [x.detach().double().requires_grad_() for x in (hidden, *head.parameters())]
    logits = torch.nn.functional.linear(*wide)
    table = torch.log_softmax(logits, -1)
    expected = torch.stack([table.gather(1, targets[:, None])[:, 0], -(table.exp() * table).sum(-1)])
    (weights * expected).sum().backward()
    expected = expected.detach()
    found = torch.stack([logp, entropy]).detach()
    assert found.dtype == torch.float32 and float((found - expected).abs().max()) < 1e-4
    rounded = torch.log_softmax(logits.detach().bfloat16().double(), -1).gather(1, targets[:, None])[:, 0]
    assert float((rounded - expected[0]).abs().max()) > 1e-2
    for own, exact in zip((hidden, *head.parameters()), wide, strict=True):
        assert own.grad.dtype == torch.bfloat16
        assert float((own.grad - exact.grad).norm() / exact.grad.norm()) < 0.01


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(50, 120))
def test_rows_hold_every_sequence_once(lengths, capacity):
    rows = rows_of(lengths, capacity)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= capacity for row in rows)


def test_rows_by_hand():
    assert rows_of([5, 3, 4, 2], 7) == [[0, 3], [2, 1]]


@pytest.mark.parametrize("kind", ["budget", "rows", "padded"])
def test_every_response_token_is_in_one_micro_batch(kind):
    rng = np.random.default_rng(0)
    prompts = [rng.integers(0, 9, rng.integers(1, 9)).tolist() for _ in range(30)]
    responses = [rng.integers(0, 9, rng.integers(1, 20)).tolist() for _ in range(30)]
    flat = np.concatenate(responses)
    seen = np.zeros(len(flat), int)
    for micro in micro_batches(prompts, responses, 64, kind):
        seen[micro.tokens.numpy()] += 1
        assert np.array_equal(flat[micro.tokens.numpy()], micro.targets.numpy())
        ids, at = micro.ids.reshape(-1), micro.predictors
        assert np.array_equal(ids[at + 1].numpy(), micro.targets.numpy())  # the token after the predictor
    assert (seen == 1).all()


def test_learning_rate_by_hand():
    opt = run_config(optimizer={"lr": 1.0, "warmup": 0.1, "schedule": "cosine", "final": 0.1}).optimizer
    assert [learning_rate(opt, s, 100) for s in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert learning_rate(opt, 10, 100) == pytest.approx(1.0)
    assert learning_rate(opt, 99, 100) == pytest.approx(0.1)
    linear = run_config(optimizer={"lr": 2.0, "schedule": "linear", "final": 0.5}).optimizer
    assert [learning_rate(linear, s, 11) for s in (0, 5, 10)] == pytest.approx([2.0, 1.5, 1.0])
    assert learning_rate(run_config(optimizer={"lr": 3.0}).optimizer, 7, 10) == 3.0


# ------------------------------------------------------------------------------- truncated importance sampling


def test_importance_weights_by_hand():
    """Cap 2: probabilities of the sampler 0.4, 0.4, 0.1 where pi_old has 0.2, 0.4, 0.4 -> 0.5, 1, 4 -> 2; a prefix token -> 1."""
    old, sampler = torch.tensor([0.2, 0.4, 0.4, 0.3]).log(), torch.tensor([0.4, 0.4, 0.1, 1.0]).log()
    weights = importance_weights(old, sampler, torch.tensor([True, True, True, False]), 2.0)
    torch.testing.assert_close(weights, torch.tensor([0.5, 1.0, 2.0, 1.0]))


@pytest.mark.parametrize("on_policy", [True, False])
def test_importance_weights_multiply_the_sampled_tokens_and_never_the_prefix(on_policy):
    """One prompt, two rewards, a prefix of 3 tokens. The sampler's log-probs are pi_old's less log 0.5, 1 or 4 in turn, so that with
    cap 2 the weights are 0.5, 1, 2: the gradient is that of advantages multiplied by these by hand, and by 1 on the prefix."""
    run = run_config(method="prefix_rft", demos="d", prefix={"keep_share": 1.0}, objective={"importance_cap": 2.0})
    model = small_model()
    episodes = [episode(0, [3, 4], [5, 6, 7], [8, 9, 10, 11], 1.0), episode(0, [3, 4], [], [12, 13, 14], 0.0)]
    scorer = Learner(model, run, 1)
    scorer.score(episodes)
    ratios = np.array([0.5, 1.0, 4.0])
    for e in episodes:
        n = len(e.continuation)
        e.sampler_logprobs = e.old_logprobs[len(e.prefix) :] - np.log(ratios[np.arange(n) % 3])
        e.old_from = UPDATE if on_policy else LEARNER
    streams = get_method(run).weigh(episodes)
    assert (streams.advantage[:3] != 0).all()  # the prefix is trained on
    learner = Learner(model, run, 1)
    out = learner.gradients(episodes, streams)
    with_cap = flat_gradient(learner)
    by_hand = np.array([1, 1, 1, 0.5, 1, 2, 0.5, 0.5, 1, 2])
    streams.advantage = streams.advantage * by_hand
    plain = Learner(model, run_config(method="prefix_rft", demos="d"), 1)
    plain.gradients(episodes, streams)
    assert relative(with_cap, flat_gradient(plain)) < 1e-6
    assert out["importance_tokens"] == 7 and out["importance_capped"] == 2
    assert out["importance_sum"] == pytest.approx(0.5 + 1 + 2 + 0.5 + 0.5 + 1 + 2, rel=1e-5)
