"""DR-PO: the whole group continues one prefix of the demonstration, and the prefix is not trained (paper section 1).

alpha = W, with A over the group, whose trajectories all start alike; beta = 0. Prompts without a demonstration train as RFT. The length
of the prefixes in the paper's comparison is unknown: the window has the keys of `prefix`, and each group draws one length.
"""

import numpy as np

from ..episodes import Start, prefix_mask
from .parts.advantages import dr_grpo
from .parts.base import Method
from .parts.groups import draw_demo, plain
from .parts.schedules import Window, draw_prefix, window
from .parts.tokens import per_token, rl_streams


class Options(Window):
    """The window of the shared prefix."""


class DRPO(Method):
    uses_demos = True
    section, Options = "drpo", Options

    def __init__(self, run):
        super().__init__(run)
        self.options = getattr(run, self.section)  # a subclass has a section of its own

    def compose(self, problem, progress, rng):
        if not problem.demos:
            return plain(problem, self.group_size)
        demo = draw_demo(problem, rng)
        prefix, share = draw_prefix(demo, self.window(progress), self.options.min_length, rng)
        return [Start(problem, prefix=prefix, demo_id=demo.id, share=share) for _ in range(self.group_size)]

    def window(self, progress):
        return window(self.options, progress)

    def weigh(self, episodes, progress=0.0, rng=None):
        advantage = per_token(episodes, dr_grpo(episodes))
        return rl_streams(self.run, episodes, np.where(prefix_mask(episodes), 0.0, advantage))


METHOD = DRPO
