"""TRAPO: longer prefixes the less a problem is solved, imitated inside a trust region (arXiv 2512.17636, ICLR 2026).

A group of 8 has four micro-groups. Four rollouts are plain. Two continue a quarter of a demonstration, one continues half of it, and one
is a whole demonstration; each of these is a plain rollout instead where the problem is solved often enough (`MICRO_GROUPS`).

* Sampled tokens: alpha = A r without clip, with A = R - mean of the whole group.
* Copied tokens (TrSFT): beta = p / max(sg(p), `alpha`), whatever the reward. Tokens that the policy gives less than `alpha` count less.
  Of two rollouts with the same prefix, the second alone trains it.

Both are divided by trajectories x response limit. Source: Su-my/TRAPO at 982cb8f, luffy/verl/verl/trapo_src/: mix_trainer.py:455-516
(sizes, and returns below which a micro-group is shown more), mix_vllm_rollout.py:199-233 (lengths, and which prefix is trained),
mix_core_alg.py:236 (the weight), mix_actor.py:109 (it is blind to the reward); exp_scripts/train_trapo.sh:70-77.

Not as there: the authors sample the micro-groups one after the other, and what the earlier ones of the same step return decides about the
next. Here a group is sampled at once, so the success rate of the problem's earlier rollouts decides, or that of its level
(`parts/difficulty.py`). Their prefixes end at the next paragraph, ours at the token. The demonstration of the last micro-group is drawn
anew; they take a second one of the data. Prompts without a demonstration train on plain rollouts.
"""

import numpy as np

from ..config.reading import Section, opt
from ..episodes import Start, prefix_mask
from ..streams import NONE, ONE, PLAIN, Factor, register
from .parts.advantages import dr_grpo
from .parts.base import Method
from .parts.difficulty import Difficulty
from .parts.groups import draw_demo, plain, whole
from .parts.schedules import prefix_length
from .parts.tokens import per_token, rl_streams

# p / max(p, alpha)
TRUST_REGION = register("p / max(p, gamma)", Factor(lambda w, x: w * x.p / x.p.clamp(min=x.gamma)))

# share of a demonstration, share of the group, success rate from which on the micro-group is plain (4 of 8: 2 of 4, 4 of 6, 7 of 7)
MICRO_GROUPS = ((0.25, 1 / 4, 1 / 2), (0.5, 1 / 8, 2 / 3), (1.0, 1 / 8, 1.0))


class Options(Section):
    alpha: float = opt(0.1, "probability of a copied token below which it counts less", gt=0, le=1)
    coefficient: float = opt(1.0, "weight of the copied tokens", ge=0)


class TRAPO(Method):
    uses_demos = True
    section, Options = "trapo", Options

    def __init__(self, run):
        super().__init__(run)
        self.difficulty = Difficulty()

    @classmethod
    def check(cls, run):
        if run.rollout.group_size < 4:
            raise ValueError(
                f"rollout.group_size: {run.rollout.group_size} must be 4 or more: a group has four micro-groups"
            )

    def compose(self, problem, progress, rng):
        if not problem.demos:
            return plain(problem, self.group_size)
        demo, last = draw_demo(problem, rng), draw_demo(problem, rng)
        rate, shown = self.difficulty.rate(problem), []
        for share, part, enough in MICRO_GROUPS:
            if rate >= enough:
                continue
            start = whole(problem, last)
            if share < 1:
                prefix = demo.ids[: prefix_length(share, len(demo.ids), 1)]
                start = Start(problem, prefix=prefix, demo_id=demo.id, share=share)
            shown += [start] * max(int(self.group_size * part), 1)
        return plain(problem, self.group_size - len(shown)) + shown

    def observe(self, episodes, rng):
        self.difficulty.observe(episodes)

    def state_dict(self):
        return self.difficulty.state_dict()

    def load_state_dict(self, state):
        self.difficulty.load_state_dict(state)

    def weigh(self, episodes, progress=0.0, rng=None):
        cfg, copied = self.run.trapo, prefix_mask(episodes)
        prefixes = [(e.group, e.start.demo_id, len(e.prefix)) for e in episodes]
        last = {prefix: i for i, prefix in enumerate(prefixes)}  # of equal prefixes, the last one trains
        trained = per_token(episodes, [last[prefix] == i for i, prefix in enumerate(prefixes)]).astype(bool)
        advantage = per_token(episodes, dr_grpo(episodes))
        streams = rl_streams(self.run, episodes, advantage, np.where(copied, NONE, PLAIN), cfg.alpha)
        streams.ce_weight = np.where(copied & trained, cfg.coefficient, 0.0)
        streams.ce_factor = np.where(copied, TRUST_REGION, ONE).astype(np.int8)
        streams.ce_count = streams.rl_count
        return streams


METHOD = TRAPO
