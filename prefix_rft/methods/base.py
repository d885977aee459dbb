"""What a method is: how a group is composed, which advantage, which per-token weights (paper section 1)."""

import numpy as np

from ..config import Run
from ..episodes import Episode, Problem, Start
from ..streams import CLIPPED, NONE, Streams


class Method:
    """A method is built from its run and asked three things; it keeps no other state.

    A method with options of its own has them as a dataclass `Options`, every field with a default, and names the section
    of the run's file that holds them; `run.<section>` is an instance of it.
    """

    samples = True  # False: trains on demonstrations alone, no rollouts
    uses_demos = False  # True: a run that names no demonstration set is refused
    section: str | None = None
    Options: type | None = None

    def __init__(self, run: Run):
        self.run = run
        self.group_size = run.rollout.group_size if run.rollout else 1

    @classmethod
    def check(cls, run: Run):
        """Raise `ValueError` where the method's options do not go with the rest of the run."""

    def compose(self, problem: Problem, progress: float, rng: np.random.Generator) -> list[Start]:
        """The group of one prompt. `progress` goes from 0 at the first step to 1 at the last."""
        raise NotImplementedError

    def weigh(self, episodes: list[Episode]) -> Streams:
        """The per-token streams of a mini-batch of whole groups. Rewards, old log-probs and entropies are there."""
        raise NotImplementedError

    def needs_scoring(self, episodes: list[Episode]) -> list[bool]:
        """Which episodes of a step `weigh` or the loss need pi_old's log-probs and entropies of. By default those of
        groups whose rewards differ: elsewhere A = R - mean is zero, and so is the gradient."""
        rewards = {}
        for e in episodes:
            rewards.setdefault(e.group, set()).add(e.reward)
        return [len(rewards[e.group]) > 1 for e in episodes]

    def window_low(self, progress: float) -> float | None:
        """Lower end of the window that the prefix share is drawn from, for the metrics; None: no such window."""
        return None


def refuse_more_than_group(run, key, count):
    if count > run.rollout.group_size:
        raise ValueError(f"{key}: {count} is more than rollout.group_size = {run.rollout.group_size}")


def plain(problem, count):
    """`count` rollouts from the prompt alone."""
    return [Start(problem) for _ in range(count)]


def draw_demo(problem, rng):
    """Several demonstrations for one prompt: one at random (paper section 2 step 1)."""
    return problem.demos[int(rng.integers(len(problem.demos)))]


def group_means(episodes, include=lambda e: True):
    """Mean reward of each group over the episodes that `include` names: {group: mean}."""
    rewards = {}
    for e in episodes:
        if include(e):
            rewards.setdefault(e.group, []).append(e.reward)
    return {g: float(np.mean(r)) for g, r in rewards.items()}


def dr_grpo(episodes):
    """A_i = R_i - mean of the group, no division by the standard deviation (Dr.GRPO, arXiv 2503.20783): [episodes]."""
    means = group_means(episodes)
    return np.array([e.reward - means[e.group] for e in episodes])


def per_token(episodes, values):
    """One value an episode -> one value a response token: [T]."""
    return np.repeat(np.asarray(values, dtype=np.float64), [len(e.response) for e in episodes])


def prefix_mask(episodes):
    """[T] bool: response tokens copied from a demonstration."""
    return np.concatenate([e.is_prefix for e in episodes]) if episodes else np.zeros(0, dtype=bool)


def rl_streams(run, episodes, advantage, surrogate=CLIPPED, gamma=0.1):
    """Streams of the rl component alone, with Dr.GRPO's constant denominator: sequences x response limit (step 8)."""
    advantage = np.asarray(advantage, dtype=np.float64)
    return Streams(
        advantage=advantage,
        surrogate=np.broadcast_to(np.asarray(surrogate, dtype=np.int8), advantage.shape).copy(),
        ce_weight=np.zeros_like(advantage),
        rl_count=float(len(episodes) * run.rollout.max_response),
        ce_count=1.0,
        gamma=gamma,
    )


def ce_streams(episodes):
    """Streams of the cross-entropy alone: every response token counts 1, divided by the tokens of the whole batch."""
    tokens = sum(len(e.response) for e in episodes)
    return Streams(
        advantage=np.zeros(tokens),
        surrogate=np.full(tokens, NONE, dtype=np.int8),
        ce_weight=np.ones(tokens),
        rl_count=1.0,
        ce_count=float(tokens),
    )
