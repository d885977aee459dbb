"""The one thing that crosses the line between rollout and update: an episode, token ids with named spans.

    prompt | prefix | continuation            prefix: copied from a demonstration ("imitated" in the paper's Eq. 2)
           '------ response -----'            continuation: sampled by the policy ("explored")

Worked example: a prompt of 2 tokens, a prefix of 2, a continuation of 3 that ends with the stop id 1:

    prompt [7, 8]  prefix [4, 5]  continuation [6, 9, 1]
    ids [7, 8, 4, 5, 6, 9, 1]   response [4, 5, 6, 9, 1]   is_prefix [1, 1, 0, 0, 0]

There is no padding, no sentinel value and no text here: ids come from the data set as they are and reach the loss so.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Demonstration:
    id: str
    ids: list[int]  # response tokens, the stop id included


@dataclass(frozen=True)
class Problem:
    id: str
    prompt: list[int]
    answer: str
    demos: list[Demonstration] = field(default_factory=list)
    level: str = "all"


@dataclass(frozen=True)
class Start:
    """How one trajectory of a group begins. `sample=False`: the prefix is the whole response, nothing is sampled and
    the reward is given: the demonstration itself is trained on."""

    problem: Problem
    prefix: list[int] = field(default_factory=list)
    demo_id: str | None = None
    share: float | None = None  # the drawn share l of the demonstration, paper section 2 step 2
    sample: bool = True


@dataclass
class Episode:
    group: int  # index of the prompt within the step; the trajectories of one group share it
    start: Start
    continuation: list[int]
    sampler_logprobs: np.ndarray  # [continuation], log-probs under the sampler
    finished: bool  # ended with a stop id, not by the length limit
    reward: float = 0.0
    timed_out: bool = False
    flipped: bool = False  # the verdict was turned round on purpose (reward_noise)
    # of the policy before the update (pi_old), [response]: the sampler's at first, zeros on the prefix, then the learner's where it
    # made its own pass (scored). on_policy: the update itself starts from pi_old, so its own log-probs are the old ones.
    # sampler_is_old: the sampler computes what the learner would, so its log-probs are the old ones
    old_logprobs: np.ndarray | None = None
    entropies: np.ndarray | None = None
    scored: bool = False
    on_policy: bool = False
    sampler_is_old: bool = False
    reference_logprobs: np.ndarray | None = None  # of the model that the run started from, for methods that want it

    def __post_init__(self):
        if self.old_logprobs is None:
            self.old_logprobs = np.concatenate([np.zeros(len(self.prefix)), self.sampler_logprobs])
        if self.entropies is None:
            self.entropies = np.zeros(len(self.response))

    @property
    def has_old(self):
        """Whether the log-probs of pi_old are known for the whole response, or will be in the update."""
        return self.scored or self.on_policy or (self.sampler_is_old and not self.prefix)

    @property
    def prompt(self):
        return self.start.problem.prompt

    @property
    def prefix(self):
        return self.start.prefix

    @property
    def response(self):
        return self.start.prefix + self.continuation

    @property
    def ids(self):
        return self.prompt + self.response

    @property
    def is_prefix(self):
        """[response] bool: which response tokens were copied from the demonstration."""
        mask = np.zeros(len(self.response), dtype=bool)
        mask[: len(self.prefix)] = True
        return mask
