"""From episodes to tokens: entropies, the ranking of step 7, denominators, and the streams that the loss reads."""

import math

import numpy as np

from ...streams import CLIPPED, NONE, Streams


def per_token(episodes, values):
    """[T]: a value of each episode, repeated over its response tokens."""
    return np.repeat(np.asarray(values, dtype=np.float64), [len(e.response) for e in episodes])


def entropies_of(episodes):
    """[T]: entropies of pi_old, 0 where it was not scored."""
    return np.concatenate([e.entropies for e in episodes])


def top_entropy(entropies, mask, share):
    """[T] bool: the `share` of the tokens in `mask` that have the highest entropy; ties go to the earlier token.

    Of n tokens, n - floor((1 - share) n) are kept, as in the authors' code: at least one, unless n or the share is 0.

    entropies: [T] float; mask: [T] bool. Example: entropies [1, 5, 3, 9], mask [1, 1, 1, 0], share 0.2 -> only 5.
    """
    where = np.flatnonzero(mask)
    keep = len(where) - math.floor((1 - share) * len(where) + 1e-9)  # (1 - 0.9) * 10 is 0.9999999999999998
    kept = np.zeros(len(mask), dtype=bool)
    kept[where[np.argsort(-entropies[where], kind="stable")[:keep]]] = True
    return kept


DENOMINATORS = ("sequence", "token", "constant")
IMITATED = ("token", "sequence")
IMITATED_HELP = (
    "how the negative log-likelihood of a mini-batch's demonstrations is averaged before it counts as often as there are"
    " demonstrations. token: over their tokens, so that long ones count more; sequence: over the tokens of each, then over them"
)


def spread(episodes, mask, denominator="sequence", limit=None):
    """[T] factors that share out a sequence's weight of 1 over its tokens in `mask`; 0 elsewhere.

    denominator:
        sequence: 1 / tokens of the sequence; every sequence counts the same (GRPO's own equation).
        token: 1 / mean tokens of a sequence; every token counts the same.
        constant: 1 / limit (Dr.GRPO).

    Sequences without a token in `mask` are left out of the mean. Example: masks of 1 and 3 tokens -> 1, 1/3 1/3 1/3; token: 1/2 four
    times.
    """
    ends = np.cumsum([len(e.response) for e in episodes], dtype=int)
    counts = np.array([part.sum() for part in np.split(mask, ends[:-1])])
    shares = {
        "sequence": 1 / np.maximum(counts, 1),
        "token": np.full(len(counts), np.count_nonzero(counts) / max(counts.sum(), 1)),
        "constant": np.full(len(counts), 1 / limit if limit else 0.0),
    }
    return np.where(mask, per_token(episodes, shares[denominator]), 0.0)


def rl_streams(run, episodes, advantage, surrogate=CLIPPED, gamma=0.1):
    """Streams of the rl component alone, with Dr.GRPO's constant denominator, sequences x response limit (step 8).

    advantage: [T] float; surrogate: code, or [T] codes; gamma: `Streams.gamma`.
    """
    advantage = np.asarray(advantage, dtype=np.float64)
    return Streams(
        advantage=advantage,
        surrogate=np.broadcast_to(np.asarray(surrogate, dtype=np.int8), advantage.shape).copy(),
        ce_weight=np.zeros_like(advantage),
        rl_count=float(len(episodes) * run.rollout.max_response),
        ce_count=1.0,
        gamma=gamma,
    )


def ce_streams(episodes):
    """Streams of the cross-entropy alone: every response token has weight 1, divided by the tokens of the whole batch."""
    tokens = sum(len(e.response) for e in episodes)
    return Streams(
        advantage=np.zeros(tokens),
        surrogate=np.full(tokens, NONE, dtype=np.int8),
        ce_weight=np.ones(tokens),
        rl_count=1.0,
        ce_count=float(tokens),
    )
