"""How often a problem is solved: an estimate from the rollouts of earlier steps, for methods that show a hard problem more."""

import numpy as np

from .advantages import group_means

MEMORY = 0.9  # share of a running success rate that a step keeps


class Difficulty:
    """Success rates of plain rollouts.

    solved: {problem id: rate at its last step}.
    solved_at: {level: running mean}, the estimate for a new problem.
    solved_overall: running mean over all levels, the estimate for a problem of a new level; 0 at first.
    """

    KEPT = ("solved", "solved_at", "solved_overall")

    def __init__(self):
        self.solved, self.solved_at, self.solved_overall = {}, {}, 0.0

    def rate(self, problem=None):
        """The estimate for `problem`, in [0, 1]; None: for a new problem of a new level."""
        rate = self.solved_overall
        if problem is not None:
            rate = self.solved.get(problem.id, self.solved_at.get(problem.level, rate))
        return min(max(rate, 0.0), 1.0)  # rewards of one's own may lie outside

    def observe(self, episodes):
        """Take in the rewards of a step. Groups without a plain rollout tell nothing."""
        problems = {e.group: e.start.problem for e in episodes}
        means = group_means(episodes, include=lambda e: not e.prefix)
        if not means:
            return
        self.solved |= {problems[g].id: mean for g, mean in means.items()}
        for level in sorted({problems[g].level for g in means}):
            now = float(np.mean([mean for g, mean in means.items() if problems[g].level == level]))
            self.solved_at[level] = MEMORY * self.solved_at.get(level, self.solved_overall) + (1 - MEMORY) * now
        now = float(np.mean(list(means.values())))
        self.solved_overall = MEMORY * self.solved_overall + (1 - MEMORY) * now

    def state_dict(self):
        return {key: getattr(self, key) for key in self.KEPT}

    def load_state_dict(self, state):
        for key in self.KEPT:
            setattr(self, key, state[key])
