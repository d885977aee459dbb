"""The methods that Prefix-RFT is compared with, and its controls: composition and numbers by hand, gradients from the
published formula written out once more in float64, one sequence at a time."""

import math
from copy import deepcopy
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from prefix_rft.common.errors import UserError
from prefix_rft.episodes import Problem
from prefix_rft.methods import get_method, method_class
from prefix_rft.methods.parts.advantages import dr_grpo, grpo, sampled
from prefix_rft.methods.parts.tokens import ce_streams, spread
from prefix_rft.methods.srft import EXP_MEAN_ENTROPY, EXP_MINUS_MEAN_ENTROPY
from prefix_rft.methods.trapo import TRUST_REGION
from prefix_rft.streams import CLIPPED, EXP_ENTROPY, EXP_MINUS_ENTROPY, NONE, ONE, P_NOT_P, PLAIN, SHAPED, Tokens
from prefix_rft.training.learner import Learner
from prefix_rft.training.loss import ce_terms, kl_terms
from tests.helpers.small import episode, random_episodes, run_config, small_model
from tests.methods.test_methods import DEMO, EIGHT, PROBLEM, group_of_eight
from tests.training.test_learner import flat_gradient, gradient, relative

BARE = Problem("p", [5, 6], "", [])
LIMIT = 60  # rollout.max_response of run_config


def method_of(name, **options):
    section = {name: options} if options else {}
    return get_method(run_config(method=name, demos="d", rollout=EIGHT, **section))


def demonstration(group, ids=DEMO):
    return episode(group, [5, 6], ids, [], 1.0, sample=False)


def composed(method, progress=0.0, problem=PROBLEM, seed=0):
    return method.compose(problem, progress, np.random.default_rng(seed))


# --------------------------------------------------------------------------------------------------- small parts


def test_advantages_by_hand():
    """Rewards 1 0 0 0: mean 1/4, standard deviation over n - 1 = 1/2. A demonstration left out changes neither."""
    group = [episode(0, [5], [], [1], r) for r in (1.0, 0, 0, 0)]
    np.testing.assert_allclose(grpo(group), [1.5, -0.5, -0.5, -0.5], rtol=1e-5)
    with_demo = [*group, demonstration(0)]
    np.testing.assert_allclose(grpo(with_demo, sampled), [1.5, -0.5, -0.5, -0.5, 0], rtol=1e-5)
    np.testing.assert_allclose(dr_grpo(with_demo, sampled), [0.75, -0.25, -0.25, -0.25, 0])
    assert grpo([episode(0, [5], [], [1], 1.0) for _ in range(4)]).tolist() == [0] * 4  # all agree: no division by 0
    assert grpo([episode(0, [5], [], [1], 1.0)]).tolist() == [0]


def test_spread_by_hand():
    episodes = [episode(0, [5], [], [1], 0.0), episode(0, [5], [7], [8, 9, 1], 0.0), demonstration(0, [7, 1])]
    explored = ~np.concatenate([e.is_prefix for e in episodes])
    assert spread(episodes, explored).tolist() == pytest.approx([1, 0, 1 / 3, 1 / 3, 1 / 3, 0, 0])
    assert spread(episodes, explored, "token").tolist() == pytest.approx([0.5, 0, 0.5, 0.5, 0.5, 0, 0])
    assert spread(episodes, explored, "constant", 10).tolist() == pytest.approx([0.1, 0, 0.1, 0.1, 0.1, 0, 0])
    assert spread(episodes, np.zeros(7, bool), "token").tolist() == [0] * 7


def test_factors_are_constants_of_the_current_policy():
    """-w f log p has the gradient -w f: nothing flows through exp(H), exp(-H) or p (1 - p)."""
    logp = torch.log(torch.tensor([0.5, 0.5, 0.5, 0.2], dtype=torch.float64)).requires_grad_()
    entropy = torch.tensor([9.0, 0.5, 0.5, 9.0], dtype=torch.float64, requires_grad=True)
    factor = torch.tensor([ONE, EXP_ENTROPY, EXP_MINUS_ENTROPY, P_NOT_P])
    weight = torch.full((4,), 3.0, dtype=torch.float64)
    ce_terms(Tokens(logp, entropy=entropy), weight, factor).sum().backward()
    assert (-logp.grad).tolist() == pytest.approx([3, 3 * math.exp(0.5), 3 * math.exp(-0.5), 3 * 0.16])
    assert entropy.grad is None


def test_kl_by_hand():
    logp = torch.log(torch.tensor([0.5, 0.5, 0.25], dtype=torch.float64)).requires_grad_()
    reference = torch.log(torch.tensor([0.5, 0.25, 0.5], dtype=torch.float64))
    kl = kl_terms(logp, reference, torch.tensor([1.0, 1, 2]))
    assert kl.tolist() == pytest.approx([0, 0.5 - math.log(0.5) - 1, 2 * (2 - math.log(2) - 1)])
    kl.sum().backward()
    assert logp.grad.tolist() == pytest.approx([0, 1 - 0.5, 2 * (1 - 2)])  # w (1 - q/p)


# --------------------------------------------------------------------------------------------------- composition


def test_shown_prefixes_are_shared_by_a_group_and_some_groups_have_none():
    """Half of the groups are plain, the others are DR-PO's; the share is a key."""
    method = method_of("prefix_shown", schedule="uniform")
    bare = [not composed(method, seed=s)[0].prefix for s in range(400)]
    assert sum(bare) / 400 == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / 400))
    for seed in range(50):
        starts = composed(method, seed=seed)
        assert len(starts) == 8 and all(s.sample and s.prefix == starts[0].prefix for s in starts)
        assert starts[0].prefix == DEMO[: len(starts[0].prefix)] and len(starts[0].prefix) <= 9
    always = method_of("prefix_shown", groups=1.0)
    assert all(composed(always, seed=s)[0].prefix for s in range(50))
    assert not any(composed(method_of("prefix_shown", groups=0.0), seed=s)[0].prefix for s in range(50))
    assert not any(s.prefix for s in composed(always, problem=BARE))
    assert method.window(0.0) == (0.05, 0.95)


def test_trapo_shows_more_of_what_is_solved_less():
    """Micro-groups of 4, 2, 1 and 1: a quarter below 2 of 4, a half below 4 of 6, all below 7 of 7."""
    method = method_of("trapo")
    for rate, shown in (
        (0.0, [2, 2, 5, 10]),
        (0.49, [2, 2, 5, 10]),
        (0.5, [5, 10]),
        (0.66, [5, 10]),
        (0.67, [10]),
        (0.99, [10]),
        (1.0, []),
    ):
        method.difficulty.solved = {"p": rate}
        starts = composed(method)
        assert [len(s.prefix) for s in starts] == [0] * (8 - len(shown)) + shown
        assert [s.sample for s in starts] == [len(s.prefix) < 10 for s in starts]
        assert all(s.prefix == DEMO[: len(s.prefix)] for s in starts)
    assert [s.prefix for s in composed(method_of("trapo"), problem=BARE)] == [[]] * 8
    small = get_method(run_config(method="trapo", demos="d"))  # groups of 4: one of each
    assert [len(s.prefix) for s in composed(small)] == [0, 2, 5, 10]
    with pytest.raises(UserError, match="rollout.group_size: 3 must be 4 or more"):
        run_config(method="trapo", demos="d", rollout={"group_size": 3, "max_response": 10})


