"""What a method tells the loss about a mini-batch: numbers for each response token, and the counts to divide by.

Free of torch, so that reading a configuration, which asks the methods for their options, stays quick.
"""

from dataclasses import dataclass

import numpy as np

NONE = 0  # no rl term
CLIPPED = 1  # -min(r A, clip(r) A): paper section 2 step 8; the weight is W = I_clip(r, A) A r
PLAIN = 2  # -r A, no clip
SHAPED = 3  # -A p / (p + gamma), no ratio (LUFFY): the weight is A gamma p / (p + gamma)^2


@dataclass
class Streams:
    """Per-token description of a mini-batch, flat over the response tokens of its episodes, in their order ([T])."""

    advantage: np.ndarray
    surrogate: np.ndarray
    ce_weight: np.ndarray
    rl_count: float  # denominator of the rl component, of the whole mini-batch
    ce_count: float  # denominator of the cross-entropy component, of the whole mini-batch
    gamma: float = 0.1

    @property
    def active(self):
        """[T] bool: tokens that have any gradient."""
        return ((self.surrogate != NONE) & (self.advantage != 0)) | (self.ce_weight != 0)
