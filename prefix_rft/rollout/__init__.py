"""Rollout engines behind one interface: `generate` samples responses as token ids with log-probs, `sync` updates the weights."""

import hashlib
import json
import logging
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from ..common.errors import UserError
from ..common.version import __version__
from ..config.run import ENGINES

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sampling:
    """How to sample.

    temperature: 0 is greedy
    seed: the same seed, prompts and weights give the same samples for every batch size
    first: global index of the first prompt, so that samples do not depend on how prompts are split over processes and calls
    top_p: sample from the most likely tokens alone, as few as have this probability together; 1: from all. Log-probs and entropies are
        those of the distribution that is sampled from
    """

    temperature: float
    seed: int
    first: int = 0
    top_p: float = 1.0


@dataclass
class Completion:
    ids: list[int]  # sampled tokens, the stop id included
    logprobs: np.ndarray  # [ids], at the sampling temperature
    entropies: np.ndarray | None  # [ids], of the distributions that were sampled from; None if the engine has none
    finished: bool  # ended with a stop id


def make_engine(
    name, model, stop_ids, max_rows=512, *, options=None, dtype="float32", longest=None, probe=None, whole=nullcontext
):
    """Start the engine `name` with the weights of a model.

    model: a transformers causal language model
    stop_ids: tokens that end a response
    max_rows: most rows that are decoded at once
    whole: makes the context in which the model has all its weights (`sync`)
    options, dtype, longest, probe: of engine vllm only (`VllmEngine`)
    """
    if name == "native":
        from ..model.shapes import FAMILIES
        from .native import NativeEngine, left_out

        why = left_out(model)
        if why is None:
            return NativeEngine(model, stop_ids, max_rows, whole)
        from .by_transformers import TransformersEngine

        log.warning(
            "rollout.engine = native: knows models of type %s, but not this one: %s. It is sampled by transformers' generate, which took"
            " 3.5 times as long on a model of 0.3M parameters on a CPU (docs/results/benchmark.json); on a GPU, engine vllm is quicker",
            *(", ".join(FAMILIES), why),
        )
        return TransformersEngine(model, stop_ids, max_rows, whole)
    if name == "vllm":
        from .vllm import VllmEngine

        return VllmEngine(model, stop_ids, max_rows, options, dtype, longest, probe, whole)
    raise UserError(f"rollout.engine = {name!r}: must be one of {', '.join(ENGINES)}")


def engine_version(name) -> str:
    """Version of the engine's software: vLLM for `vllm`, this package for `native`."""
    if name == "vllm":
        from .vllm import version

        return version()
    return __version__


def sampling_seed(*parts) -> int:
    """A 63-bit seed, a hash of `parts` (JSON values)."""
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