def test_trapo_remembers_success_by_problem_and_level():
    method = method_of("trapo")
    right = [episode(0, [5], [], [1], 1.0) for _ in range(4)] + [episode(0, [5], [6], [1], 0.0)]
    method.observe(right, np.random.default_rng(0))
    assert len(composed(method, problem=replace(PROBLEM, id="p0"))[-1].prefix) == 0  # always solved: nothing is shown
    assert len(composed(method)[-1].prefix) == 10  # of a new problem little is known yet
    copy = method_of("trapo")
    copy.load_state_dict(method.state_dict())
    assert copy.state_dict() == method.state_dict() and copy.difficulty.rate(PROBLEM) == pytest.approx(0.1)


def test_g2rpo_a_moves_the_share_against_the_success_rate():
    method = method_of("g2rpo_a", share=0.8)

    def shown():
        return len(composed(method)[-1].prefix)

    def step(rate):
        method.observe([episode(0, [5], [], [1], float(i < 10 * rate)) for i in range(10)], np.random.default_rng(0))

    assert [len(s.prefix) for s in composed(method)] == [0] * 7 + [8] and method.window(0.3) == (0.8, 0.8)
    for rate in (0.2, 0.4):
        step(rate)
        assert shown() == 8  # three steps make a comparison
    step(0.6)  # success doubles: half of it is shown
    assert method.share == pytest.approx(0.4) and shown() == 4
    for rate in (0.4, 0.4, 0.5):
        step(rate)
    assert method.share == pytest.approx(0.4 * 0.4 / 0.5) and shown() == 3
    for rate in (0.5, 0.5, 0.1):
        step(rate)
    assert method.share == 0.8 and shown() == 8  # never more than at first
    for rate in (0.5, 0.5, 0.0):
        step(rate)
    assert method.share == 0.8
    step(0.5)
    copy = method_of("g2rpo_a", share=0.8)
    copy.load_state_dict(deepcopy(method.state_dict()))
    for m in (method, copy):
        for _ in range(2):
            m.observe([episode(0, [5], [], [1], 1.0)], np.random.default_rng(0))
    assert copy.share == method.share == pytest.approx(0.8 * 0.75)
    assert [s.prefix for s in composed(method, problem=BARE)] == [[]] * 8
    with pytest.raises(UserError, match="g2rpo_a.per_group: 9 is more than"):
        method_of("g2rpo_a", per_group=9)


@pytest.mark.parametrize("name, rollouts", [("rl_with_sft", 7), ("hpt", 8), ("srft", 8), ("chord", 8)])
def test_composition_with_a_whole_demonstration(name, rollouts):
    method = method_of(name)
    starts = composed(method)
    assert [s.prefix for s in starts] == [[]] * rollouts + [DEMO]
    assert [s.sample for s in starts] == [True] * rollouts + [False]
    assert [s.prefix for s in composed(method, problem=BARE)] == [[]] * 8


def test_composition_of_relift_is_that_of_rft():
    assert [s.prefix for s in composed(method_of("relift"))] == [[]] * 8


def test_drpo_shows_the_whole_group_one_prefix():
    method = method_of("drpo", schedule="uniform")
    lengths = set()
    for seed in range(50):
        starts = composed(method, seed=seed)
        assert len(starts) == 8 and all(s.prefix == starts[0].prefix and s.sample for s in starts)
        assert starts[0].prefix == DEMO[: len(starts[0].prefix)] and 1 <= len(starts[0].prefix) <= 9
        lengths.add(len(starts[0].prefix))
    assert len(lengths) > 5  # drawn anew for every group
    assert [s.prefix for s in composed(method, problem=BARE)] == [[]] * 8
    assert method.window(0.0) == (0.05, 0.95)


def test_uft_hints():
    """p_t: 0.95 at the first step, 0.5 half-way to 0.6 of the run, 0.05 just before, then 0; k ~ Binomial(5, p_t)."""
    method = method_of("uft")
    assert [method.shown(p) for p in (0.0, 0.3, 0.6, 1.0)] == pytest.approx([0.95, 0.5, 0, 0])
    assert method.shown(0.6 - 1e-9) == pytest.approx(0.05)
    for progress, p in ((0.0, 0.95), (0.3, 0.5)):
        lengths = [len(composed(method, progress, seed=s)[0].prefix) for s in range(4000)]
        assert set(lengths) <= {0, 2, 4, 6, 8, 9}  # fifths of ten tokens, one left to sample
        for k, length in enumerate((0, 2, 4, 6, 8, 9)):
            expected = math.comb(5, k) * p**k * (1 - p) ** (5 - k)
            assert lengths.count(length) / 4000 == pytest.approx(expected, abs=4 * math.sqrt(0.25 / 4000))
    starts = composed(method, 0.3, seed=1)
    assert len(starts) == 8 and all(s.prefix == starts[0].prefix for s in starts)
    assert not any(s.prefix for s in composed(method, 0.6))
    assert not any(s.prefix for s in composed(method, problem=BARE))
    short = method_of("uft", chunks=50)  # no more pieces than tokens
    assert {len(composed(short, 0.3, seed=s)[0].prefix) for s in range(300)} >= set(range(2, 9))


def test_chord_mu():
    for variant in ("mu", "hybrid"):
        method = method_of("chord", variant=variant)
        assert [method.mu(p) for p in (0, 0.2, 0.4, 1)] == pytest.approx([0.9, 0.475, 0.05, 0.05])
    assert [method_of("chord", variant="phi").mu(p) for p in (0, 0.2, 1)] == pytest.approx([0.1] * 3)
    assert [method_of("chord", variant="phi", start=0.5).mu(p) for p in (0, 1)] == pytest.approx([0.5, 0.1])
    assert [method_of("chord", end=0.0).mu(p) for p in (0, 1)] == pytest.approx([0.9, 0])
    assert method_of("chord", decay=0.0).mu(0.0) == 0.05


# --------------------------------------------------------------------------------------------- streams by hand


def one_right(extra=()):
    """A group of 8 rollouts of 2 tokens, the first right, and what stands beside it."""
    return [episode(0, [5, 6], [], [7, 1], float(i == 0)) for i in range(8)] + list(extra)


def all_wrong(extra=(), group=1):
    return [episode(group, [5, 6], [], [7, 1], 0.0) for _ in range(8)] + list(extra)


