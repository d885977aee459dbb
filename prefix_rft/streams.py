"""What a method tells the loss about a mini-batch: numbers for each response token, and the counts to divide by.

A token's numbers name how they act by a code: a surrogate for its advantage, a factor for its weight in the cross-entropy. The codes
are a registry. What several methods share is registered here; a method that needs another surrogate or factor registers it in its own
file (docs/adding_a_method.md).

Nothing here imports torch, so that reading a configuration, which asks the methods for their options, stays quick. Surrogates and
factors get tensors and use the tensors' own methods.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

LOG_RATIO_LIMIT = 20.0  # e^20 = 5e8: past any ratio that has a meaning, far below the overflow of float32


def limited(log_ratio):
    """`log_ratio`, at most LOG_RATIO_LIMIT. The gradient flows as if there were no limit: exp of it keeps its value as weight."""
    return log_ratio - (log_ratio - log_ratio.clamp(max=LOG_RATIO_LIMIT)).detach()


@dataclass(frozen=True)
class Tokens:
    """What a surrogate or a factor can read, for T response tokens. All tensors are [T] floats.

    logp: log-probs under the current policy; the gradient flows through them.
    old_logp: log-probs under pi_old.
    advantage: the method's advantages.
    entropy: of the current policy's next-token distribution in nats; None unless a factor or the run needs it.
    row: number of the token's episode; the tokens of an episode are together, never split over micro-batches.
    gamma: `Streams.gamma`.
    low, high: the clip of the ratio, `objective.clip_low` and `objective.clip_high`.
    """

    logp: Any
    old_logp: Any = None
    advantage: Any = None
    entropy: Any = None
    gamma: float = 0.1
    low: float = 0.2
    high: float = 0.2
    row: Any = None

    @property
    def p(self):
        """Probability under the current policy."""
        return self.logp.exp()

    @property
    def mean_entropy(self):
        """[T]: mean entropy over the response of the token's episode. Example: entropies 1, 3 | 5 -> 2, 2 | 5."""
        rows = int(self.row.max()) + 1 if len(self.row) else 0  # a rank may have no token left
        sums, counts = self.entropy.new_zeros(2, rows)
        sums.index_add_(0, self.row, self.entropy)
        counts.index_add_(0, self.row, self.entropy.new_ones(self.row.shape))
        return (sums / counts)[self.row]

    @property
    def ratio(self):
        """r = pi / pi_old, at most e^20.

        Without a limit r overflows at log-ratios of 89 in float32, and infinity times a gradient of 0 is not a number: one such token
        spoils the gradient of the whole mini-batch, even where a clip or another surrogate removes the token's own.
        """
        return limited(self.logp - self.old_logp).exp()


@dataclass(frozen=True)
class Surrogate:
    """How an advantage acts on its token.

    value: Tokens -> [T], what is maximised.
    needs_old: whether `value` reads `ratio` or `old_logp`; episodes with such a token need pi_old's log-probs.
    clipped: Tokens -> [T] bool, where a clip has removed the gradient; None: it has no clip.
    """

    value: Callable
    needs_old: bool = True
    clipped: Callable | None = None


@dataclass(frozen=True)
class Factor:
    """What multiplies a token's weight in the cross-entropy, as a constant: no gradient flows through it.

    weigh: (weight [T], Tokens) -> [T], the weight with the factor.
    needs_entropy: whether `weigh` reads `entropy` or `mean_entropy`.
    """

    weigh: Callable
    needs_entropy: bool = False


SURROGATES: dict[int, Surrogate] = {}  # code -> Surrogate
FACTORS: dict[int, Factor] = {}  # code -> Factor
_CODES: dict[tuple[str, str], int] = {}  # (registry, name) -> code


def register(name: str, what: Surrogate | Factor) -> int:
    """The code of a surrogate or factor, an int8. A name that is registered again keeps its code and gets the new meaning."""
    registry = SURROGATES if isinstance(what, Surrogate) else FACTORS
    code = _CODES.setdefault((type(what).__name__, name), len(registry) + 1)
    registry[code] = what
    return code


def _clip_value(x):
    ratio = x.ratio
    return (ratio * x.advantage).minimum(ratio.clamp(1 - x.low, 1 + x.high) * x.advantage)


