"""ReLIFT: RFT, with SFT updates in between on the problems that RFT does not solve (paper section 1; arXiv 2506.07527).

alpha = A r without clip, with Dr.GRPO's A. A prompt whose rollouts all fail goes to a buffer, with its demonstration. When the buffer
holds a batch, one SFT update trains on it (beta = 1, divided by the tokens of the batch) with an AdamW of its own. Checkpoints hold the
buffer.

The defaults are those of the authors' code (TheRoadQaQ/ReLIFT at eb95454): a batch of 128 demonstrations for 128 prompts a step
(examples/math-7b/train.sh:18), the newest prompts first and at most one SFT update a step (relift/verl/verl/relift/trainer.py:445-533).
"""

import numpy as np

from ..config.reading import Section, opt
from ..episodes import Demonstration, Episode, Problem
from ..streams import PLAIN
from .parts.advantages import dr_grpo
from .parts.base import Method
from .parts.groups import draw_demo, plain, whole
from .parts.tokens import per_token, rl_streams


class Options(Section):
    batch: int | None = opt(None, "demonstrations of an SFT update; unset: as many as batch_prompts", ge=1)
    order: str = opt("newest", "which prompts of the buffer are trained on first", choices=("newest", "oldest"))
    per_step: int | None = opt(1, "most SFT updates a step; unset: as many as the buffer has batches for", ge=1)
    lr: float | None = opt(
        None,
        "learning rate of the SFT updates; unset: optimizer.lr (both are 1e-6 in ReLIFT). The other settings are those of optimizer",
        gt=0,
    )


class ReLIFT(Method):
    uses_demos = True
    section, Options = "relift", Options

    def __init__(self, run):
        super().__init__(run)
        self.buffer = []  # [(Problem, Demonstration)], in the order in which they are trained on
        self.left = run.relift.per_step  # SFT updates of this step that may still come; None: any number

    def compose(self, problem, progress, rng):
        return plain(problem, self.group_size)

    def observe(self, episodes, rng):
        problems = {e.group: e.start.problem for e in episodes}
        solved = {e.group for e in episodes if e.reward > 0}
        failed = [(p, draw_demo(p, rng)) for group, p in problems.items() if group not in solved and p.demos]
        self.buffer = failed + self.buffer if self.run.relift.order == "newest" else self.buffer + failed
        self.left = self.run.relift.per_step

    def weigh(self, episodes, progress=0.0, rng=None):
        return rl_streams(self.run, episodes, per_token(episodes, dr_grpo(episodes)), PLAIN)

    def further_optimizer(self):
        cfg = self.run.optimizer
        return cfg.model_copy(update={"lr": self.run.relift.lr or cfg.lr})

    def further_batch(self):
        size = self.run.relift.batch or self.run.batch_prompts
        if len(self.buffer) < size or self.left == 0:
            return None
        self.left = None if self.left is None else self.left - 1
        batch, self.buffer = self.buffer[:size], self.buffer[size:]
        return [Episode(i, whole(p, d), [], np.zeros(0), True, reward=1.0) for i, (p, d) in enumerate(batch)]

    def state_dict(self):
        return {"buffer": [[p.id, p.prompt, p.answer, d.id, d.ids] for p, d in self.buffer]}

    def load_state_dict(self, state):
        self.buffer = [
            (Problem(name, prompt, answer), Demonstration(demo, ids))
            for name, prompt, answer, demo, ids in state["buffer"]
        ]


METHOD = ReLIFT
