"""HPT: a prompt that the model does not solve is imitated, every other prompt is explored (paper section 1; HPT, arXiv 2509.04419).

If at most `gate` of the N rollouts are correct, the group trains on its demonstration and its rollouts are dropped. Every other group
trains on its rollouts, by A r with A = R - mean and no clip. The defaults are those of the authors' launcher
(TsinghuaC3I/Unify-Post-Training at ae332f5, exp_scripts/train.sh:25-32 and 107-109; the loss: hpt/verl/verl/mix_src/mix_actor.py:135-165):

    sum of -A r over the rollouts' tokens / response limit + coefficient x (mean of -log pi over the demonstrations' tokens)

They add this up over micro-batches, so that the weight of imitation depends on how many of them hold a demonstration. Here each
demonstration weighs as if it had a micro-batch of its own: the mean over the tokens of the mini-batch's demonstrations, times their
number. Both parts are divided by the rollouts of the mini-batch.

Every group holds its demonstration, with weight 0 where the group is explored; there the demonstration costs nothing. Prompts without
a demonstration are always explored.

The other reading, by GRPO's own equation and with a mean over prompts, is {std: true, clip: true, denominator: sequence, imitated:
sequence, coefficient: N}.
"""

import numpy as np

from ..config.reading import Section, opt
from ..episodes import prefix_mask
from ..streams import CLIPPED, NONE, PLAIN
from .parts.advantages import disagree, dr_grpo, group_rewards, grpo, sampled
from .parts.base import Method
from .parts.groups import with_demonstration
from .parts.tokens import DENOMINATORS, IMITATED, IMITATED_HELP, per_token, rl_streams, spread


class Options(Section):
    gate: int = opt(0, "greatest number of correct rollouts of a group that is imitated; 2 for LLaMA", ge=0)
    coefficient: float = opt(1.0, "weight of the demonstrations' negative log-likelihood; 0.3 at 1.5B", ge=0)
    std: bool = opt(False, "divide the advantage by the standard deviation of its group")
    clip: bool = opt(False, "clip the importance ratio")
    denominator: str = opt(
        "constant", "how the tokens of rollouts are averaged (docs/methods.md)", choices=DENOMINATORS
    )
    imitated: str = opt("token", IMITATED_HELP, choices=IMITATED)


class HPT(Method):
    uses_demos = True
    section, Options = "hpt", Options

    def compose(self, problem, progress, rng):
        return with_demonstration(problem, self.group_size, rng)

    def imitated(self, episodes):
        """{group}: the groups that are trained on their demonstration."""
        right = {g: sum(r > 0 for r in rewards) for g, rewards in group_rewards(episodes, sampled).items()}
        return {e.group for e in episodes if not sampled(e) and right[e.group] <= self.run.hpt.gate}

    def needs_scoring(self, episodes):
        imitated = self.imitated(episodes)
        return disagree(episodes, lambda e: sampled(e) and e.group not in imitated)

    def weigh(self, episodes, progress=0.0, rng=None):
        cfg, copied, imitated = self.run.hpt, prefix_mask(episodes), self.imitated(episodes)
        closed = per_token(episodes, [e.group in imitated for e in episodes]).astype(bool)
        own = spread(episodes, ~copied & ~closed, cfg.denominator, self.run.rollout.max_response)
        advantage = per_token(episodes, (grpo if cfg.std else dr_grpo)(episodes, sampled)) * own
        surrogate = np.where(copied | closed, NONE, CLIPPED if cfg.clip else PLAIN)
        streams = rl_streams(self.run, episodes, advantage, surrogate)
        streams.rl_count = streams.ce_count = float(max(sum(map(sampled, episodes)), 1))
        streams.ce_weight = cfg.coefficient * spread(episodes, copied & closed, cfg.imitated)
        return streams


METHOD = HPT
