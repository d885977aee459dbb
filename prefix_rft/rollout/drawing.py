"""What the engines of ours share: the batches of prompts, and drawing the next token, from random numbers that depend on the seed and
the row's index alone."""

import numpy as np
import torch

from ..common.errors import UserError


def batches(prompts, max_new, window, max_rows) -> list[list[int]]:
    """Numbers of the prompts that are decoded together: at most `max_rows`, of similar length; none that may get no new token.

    Raises `UserError` if a prompt and its response may exceed the model's window.
    """
    for i, (p, n) in enumerate(zip(prompts, max_new, strict=True)):
        if len(p) + n > window:
            raise UserError(f"prompt {i}: {len(p)} tokens + {n} new ones exceed the model's window of {window}")
    order = sorted((i for i in range(len(prompts)) if max_new[i] > 0), key=lambda i: len(prompts[i]))
    return [order[start : start + max_rows] for start in range(0, len(order), max_rows)]


def nucleus(logits, top_p):
    """logits [B, V] of a distribution -> those in which only the most likely tokens are left: as few as have probability `top_p`
    together, one at least. Of equally likely tokens, the one with the lower id goes first.

    Example: probabilities 0.4, 0.1, 0.3, 0.2 -> top_p 0.7: the first and the third; 0.71: the fourth too.
    """
    ordered, order = logits.sort(dim=-1, descending=True, stable=True)
    p = torch.softmax(ordered.double(), -1)
    before = p.cumsum(-1) - p  # probability of the more likely tokens
    outside = before >= top_p - 1e-6  # the tolerance is for sums such as 0.4 + 0.3 of float32 numbers
    outside[:, 0] = False
    outside = torch.empty_like(outside).scatter_(1, order, outside)
    # low, not infinite: the entropy multiplies a probability of 0 with it
    return torch.where(outside, ordered[:, :1] - 1e4, logits)


def draw(logits, temperature, uniform, kernels, top_p=1.0):
    """logits [B, V], uniform [B] -> tokens, log-probs and entropies [B] of the distribution at `temperature`, of its nucleus if `top_p` is
    below 1. Temperature 0: the most likely token, with log-probs and entropies at temperature 1."""
    if temperature == 0:
        logp = torch.log_softmax(logits, -1)
        tokens = logits.argmax(-1)
        return tokens, logp.gather(1, tokens[:, None]).squeeze(1), -(logp.exp() * logp).sum(-1)
    logits = logits if temperature == 1 else logits / temperature
    return kernels.sample(logits if top_p == 1 else nucleus(logits, top_p), uniform)


def uniforms(numbers, steps, seed):
    """[rows, steps] float32 in (0, 1]: a counter-based stream for each row index, so that samples do not depend on
    batches."""
    out = np.empty((len(numbers), steps), dtype=np.float32)
    for r, number in enumerate(numbers):
        np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, number, 0])).random(dtype=np.float32, out=out[r])
    return 1.0 - out
