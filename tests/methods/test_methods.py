"""Methods against numbers worked out by hand, and the paper's window."""

import numpy as np
import pytest
import torch

from prefix_rft.common.errors import UserError
from prefix_rft.episodes import Demonstration, Problem
from prefix_rft.methods import get_method
from prefix_rft.methods.parts.schedules import Window, prefix_length, window
from prefix_rft.methods.prefix_rft import top_entropy
from prefix_rft.streams import CLIPPED, PLAIN, SHAPED, Tokens
from prefix_rft.training.loss import rl_terms
from tests.helpers.small import episode, random_episodes, run_config

DEMO = [11, 12, 13, 14, 15, 16, 17, 18, 19, 1]
PROBLEM = Problem("p", [5, 6], "", [Demonstration("d", DEMO)])
EIGHT = {"group_size": 8, "max_response": 10}


def group_of_eight():
    """7 failures of 2 tokens and a success: 5 prefix tokens with entropies 1, 5, 3, 9, 2 and a continuation of 2."""
    episodes = [episode(0, [5, 6], [], [7, 1], 0.0) for _ in range(7)]
    episodes.append(episode(0, [5, 6], DEMO[:5], [8, 1], 1.0))
    episodes[-1].entropies = np.array([1.0, 5, 3, 9, 2, 99, 99])
    return episodes


def weights(streams, logp, old):
    """Per-token weights alpha, beta of Eq. 2: minus the gradient of the (undivided) loss by log pi."""
    logp = torch.tensor(logp, dtype=torch.float64, requires_grad=True)
    tokens = Tokens(
        logp, torch.tensor(old, dtype=torch.float64), torch.as_tensor(streams.advantage), gamma=streams.gamma
    )
    loss, clipped = rl_terms(tokens, torch.as_tensor(streams.surrogate))
    loss.sum().backward()
    return (-logp.grad).numpy(), loss.detach().numpy(), clipped.numpy()


def test_rft_by_hand():
    method = get_method(run_config(rollout=EIGHT))
    assert [s.prefix for s in method.compose(PROBLEM, 0.0, np.random.default_rng(0))] == [[]] * 8
    episodes = [episode(0, [5], [], [7, 1], r) for r in (1.0, 0, 0, 0, 0, 0, 0, 0)]
    streams = method.weigh(episodes)
    np.testing.assert_allclose(streams.advantage, [7 / 8] * 2 + [-1 / 8] * 14)
    assert streams.rl_count == 8 * 10  # sequences x response limit
    # ratios 1.1 (inside the clip), 1.5 (A > 0: clipped), then for A < 0: 1.5 (kept), 0.5 (clipped), 1 for the rest
    ratios = np.array([1.1, 1.5, 1.5, 0.5] + [1.0] * 12)
    w, loss, clipped = weights(streams, np.log(ratios * 0.2), np.full(16, np.log(0.2)))
    np.testing.assert_allclose(w, [7 / 8 * 1.1, 0, -1.5 / 8, 0] + [-1 / 8] * 12)
    np.testing.assert_allclose(loss, [-7 / 8 * 1.1, -7 / 8 * 1.2, 1.5 / 8, 0.8 / 8] + [1 / 8] * 12)
    assert clipped.tolist() == [False, True, False, True] + [False] * 12


def test_prefix_rft_by_hand():
    """The paper's point: 7 failures and a success with the prefix give the prefix +7/8, on its top 20 % alone."""
    method = get_method(run_config(method="prefix_rft", rollout=EIGHT))
    streams = method.weigh(group_of_eight())
    prefix, tail = [0, 0, 0, 7 / 8, 0], [7 / 8, 7 / 8]  # 20 % of 5 tokens: the one of entropy 9
    np.testing.assert_allclose(streams.advantage, [-1 / 8] * 14 + prefix + tail)
    assert streams.rl_count == 8 * 10  # dropped prefix tokens stay in the denominator
    w, loss, _ = weights(streams, np.full(21, -1.0), np.full(21, -1.0))
    np.testing.assert_allclose(w, [-1 / 8] * 14 + prefix + tail)
    assert loss.sum() / streams.rl_count == pytest.approx(-(3 * 7 / 8 - 14 / 8) / 80)


