"""CHORD: (1 - mu) GRPO on N rollouts + mu SFT on a demonstration (paper section 1; CHORD, arXiv 2508.11408).

Published as two methods, which are the values of `variant`:

* mu: mu falls from 0.9 to 0.05 over about 200 steps and then stays; every token of the demonstration has beta = mu.
* phi: mu is 0.1 throughout; beta = mu sg(p (1 - p)), p the probability of the token. Known and hopeless tokens count little.

Source: modelscope/Trinity-RFT at 0414330, examples/mix_chord/mix_chord.yaml:12-16, and trinity/algorithm/policy_loss_fn/
chord_policy_loss.py:14 (the cosine) and :53. The advantage is standardised and the ratio is clipped. Rollouts are averaged among
themselves, and so are demonstrations. Unknown: the length of their runs. The share `decay` = 0.4 is ours: 200 of the 500 RL steps here.

`hybrid` is neither: the schedule of mu with the weights of phi. Each prompt has one demonstration beside its rollouts. The authors draw
demonstrations from a data set of their own, in batches of their own.
"""

import math

import numpy as np

from ..config.reading import Section, opt
from ..episodes import prefix_mask
from ..streams import CLIPPED, NONE, ONE, P_NOT_P
from .parts.advantages import disagree, grpo, sampled
from .parts.base import Method
from .parts.groups import with_demonstration
from .parts.tokens import DENOMINATORS, per_token, rl_streams, spread

MU = {
    "mu": (0.9, 0.05),
    "phi": (0.1, 0.1),
    "hybrid": (0.9, 0.05),
}  # variant -> mu at the first step, mu after the decay


class Options(Section):
    variant: str = opt(
        "mu",
        "mu: mu falls, all tokens of a demonstration count alike; phi: constant mu, tokens weighted by p (1 - p); hybrid: mu falls and"
        " tokens are weighted, which nobody has published",
        choices=tuple(MU),
    )
    start: float | None = opt(None, "mu at the first step; unset: 0.9 (phi: 0.1)", ge=0, le=1)
    end: float | None = opt(None, "mu after the decay; unset: 0.05 (phi: 0.1)", ge=0, le=1)
    decay: float = opt(0.4, "share of the run over which mu moves", ge=0, le=1)
    denominator: str = opt("token", "how tokens are averaged (docs/methods.md)", choices=DENOMINATORS)


class CHORD(Method):
    uses_demos = True
    section, Options = "chord", Options

    def mu(self, progress):
        """Weight of the demonstrations at `progress` in [0, 1]."""
        cfg = self.run.chord
        start, end = MU[cfg.variant]
        start, end = start if cfg.start is None else cfg.start, end if cfg.end is None else cfg.end
        done = min(progress / cfg.decay, 1.0) if cfg.decay else 1.0
        return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done))

    def compose(self, problem, progress, rng):
        return with_demonstration(problem, self.group_size, rng)

    def needs_scoring(self, episodes):
        return disagree(episodes, sampled)

    def weigh(self, episodes, progress=0.0, rng=None):
        cfg, copied, mu = self.run.chord, prefix_mask(episodes), self.mu(progress)
        rollouts = sum(map(sampled, episodes))
        limit = self.run.rollout.max_response
        own = spread(episodes, ~copied, cfg.denominator, limit)
        advantage = (1 - mu) * per_token(episodes, grpo(episodes, sampled)) * own
        streams = rl_streams(self.run, episodes, advantage, np.where(copied, NONE, CLIPPED))
        streams.rl_count = float(rollouts)
        streams.ce_weight = mu * spread(episodes, copied, cfg.denominator, limit)
        if cfg.variant != "mu":
            streams.ce_factor = np.where(copied, P_NOT_P, ONE).astype(np.int8)
        streams.ce_count = float(max(len(episodes) - rollouts, 1))
        return streams


METHOD = CHORD