def test_rl_with_sft_by_hand():
    method = method_of("rl_with_sft", coefficient=0.5)
    episodes = [*one_right()[:7], demonstration(0, [7, 8, 9, 1])]
    streams = method.weigh(episodes)
    np.testing.assert_allclose(streams.advantage, [6 / 7] * 2 + [-1 / 7] * 12 + [0] * 4)  # the mean of the 7 alone
    assert streams.surrogate.tolist() == [PLAIN] * 14 + [NONE] * 4 and streams.rl_count == 8 * 10
    np.testing.assert_allclose(streams.ce_weight, [0] * 14 + [0.5 / 4] * 4)
    assert streams.ce_count == 8
    assert method_of("rl_with_sft", clip=True).weigh(episodes).surrogate.tolist() == [CLIPPED] * 14 + [NONE] * 4
    two = [*one_right()[:7], demonstration(0, [7, 8, 9, 1]), *all_wrong()[:7], demonstration(1, [7, 1])]
    of_two = [([0] * 14, 4), ([0] * 14, 2)]  # two demonstrations, six tokens: each has a third of a demonstration
    for imitated, weights in (("token", (2 / 6, 2 / 6)), ("sequence", (1 / 4, 1 / 2))):
        streams = method_of("rl_with_sft", imitated=imitated).weigh(two)
        expected = [x for (zeros, n), w in zip(of_two, weights, strict=True) for x in [*zeros, *[w] * n]]
        np.testing.assert_allclose(streams.ce_weight, expected)
        assert streams.ce_count == 16
    assert method.needs_scoring(episodes) == [True] * 7 + [False]
    assert method.needs_scoring([*all_wrong()[:7], demonstration(1)]) == [False] * 8  # reward 1 is no disagreement


def test_rl_with_sft_without_demonstrations_has_the_streams_of_rft():
    episodes = random_episodes(np.random.default_rng(3), prefixed=0)
    a = get_method(run_config()).weigh(episodes)
    b = get_method(run_config(method="rl_with_sft", demos="d", rl_with_sft={"clip": True})).weigh(episodes)
    assert np.array_equal(a.advantage, b.advantage) and np.array_equal(a.surrogate, b.surrogate)
    assert a.rl_count == b.rl_count and not b.ce_weight.any()


def test_drpo_by_hand_and_without_demonstrations_rft():
    method = method_of("drpo")
    episodes = [episode(0, [5], [6, 7], [8, 1], float(i == 0)) for i in range(8)]
    np.testing.assert_allclose(method.weigh(episodes).advantage, [0, 0, 7 / 8, 7 / 8] + [0, 0, -1 / 8, -1 / 8] * 7)
    bare = random_episodes(np.random.default_rng(3), prefixed=0)
    for key in ("advantage", "surrogate", "ce_weight", "rl_count"):
        a = getattr(get_method(run_config()).weigh(bare), key)
        assert np.array_equal(a, getattr(get_method(run_config(method="drpo", demos="d")).weigh(bare), key))


def test_prefix_shown_has_the_streams_of_drpo():
    episodes = [episode(0, [5], [6, 7], [8, 1], float(i == 0)) for i in range(8)] + one_right()
    a, b = (method_of(name).weigh(episodes) for name in ("prefix_shown", "drpo"))
    for key in ("advantage", "surrogate", "ce_weight", "rl_count"):
        assert np.array_equal(getattr(a, key), getattr(b, key))


def test_trapo_by_hand():
    """Two rollouts with the same quarter, of which the second trains it; a whole demonstration with reward 1."""
    demo = [7, 8, 9, 1]
    episodes = [episode(0, [5], [], [7, 1], 0.0), *(episode(0, [5], demo[:1], [8, 1], r) for r in (0.0, 1.0))]
    episodes.append(demonstration(0, demo))
    streams = method_of("trapo", alpha=0.2, coefficient=0.5).weigh(episodes)
    # rewards 0, 0, 1, 1
    np.testing.assert_allclose(streams.advantage, [-0.5] * 2 + [-0.5] * 3 + [0.5] * 3 + [0.5] * 4)
    copied = [0, 0, 1, 0, 0, 1, 0, 0, 1, 1, 1, 1]
    assert streams.surrogate.tolist() == [NONE if c else PLAIN for c in copied]
    np.testing.assert_allclose(streams.ce_weight, [0, 0, 0, 0, 0, 0.5, 0, 0, 0.5, 0.5, 0.5, 0.5])
    assert streams.ce_factor.tolist() == [TRUST_REGION if c else ONE for c in copied]
    assert streams.rl_count == streams.ce_count == 4 * 10 and streams.gamma == 0.2
    logp = torch.log(torch.tensor([0.9, 0.2, 0.1, 0.02], dtype=torch.float64)).requires_grad_()
    factor, weight = torch.full((4,), TRUST_REGION), torch.ones(4, dtype=torch.float64)
    ce_terms(Tokens(logp, gamma=0.2), weight, factor).sum().backward()
    assert (-logp.grad).tolist() == pytest.approx([1, 1, 0.5, 0.1])


def test_uft_by_hand():
    episodes = [episode(0, [5], [6, 7], [8] * i + [1], float(i == 0)) for i in range(4)]
    episodes += [episode(1, [5], [], [9, 1], 1.0) for _ in range(2)]  # a group without a hint that agrees
    hint = np.concatenate([e.is_prefix for e in episodes])
    a = np.array([1.5] * 3 + [-0.5] * 15 + [0] * 4)
    # continuations of 1, 2, 3, 4, 2 and 2 tokens: 14 of 6 trajectories
    for denominator, own, imitated in (
        ("token", np.full(22, 6 / 14), 4 / 8),
        ("sequence", 1 / np.repeat([1.0, 2, 3, 4, 2, 2], [3, 4, 5, 6, 2, 2]), 1 / 2),
        ("constant", np.full(22, 1 / 10), 1 / 10),
    ):
        method = method_of("uft", coefficient=0.01, kl=0.1, denominator=denominator)
        streams = method.weigh(episodes)
        np.testing.assert_allclose(streams.advantage, np.where(hint, 0, a * own), rtol=1e-5)
        np.testing.assert_allclose(streams.kl_weight, np.where(hint, 0, 0.1 * own))  # where all agree, too
        np.testing.assert_allclose(streams.ce_weight, np.where(hint, 0.01 * imitated, 0))
        assert (streams.rl_count, streams.ce_count) == (6, 4)
    assert method.uses_reference and not method_of("uft", kl=0.0).uses_reference


def test_relift_by_hand():
    method = method_of("relift", batch=2, per_step=None)
    right, wrong = one_right(), all_wrong()
    streams = method.weigh(right + wrong)
    np.testing.assert_allclose(streams.advantage, [7 / 8] * 2 + [-1 / 8] * 14 + [0] * 16)
    assert set(streams.surrogate) == {PLAIN} and streams.rl_count == 16 * 10
    for e in right + wrong:
        e.start = type(e.start)(PROBLEM)
    method.observe(right + wrong, np.random.default_rng(0))
    assert [(p.id, d.ids) for p, d in method.buffer] == [("p", DEMO)]  # of the failing prompt alone
    assert method.further_batch() is None
    method.observe(wrong, np.random.default_rng(0))
    copy = method_of("relift", batch=2, per_step=None)
    copy.load_state_dict(method.state_dict())
    for m in (method, copy):
        batch = m.further_batch()
        assert [(e.prompt, e.prefix, e.continuation, e.start.sample) for e in batch] == [([5, 6], DEMO, [], False)] * 2
        assert m.further_batch() is None and m.buffer == []
    for e in wrong:
        e.start = type(e.start)(BARE)
    method.observe(wrong, np.random.default_rng(0))
    assert method.buffer == []  # nothing to imitate
    assert method.further_optimizer() == method.run.optimizer
    assert method_of("relift").further_batch() is None
    assert method_of("relift", lr=1e-6).further_optimizer().lr == 1e-6


