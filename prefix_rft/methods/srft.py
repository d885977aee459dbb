"""SRFT: N rollouts and the demonstration in one update, weighted by the policy's entropy (paper section 1; SRFT, arXiv 2506.19767).

Rollouts act through log pi without a ratio: alpha = `positive` sg(exp(H)) if correct, else -1. The demonstration has beta = `imitation`
sg(exp(-H)), and a term shaped as in LUFFY, A g p / (p + g)^2, with A over rollouts and demonstration. sg: no gradient flows through it.
H: mean entropy of the current policy's next-token distributions over the response.

The authors' own code is not public. The defaults are those of the public re-implementation (TsinghuaC3I/Unify-Post-Training at ae332f5,
exp_scripts/train_srft.sh:102-104 and hpt/verl/verl/mix_src/mix_actor.py:349-400): no standard deviation; the mean over tokens for the
demonstrations' negative log-likelihood, sums over the response limit for the rest. They add this up over micro-batches. Here each
demonstration weighs as if it had a micro-batch of its own, and all is divided by the trajectories, demonstrations included.

The other reading, with H of each token and with rollouts and demonstrations averaged each among themselves, is {entropy: token, std: true,
denominator: sequence, imitated: sequence, together: false}.
"""

import numpy as np

from ..config.reading import Section, opt
from ..episodes import prefix_mask
from ..streams import EXP_ENTROPY, EXP_MINUS_ENTROPY, NONE, ONE, SHAPED, Factor, register
from .parts.advantages import dr_grpo, grpo, sampled
from .parts.base import Method
from .parts.groups import with_demonstration
from .parts.tokens import DENOMINATORS, IMITATED, IMITATED_HELP, per_token, rl_streams, spread

EXP_MEAN_ENTROPY = register("exp(mean H)", Factor(lambda w, x: w * x.mean_entropy.exp(), needs_entropy=True))
EXP_MINUS_MEAN_ENTROPY = register("exp(-mean H)", Factor(lambda w, x: w * (-x.mean_entropy).exp(), needs_entropy=True))
FACTORS = {
    "sequence": (EXP_MEAN_ENTROPY, EXP_MINUS_MEAN_ENTROPY),
    "token": (EXP_ENTROPY, EXP_MINUS_ENTROPY),
}


class Options(Section):
    positive: float = opt(0.1, "factor of exp(H) on the correct rollouts", ge=0)
    imitation: float = opt(0.5, "factor of exp(-H) on the demonstration's negative log-likelihood", ge=0)
    gamma: float = opt(0.1, "g of the shaping p / (p + g) of the demonstration's rl term", gt=0)
    entropy: str = opt("sequence", "H: mean over a sequence's response, or of each token", choices=tuple(FACTORS))
    std: bool = opt(False, "divide the demonstration's advantage by the standard deviation of its group")
    denominator: str = opt(
        "constant",
        "how tokens are averaged, but those of the negative log-likelihood (docs/methods.md)",
        choices=DENOMINATORS,
    )
    imitated: str = opt("token", IMITATED_HELP, choices=IMITATED)
    together: bool = opt(
        True, "divide all by the number of trajectories; false: rollouts by theirs, demonstrations by theirs"
    )


class SRFT(Method):
    uses_demos = True
    section, Options = "srft", Options

    def compose(self, problem, progress, rng):
        return with_demonstration(problem, self.group_size, rng)

    def needs_scoring(self, episodes):
        return [False] * len(episodes)  # no term has a ratio

    def weigh(self, episodes, progress=0.0, rng=None):
        cfg, copied = self.run.srft, prefix_mask(episodes)
        rollouts = demos = len(episodes)
        if not cfg.together:
            rollouts = sum(map(sampled, episodes))
            demos = max(len(episodes) - rollouts, 1)
        right = per_token(episodes, [e.reward > 0 for e in episodes]).astype(bool)
        limit = self.run.rollout.max_response
        explored = spread(episodes, ~copied, cfg.denominator, limit) / rollouts
        shaped = spread(episodes, copied, cfg.denominator, limit) / demos
        imitated = spread(episodes, copied, cfg.imitated) / demos
        advantage = per_token(episodes, (grpo if cfg.std else dr_grpo)(episodes))
        streams = rl_streams(self.run, episodes, advantage * shaped, np.where(copied, SHAPED, NONE), cfg.gamma)
        streams.ce_weight = explored * np.where(right, cfg.positive, -1.0) + imitated * cfg.imitation
        more, less = FACTORS[cfg.entropy]
        streams.ce_factor = np.where(copied, less, np.where(right, more, ONE)).astype(np.int8)
        streams.rl_count = streams.ce_count = 1.0
        return streams


METHOD = SRFT
