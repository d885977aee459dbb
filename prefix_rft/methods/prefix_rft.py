"""Prefix-RFT: in each group one rollout continues a sampled prefix of a demonstration (paper section 2).

The update treats the hybrid like any other trajectory: beta = alpha = W, with the advantage of the whole hybrid. Only the prefix tokens
of highest entropy keep the advantage. Why entropy: for a copied token the gradient of its own logit has size 1 - p. Tokens of low
entropy are matched already (no gradient) or confidently contradicted (a violent gradient).

Example: with 7 failures and a success with the prefix, the prefix has A = +7/8. With 7 successes it has 0 or -7/8. The method imitates
where the model fails and explores elsewhere. With `per_group: 0` it is RFT, bit for bit.

Unknown in the paper, hence keys of `prefix`: min_length, clip, baseline. Unknown too: which policy's entropies are ranked. Ours are
pi_old's. They are known before the first update, so the ranking can span the whole mini-batch.

Controls and ablations are values of `keep`, `weight`, `fixed`, `negative`, `rank_over` and `schedule`; docs/methods.md lists them.
"""

import numpy as np

from ..config.reading import opt
from ..episodes import Start, prefix_mask
from ..streams import CLIPPED, NONE, PLAIN
from .parts.advantages import dr_grpo, group_means
from .parts.base import Method
from .parts.difficulty import Difficulty
from .parts.groups import draw_demo, plain, refuse_more_than_group
from .parts.schedules import SCHEDULE_HELP, SCHEDULES, Window, draw_prefix, window
from .parts.tokens import entropies_of, per_token, rl_streams, top_entropy


class Options(Window):
    """How a demonstration's prefix enters a group: paper section 2, steps 1, 2, 5, 6 and 7."""

    schedule: str = opt(
        "cosine",
        SCHEDULE_HELP
        + "; difficulty: the lower end from low_start for a problem that plain rollouts never solve to low_end"
        " for one that they always solve, whatever the step",
        choices=(*SCHEDULES, "difficulty"),
    )
    per_group: int = opt(1, "prefixed rollouts per group; they replace plain rollouts", ge=0)
    keep: str = opt(
        "top",
        "prefix tokens that keep their advantage. top: highest entropy; bottom: lowest entropy; random: a random choice; all;"
        " none; matched: all, scaled to the gradient norm of top",
        choices=("top", "bottom", "random", "all", "none", "matched"),
    )
    keep_share: float = opt(0.2, "share of the prefix tokens that top, bottom and random keep", ge=0, le=1)
    rank_over: str = opt(
        "minibatch",
        "prefix tokens that are ranked by entropy together: of the mini-batch, of a group, or of one sequence",
        choices=("minibatch", "group", "sequence"),
    )
    weight: float | None = opt(None, "factor of the advantage on the prefix tokens that keep it; unset: 1", ge=0)
    fixed: float | None = opt(None, "beta of the kept prefix tokens, whatever the reward; unset: W", ge=0)
    clip: bool = opt(True, "clip the importance ratio on prefix tokens as on rollouts; unknown in the paper")
    negative: bool = opt(
        True,
        "train a prefix of negative advantage too, as in the paper: its tokens become less likely. false: it is then shown only",
    )
    baseline: str = opt(
        "inside",
        "baseline of the advantage; unknown in the paper. inside: A = R - mean of the whole group, hybrid included. outside"
        " (dr_grpo_prefix of the authors' code): A = R - mean of the plain rollouts; on the hybrid's continuation A = R",
        choices=("inside", "outside"),
    )

    def check(self):
        super().check()
        if self.fixed is not None and (self.weight is not None or self.keep == "matched"):
            raise ValueError(
                "fixed: cannot be combined with weight or keep: matched, which are factors of W; unset one of them"
            )
        if self.fixed is not None and not self.negative:
            raise ValueError(
                "fixed: holds whatever the reward, so it cannot be combined with negative: false; unset one of them"
            )


def ranked_together(episodes, rank_over):
    """[T] int: tokens with the same number are ranked together. rank_over: key `prefix.rank_over`."""
    numbers = {
        "minibatch": [0 for _ in episodes],
        "group": [e.group for e in episodes],
        "sequence": range(len(episodes)),
    }
    return per_token(episodes, numbers[rank_over])