@pytest.mark.parametrize("order, first, second", [("newest", [2, 3, 4], [5, 0, 1]), ("oldest", [0, 1, 2], [3, 4, 5])])
def test_relift_takes_the_newest_prompts_and_one_batch_a_step(order, first, second):
    """Prompts 0 and 1 fail in the first step, 2 to 5 in the second; the batch of three is full in the second alone."""

    def failing(*prompts):
        episodes = [episode(g, [5], [], [7, 1], 0.0) for g in range(len(prompts)) for _ in range(2)]
        for e in episodes:
            e.start = type(e.start)(replace(PROBLEM, id=str(prompts[e.group])))
        return episodes

    def taken(method):
        batch = method.further_batch()
        return batch and [int(e.start.problem.id) for e in batch]

    method = method_of("relift", batch=3, order=order)
    method.observe(failing(0, 1), np.random.default_rng(0))
    assert taken(method) is None
    method.observe(failing(2, 3, 4, 5), np.random.default_rng(0))
    assert taken(method) == first and taken(method) is None  # three are left, but the step has had its update
    method.observe([], np.random.default_rng(0))
    assert taken(method) == second
    both = method_of("relift", batch=3, order=order, per_step=None)
    both.observe(failing(0, 1), np.random.default_rng(0))
    both.observe(failing(2, 3, 4, 5), np.random.default_rng(0))
    assert [taken(both), taken(both), taken(both)] == [first, second, None]


def test_relift_has_a_batch_of_as_many_as_a_step_has_prompts():
    method = method_of("relift")
    method.buffer = [(PROBLEM, PROBLEM.demos[0])] * (method.run.batch_prompts - 1)
    assert method.further_batch() is None
    method.buffer.append(method.buffer[0])
    assert len(method.further_batch()) == method.run.batch_prompts


def test_hpt_by_hand():
    demo = [7, 8, 9, 1]
    episodes = one_right([demonstration(0, demo)]) + all_wrong([demonstration(1, demo)])
    method = method_of("hpt", coefficient=0.3)
    streams = method.weigh(episodes)
    explored = [7 / 8 / 10] * 2 + [-1 / 8 / 10] * 14  # limit 10
    np.testing.assert_allclose(streams.advantage, explored + [0] * (4 + 16 + 4))
    assert streams.surrogate.tolist() == [PLAIN] * 16 + [NONE] * 24
    np.testing.assert_allclose(streams.ce_weight, [0] * (16 + 4 + 16) + [0.3 / 4] * 4)
    assert (streams.rl_count, streams.ce_count) == (16, 16)  # all rollouts, those that are dropped too
    two = all_wrong([demonstration(0, demo)], group=0) + all_wrong([demonstration(1, [7, 1])])
    np.testing.assert_allclose(method.weigh(two).ce_weight, [0] * 16 + [0.3 * 2 / 6] * 4 + [0] * 16 + [0.3 * 2 / 6] * 2)
    other = method_of("hpt", std=True, clip=True, denominator="sequence", imitated="sequence", coefficient=8.0)
    sd = math.sqrt(1 / 8)  # of 1 0 0 0 0 0 0 0 over n - 1
    explored = [7 / 8 / sd / 2] * 2 + [-1 / 8 / sd / 2] * 14
    streams = other.weigh(episodes)
    np.testing.assert_allclose(streams.advantage, explored + [0] * (4 + 16 + 4), rtol=1e-5)
    assert streams.surrogate.tolist() == [CLIPPED] * 16 + [NONE] * 24
    weights = other.weigh(two).ce_weight / streams.ce_count
    np.testing.assert_allclose(
        weights, [0] * 16 + [1 / 4 / 2] * 4 + [0] * 16 + [1 / 2 / 2] * 2
    )  # a mean over the two prompts
    assert method.needs_scoring(episodes) == [True] * 8 + [False] * 10
    wider = method_of("hpt", gate=1)  # one right answer is not enough either
    assert not wider.weigh(episodes).advantage.any() and not any(wider.needs_scoring(episodes))
    assert (wider.weigh(episodes).ce_weight != 0).sum() == 8
    bare = method_of("hpt", gate=8).weigh(one_right())  # nothing to imitate: explored
    np.testing.assert_allclose(bare.advantage, [7 / 8 / 10] * 2 + [-1 / 8 / 10] * 14)


def test_srft_by_hand():
    demo = [7, 8, 9, 1]
    streams = method_of("srft").weigh(one_right([demonstration(0, demo)]))
    # nine trajectories, limit 10; the demonstration's likelihood is the mean of its four tokens
    np.testing.assert_allclose(streams.ce_weight, [0.1 / 90] * 2 + [-1 / 90] * 14 + [0.5 / 4 / 9] * 4)
    assert streams.ce_factor.tolist() == [EXP_MEAN_ENTROPY] * 2 + [ONE] * 14 + [EXP_MINUS_MEAN_ENTROPY] * 4
    assert streams.surrogate.tolist() == [NONE] * 16 + [SHAPED] * 4
    np.testing.assert_allclose(streams.advantage, [0] * 16 + [7 / 9 / 90] * 4)
    other = dict(entropy="token", std=True, denominator="sequence", imitated="sequence", together=False)
    streams = method_of("srft", **other).weigh(one_right([demonstration(0, demo)]))
    np.testing.assert_allclose(streams.ce_weight, [0.1 / 16] * 2 + [-1 / 16] * 14 + [0.5 / 4] * 4)
    assert streams.ce_factor.tolist() == [EXP_ENTROPY] * 2 + [ONE] * 14 + [EXP_MINUS_ENTROPY] * 4
    sd = math.sqrt((2 * (7 / 9) ** 2 + 7 * (2 / 9) ** 2) / 8)  # of nine rewards, two of them 1
    np.testing.assert_allclose(streams.advantage, [0] * 16 + [7 / 9 / sd / 4] * 4, rtol=1e-5)


def test_mean_entropy_is_that_of_the_episode():
    entropy, row = torch.tensor([1.0, 3.0, 5.0, 0.0, 0.5]), torch.tensor([0, 0, 3, 4, 4])
    assert Tokens(None, entropy=entropy, row=row).mean_entropy.tolist() == [2, 2, 5, 0.25, 0.25]
    assert Tokens(None, entropy=entropy[:0], row=row[:0]).mean_entropy.tolist() == []