def test_prefix_rft_seven_successes():
    method = get_method(run_config(method="prefix_rft", rollout=EIGHT, prefix={"keep": "all"}))
    group = [episode(0, [5], [], [1], 1.0) for _ in range(7)]
    np.testing.assert_allclose(method.weigh(group + [episode(0, [5], [6], [1], 1.0)]).advantage, 0)
    failing = method.weigh(group + [episode(0, [5], [6], [1], 0.0)])
    np.testing.assert_allclose(failing.advantage, [1 / 8] * 7 + [-7 / 8] * 2)  # a failing hybrid pushes its prefix down


def test_a_prefix_of_negative_advantage_can_be_left_untrained():
    """One group whose hybrid fails and one whose hybrid succeeds: of the first the continuation alone is pushed down."""
    options = {"keep": "all", "negative": False}
    method = get_method(run_config(method="prefix_rft", rollout=EIGHT, prefix=options))
    fails = [episode(0, [5], [], [1], 1.0) for _ in range(7)] + [episode(0, [5], [6, 8], [1], 0.0)]
    succeeds = [episode(1, [5], [], [1], 0.0) for _ in range(7)] + [episode(1, [5], [6, 8], [1], 1.0)]
    expected = [1 / 8] * 7 + [0, 0, -7 / 8] + [-1 / 8] * 7 + [7 / 8] * 3
    np.testing.assert_allclose(method.weigh(fails + succeeds).advantage, expected)
    with pytest.raises(UserError, match="prefix.fixed: .* negative: false"):
        run_config(method="prefix_rft", rollout=EIGHT, prefix={"keep": "all", "negative": False, "fixed": 0.1})


def test_prefix_rft_outside_baseline():
    """dr_grpo_prefix: plain rows and prefix against the mean of the plain rows, the hybrid's continuation gets R."""
    method = get_method(run_config(method="prefix_rft", rollout=EIGHT, prefix={"keep": "all", "baseline": "outside"}))
    group = [episode(0, [5], [], [1], r) for r in (1.0, 1, 0, 0, 0, 0, 0)] + [episode(0, [5], [6, 7], [1], 1.0)]
    m = 2 / 7
    np.testing.assert_allclose(method.weigh(group).advantage, [1 - m] * 2 + [-m] * 5 + [1 - m] * 2 + [1.0])
    assert all(method.needs_scoring(group))


def test_prefix_clip_switch():
    episodes = group_of_eight()
    on, off = (get_method(run_config(method="prefix_rft", rollout=EIGHT, prefix={"clip": c})) for c in (True, False))
    assert set(on.weigh(episodes).surrogate) == {CLIPPED}
    assert off.weigh(episodes).surrogate.tolist() == [CLIPPED] * 14 + [PLAIN] * 5 + [CLIPPED] * 2


def test_luffy_by_hand():
    method = get_method(run_config(method="luffy", demos="d", rollout=EIGHT))
    starts = method.compose(PROBLEM, 0.5, np.random.default_rng(0))
    assert [s.prefix for s in starts] == [[]] * 7 + [DEMO] and not starts[-1].sample
    episodes = [episode(0, [5, 6], [], [7, 1], 0.0) for _ in range(7)] + [
        episode(0, [5, 6], [8, 1], [], 1.0, sample=False)
    ]
    streams = method.weigh(episodes)
    assert streams.surrogate.tolist() == [PLAIN] * 14 + [SHAPED] * 2
    logp = np.log([0.5] * 14 + [0.3, 0.9])
    old = np.log([0.25] + [0.5] * 13 + [0.3, 0.9])
    w, loss, clipped = weights(streams, logp, old)
    # explored: A r without clip (first token: r = 2); imitated: A g p / (p + g)^2 with g = 0.1
    expected = [-2 / 8] + [-1 / 8] * 13 + [7 / 8 * 0.1 * 0.3 / 0.16, 7 / 8 * 0.1 * 0.9 / 1.0]
    np.testing.assert_allclose(w, expected)
    np.testing.assert_allclose(loss[-2:], [-7 / 8 * 0.75, -7 / 8 * 0.9])
    assert not clipped.any()