class PrefixRFT(Method):
    uses_demos = True
    section, Options = "prefix", Options

    def __init__(self, run):
        super().__init__(run)
        self.by_difficulty = run.prefix.schedule == "difficulty"
        self.difficulty = Difficulty()

    @classmethod
    def check(cls, run):
        cfg = run.prefix
        refuse_more_than_group(run, "prefix.per_group", cfg.per_group)
        for key in (k for k, v in (("baseline", "outside"), ("schedule", "difficulty")) if getattr(cfg, k) == v):
            if cfg.per_group == run.rollout.group_size:
                value = getattr(cfg, key)
                raise ValueError(
                    f"prefix.{key}: {value} needs a plain rollout in the group; lower prefix.per_group = {cfg.per_group}"
                )

    def compose(self, problem, progress, rng):
        cfg = self.run.prefix
        count = cfg.per_group if problem.demos else 0  # prompts without a demonstration train as plain RFT
        starts = plain(problem, self.group_size - count)
        for _ in range(count):
            demo = draw_demo(problem, rng)
            prefix, share = draw_prefix(demo, self.window(progress, problem), cfg.min_length, rng)  # step 2
            starts.append(Start(problem, prefix=prefix, demo_id=demo.id, share=share))
        return starts

    def window(self, progress, problem=None):
        """(low, high) of the prefix share for `problem`; None: for a new problem. With `schedule: difficulty` they differ."""
        cfg = self.run.prefix
        if not self.by_difficulty:
            return window(cfg, progress)
        return cfg.low_start + (cfg.low_end - cfg.low_start) * self.difficulty.rate(problem), cfg.high

    def observe(self, episodes, rng):
        if self.by_difficulty:
            self.difficulty.observe(episodes)

    def state_dict(self):
        return self.difficulty.state_dict() if self.by_difficulty else {}

    def load_state_dict(self, state):
        if self.by_difficulty:
            self.difficulty.load_state_dict(state)

    def needs_scoring(self, episodes):
        cfg = self.run.prefix
        if cfg.baseline == "outside":  # R of a hybrid counts even where all rewards agree
            return [True] * len(episodes)
        ranked = cfg.keep in ("top", "bottom", "matched")  # the ranking spans the prefixes of the whole mini-batch
        return [
            a or (ranked and bool(e.prefix)) for a, e in zip(super().needs_scoring(episodes), episodes, strict=True)
        ]

    def kept(self, episodes, copied, rng):
        """[T] bool: the prefix tokens that are trained on (step 7)."""
        cfg = self.run.prefix
        if cfg.keep in ("all", "none"):
            return copied & (cfg.keep == "all")
        score = {
            "bottom": lambda: -entropies_of(episodes),
            "random": lambda: (rng or np.random.default_rng(0)).random(len(copied)),
        }.get(cfg.keep, lambda: entropies_of(episodes))()
        ranking = ranked_together(episodes, cfg.rank_over)
        kept = np.zeros_like(copied)
        for number in np.unique(ranking[copied]):
            kept |= top_entropy(score, copied & (ranking == number), cfg.keep_share)
        return kept

    def weigh(self, episodes, progress=0.0, rng=None):
        cfg = self.run.prefix
        copied = prefix_mask(episodes)
        if cfg.baseline == "inside":  # step 5: the hybrid is inside the baseline
            advantage = per_token(episodes, dr_grpo(episodes))
        else:
            means = group_means(episodes, include=lambda e: not e.prefix)
            hybrid = per_token(episodes, [bool(e.prefix) for e in episodes]).astype(bool)
            reward = per_token(episodes, [e.reward for e in episodes])
            # R - mean of the plain rollouts; the hybrid's continuation gets R itself
            advantage = reward - np.where(
                hybrid & ~copied, 0.0, per_token(episodes, [means[e.group] for e in episodes])
            )
        if cfg.weight is not None:
            advantage = np.where(copied, cfg.weight * advantage, advantage)
        kept = self.kept(episodes, copied, rng)
        if not cfg.negative:
            kept &= advantage > 0
        clipped = np.where(copied & ~kept, 0.0, advantage)  # dropped tokens stay in the denominator
        surrogate = np.where(copied & (not cfg.clip), PLAIN, CLIPPED)  # step 6
        if cfg.keep == "matched":
            streams = rl_streams(self.run, episodes, advantage, surrogate)
            streams.match = clipped
        elif cfg.fixed is not None:
            streams = rl_streams(
                self.run, episodes, np.where(copied, 0.0, advantage), np.where(copied, NONE, surrogate)
            )
            streams.ce_weight, streams.ce_count = np.where(kept, cfg.fixed, 0.0), streams.rl_count
        else:
            streams = rl_streams(self.run, episodes, clipped, surrogate)
        return streams


METHOD = PrefixRFT
