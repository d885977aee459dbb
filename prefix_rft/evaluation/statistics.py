"""Scores and their uncertainty: pass@k, avg@k, intervals over seeds and problems, paired differences, components of the variance.

The data of one method on one split at one temperature is a matrix x of shape [seeds S, problems P]: the score of each
problem under each seed. All methods answer the same problems. Seed k of every method shares base model, data and
random streams, so two methods are compared through the matrix of differences.

Seeds and problems are both random samples of larger populations (crossed random effects); problems within levels, whose sizes are fixed
by design. Two intervals have known weaknesses that exclude each other, and ours is the wider of them, both around the plain mean:

* `crossed_error`: the crossed analysis of variance with Student's quantile at Satterthwaite's degrees of freedom: too narrow with few seeds
  that differ.

      Var(mean) = [max(MS_seed - MS_error, 0) + max(MS_problem - MS_error, 0) + MS_error] / (S P)

* `separate_reach`: Student's interval on the S means of the seeds, to which the problems' part is added in squares, each with the quantile
  of its own degrees of freedom: too narrow where seeds happen to agree.

The p-value is the larger of the two, below 0.05 exactly where the 95 % interval excludes 0. With one seed the first alone is left, which
then covers the choice of problems only; the tables show n_seeds = 1. docs/statistics.md has the coverage in simulations
(`python -m scripts.coverage`).

Intervals are not corrected for their number; tables with many intervals say so. `holm` corrects the p-values of the main comparison.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special  # not scipy.stats, whose import takes as long as a small evaluation

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """Mean with its interval. `p`: two-sided p-value of a true mean of 0."""

    mean: float
    low: float
    high: float
    p: float
    n_seeds: int
    n_problems: int


def pass_at_k(n, c, k):
    """Unbiased estimate of the probability that at least one of `k` samples is correct: 1 - C(n - c, k) / C(n, k)
    (Chen et al. 2021), from `c` correct samples among `n`. Arrays broadcast. Raises ValueError unless 1 <= k <= n, 0 <= c <= n.

    >>> float(pass_at_k(4, 1, 2))
    0.5
    """
    n, c = np.broadcast_arrays(np.asarray(n, float), np.asarray(c, float))
    k_max = int(np.max(k))
    k = np.broadcast_to(np.asarray(k, int), n.shape)
    if n.size and (np.any(k < 1) or np.any(k > n)):
        raise ValueError(f"pass@k needs 1 <= k <= number of samples; k = {k.max()}, samples = {int(n.min())}")
    if np.any(c < 0) or np.any(c > n):
        raise ValueError("pass@k needs 0 <= right <= samples")
    all_wrong = np.ones(n.shape)
    for j in range(k_max):  # a product of factors in [0, 1]: without factorials it cannot overflow
        factor = np.clip(n - c - j, 0, None) / np.where(j < k, n - j, 1)
        all_wrong *= np.where(j < k, factor, 1)
    return 1 - all_wrong


def metric_scores(right, judged, metric):
    """Score of each problem, same shape as the counts `right` and `judged`, for metric "avg@8", "pass@4", ...

    `judged` does not count samples whose verification timed out. pass@k of a problem with fewer than k judged samples uses all
    of them. A problem without a verdict is NaN.
    """
    name, k = metric.split("@")
    right, judged = np.asarray(right, float), np.asarray(judged, float)
    nothing = judged == 0
    n = np.where(nothing, 1, judged)
    if name == "avg":
        value = right / n
    elif name == "pass":
        value = pass_at_k(n, right, np.minimum(int(k), n).astype(int))
    else:
        raise ValueError(f"metric {metric!r}: must be avg@k or pass@k")
    return np.where(nothing, np.nan, value)


@dataclass(frozen=True)
class Squares:
    """Mean squares of a matrix x [S, P] by seed, by problem within levels, and of the rest, with their degrees of freedom. With one seed
    those of the problems are all there is."""

    seed: float
    problem: float
    error: float
    df_seed: int
    df_problem: int
    df_error: int
    n_seeds: int
    n_problems: int

    @property
    def parts(self):
        """(seed, problem, error): what each adds to S P Var(mean); an estimate below 0 is 0."""
        return max(self.seed - self.error, 0.0), max(self.problem - self.error, 0.0), self.error


def mean_squares(x, strata) -> Squares:
    """The crossed analysis of variance of `x` [S, P]; strata: [P] level of each problem, or None."""
    n_seeds, n_problems = x.shape
    by_seed, by_problem = x.mean(1), x.mean(0)
    levels, of = np.unique(np.zeros(n_problems) if strata is None else strata, return_inverse=True)
    level_means = np.bincount(of, by_problem) / np.bincount(of)
    df_problem = max(n_problems - len(levels), 1)
    problem = float(n_seeds * ((by_problem - level_means[of]) ** 2).sum() / df_problem)
    if n_seeds == 1:
        return Squares(0.0, problem, 0.0, 0, df_problem, 0, n_seeds, n_problems)
    residual = x - by_problem - by_seed[:, None] + x.mean()
    df_seed, df_error = n_seeds - 1, max((n_seeds - 1) * (n_problems - 1), 1)
    seed, error = n_problems * by_seed.var(ddof=1), (residual**2).sum() / df_error
    return Squares(float(seed), problem, float(error), df_seed, df_problem, df_error, n_seeds, n_problems)


def variance_components(x, strata=None) -> tuple[float, float, float]:
    """(seed, problem, residual): estimated variances of the effects in x_sp = level + seed_s + problem_p + residual_sp.

    Where seed k has its own base model and its own training problems, `seed` is the variance between bases, data and trainings together.
    `residual` is what a problem's score varies within a seed beyond both: interaction and sampling. An estimate below 0 is 0. With one
    seed, seed and residual are not known (NaN) and `problem` holds them too.
    """
    squares = mean_squares(np.asarray(x, float), strata)
    if squares.n_seeds == 1:
        return np.nan, squares.problem, np.nan
    seed, problem, error = squares.parts
    return seed / squares.n_problems, problem / squares.n_seeds, error


def crossed_error(squares: Squares) -> tuple[float, float]:
    """(standard error of x.mean(), Satterthwaite's degrees of freedom) for crossed random effects."""
    seed, problem, error = squares.parts
    total = seed + problem + error
    if total < 1e-20:  # no spread but rounding
        return 0.0, squares.df_problem
    # each mean square has its own degrees of freedom; a part that was cut at 0 is left out
    terms = [(squares.problem, squares.df_problem)] if problem > 0 else []
    terms += [(squares.seed, squares.df_seed)] if seed > 0 else []
    if squares.n_seeds > 1:
        terms.append(((1 - len(terms)) * error, squares.df_error))
    df = total**2 / sum(square**2 / df for square, df in terms)
    return float(np.sqrt(total / (squares.n_seeds * squares.n_problems))), df


def separate_reach(squares: Squares, tail: float) -> float:
    """Half-width of the interval that leaves `tail` on either side, the seeds' and the problems' part at their own quantiles; 0 with one
    seed. As in the modified large-sample intervals of Graybill and Wang (1980):

        half-width^2 = [t(S - 1)^2 MS_seed + t(df of problems)^2 max(MS_problem - MS_error, 0)] / (S P)
    """
    if squares.n_seeds == 1:
        return 0.0
    parts = ((squares.seed, squares.df_seed), (squares.parts[1], squares.df_problem))
    total = sum(part * special.stdtrit(df, tail) ** 2 for part, df in parts if part > 0)
    return float(np.sqrt(total / (squares.n_seeds * squares.n_problems)))


def separate_p(squares: Squares, distance: float) -> float:
    """The two-sided p-value of a true mean that is `distance` away: twice the tail at which `separate_reach` is that far, by bisection of
    its logarithm, and no less than 1e-16."""
    low, high = np.log(5e-17), np.log(0.5)
    for _ in range(60):
        middle = (low + high) / 2
        if separate_reach(squares, np.exp(middle)) > distance:
            low = middle
        else:
            high = middle
    return float(2 * np.exp(high))


def crossed_interval(x, strata=None, *, bounds=(-np.inf, np.inf), level=LEVEL) -> Interval:
    """Interval of the mean of `x` [S, P] (module docstring).

    strata: [P] level of each problem; None: one level
    bounds: range of the quantity, (0, 1) for scores, (-1, 1) for differences of scores
    level: coverage

    Two guards for data with next to no spread: a matrix without any gets the exact binomial bound with one trial per problem, because the
    samples of a problem depend on each other. A difference in m problems cannot have p < 2^(1 - m), the least p-value of a sign-flip test.
    """
    x = np.asarray(x, float)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"scores must be a matrix [seeds, problems] with at least one of each, not of shape {x.shape}")
    n_seeds, n_problems = x.shape
    mean, tail = float(x.mean()), (1 - level) / 2
    squares = mean_squares(x, strata)
    error, df = crossed_error(squares)
    if error == 0:
        reach, p = 1 - tail ** (1 / n_problems), min(1.0, 2 * max(1 - abs(mean), 0.0) ** n_problems)
    else:
        reach = max(-special.stdtrit(df, tail) * error, separate_reach(squares, tail))
        p = max(2 * special.stdtr(df, -abs(mean) / error), separate_p(squares, abs(mean)) if n_seeds > 1 else 0.0)
    low, high = mean - reach, mean + reach
    if bounds[0] < 0 < bounds[1]:
        least = 2.0 ** (1 - np.count_nonzero(x.any(0)))
        p = min(1.0, max(p, least))
        if least > 1 - level:
            low, high = min(low, 0.0), max(high, 0.0)
    low, high = np.clip([low, high], *bounds)
    return Interval(mean, float(low), float(high), float(p), n_seeds, n_problems)