def test_sft_streams():
    method = get_method(run_config(method="sft", demos="d"))
    start = method.compose(PROBLEM, 0.0, np.random.default_rng(0))
    assert len(start) == 1 and start[0].prefix == DEMO and not start[0].sample
    streams = method.weigh(
        [episode(0, [5], DEMO, [], 1.0, sample=False), episode(1, [5], [3, 1], [], 1.0, sample=False)]
    )
    assert streams.ce_weight.tolist() == [1.0] * 12 and streams.ce_count == 12


def test_without_demonstration_is_plain_rft():
    bare = Problem("p", [5], "", [])
    for name in ("prefix_rft", "luffy"):
        starts = get_method(run_config(method=name, demos="d", rollout=EIGHT)).compose(
            bare, 0.5, np.random.default_rng(0)
        )
        assert len(starts) == 8 and not any(s.prefix for s in starts)


@pytest.mark.parametrize("count", [0, 1, 2, 8])
def test_prefix_composition(count):
    method = get_method(run_config(method="prefix_rft", rollout=EIGHT, prefix={"per_group": count}))
    for progress in (0.0, 0.3, 1.0):
        starts = method.compose(PROBLEM, progress, np.random.default_rng(1))
        assert len(starts) == 8 and sum(bool(s.prefix) for s in starts) == count
        for s in starts[8 - count :]:
            assert s.prefix == DEMO[: len(s.prefix)]  # the demonstration's own ids
            assert 1 <= len(s.prefix) <= len(DEMO) - 1


def test_window_opens_downward():
    """Cosine from 0.95 to 0.05 (paper section 2 step 2): the mean share falls from 0.95 to 0.50."""
    cfg = Window()
    assert window(cfg, 0.0) == pytest.approx((0.95, 0.95))
    assert window(cfg, 0.5) == pytest.approx((0.50, 0.95))
    assert window(cfg, 1.0) == pytest.approx((0.05, 0.95))
    assert window(cfg, 0.25)[0] == pytest.approx(0.05 + 0.9 * (1 + np.sqrt(0.5)) / 2)
    long = Problem("p", [5], "", [Demonstration("d", list(range(1000)))])
    method = get_method(run_config(method="prefix_rft", rollout={"group_size": 8, "max_response": 2000}))
    rng = np.random.default_rng(0)
    for progress, mean in ((0.0, 0.95), (1.0, 0.50)):
        lengths = [len(method.compose(long, progress, rng)[-1].prefix) for _ in range(2000)]
        assert np.mean(lengths) / 1000 == pytest.approx(mean, abs=0.02)
        assert max(lengths) <= 950


def test_schedules_of_the_window():
    lows = {"linear": [0.95, 0.5, 0.05], "constant": [0.95] * 3, "uniform": [0.05] * 3, "reverse": [0.05, 0.5, 0.95]}
    for name, expected in lows.items():
        windows = [window(Window(schedule=name), p) for p in (0, 0.5, 1)]
        assert windows == [pytest.approx((low, 0.95)) for low in expected]
    closing = Window(schedule="to_zero", low_start=0.8, min_length=0)
    assert [window(closing, p) for p in (0, 0.5, 1)] == [pytest.approx(w) for w in ((0.8, 0.95), (0.4, 0.475), (0, 0))]


