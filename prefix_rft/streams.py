"""What a method tells the loss about a mini-batch: numbers for each response token, and the counts to divide by.

Free of torch, so that reading a configuration, which asks the methods for their options, stays quick.
"""

from dataclasses import dataclass

import numpy as np

# How an advantage acts on its token:
NONE = 0  # no rl term
CLIPPED = 1  # -min(r A, clip(r) A): paper section 2 step 8; the weight is W = I_clip(r, A) A r
PLAIN = 2  # -r A, no clip
SHAPED = 3  # -A p / (p + gamma), no ratio (LUFFY): the weight is A gamma p / (p + gamma)^2

# Factors of the cross-entropy's weight that the current policy gives, as constants (no gradient goes through them):
ONE = 0
EXP_ENTROPY = 1  # exp(H), H the entropy of the next-token distribution in nats
EXP_MINUS_ENTROPY = 2  # exp(-H)
P_NOT_P = 3  # p (1 - p), p the probability of the token


@dataclass
class Streams:
    """Per-token description of a mini-batch, flat over the response tokens of its episodes, in their order ([T]).

    loss = sum of rl terms / rl_count + sum of -ce_weight factor log pi / ce_count + sum of kl_weight kl / rl_count, kl being
    the estimate of the distance to the reference model (`objectives.kl_terms`).
    """

    advantage: np.ndarray
    surrogate: np.ndarray
    ce_weight: np.ndarray
    rl_count: float  # denominator of the rl component, of the whole mini-batch
    ce_count: float  # denominator of the cross-entropy component, of the whole mini-batch
    gamma: float = 0.1
    ce_factor: np.ndarray | None = None  # unset: ONE
    kl_weight: np.ndarray | None = None  # unset: 0
    # Other advantages: the prefix part of the gradient is scaled to the norm that it would have with them.
    match: np.ndarray | None = None

    def __post_init__(self):
        if self.ce_factor is None:
            self.ce_factor = np.full(len(self.advantage), ONE, dtype=np.int8)
        if self.kl_weight is None:
            self.kl_weight = np.zeros(len(self.advantage))

    @property
    def active(self):
        """[T] bool: tokens that have any gradient."""
        return ((self.surrogate != NONE) & (self.advantage != 0)) | (self.ce_weight != 0) | (self.kl_weight != 0)

    @property
    def needs_old(self):
        """[T] bool: tokens whose term has the ratio to pi_old in it."""
        return np.isin(self.surrogate, (CLIPPED, PLAIN)) & (self.advantage != 0)