def test_chord_by_hand():
    demos = [demonstration(0, [7, 8, 9, 1]), demonstration(0, [7, 1])]
    streams = method_of("chord", variant="phi", start=0.9, end=0.05).weigh(one_right(demos), progress=0.2)
    sd = math.sqrt(1 / 8)
    np.testing.assert_allclose(
        streams.advantage, 0.525 * np.array([7 / 8 / sd / 2] * 2 + [-1 / 8 / sd / 2] * 14 + [0] * 6), rtol=1e-5
    )
    np.testing.assert_allclose(streams.ce_weight, [0] * 16 + [0.475 * 2 / 6] * 6)  # two demonstrations, six tokens
    assert streams.ce_factor.tolist() == [ONE] * 16 + [P_NOT_P] * 6
    assert (streams.rl_count, streams.ce_count) == (8, 2)
    plain = method_of("chord").weigh(one_right(demos), progress=0.2)  # mu: the same, each token counts 1
    assert plain.ce_factor.tolist() == [ONE] * 22 and np.array_equal(plain.ce_weight, streams.ce_weight)
    by_sequence = method_of("chord", denominator="sequence").weigh(one_right(demos), progress=0.2)
    np.testing.assert_allclose(by_sequence.ce_weight, [0] * 16 + [0.475 / 4] * 4 + [0.475 / 2] * 2)


# ------------------------------------------------------------------------------------------ controls and ablations


def prefix_method(**options):
    return get_method(run_config(method="prefix_rft", demos="d", rollout=EIGHT, prefix=options))


def test_rft_with_entropy_clip_on_its_own_rollouts():
    method = get_method(run_config(rollout=EIGHT, rft={"keep_share": 0.25}))
    episodes = one_right()
    for i, e in enumerate(episodes):
        e.entropies = np.array([float(i), 0.5])
    # of 16 tokens the 4 of highest entropy: the first ones of the last four rollouts
    np.testing.assert_allclose(method.weigh(episodes).advantage, [0] * 8 + [-1 / 8, 0] * 4)
    assert method.weigh(episodes).rl_count == 8 * 10
    assert method.ranks_rollouts and all(method.needs_scoring(all_wrong()))
    assert not get_method(run_config()).ranks_rollouts


@pytest.mark.parametrize(
    "options, prefix",
    [
        ({"keep": "none"}, [0, 0, 0, 0, 0]),
        ({"keep": "all"}, [1, 1, 1, 1, 1]),
        ({"keep": "top", "keep_share": 0.4}, [0, 1, 0, 1, 0]),  # entropies 1 5 3 9 2
        ({"keep": "bottom"}, [1, 0, 0, 0, 0]),
        ({"keep": "bottom", "keep_share": 0.4}, [1, 0, 0, 0, 1]),
        ({"keep": "all", "weight": 0.001}, [0.001] * 5),
        ({"keep": "top", "weight": 0.5}, [0, 0, 0, 0.5, 0]),
    ],
)
def test_controls_of_the_prefix(options, prefix):
    """What the prefix's five tokens get of A = 7/8; the rest of the group is what it always is."""
    streams = prefix_method(**options).weigh(group_of_eight())
    np.testing.assert_allclose(streams.advantage, [-1 / 8] * 14 + [7 / 8 * f for f in prefix] + [7 / 8] * 2)
    assert streams.rl_count == 8 * 10 and not streams.ce_weight.any() and streams.match is None


def test_fixed_weight_of_the_prefix_is_blind_to_the_reward():
    for reward in (0.0, 1.0):
        episodes = group_of_eight()
        episodes[-1].reward = reward
        streams = prefix_method(keep="all", fixed=0.001).weigh(episodes)
        np.testing.assert_allclose(streams.ce_weight, [0] * 14 + [0.001] * 5 + [0] * 2)
        assert streams.ce_count == streams.rl_count == 80
        np.testing.assert_allclose(streams.advantage, [-reward / 8] * 14 + [0] * 5 + [7 / 8 * reward] * 2)
    with pytest.raises(UserError, match="prefix.fixed: cannot be combined with"):
        prefix_method(fixed=0.1, weight=0.1)


def test_random_choice_of_prefix_tokens():
    """20 % of the mini-batch's prefix tokens, the same for the same generator, others for another."""
    method, episodes = prefix_method(keep="random"), [e for _ in range(8) for e in group_of_eight()]
    masks = [method.weigh(episodes, 0.0, np.random.default_rng(s)).advantage != 0 for s in (0, 0, 1)]
    copied = np.concatenate([e.is_prefix for e in episodes])
    assert [(m & copied).sum() for m in masks] == [8, 8, 8]
    assert np.array_equal(masks[0], masks[1]) and not np.array_equal(masks[0], masks[2])
    assert not any(method.needs_scoring([episode(0, [5], [6], [1], 0.0)]))  # it ranks nothing


def test_matched_weight_has_the_gradient_norm_of_the_clip():
    """Prefix part of the gradient: the direction is that of all tokens, the norm that of the top 20 %."""

    def of(**options):
        run = run_config(method="prefix_rft", demos="d", micro_tokens=80, prefix=options)
        return gradient(run, random_episodes(np.random.default_rng(4)))

    none, every, top = (of(keep=k)[0] for k in ("none", "all", "top"))
    scale = float((top - none).norm() / (every - none).norm())
    assert 0 < scale < 1
    for part_norms in (False, True):
        run = run_config(method="prefix_rft", demos="d", micro_tokens=80, prefix={"keep": "matched"})
        matched, out = gradient(run, random_episodes(np.random.default_rng(4)), part_norms=part_norms)
        assert relative(matched, none + scale * (every - none)) < 1e-5
        assert out["prefix_scale"] == pytest.approx(scale, rel=1e-4)
    assert out["grad_norm_prefix"] == pytest.approx(float((top - none).norm()), rel=1e-4)


def test_schedule_by_difficulty():
    """A problem that was always solved gets the open window, one never solved the closed one; a new one that of its level's mean, and
    the first of a level that of the mean over all."""
    method = get_method(run_config(method="prefix_rft", demos="d", rollout=EIGHT, prefix={"schedule": "difficulty"}))
    assert method.window(0.5) == (0.95, 0.95) == method.window(0.5, PROBLEM)  # nothing is known yet
    easy = [episode(0, [5], [], [1], 1.0) for _ in range(7)] + [episode(0, [5], [6], [1], 0.0)]
    half = [episode(1, [5], [], [1], float(i < 2)) for i in range(4)] + [episode(1, [5], [6], [1], 1.0)]
    method.observe(easy + half, np.random.default_rng(0))
    assert method.difficulty.solved == {"p0": 1.0, "p1": 0.5}  # plain rollouts alone
    assert method.window(0.0, easy[0].start.problem) == pytest.approx((0.05, 0.95))
    assert method.window(1.0, half[0].start.problem) == pytest.approx((0.5, 0.95))
    assert method.window(0.0, PROBLEM)[0] == method.window(0.0)[0] == pytest.approx(0.95 - 0.9 * 0.1 * 0.75)
    hard = [episode(2, [5], [], [1], 0.0) for _ in range(7)] + [episode(2, [5], [6], [1], 1.0)]
    for e in hard:
        e.start = replace(e.start, problem=replace(e.start.problem, level="hard"))
    method.observe(easy + hard, np.random.default_rng(0))
    assert method.difficulty.solved_overall == pytest.approx(0.9 * 0.075 + 0.1 * 0.5)
    # "all" was met in both steps: 0.9 x (0.1 x 0.75) + 0.1 x 1; "hard" starts at the mean over all of step 1: 0.9 x 0.075 + 0.1 x 0
    assert method.difficulty.solved_at == pytest.approx({"all": 0.1675, "hard": 0.0675})
    new = Problem("new", [5], "", [], "hard")
    assert method.window(0.0, new)[0] == pytest.approx(0.95 - 0.9 * 0.0675)
    assert method.window(0.0, Problem("newer", [5], "", [], "other"))[0] == method.window(0.0)[0]
    copy = get_method(method.run)
    copy.load_state_dict(method.state_dict())
    assert copy.window(0.0, new) == method.window(0.0, new)
    assert copy.window(0.0, half[0].start.problem) == method.window(0.0, half[0].start.problem)
    assert copy.window(0.3) == method.window(0.3)
    with pytest.raises(UserError, match="prefix.schedule: difficulty needs a plain rollout"):
        prefix_method(schedule="difficulty", per_group=8)