def test_prefix_length_bounds():
    assert prefix_length(0.95, 100, 1) == 95
    assert prefix_length(0.05, 10, 1) == 1  # floor(0.5) = 0, lifted to the least length
    assert prefix_length(0.99, 2, 5) == 1  # something is left to sample
    assert prefix_length(0.5, 1, 1) == 0  # a demonstration of one token has no prefix


def test_top_entropy():
    assert top_entropy(np.array([1.0, 5, 3, 9]), np.array([1, 1, 1, 0], bool), 1 / 3).tolist() == [0, 1, 0, 0]
    ties = top_entropy(np.array([2.0, 2, 2, 2, 2]), np.ones(5, bool), 0.2)
    assert ties.tolist() == [1, 0, 0, 0, 0]  # the earlier


@pytest.mark.parametrize(
    ("share", "kept"),  # of 0, 1, 2, 4, 5, 6, 7, 10, 12 tokens
    [
        (0.0, [0, 0, 0, 0, 0, 0, 0, 0, 0]),
        (0.2, [0, 1, 1, 1, 1, 2, 2, 2, 3]),  # n - floor(0.8 n), the authors' rounding
        (0.5, [0, 1, 1, 2, 3, 3, 4, 5, 6]),
        (0.9, [0, 1, 2, 4, 5, 6, 7, 9, 11]),
        (1.0, [0, 1, 2, 4, 5, 6, 7, 10, 12]),
    ],
)
def test_how_many_tokens_of_high_entropy_are_kept(share, kept):
    counts = (0, 1, 2, 4, 5, 6, 7, 10, 12)
    assert [int(top_entropy(np.arange(n, dtype=float), np.ones(n, bool), share).sum()) for n in counts] == kept


def test_entropy_ranking_spans_the_mini_batch():
    """All kept tokens may lie in one episode: the ranking is over the mini-batch, not over each episode."""
    method = get_method(run_config(method="prefix_rft", rollout=EIGHT))
    a, b = group_of_eight(), group_of_eight()
    for e in b:
        e.group = 1
    b[-1].entropies = b[-1].entropies + 100
    kept = method.weigh(a + b).advantage[np.concatenate([e.is_prefix for e in a + b])] != 0
    assert kept.tolist() == [False] * 5 + [False, True, False, True, False]  # 2 of 10, both of the second group


@pytest.mark.parametrize(
    "scope, kept", [("minibatch", [0, 2, 3, 2]), ("group", [0, 3, 2, 2]), ("sequence", [1, 2, 3, 1])]
)
def test_scope_of_the_entropy_ranking(scope, kept):
    """Half of the prefix tokens stay, ranked with those of the mini-batch, of their group, or of their own sequence."""
    run = run_config(method="prefix_rft", prefix={"keep_share": 0.5, "rank_over": scope, "per_group": 2})
    entropies = ([4.0, 5], [6.0, 7, 5.5, 3.5], [9.0, 8, 7, 0, 1, 2], [8.5, 8.2])
    episodes = [episode(i // 2, [5], [7] * len(h), [1], float(i % 2)) for i, h in enumerate(entropies)]
    for e, h in zip(episodes, entropies, strict=True):
        e.entropies = np.array([*h, 99.0])
    advantage = np.split(get_method(run).weigh(episodes).advantage, np.cumsum([3, 5, 7])[:3])
    assert [int((a[:-1] != 0).sum()) for a in advantage] == kept


def test_zero_prefixes_gives_the_streams_of_rft():
    rng = np.random.default_rng(3)
    episodes = random_episodes(rng, prefixed=0)
    rft = get_method(run_config(rollout={"group_size": 4, "max_response": 60}))
    none = get_method(run_config(method="prefix_rft", demos="d", prefix={"per_group": 0}))
    a, b = rft.weigh(episodes), none.weigh(episodes)
    for field in ("advantage", "surrogate", "ce_weight"):
        assert np.array_equal(getattr(a, field), getattr(b, field))
    assert (a.rl_count, a.ce_count) == (b.rl_count, b.ce_count)
