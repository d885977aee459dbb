"""UFT: the whole group continues the same hint, which is imitated a little; hints end before the run does (paper section 1).

The demonstration is cut into n = min(`chunks`, |y*|) pieces, of which k ~ Binomial(n, p_t) are shown. p_t falls from `start` to `end` by
a cosine over the first `until` of the run (300 of 500 steps); then there is no hint. Rollouts train by GRPO with the standardised
advantage, the clipped ratio and a KL penalty to the first model. The hint's loss is `coefficient` x its mean negative log-likelihood.
Source: UFT, arXiv 2505.16984.

The authors cut demonstrations by pieces of text, and their hint is part of the prompt. A method here sees tokens: pieces are equal in
tokens, the hint counts in the response limit, and at least one token is left to sample. Their code averages over the tokens of a
micro-batch, ours over the tokens of the mini-batch.
"""

import math

import numpy as np

from ..config.reading import Section, opt
from ..episodes import Start, prefix_mask
from ..streams import CLIPPED, NONE
from .parts.advantages import grpo
from .parts.base import Method
from .parts.groups import draw_demo, plain
from .parts.tokens import DENOMINATORS, per_token, rl_streams, spread


class Options(Section):
    chunks: int = opt(5, "pieces that a demonstration is cut into", ge=1)
    start: float = opt(0.95, "probability that a piece is shown, at the first step", ge=0, le=1)
    end: float = opt(0.05, "probability that a piece is shown, at the last step with hints", ge=0, le=1)
    until: float = opt(0.6, "share of the run with hints", ge=0, le=1)
    coefficient: float = opt(0.001, "weight of the hint's mean negative log-likelihood", ge=0)
    kl: float = opt(0.001, "coefficient of the KL penalty to the first model", ge=0)
    denominator: str = opt("token", "how tokens are averaged (docs/methods.md)", choices=DENOMINATORS)


class UFT(Method):
    uses_demos = True
    section, Options = "uft", Options

    def __init__(self, run):
        super().__init__(run)
        self.uses_reference = run.uft.kl > 0

    def shown(self, progress):
        """p_t: the probability that a piece is shown."""
        cfg = self.run.uft
        if progress >= cfg.until:
            return 0.0
        return cfg.end + (cfg.start - cfg.end) * 0.5 * (1 + math.cos(math.pi * progress / cfg.until))

    def compose(self, problem, progress, rng):
        if not problem.demos:
            return plain(problem, self.group_size)
        demo = draw_demo(problem, rng)
        pieces = min(self.run.uft.chunks, len(demo.ids))
        k = int(rng.binomial(pieces, self.shown(progress)))
        length = min(k * len(demo.ids) // pieces, len(demo.ids) - 1)
        if length == 0:
            return plain(problem, self.group_size)
        hint = Start(problem, prefix=demo.ids[:length], demo_id=demo.id, share=k / pieces)
        return [hint] * self.group_size

    def weigh(self, episodes, progress=0.0, rng=None):
        cfg, hint = self.run.uft, prefix_mask(episodes)
        limit = self.run.rollout.max_response
        own = spread(episodes, ~hint, cfg.denominator, limit)
        streams = rl_streams(
            self.run, episodes, per_token(episodes, grpo(episodes)) * own, np.where(hint, NONE, CLIPPED)
        )
        streams.kl_weight = cfg.kl * own
        streams.rl_count = float(len(episodes))
        streams.ce_weight = cfg.coefficient * spread(episodes, hint, cfg.denominator, limit)
        streams.ce_count = float(max(sum(bool(e.prefix) for e in episodes), 1))
        return streams


METHOD = UFT
