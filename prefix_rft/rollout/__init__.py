"""Rollout engines behind one small interface: `generate` token ids to token ids with log-probs, `sync` the weights."""

from dataclasses import dataclass

import numpy as np

from ..errors import UserError


@dataclass(frozen=True)
class Sampling:
    """temperature 0: greedy. seed: the same seed, prompts and weights give the same samples, whatever the batch size.
    first: place of the first prompt among those of all processes, so that a share of them gets the samples that it gets in the whole."""

    temperature: float
    seed: int
    first: int = 0


@dataclass
class Completion:
    ids: list[int]  # sampled tokens, the stop id included
    logprobs: np.ndarray  # [ids], at the sampling temperature
    entropies: np.ndarray  # [ids], of the distributions they were drawn from
    finished: bool  # ended with a stop id


def make_engine(name, model, stop_ids, max_rows=512):
    """name: an engine's name; model: a transformers causal language model; stop_ids: tokens that end a response."""
    if name == "native":
        from .native import NativeEngine

        return NativeEngine(model, stop_ids, max_rows)
    raise UserError(f"rollout.engine = {name!r}: must be one of native")
