"""The loss, blind to methods: rl component + cross-entropy component (Eq. 2 of the paper in its general form).

A method describes a mini-batch by `Streams`: for each response token an advantage, the surrogate through which the
advantage acts, and a weight in the cross-entropy. Each component is divided by its own count over the *whole*
mini-batch, so that no split into micro-batches can change a gradient (the bug of averaging per micro-batch deflates
the SFT baselines of this literature: arXiv 2604.23747).
"""

from dataclasses import dataclass

import torch

from .streams import CLIPPED, NONE, SHAPED


@dataclass(frozen=True)
class Clip:
    low: float = 0.2
    high: float = 0.2


def rl_terms(logp, old_logp, advantage, surrogate, gamma, clip: Clip):
    """Per-token rl loss, not yet divided.

    logp, old_logp, advantage: [T] float; surrogate: [T] int. Returns (loss [T], clipped [T] bool): clipped marks the
    tokens of surrogate CLIPPED whose gradient the clip removes.
    """
    ratio = torch.exp(logp - old_logp)
    clipped = surrogate == CLIPPED
    # paper section 2 step 8: min(r A, clip(r, 1 - low, 1 + high) A)
    surrogate_clip = torch.minimum(ratio * advantage, ratio.clamp(1 - clip.low, 1 + clip.high) * advantage)
    p = torch.exp(logp)
    value = torch.where(clipped, surrogate_clip, ratio * advantage)
    if bool((surrogate == SHAPED).any()):
        value = torch.where(surrogate == SHAPED, advantage * p / (p + gamma), value)
    value = torch.where(surrogate == NONE, torch.zeros_like(value), value)
    with torch.no_grad():
        over = (advantage > 0) & (ratio > 1 + clip.high)
        under = (advantage < 0) & (ratio < 1 - clip.low)
    return -value, clipped & (over | under)


def ce_terms(logp, weight):
    """Per-token cross-entropy, not yet divided: [T]."""
    return -weight * logp