def _shape(x):
    p = x.p
    return x.advantage * p / (p + x.gamma)


def _clip_removed(x):
    return ((x.advantage > 0) & (x.ratio > 1 + x.high)) | ((x.advantage < 0) & (x.ratio < 1 - x.low))


NONE = 0  # no rl term
# min(r A, clip(r) A): paper section 2 step 8; the weight is W = I_clip(r, A) A r
CLIPPED = register("clipped", Surrogate(_clip_value, clipped=_clip_removed))
# r A, no clip
PLAIN = register("plain", Surrogate(lambda x: x.ratio * x.advantage))
# A p / (p + gamma), no ratio (LUFFY): the weight is A gamma p / (p + gamma)^2
SHAPED = register("shaped", Surrogate(_shape, needs_old=False))

ONE = 0  # no factor
# exp(H), H the entropy
EXP_ENTROPY = register("exp(H)", Factor(lambda w, x: w * x.entropy.exp(), needs_entropy=True))
# exp(-H)
EXP_MINUS_ENTROPY = register("exp(-H)", Factor(lambda w, x: w * (-x.entropy).exp(), needs_entropy=True))
# p (1 - p), p the probability of the token
P_NOT_P = register("p (1 - p)", Factor(lambda w, x: w * x.p * (1 - x.p)))


@dataclass
class Streams:
    """Per-token description of a mini-batch, flat over the response tokens of its episodes, in their order ([T]).

    loss = sum of rl terms / rl_count + sum of -ce_weight factor log pi / ce_count + sum of kl_weight kl / rl_count, kl being
    the estimate of the distance to the reference model (`loss.kl_terms`).

    advantage: [T] float.
    surrogate: [T] int8, codes of `SURROGATES`, or NONE.
    ce_weight: [T] float, weights in the cross-entropy.
    rl_count: denominator of the rl component, of the whole mini-batch.
    ce_count: denominator of the cross-entropy component, of the whole mini-batch.
    gamma: parameter of surrogates that have one.
    ce_factor: [T] int8, codes of `FACTORS`, or ONE; unset: ONE.
    kl_weight: [T] float; unset: 0.
    match: [T] float, other advantages: the prefix part of the gradient is scaled to the norm that it has under these (ablation
        `keep: matched`); unset: no scaling.
    mask: [T] bool, the tokens whose loss has a gradient; unset: all. See `only`.
    """

    advantage: np.ndarray
    surrogate: np.ndarray
    ce_weight: np.ndarray
    rl_count: float
    ce_count: float
    gamma: float = 0.1
    ce_factor: np.ndarray | None = None
    kl_weight: np.ndarray | None = None
    match: np.ndarray | None = None
    mask: np.ndarray | None = None

    def __post_init__(self):
        if self.ce_factor is None:
            self.ce_factor = np.full(len(self.advantage), ONE, dtype=np.int8)
        if self.kl_weight is None:
            self.kl_weight = np.zeros(len(self.advantage))

    @property
    def active(self):
        """[T] bool: tokens that have any gradient."""
        return ((self.surrogate != NONE) & (self.advantage != 0)) | (self.ce_weight != 0) | (self.kl_weight != 0)

    def _with_advantage(self, codes):
        return np.isin(self.surrogate, codes) & (self.advantage != 0)

    @property
    def needs_old(self):
        """[T] bool: tokens whose term has the ratio to pi_old in it."""
        return self._with_advantage([code for code, s in SURROGATES.items() if s.needs_old])

    @property
    def clippable(self):
        """[T] bool: tokens whose gradient a clip can remove."""
        return self._with_advantage([code for code, s in SURROGATES.items() if s.clipped])

    @property
    def needs_entropy(self):
        """Whether a factor reads the entropy of the current policy."""
        return any(FACTORS[code].needs_entropy for code in np.unique(self.ce_factor) if code != ONE)

    def at(self, tokens):
        """The streams of some tokens, with the counts of the whole mini-batch. tokens: indices or a mask of [T]."""
        arrays = {k: v[tokens] for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        return dataclasses.replace(self, **arrays)

    def only(self, mask):
        """The same loss with the gradient of the tokens in `mask` ([T] bool) alone. Gradients under a mask and under its complement add
        up to the whole gradient, since the counts stay."""
        return dataclasses.replace(self, mask=mask)