def score_interval(x, strata=None, **options):
    """Interval of a mean score in [0, 1]."""
    return crossed_interval(x, strata, bounds=(0, 1), **options)


def paired_difference(x, y, strata=None, **options):
    """Interval of mean(x) - mean(y), problems and seeds paired by index. A matrix with one row (a base model, which has no training
    seed) is compared with every seed of the other."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    if x.shape[1] != y.shape[1] or (1 not in (len(x), len(y)) and len(x) != len(y)):
        raise ValueError(f"a paired difference needs the same seeds and problems, not shapes {x.shape} and {y.shape}")
    return crossed_interval(x - y, strata, bounds=(-1, 1), **options)


def mean_interval(values, level=LEVEL):
    """Student's interval for a few independent numbers, one a seed. One number has an infinite interval."""
    values = np.asarray(values, float)
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, -np.inf, np.inf, 1.0, len(values), 0)
    error = values.std(ddof=1) / np.sqrt(len(values))
    reach = special.stdtrit(len(values) - 1, (1 + level) / 2) * error
    p = float(2 * special.stdtr(len(values) - 1, -abs(mean) / error)) if error > 0 else float(mean == 0)
    return Interval(mean, float(mean - reach), float(mean + reach), p, len(values), 0)


def holm(p_values):
    """Holm's (1979) adjusted p-values: they bound the probability of any false rejection, for every dependence of the tests.
    Example: 0.01, 0.04, 0.03 -> 0.03, 0.06, 0.06."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    out = np.empty(len(p))
    out[order] = np.minimum(adjusted, 1.0)
    return out


def within_quartiles(values, reach=1.5):
    """[n] bool: values within `reach` interquartile ranges of the middle half (Tukey's fences)."""
    low, high = np.quantile(values, [0.25, 0.75])
    return (values >= low - reach * (high - low)) & (values <= high + reach * (high - low))


@dataclass
class Counts:
    """Verdicts on one split at one temperature. Rows of the matrices are seeds, columns are problems."""

    problems: list[str]
    levels: np.ndarray  # [problems] str
    right: np.ndarray  # [seeds, problems]
    judged: np.ndarray  # [seeds, problems]: samples with a verdict, without those that timed out
    alike: bool = False  # in `all` every level has the same weight: the mean over benchmarks

    def at(self, level):
        """The counts of one level; `all` is every level."""
        if level == "all":
            return self
        keep = self.levels == level
        names = [p for p, k in zip(self.problems, keep, strict=True) if k]
        return Counts(names, self.levels[keep], self.right[:, keep], self.judged[:, keep], self.alike)

    def scores(self, metric):
        """[seeds, problems] scores. metric: such as avg@8 or pass@8 (`metric_scores`).

        If all levels have the same weight, scores are multiplied by P / (levels x problems of the level). The mean over problems
        is then the mean over levels. Example: levels of 1 and 3 problems have the factors 2 and 2/3.
        """
        x = metric_scores(self.right, self.judged, metric)
        if not self.alike:
            return x
        known = ~np.isnan(x).any(0)
        counts = {level: (known & (self.levels == level)).sum() for level in set(self.levels[known].tolist())}
        return x * [known.sum() / (len(counts) * counts[level]) if level in counts else np.nan for level in self.levels]
