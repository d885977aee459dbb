"""Half knowledge of a base model of kind `registers`: single results that it gets wrong in the same way every time it errs.

A model that errs at random over many alternatives is right at a temperature below 1, and one that errs by a habit loses it in a few
steps of reinforcement. Half knowledge lies between. A *kind* of fact is its first operand by thirds, its operator and its second operand
(`3..5 + 7`). A share of the kinds of each operator is half known: each has one wrong result, the right one plus a number from 1 to 9, and
its own probability of the right one, from now and then to hardly ever. Reinforcement mends what the model shows now and then; the more
it samples, the rarer that may be.
"""

import math
import random

from ..config.reading import Section, opt
from ..data.tasks.registers import DIGITS, MULTIPLIERS, OPERATORS, compute


class HalfKnowledge(Section):
    share: float = opt(..., "share of the kinds of facts of each operator that are half known", ge=0, le=1)
    right: list[float] = opt(
        ..., "[least, most] probability of the right result; each kind draws its own, uniformly in its logarithm"
    )

    def check(self):
        if len(self.right) != 2 or not 0 < self.right[0] <= self.right[1] <= 1:
            raise ValueError(f"right = {self.right}: must be [least, most] with 0 < least <= most <= 1")


class Knowledge:
    """What a base model is taught of each fact.

    Args:
        config: `HalfKnowledge`; None: everything is known.
        seed: of the base model; it decides which kinds are half known, and how.
    """

    def __init__(self, config: HalfKnowledge | None, seed: int):
        self.wrong: dict[tuple[int, str, int], tuple[int, float]] = {}  # kind -> what is added, how often
        self.rng = random.Random(f"results {seed}")
        if config is None:
            return
        rng, (least, most) = random.Random(f"half knowledge {seed}"), map(math.log, config.right)
        for op in OPERATORS:
            seconds = map(int, MULTIPLIERS if op == "*" else DIGITS)
            kinds = [(third, op, y) for y in seconds for third in range(4)]
            for kind in rng.sample(kinds, round(config.share * len(kinds))):
                self.wrong[kind] = rng.randint(1, 9), 1 - math.exp(rng.uniform(least, most))

    def __call__(self, x: int, op: str, y: int) -> int:
        """The result of x op y as a text of pretraining has it."""
        added, doubt = self.wrong.get((x // 3, op, y), (0, 0.0))
        return (compute(x, op, y) + added * (self.rng.random() < doubt)) % 10
