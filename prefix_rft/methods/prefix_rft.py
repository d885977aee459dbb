"""Prefix-RFT: in each group one rollout continues a sampled prefix of a demonstration (paper section 2).

The update treats the hybrid like any other trajectory, beta = alpha = W with the advantage of the whole hybrid, except
that only the prefix tokens of highest entropy keep it. Why entropy: for a copied token the gradient of its own logit
has size 1 - p; low-entropy tokens are matched already (no gradient) or confidently contradicted (a violent one).

Worth knowing: 7 failures and a success with the prefix give the prefix A = +7/8; 7 successes give it 0 or -7/8. The
method imitates where the model fails and explores elsewhere. With `per_group: 0` it is RFT, bit for bit.

Unknown in the paper, hence keys of `prefix`: min_length, clip, baseline. The entropies are those of pi_old (which
policy's is unknown too): they are there before the first update, so the ranking can span the whole mini-batch.
"""

from dataclasses import dataclass

import numpy as np

from ..config import opt
from ..episodes import Start
from ..streams import CLIPPED, PLAIN
from .base import (
    Method,
    dr_grpo,
    draw_demo,
    group_means,
    per_token,
    plain,
    prefix_mask,
    refuse_more_than_group,
    rl_streams,
)
from .schedules import Window, prefix_length, window_low


@dataclass(frozen=True, kw_only=True)
class Options(Window):
    """How a demonstration's prefix enters a group: paper section 2, steps 1, 2, 5, 6 and 7."""

    per_group: int = opt(1, "prefixed rollouts per group; they replace plain rollouts", ge=0)
    keep: str = opt("top", "which prefix tokens keep their advantage, by entropy", choices=("top", "all", "none"))
    keep_share: float = opt(0.2, "share of the prefix tokens that `keep: top` keeps", ge=0, le=1)
    rank_over: str = opt(
        "minibatch",
        "the prefix tokens that are ranked by entropy with one another: those of the mini-batch, of a group, or of one"
        " sequence",
        choices=("minibatch", "group", "sequence"),
    )
    clip: bool = opt(True, "clip the importance ratio on prefix tokens as on rollouts; unknown in the paper")
    baseline: str = opt(
        "inside",
        "inside: A = R - mean of the whole group, hybrid included. outside (dr_grpo_prefix of the authors' code): plain"
        " rows and prefix against the mean of the plain rows, the hybrid's continuation gets R; unknown in the paper",
        choices=("inside", "outside"),
    )


def top_entropy(entropies, mask, share):
    """Which of the tokens in `mask` are among its `share` of highest entropy; ties go to the earlier token.

    entropies [T], mask [T] bool -> [T] bool. Example: entropies [1, 5, 3, 9], mask [1, 1, 1, 0], share 1/3 -> only 5.
    """
    where = np.flatnonzero(mask)
    keep = int(share * len(where) + 0.5)
    kept = np.zeros(len(mask), dtype=bool)
    kept[where[np.argsort(-entropies[where], kind="stable")[:keep]]] = True
    return kept


def ranked_together(episodes, rank_over):
    """[T] int: tokens with the same number are ranked with one another."""
    numbers = {
        "minibatch": [0 for _ in episodes],
        "group": [e.group for e in episodes],
        "sequence": range(len(episodes)),
    }
    return per_token(episodes, numbers[rank_over])


class PrefixRFT(Method):
    uses_demos = True
    section, Options = "prefix", Options

    @classmethod
    def check(cls, run):
        count = run.prefix.per_group
        refuse_more_than_group(run, "prefix.per_group", count)
        if run.prefix.baseline == "outside" and count == run.rollout.group_size:
            raise ValueError("prefix.baseline: outside needs a plain rollout in the group; per_group leaves none")

    def compose(self, problem, progress, rng):
        cfg = self.run.prefix
        count = cfg.per_group if problem.demos else 0  # prompts without a demonstration train as plain RFT
        starts = plain(problem, self.group_size - count)
        for _ in range(count):
            demo = draw_demo(problem, rng)
            share = float(rng.uniform(window_low(cfg, progress), cfg.high))  # step 2
            length = prefix_length(share, len(demo.ids), cfg.min_length)
            starts.append(Start(problem, prefix=demo.ids[:length], demo_id=demo.id, share=share))
        return starts

    def window_low(self, progress):
        return window_low(self.run.prefix, progress)

    def needs_scoring(self, episodes):
        cfg = self.run.prefix
        if cfg.baseline == "outside":  # R of a hybrid counts even where all rewards agree
            return [True] * len(episodes)
        ranked = cfg.keep == "top"  # the ranking spans the prefixes of the whole mini-batch
        return [
            a or (ranked and bool(e.prefix)) for a, e in zip(super().needs_scoring(episodes), episodes, strict=True)
        ]

    def weigh(self, episodes):
        cfg = self.run.prefix
        copied = prefix_mask(episodes)
        if cfg.baseline == "inside":  # step 5: the hybrid is inside the baseline
            advantage = per_token(episodes, dr_grpo(episodes))
        else:
            means = group_means(episodes, include=lambda e: not e.prefix)
            hybrid = per_token(episodes, [bool(e.prefix) for e in episodes]).astype(bool)
            reward = per_token(episodes, [e.reward for e in episodes])
            # plain rows and prefixes against the mean of the plain rows; the hybrid's continuation gets R itself
            advantage = reward - np.where(
                hybrid & ~copied, 0.0, per_token(episodes, [means[e.group] for e in episodes])
            )
        kept = copied
        if cfg.keep == "top":  # step 7
            entropies, ranking = (
                np.concatenate([e.entropies for e in episodes]),
                ranked_together(episodes, cfg.rank_over),
            )
            kept = np.zeros_like(copied)
            for number in np.unique(ranking[copied]):
                kept |= top_entropy(entropies, copied & (ranking == number), cfg.keep_share)
        elif cfg.keep == "none":
            kept = np.zeros_like(copied)
        advantage = np.where(copied & ~kept, 0.0, advantage)  # they stay in the denominator
        surrogate = np.where(copied & (not cfg.clip), PLAIN, CLIPPED)  # step 6
        return rl_streams(self.run, episodes, advantage, surrogate)


METHOD = PrefixRFT
