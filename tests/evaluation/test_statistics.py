"""pass@k against enumeration, intervals and components of the variance against known answers. Coverage: test_coverage.py."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from prefix_rft.evaluation.statistics import (
    crossed_interval,
    holm,
    mean_interval,
    metric_scores,
    paired_difference,
    pass_at_k,
    score_interval,
    variance_components,
    within_quartiles,
)


def brute_force(n, c, k):
    """Share of the k-subsets of n samples, c of them right, that hold a right one."""
    right = [True] * c + [False] * (n - c)
    subsets = list(itertools.combinations(right, k))
    return sum(any(s) for s in subsets) / len(subsets)


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_subsets(nck):
    n, c, k = nck
    assert pass_at_k(n, c, k) == pytest.approx(brute_force(n, c, k), abs=1e-12)


def test_pass_at_k_is_exact_where_factorials_overflow():
    n, c, k = 4096, 3, 2048
    exact = 1 - math.comb(n - c, k) / math.comb(n, k)
    assert pass_at_k(n, c, k) == pytest.approx(exact, rel=1e-12)
    assert pass_at_k([8, 8], [0, 8], 8).tolist() == [0, 1]


@pytest.mark.parametrize("n, c, k", [(4, 1, 5), (4, 5, 2), (4, -1, 2), (4, 1, 0)])
def test_pass_at_k_refuses_impossible_counts(n, c, k):
    with pytest.raises(ValueError):
        pass_at_k(n, c, k)


def test_a_timed_out_verdict_is_neither_right_nor_wrong():
    right, judged = [[2, 2, 0]], [[8, 4, 0]]
    assert metric_scores(right, judged, "avg@8")[0, :2].tolist() == [0.25, 0.5]
    assert metric_scores(right, judged, "pass@8")[0, :2].tolist() == [1, 1]
    assert metric_scores(right, judged, "pass@2")[0, 1] == pytest.approx(1 - 1 / 6)
    assert np.isnan(metric_scores(right, judged, "avg@8")[0, 2])


def test_mean_of_a_constant_matrix_and_exact_bound_at_the_ends():
    i = score_interval(np.zeros((3, 100)))
    assert (i.mean, i.low) == (0, 0)
    assert i.high == pytest.approx(1 - 0.025 ** (1 / 100))  # Clopper-Pearson for 0 of 100
    assert score_interval(np.ones((1, 100))).low == pytest.approx(0.025 ** (1 / 100))


def test_one_seed_gives_the_interval_over_problems():
    x = np.random.default_rng(0).random((1, 400))
    i = score_interval(x)
    half = 1.966 * x.std(ddof=1) / 20  # Student, 399 degrees of freedom
    assert (i.n_seeds, i.n_problems) == (1, 400)
    assert i.low == pytest.approx(x.mean() - half, abs=0.003) and i.high == pytest.approx(x.mean() + half, abs=0.003)


def test_strata_take_the_fixed_difference_between_levels_out():
    rng = np.random.default_rng(1)
    levels = np.repeat(["easy", "hard"], 100)
    x = np.where(levels == "easy", 0.9, 0.1) + rng.normal(0, 0.02, (2, 200))
    with_levels, without = crossed_interval(x, levels), crossed_interval(x)
    assert (with_levels.high - with_levels.low) < 0.2 * (without.high - without.low)


def test_pairing_removes_what_two_methods_share():
    rng = np.random.default_rng(2)
    shared = rng.random((3, 100)) * 0.8
    x, y = shared + 0.05 + rng.normal(0, 0.01, (3, 100)), shared
    i = paired_difference(x, y)
    assert i.mean == pytest.approx(0.05, abs=0.005) and i.low > 0.04 and i.p < 0.001
    j = paired_difference(y, x)
    assert (j.mean, j.low, j.high) == pytest.approx((-i.mean, -i.high, -i.low), abs=2e-3)


def test_a_base_model_without_seeds_is_compared_with_every_seed():
    x, base = np.full((2, 10), 0.5) + np.eye(2, 10) * 0.1, np.full((1, 10), 0.25)
    assert paired_difference(x, base).n_seeds == 2
    with pytest.raises(ValueError):
        paired_difference(x, np.zeros((3, 10)))


@pytest.mark.parametrize("differing", [1, 2, 5])
def test_a_handful_of_problems_decides_nothing(differing):
    x = np.zeros((1, 100))
    x[0, :differing] = 1
    i = paired_difference(x, np.zeros((1, 100)))
    assert i.low <= 0 < i.high and i.p >= 2.0 ** (1 - differing)


def test_identical_methods_differ_by_zero_with_an_interval_that_is_not_empty():
    x = np.random.default_rng(3).random((2, 50))
    i = paired_difference(x, x)
    assert i.mean == 0 and i.low < 0 < i.high and i.p == 1


# two seeds of four problems in one level. Means: of the seeds 0.5 and 0.4, of the problems 0.1, 0.3, 0.5, 0.9, of all 0.45.
# MS_seed = 4 x 2 x 0.05^2 / 1 = 0.02; MS_problem = 2 x (0.35^2 + 0.15^2 + 0.05^2 + 0.45^2) / 3 = 0.7 / 3;
# residuals +-0.05, -+0.05, +-0.05, -+0.05: MS_error = 8 x 0.05^2 / 3 = 0.02 / 3
BY_HAND = np.array([[0.2, 0.3, 0.6, 0.9], [0.0, 0.3, 0.4, 0.9]])


def test_components_of_the_variance_by_hand():
    seed, problem, residual = variance_components(BY_HAND)
    assert residual == pytest.approx(0.02 / 3)
    assert seed == pytest.approx((0.02 - 0.02 / 3) / 4)
    assert problem == pytest.approx((0.7 / 3 - 0.02 / 3) / 2)


def test_the_interval_is_the_wider_of_two_by_hand():
    seed, problem, error = 0.02, 0.7 / 3, 0.02 / 3
    total = (seed - error) + (problem - error) + error
    df = total**2 / (seed**2 / 1 + problem**2 / 3 + error**2 / 3)
    crossed = stats.t.ppf(0.975, df) * math.sqrt(total / 8)

    def separate(tail):  # 12.7 x 0.05 for the seeds, 3.18 x 0.168 for the problems
        return math.sqrt((stats.t.isf(tail, 1) ** 2 * seed + stats.t.isf(tail, 3) ** 2 * (problem - error)) / 8)

    i = crossed_interval(BY_HAND, bounds=(0, np.inf))
    assert separate(0.025) > crossed and i.high - i.mean == pytest.approx(separate(0.025), rel=1e-9)
    assert separate(i.p / 2) == pytest.approx(0.45, rel=1e-9) and i.p > 2 * stats.t.sf(0.45 / math.sqrt(total / 8), df)
    # means of the seeds are equal, of the problems 0.25, 0.25, 0.65, 0.85: the problems are left
    agreeing = np.array([BY_HAND[0], BY_HAND[0] + [0.1, -0.1, 0.1, -0.1]])
    ms_problem = 2 * (2 * 0.25**2 + 0.15**2 + 0.35**2) / 3
    i = crossed_interval(agreeing)
    assert variance_components(agreeing)[0] == 0
    assert i.high - i.mean == pytest.approx(stats.t.ppf(0.975, 3) * math.sqrt(ms_problem / 8))


def test_components_without_levels_and_with_one_seed():
    levels = np.array([0, 0, 1, 1])
    x = np.array([[0.1, 0.1, 0.8, 0.8], [0.3, 0.3, 1.0, 1.0]])  # seeds differ by 0.2, problems of a level do not differ
    assert variance_components(x, levels) == pytest.approx((0.02, 0, 0))
    assert variance_components(x)[1] == pytest.approx(4 * 0.35**2 / 3)
    seed, problem, residual = variance_components(x[:1])
    assert np.isnan([seed, residual]).all() and problem == pytest.approx(4 * 0.35**2 / 3)


def test_components_of_a_large_sample_are_those_it_was_drawn_from():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 0.1, (300, 1)) + rng.normal(0, 0.2, 300) + rng.normal(0, 0.3, (300, 300))
    assert np.sqrt(variance_components(x)) == pytest.approx([0.1, 0.2, 0.3], rel=0.15)


@given(st.integers(1, 5), st.integers(2, 30), st.integers(0, 10_000))
def test_p_is_below_5_percent_exactly_where_the_interval_excludes_0(seeds, problems, seed):
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 3, problems)
    x = rng.binomial(8, rng.random(problems), (seeds, problems)) / 8 - rng.random()
    if seed % 3 == 0:  # next to nothing differs
        x[:, rng.integers(0, 7) :] = 0
    if seed % 7 == 0:  # nothing varies
        x[:] = x[0, 0]
    i = crossed_interval(x, levels, bounds=(-1, 1))
    assert i.low <= i.mean <= i.high
    assert (i.p < 0.05) == (i.low > 0 or i.high < 0)


def test_mean_interval_is_students():
    i = mean_interval([1.0, 2.0, 3.0])
    assert i.high - i.mean == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert mean_interval([0.3]).low == -np.inf


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.5]).tolist() == [1.0, 1.0]
    assert holm([0.02]).tolist() == [0.02]


def test_quartile_fences():
    assert within_quartiles(np.array([1, 2, 3, 4, 100.0])).tolist() == [True] * 4 + [False]
