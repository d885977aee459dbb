"""Sampling by transformers' own `generate`, for models that the native engine does not know.

The interface and the random numbers are those of the native engine: token ids in, token ids with log-probs and entropies out, and the same
samples for every batch size. `generate` keeps the cache and calls the model. Which token comes next is decided here, in a logits processor
that draws it and leaves it as the only choice. Settings of the model's generation config, such as a repetition penalty, have no effect:
the policy that samples is the policy that is trained.
"""

from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from ..model.forward import window_of
from ..model.forward_transformers import SEPARATE
from ..model.kernels import decoding_torch as kernels
from . import Completion, Sampling, engine_version
from .drawing import batches, draw, uniforms


class TransformersEngine:
    name = "native"  # of the key `rollout.engine`

    def __init__(self, model, stop_ids, max_rows=512, whole=nullcontext):
        self.version = engine_version(self.name)
        self.stop_ids, self.max_rows = sorted(set(stop_ids)), max_rows
        self.generated_tokens = self.prefilled_tokens = 0
        self.window = window_of(model)
        self.sync(model, whole)

    def sync(self, model, whole=nullcontext):
        """Sample from this model from now on: the model itself, so its weights are always the current ones. whole: makes the context in
        which the model has all its weights."""
        self.model, self.whole = model, whole
        self.device, self.exact = model.device, model.dtype == torch.float32

    @torch.no_grad()
    def generate(self, prompts, max_new, sampling: Sampling):
        """`Completion`s of the prompts, in order; see `NativeEngine.generate`."""
        out = [Completion([], np.zeros(0), np.zeros(0), False) for _ in prompts]
        chosen = batches(prompts, max_new, self.window, self.max_rows)
        with self.whole(), self._plain_model():
            for numbers in chosen:
                self._generate(numbers, prompts, max_new, sampling, out)
        return out

    @contextmanager
    def _plain_model(self):
        """The model in evaluation mode, with attention that reads masks and without generation settings of its own."""
        model, own, training = self.model, self.model.generation_config, self.model.training
        if model.config._attn_implementation == SEPARATE:  # the learner's, which sets it again
            model.set_attn_implementation("sdpa")
        model.generation_config = GenerationConfig()
        model.eval()
        try:
            yield
        finally:
            model.generation_config = own
            model.train(training)

    def _generate(self, numbers, prompts, max_new, sampling, out):
        width = max(len(prompts[i]) for i in numbers)
        ids = np.full((len(numbers), width), self.stop_ids[0], dtype=np.int64)
        mask = np.zeros((len(numbers), width), dtype=np.int64)
        for r, i in enumerate(numbers):  # padding stands on the left: a response begins right behind its prompt
            ids[r, width - len(prompts[i]) :], mask[r, width - len(prompts[i]) :] = prompts[i], 1
        limits = [max_new[i] for i in numbers]
        uniform = uniforms([sampling.first + i for i in numbers], max(limits), sampling.seed)
        drawing = _Drawing(uniform, sampling.temperature, sampling.top_p)
        config = GenerationConfig(
            do_sample=False, max_new_tokens=max(limits), eos_token_id=self.stop_ids, pad_token_id=self.stop_ids[0]
        )
        self.model.generate(
            input_ids=torch.from_numpy(ids).to(self.device),
            attention_mask=torch.from_numpy(mask).to(self.device),
            generation_config=config,
            logits_processor=[drawing],
            stopping_criteria=[_Limits(width, torch.tensor(limits, device=self.device))],
        )
        tokens, logprobs, entropies = (np.stack(kept, 1) for kept in zip(*drawing.kept, strict=True))
        for r, i in enumerate(numbers):
            stop = np.flatnonzero(np.isin(tokens[r, : limits[r]], self.stop_ids))
            n = int(stop[0]) + 1 if len(stop) else limits[r]
            out[i] = Completion(tokens[r, :n].tolist(), logprobs[r, :n], entropies[r, :n], bool(len(stop)))
            self.generated_tokens += n
            self.prefilled_tokens += len(prompts[i])


class _Drawing(LogitsProcessor):
    """Draws the next token of every row and makes it the only choice. kept: (tokens, log-probs, entropies) of each step."""

    def __init__(self, uniform, temperature, top_p):
        self.uniform, self.temperature, self.top_p, self.kept = uniform, temperature, top_p, []

    def __call__(self, input_ids, scores):
        uniform = torch.from_numpy(self.uniform[:, len(self.kept)].copy()).to(scores.device)
        tokens, logprobs, entropies = draw(scores.float(), self.temperature, uniform, kernels, self.top_p)
        self.kept.append([x.cpu().numpy() for x in (tokens, logprobs, entropies)])
        return torch.full_like(scores, float("-inf")).scatter_(1, tokens[:, None], 0.0)


class _Limits(StoppingCriteria):
    """Ends each row at its own limit."""

    def __init__(self, width, limits):
        self.width, self.limits = width, limits

    def __call__(self, input_ids, scores, **kwargs):
        return self.limits <= input_ids.shape[1] - self.width