# ------------------------------------------------------------------------- gradients: the formulas, in float64


class Policy:
    """Of one episode, in float64: log p of the response and its entropies under pi, under pi_old, and log p under the reference."""

    def __init__(self, model, e, old, reference):
        def table(m):
            return torch.log_softmax(m(torch.tensor([e.ids])).logits[0, len(e.prompt) - 1 : -1].double(), -1)

        own, targets = table(model), torch.tensor(e.response)[:, None]
        self.logp = own.gather(1, targets)[:, 0]
        self.entropy = -(own.exp() * own).sum(-1).detach()
        with torch.no_grad():
            before = table(old)
            self.old_logp = before.gather(1, targets)[:, 0]
            self.old_entropy = (-(before.exp() * before).sum(-1)).tolist()
            self.reference = table(reference).gather(1, targets)[:, 0]
        self.ratio = torch.exp(self.logp - self.old_logp)

    def clipped(self, a):
        return torch.minimum(self.ratio * a, self.ratio.clamp(0.8, 1.2) * a)

    @property
    def p(self):
        return self.logp.exp()


def standardised(rewards):
    mean = sum(rewards) / len(rewards)
    deviation = math.sqrt(sum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1))
    return [(r - mean) / (deviation + 1e-6) for r in rewards]


def centred(rewards):
    return [r - sum(rewards) / len(rewards) for r in rewards]


def average(parts, denominator):
    """Of the tokens of several trajectories, in the three ways of docs/methods.md."""
    if denominator == "token":
        return torch.cat(parts).mean()
    return sum(p.mean() if denominator == "sequence" else p.sum() / LIMIT for p in parts) / len(parts)


def sft_loss(groups, progress):
    return -torch.cat([q.logp for group in groups for _, q in group]).mean()


def rft_loss(groups, progress, keep_share=1.0):
    """The clip by entropy ranks every token of the mini-batch; what falls out stays in the denominator."""
    everything = [h for group in groups for _, q in group for h in q.old_entropy]
    least = sorted(everything, reverse=True)[int(keep_share * len(everything) + 0.5) - 1]
    total, n = 0.0, sum(len(g) for g in groups)
    for group in groups:
        for a, (_, q) in zip(centred([e.reward for e, _ in group]), group, strict=True):
            kept = torch.tensor([h >= least for h in q.old_entropy])
            total = total - q.clipped(a)[kept].sum() / (n * LIMIT)
    return total


def luffy_loss(groups, progress, gamma=0.1):
    total, n = 0.0, sum(len(g) for g in groups)
    for group in groups:
        for a, (e, q) in zip(centred([e.reward for e, _ in group]), group, strict=True):
            value = q.ratio if e.start.sample else q.p / (q.p + gamma)
            total = total - (a * value).sum() / (n * LIMIT)
    return total


def kept_of_prefixes(groups, keep, keep_share, rank_over):
    """{(group, place in it): positions of the prefix that are trained on}; each set that is ranked together is a list of its own."""
    ranked, kept = {}, {}
    for g, group in enumerate(groups):
        for i, (e, q) in enumerate(group):
            kept[g, i] = list(range(len(e.prefix))) if keep == "all" else []
            for t in range(len(e.prefix)):
                together = {"minibatch": 0, "group": g, "sequence": (g, i)}[rank_over]
                ranked.setdefault(together, []).append((q.old_entropy[t], g, i, t))
    if keep in ("top", "bottom"):
        for tokens in ranked.values():
            count = len(tokens) - int((1 - Fraction(str(keep_share))) * len(tokens))
            for _, g, i, t in sorted(tokens, reverse=keep == "top")[:count]:
                kept[g, i].append(t)
    return kept


def prefix_loss(
    groups,
    progress,
    keep="top",
    keep_share=0.2,
    rank_over="minibatch",
    weight=1.0,
    fixed=None,
    clip=True,
    negative=True,
    baseline="inside",
    per_group=1,
    kept=None,
):
    """The same W on prefix and continuation (paper section 2 steps 5 to 8), and what the controls and ablations change in it."""
    kept = kept or kept_of_prefixes(groups, keep, keep_share, rank_over)
    total, n = 0.0, sum(len(g) for g in groups)
    for g, group in enumerate(groups):
        rewards = [e.reward for e, _ in group]
        outside = [r for r, (e, _) in zip(rewards, group, strict=True) if not e.prefix]
        for i, (e, q) in enumerate(group):
            k = len(e.prefix)
            of_prefix = of_rest = rewards[i] - sum(rewards) / len(rewards)
            if baseline == "outside":
                of_prefix = rewards[i] - sum(outside) / len(outside)
                of_rest = rewards[i] if k else of_prefix
            imitated = q.clipped(weight * of_prefix) if clip else q.ratio * weight * of_prefix
            if fixed is not None:
                imitated = fixed * q.logp
            trained = kept[g, i] if negative or of_prefix > 0 else []
            total = total - (q.clipped(of_rest)[k:].sum() + imitated[trained].sum()) / (n * LIMIT)
    return total


def likelihood(seen, imitated):
    """Of all demonstrations of the mini-batch, as often as there are demonstrations."""
    if not seen:
        return 0.0
    return len(seen) * torch.cat(seen).mean() if imitated == "token" else sum(part.mean() for part in seen)


def rl_with_sft_loss(groups, progress, coefficient=1.0, clip=False, imitated="token"):
    total, n, seen = 0.0, sum(len(g) for g in groups), []
    for group in groups:
        rollouts = [(e, q) for e, q in group if e.start.sample]
        for a, (_, q) in zip(centred([e.reward for e, _ in rollouts]), rollouts, strict=True):
            total = total - (q.clipped(a) if clip else q.ratio * a).sum() / (n * LIMIT)
        seen += [q.logp for e, q in group if not e.start.sample]
    return total - coefficient * likelihood(seen, imitated) / n


