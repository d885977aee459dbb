"""RL with SFT loss: N - 1 rollouts, and a whole demonstration imitated beside them (paper section 1).

The defaults are those of LUFFY's repository (ElliottYan/LUFFY at 01f4ae0, exp_scripts/train_rl_sft_loss.sh:28 and 79-82, and
luffy/verl/verl/mix_src/mix_core_alg.py:7), from which the paper's row is: alpha = A r without clip, with A = R - mean of the rollouts
alone, and beside it the negative log-likelihood of the demonstrations with weight 1:

    sum of -A r over the rollouts' tokens / response limit + coefficient x (mean of -log pi over the demonstrations' tokens)

They add this up over micro-batches. Here each demonstration weighs as if it had a micro-batch of its own: the mean over the tokens of the
mini-batch's demonstrations, times their number. Both parts are divided by the trajectories, demonstrations included (N of Eq. 2).

{clip: true, imitated: sequence} is the reading in which the rollouts train as in RFT; without demonstrations it is RFT, bit for bit.
"""

import numpy as np

from ..config.reading import Section, opt
from ..episodes import prefix_mask
from ..streams import CLIPPED, NONE, PLAIN
from .parts.advantages import disagree, dr_grpo, sampled
from .parts.base import Method
from .parts.groups import with_demonstration
from .parts.tokens import IMITATED, IMITATED_HELP, per_token, rl_streams, spread


class Options(Section):
    coefficient: float = opt(1.0, "weight of the demonstrations' negative log-likelihood", ge=0)
    clip: bool = opt(False, "clip the importance ratio")
    imitated: str = opt("token", IMITATED_HELP, choices=IMITATED)


class RLWithSFT(Method):
    uses_demos = True
    section, Options = "rl_with_sft", Options

    @classmethod
    def check(cls, run):
        if run.rollout.group_size < 2:
            raise ValueError("rollout.group_size: must be 2 or more: a demonstration takes the place of a rollout")

    def compose(self, problem, progress, rng):
        rollouts = self.group_size - 1 if problem.demos else self.group_size
        return with_demonstration(problem, rollouts, rng)

    def needs_scoring(self, episodes):
        return disagree(episodes, sampled)

    def weigh(self, episodes, progress=0.0, rng=None):
        cfg, copied = self.run.rl_with_sft, prefix_mask(episodes)
        surrogate = np.where(copied, NONE, CLIPPED if cfg.clip else PLAIN)
        streams = rl_streams(self.run, episodes, per_token(episodes, dr_grpo(episodes, sampled)), surrogate)
        streams.ce_weight = cfg.coefficient * spread(episodes, copied, cfg.imitated)
        streams.ce_count = float(len(episodes))
        return streams


METHOD = RLWithSFT
