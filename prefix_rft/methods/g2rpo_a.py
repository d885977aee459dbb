"""G2RPO-A: some rollouts of a group continue a prefix whose length follows the success rate (arXiv 2508.13023).

alpha = beta = W, with A over the whole group: every token of the prefix is trained. All prefixes of a step show the same share l of their
demonstrations. Every `every` steps l is multiplied by (mean success before) / (success now): before are the steps since the last change,
now is the step itself. So prefixes grow when success falls, and shrink when it rises. Success is that of all rollouts of a step,
prefixed ones too; where one of the two is 0, l stays.

Source: T-Lab-CUHKSZ/G2RPO-A at 0d98af8, src/G2RPO-A/trainer/g2rpoa_trainer.py:623-703 (the rule, every 3 steps), :708 (the first length,
the longest), :788 (2 of 12 rollouts) and :880-893 (guidance is trained). Not as there: lengths are shares of a demonstration and not
tokens; A is Dr.GRPO's; one of 8 rollouts has a prefix, as in Prefix-RFT. Prompts without a demonstration train as RFT.
"""

import numpy as np

from ..config.reading import Section, opt
from ..episodes import Start
from .parts.advantages import dr_grpo
from .parts.base import Method
from .parts.groups import draw_demo, plain, refuse_more_than_group
from .parts.schedules import prefix_length
from .parts.tokens import per_token, rl_streams


class Options(Section):
    per_group: int = opt(1, "prefixed rollouts per group; they replace plain rollouts", ge=0)
    share: float = opt(0.95, "share of a demonstration that is shown at first, and the most", gt=0, le=1)
    every: int = opt(3, "steps between two changes of the share", ge=2)


class G2RPOA(Method):
    uses_demos = True
    section, Options = "g2rpo_a", Options

    def __init__(self, run):
        super().__init__(run)
        self.share, self.seen = run.g2rpo_a.share, []  # seen: success rates of the steps since the last change

    @classmethod
    def check(cls, run):
        refuse_more_than_group(run, "g2rpo_a.per_group", run.g2rpo_a.per_group)

    def compose(self, problem, progress, rng):
        count = self.run.g2rpo_a.per_group if problem.demos else 0
        starts = plain(problem, self.group_size - count)
        for _ in range(count):
            demo = draw_demo(problem, rng)
            prefix = demo.ids[: prefix_length(self.share, len(demo.ids), 1)]
            starts.append(Start(problem, prefix=prefix, demo_id=demo.id, share=self.share))
        return starts

    def window(self, progress):
        return self.share, self.share

    def observe(self, episodes, rng):
        self.seen.append(float(np.mean([e.reward for e in episodes])))
        if len(self.seen) < self.run.g2rpo_a.every:
            return
        *before, now = self.seen
        before = float(np.mean(before))
        if before > 0 and now > 0:
            self.share = min(self.share * before / now, self.run.g2rpo_a.share)
        self.seen = []

    def state_dict(self):
        return {"share": self.share, "seen": self.seen}

    def load_state_dict(self, state):
        self.share, self.seen = state["share"], state["seen"]

    def weigh(self, episodes, progress=0.0, rng=None):
        return rl_streams(self.run, episodes, per_token(episodes, dr_grpo(episodes)))


METHOD = G2RPOA