def drpo_loss(groups, progress):
    total, n = 0.0, sum(len(g) for g in groups)
    for group in groups:
        for a, (e, q) in zip(centred([e.reward for e, _ in group]), group, strict=True):
            total = total - q.clipped(a)[len(e.prefix) :].sum() / (n * LIMIT)
    return total


def uft_loss(groups, progress, denominator="token", coefficient=0.001, kl=0.001):
    explored, hints = [], []
    for group in groups:
        for a, (e, q) in zip(standardised([e.reward for e, _ in group]), group, strict=True):
            k = len(e.prefix)
            ahead = q.reference - q.logp
            explored.append((q.clipped(a) - kl * (ahead.exp() - ahead - 1))[k:])
            hints += [q.logp[:k]] if k else []
    return -average(explored, denominator) - coefficient * average(hints, denominator)


def relift_loss(groups, progress):
    total, n = 0.0, sum(len(g) for g in groups)
    for group in groups:
        for a, (_, q) in zip(centred([e.reward for e, _ in group]), group, strict=True):
            total = total - (q.ratio * a).sum() / (n * LIMIT)
    return total


def hpt_loss(
    groups, progress, gate=0, coefficient=1.0, std=False, clip=False, denominator="constant", imitated="token"
):
    explored, seen, rollouts = [], [], 0
    for group in groups:
        *sampled_ones, (demo, q) = group
        assert not demo.start.sample
        rollouts += len(sampled_ones)
        rewards = [e.reward for e, _ in sampled_ones]
        if sum(rewards) <= gate:
            seen.append(q.logp)
            continue
        for a, (_, q) in zip((standardised if std else centred)(rewards), sampled_ones, strict=True):
            explored.append(q.clipped(a) if clip else q.ratio * a)
    # dropped rollouts count in the denominator of both parts
    return -(average(explored, denominator) * len(explored) + coefficient * likelihood(seen, imitated)) / rollouts


def srft_loss(
    groups,
    progress,
    positive=0.1,
    imitation=0.5,
    gamma=0.1,
    entropy="sequence",
    std=False,
    denominator="constant",
    imitated="token",
    together=True,
):
    explored, shaped, seen = [], [], []
    for group in groups:
        for a, (e, q) in zip((standardised if std else centred)([e.reward for e, _ in group]), group, strict=True):
            h = q.entropy.mean() if entropy == "sequence" else q.entropy
            if not e.start.sample:
                seen.append(imitation * torch.exp(-h) * q.logp)
                shaped.append(a * q.p / (q.p + gamma))
            else:
                explored.append((positive * torch.exp(h) if e.reward else -1.0) * q.logp)
    rollouts, demos = len(explored), len(seen)
    own, others = (rollouts + demos,) * 2 if together else (rollouts, demos)
    imitation_part = likelihood(seen, imitated) + average(shaped, denominator) * demos
    return -average(explored, denominator) * rollouts / own - imitation_part / others


def chord_loss(groups, progress, variant="mu", start=None, end=None, decay=0.4, denominator="token"):
    first, last = (0.1, 0.1) if variant == "phi" else (0.9, 0.05)
    first, last = first if start is None else start, last if end is None else end
    mu, explored, imitated = last + (first - last) * 0.5 * (1 + math.cos(math.pi * progress / decay)), [], []
    for group in groups:
        rollouts, (_, seen) = group[:-1], group[-1]
        for a, (_, q) in zip(standardised([e.reward for e, _ in rollouts]), rollouts, strict=True):
            explored.append(q.clipped(a))
        p = seen.p.detach()
        imitated.append(seen.logp if variant == "mu" else p * (1 - p) * seen.logp)
    return -(1 - mu) * average(explored, denominator) - mu * average(imitated, denominator)


def trapo_loss(groups, progress, alpha=0.1, coefficient=1.0):
    """Rewards of demonstrations are in the baseline; a prefix that several rollouts of a group share is imitated once."""
    total, n = 0.0, sum(len(g) for g in groups)
    for group in groups:
        imitated = {}
        for a, (e, q) in zip(centred([e.reward for e, _ in group]), group, strict=True):
            k, p = len(e.prefix), q.p.detach()
            total = total - (a * q.ratio[k:]).sum() / (n * LIMIT)
            inside = torch.tensor([min(1.0, float(x) / alpha) for x in p[:k]], dtype=torch.float64)
            imitated[tuple(e.prefix)] = (inside * q.logp[:k]).sum()
        total = total - coefficient * sum(imitated.values()) / (n * LIMIT)
    return total


def g2rpo_a_loss(groups, progress, per_group=1):
    total, n = 0.0, sum(len(g) for g in groups)
    for group in groups:
        for a, (_, q) in zip(centred([e.reward for e, _ in group]), group, strict=True):
            total = total - q.clipped(a).sum() / (n * LIMIT)
    return total


LOSSES = {
    "sft": sft_loss,
    "rft": rft_loss,
    "prefix_rft": prefix_loss,
    "rl_with_sft": rl_with_sft_loss,
    "luffy": luffy_loss,
    "uft": uft_loss,
    "relift": relift_loss,
    "hpt": hpt_loss,
    "srft": srft_loss,
    "chord": chord_loss,
    "drpo": drpo_loss,
    "prefix_shown": drpo_loss,
    "trapo": trapo_loss,
    "g2rpo_a": g2rpo_a_loss,
}
# The method as it comes, then the controls of Table 8 and the ablations: the keys of a run, which are the arguments of the formula.
CASES = [(name, {}) for name in LOSSES] + [
    ("rft", {"keep_share": 0.2}),
    ("prefix_rft", {"keep": "none"}),
    ("prefix_rft", {"keep": "all"}),
    ("prefix_rft", {"keep": "all", "weight": 0.3}),
    ("prefix_rft", {"keep": "all", "fixed": 0.05}),
    ("prefix_rft", {"keep": "bottom"}),
    ("prefix_rft", {"keep": "random", "keep_share": 0.5}),
    ("prefix_rft", {"keep": "all", "clip": False}),
    ("prefix_rft", {"negative": False}),
    ("prefix_rft", {"keep": "all", "negative": False, "baseline": "outside"}),
    ("prefix_rft", {"baseline": "outside"}),
    ("prefix_rft", {"per_group": 2}),
    ("prefix_rft", {"per_group": 2, "rank_over": "group"}),
    ("prefix_rft", {"per_group": 2, "rank_over": "sequence"}),
    ("rl_with_sft", {"coefficient": 0.5}),
    ("rl_with_sft", {"clip": True, "imitated": "sequence"}),
    ("luffy", {"gamma": 0.3}),
    ("uft", {"denominator": "sequence", "kl": 0.0, "coefficient": 0.1}),
    ("uft", {"denominator": "constant", "kl": 0.1}),
    ("hpt", {"denominator": "token", "gate": 1}),
    ("hpt", {"coefficient": 0.3, "gate": 1, "imitated": "sequence"}),
    # what the project took HPT for until the authors' code was read: GRPO's equation, a mean over prompts
    ("hpt", {"std": True, "clip": True, "denominator": "sequence", "coefficient": 3.0}),
    ("srft", {"denominator": "token", "positive": 0.3, "imitation": 0.2, "gamma": 0.2}),
    ("srft", {"entropy": "token", "std": True, "denominator": "sequence", "imitated": "sequence", "together": False}),
    ("trapo", {"alpha": 0.3, "coefficient": 0.5}),
    ("g2rpo_a", {"per_group": 2}),
    ("chord", {"variant": "phi"}),
    ("chord", {"variant": "hybrid"}),
    ("chord", {"denominator": "sequence", "start": 0.7, "decay": 0.2}),
    ("chord", {"variant": "phi", "denominator": "constant", "end": 0.3}),
]


