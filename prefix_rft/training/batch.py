"""The tensors that the loss reads: episodes and streams of a mini-batch, flat over response tokens."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from ..episodes import LEARNER, SAMPLER, UPDATE
from ..streams import Streams


@dataclass
class Batch:
    """T response tokens. `batch[at]` selects tokens, such as a micro-batch; at: [N] int64.

    advantage, ce_weight, kl_weight: [T] float32, numbers of the streams.
    surrogate, ce_factor: [T] int8, codes of the streams.
    mask: [T] bool, the tokens whose loss has a gradient; None: all.
    is_prefix: [T] bool, copied from a demonstration.
    old: [T] float32, log-probs of pi_old, where `current` is False.
    current: [T] bool, pi_old is the policy that this update starts from.
    drawn: [T] float32, log-probs under the sampler, 0 on prefixes.
    reference: [T] float32, log-probs of the reference model; None: no term needs them.
    row: [T] int64, number of the token's episode.
    """

    advantage: torch.Tensor
    surrogate: torch.Tensor
    ce_weight: torch.Tensor
    ce_factor: torch.Tensor
    kl_weight: torch.Tensor
    mask: torch.Tensor | None
    is_prefix: torch.Tensor
    old: torch.Tensor
    current: torch.Tensor
    drawn: torch.Tensor
    reference: torch.Tensor | None
    row: torch.Tensor

    def __getitem__(self, at):
        return dataclasses.replace(self, **{k: v[at] for k, v in vars(self).items() if v is not None})

    @staticmethod
    def of(episodes, streams: Streams, device="cpu"):
        """The batch of `episodes`; `streams` are flat over their response tokens.

        Raises:
            ValueError: an episode lacks log-probs of pi_old or of the reference model that a token needs.
        """

        def tensor(values, dtype=torch.float32):
            return torch.as_tensor(np.asarray(values), dtype=dtype, device=device)

        def flat(parts, dtype=torch.float32):
            return tensor(np.concatenate([np.zeros(0), *parts]), dtype)

        def repeated(values, dtype=bool):
            return np.repeat(np.array(values, dtype=dtype), [len(e.response) for e in episodes] or 0)

        unknown = repeated([not _has_old(e) for e in episodes])
        if (streams.needs_old & unknown).any():
            raise ValueError("an episode with an advantage has no log-probs of pi_old: call score first")
        reference = None
        if streams.kl_weight.any():
            if any(e.reference_logprobs is None for e in episodes):
                raise ValueError("no log-probs of the reference model: call score_reference first")
            reference = flat(e.reference_logprobs for e in episodes)
        return Batch(
            advantage=tensor(streams.advantage),
            surrogate=tensor(streams.surrogate, torch.int8),
            ce_weight=tensor(streams.ce_weight),
            ce_factor=tensor(streams.ce_factor, torch.int8),
            kl_weight=tensor(streams.kl_weight),
            mask=None if streams.mask is None else tensor(streams.mask, torch.bool),
            is_prefix=flat((e.is_prefix for e in episodes), torch.bool),
            old=flat(e.old_logprobs if e.old_from == LEARNER else e.drawn_logprobs for e in episodes),
            current=tensor(repeated([e.old_from == UPDATE for e in episodes]), torch.bool),
            drawn=flat(e.drawn_logprobs for e in episodes),
            reference=reference,
            row=tensor(repeated(range(len(episodes)), int), torch.int64),
        )


def _has_old(episode):
    """Whether log-probs of pi_old are known for the whole response, or become known in the update."""
    known = {LEARNER: episode.old_logprobs is not None, SAMPLER: not episode.prefix, UPDATE: True}
    return known.get(episode.old_from, False)