def groups_for(name, rng, per_group=1):
    """Five groups of 4 with random tokens; in one everything is right, in one everything wrong."""
    prefixed = {"drpo": 4, "prefix_shown": 4, "uft": 4, "trapo": 3, "relift": 0, "rft": 0}.get(name, per_group)
    episodes = random_episodes(rng, groups=5, size=4, prefixed=prefixed)
    for e in episodes:
        e.reward = {3: 1.0, 4: 0.0}.get(e.group, e.reward)
    for g in range(3):
        episodes[4 * g].reward, episodes[4 * g + 1].reward = 1.0, 0.0
    if name == "uft":  # a group whose hint had no piece
        episodes = [episode(1, e.prompt, [], e.continuation, e.reward) if e.group == 1 else e for e in episodes]
    if name == "prefix_shown":  # some groups are plain
        episodes = [episode(e.group, e.prompt, [], e.continuation, e.reward) if e.group % 2 else e for e in episodes]
    if name == "trapo":  # two rollouts of the same prefix, and a whole demonstration
        for first in range(0, len(episodes), 4):
            a, b, c = episodes[first + 1 : first + 4]
            episodes[first + 2] = episode(b.group, b.prompt, a.prefix, b.continuation, b.reward)
            episodes[first + 3] = episode(c.group, c.prompt, c.prefix + c.continuation, [], 1.0, sample=False)
    if name in ("sft", "luffy", "rl_with_sft", "hpt", "srft", "chord"):
        demo = lambda e: episode(e.group, e.prompt, e.prefix, [], 1.0, sample=False)  # noqa: E731
        episodes = [demo(e) if e.prefix else e for e in episodes]
    return [e for e in episodes if not e.start.sample] if name == "sft" else episodes


def chosen_at_random(groups, streams):
    """What `keep: random` took, as `kept_of_prefixes` says it: which tokens is its own affair, what they get is not."""
    kept, at = {}, 0
    for g, group in enumerate(groups):
        for i, (e, _) in enumerate(group):
            kept[g, i] = [t for t in range(len(e.prefix)) if streams.advantage[at + t] != 0]
            at += len(e.response)
    return kept


@pytest.mark.parametrize(
    "name, options",
    CASES,
    ids=lambda v: v if isinstance(v, str) else "-".join(f"{k}={x}" for k, x in v.items()) or "default",
)
def test_gradient_of_the_formula(name, options):
    """Our streams and learner, in micro-batches, against the formula: pi, pi_old and the reference are three models."""
    section = {method_class(name).section: options} if options else {}
    run = run_config(method=name, demos="d", micro_tokens=90, **section)
    episodes, progress = groups_for(name, np.random.default_rng(11), options.get("per_group", 1)), 0.1
    old, first = small_model(0), small_model(5)
    Learner(old, run, 1).score(episodes)
    learner = Learner(first, run, 1, reference=True)
    learner.score_reference(episodes)
    policy = small_model(0).double()
    with torch.no_grad():
        noise = torch.Generator().manual_seed(1)
        for p in policy.parameters():
            p += 0.05 * torch.randn(p.shape, generator=noise)
    learner.model.load_state_dict({k: v.float() for k, v in policy.state_dict().items()})
    streams = get_method(run).weigh(episodes, progress)
    out = learner.gradients(episodes, streams, part_norms=name == "hpt")
    ours = flat_gradient(learner)

    old, reference = small_model(0).double(), small_model(5).double()
    groups = [[(e, Policy(policy, e, old, reference)) for e in episodes if e.group == g] for g in range(5)]
    given = {"kept": chosen_at_random(groups, streams)} if options.get("keep") == "random" else {}
    parameters = list(policy.parameters())

    def gradient_of(**keys):
        loss = LOSSES[name](groups, progress, **keys)
        parts = torch.autograd.grad(loss, parameters, retain_graph=True)
        return float(loss.detach()), torch.cat([g.reshape(-1) for g in parts])

    loss, expected = gradient_of(**options, **given)
    assert float(expected.norm()) > 0 and relative(ours, expected) < 1e-5
    assert out["rl_loss"] + out["ce_loss"] == pytest.approx(loss, rel=1e-4, abs=1e-6)
    for key in options:  # each key has a part in it: left out, the gradient is another one
        if key not in ("per_group", "keep_share" if given else None):
            others = {k: v for k, v in options.items() if k != key}
            assert relative(gradient_of(**others)[1], expected) > 1e-3, key


def test_a_penalty_without_a_reference_is_refused():
    run = run_config(method="uft", demos="d")
    learner, episodes = Learner(small_model(), run, 1), random_episodes(np.random.default_rng(0))
    learner.score(episodes)
    with pytest.raises(ValueError, match="call score_reference first"):
        learner.gradients(episodes, get_method(run).weigh(episodes))


def test_further_update_has_an_optimizer_of_its_own():
    """ReLIFT's SFT update is a first step of a fresh AdamW: each weight moves by about the learning rate, whatever the other
    AdamW has seen, and the count of the run's updates stays."""
    run = run_config(
        method="relift", demos="d", optimizer={"lr": 0.01, "weight_decay": 0.0}, relift={"lr": 0.001, "batch": 4}
    )
    method = get_method(run)
    learner = Learner(small_model(), run, 10, further=method.further_optimizer())
    episodes = groups_for("relift", np.random.default_rng(0))
    learner.score(episodes)
    learner.update(episodes, method.weigh(episodes))
    before = [p.detach().clone() for p in learner.model.parameters()]
    method.buffer = [(PROBLEM, PROBLEM.demos[0])] * 4
    batch = method.further_batch()
    out = learner.further_update(batch, ce_streams(batch))
    moved = torch.cat(
        [(p.detach() - b).abs().reshape(-1) for p, b in zip(learner.model.parameters(), before, strict=True)]
    )
    assert float(moved.max()) == pytest.approx(0.001, rel=0.01)
    assert out["lr"] == 0.001 and out["demonstrations"] == 4 and learner.updates == 1
    copy = Learner(small_model(), run, 10, further=method.further_optimizer())
    copy.load_state_dict(deepcopy(learner.state_dict()))  # a checkpoint is read from a file
    a, b = learner.further_update(batch, ce_streams(batch)), copy.further_update(batch, ce_streams(batch))
    assert a == b and torch.equal(learner.model.lm_head.weight, copy.model.lm_head.weight)
