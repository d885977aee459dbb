"""Signs that a run learns nothing, found in its metrics while it goes on.

A run whose responses are all cut off has a reward and a gradient of 0 in every step, and would otherwise end without a word. Each symptom
is a condition on a row of metrics.jsonl that holds for a number of steps in a row. It is logged once, kept in run.json (`warnings`), and
named below every table that shows the run. A symptom stops nothing.

The numbers of steps and the limits are ours. They are such that no run of preset tiny has a false alarm.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)
NEARLY_CERTAIN = 1e-4  # nats: mean entropy of a policy that has one response left
OFTEN = 0.1  # share of verdicts that timed out
FEW = 0.1  # share of responses that ended by themselves


@dataclass(frozen=True)
class Symptom:
    """name: in run.json; steps: how many in a row; holds: row -> bool; advice: the likeliest cause and the key to change."""

    name: str
    steps: int
    holds: Callable[[dict], bool]
    advice: str


def _behind(row) -> bool:
    """Whether prefixed rollouts are right less often, while their prefixes have an advantage that a clip could act on: not where a prefix
    is only shown, or imitated whatever the reward."""
    prefixed, plain = row["reward_prefixed"], row["reward_plain"]
    return None not in (prefixed, plain, row["clip_fraction_prefix"]) and prefixed < plain


def symptoms(run) -> list[Symptom]:
    """The symptoms of a run's method; `run`: its configuration."""
    skipped = Symptom(
        "no gradient",
        5,
        lambda row: row["grad_norm"] == 0,
        "every gradient was 0 and every update was skipped: no token has an advantage or a weight; look at reward, groups_all_right and"
        " groups_all_wrong in metrics.jsonl",
    )
    if run.method == "sft":
        return [skipped]
    limit, rows = run.rollout.max_response, run.batch_prompts * run.rollout.group_size
    unlearns = run.method != "prefix_rft" or run.prefix.negative
    return [
        Symptom(
            "responses cut off",
            3,
            lambda row: row["finished_share"] < FEW,
            f"hardly a response ended by itself: rollout.max_response = {limit} is too short for this task, or the model knows no stop"
            " token; raise rollout.max_response or start from a model that has seen demonstrations",
        ),
        Symptom(
            "no group with a signal",
            10,
            lambda row: row["groups_all_wrong"] == 1,
            "every response of every group had the same reward, not above 0, so no advantage differs from 0: the problems are too hard for"
            " this model, or the verifier reads another form of answer; look at first_prompt.txt, start from a better model (base,"
            " init_from) or choose easier problems (train_split)",
        ),
        Symptom(
            "everything right already",
            10,
            lambda row: row["groups_all_right"] == 1,
            "every response of every group had the same reward above 0, so there is nothing to learn: choose harder problems (train_split)",
        ),
        skipped,
        Symptom(
            "most updates without a signal",
            20,
            lambda row: row["groups_all_wrong"] + row["groups_all_right"] > 0.9,
            "in more than nine of ten groups all responses are alike, so most of the work gives no gradient: choose problems (train_split)"
            " that are solved now and then, or raise rollout.group_size",
        ),
        Symptom(
            "entropy collapsed",
            10,
            lambda row: row["entropy"] is not None and row["entropy"] < NEARLY_CERTAIN,
            f"the entropy of sampled tokens was below {NEARLY_CERTAIN} nats, so that all responses are alike: lower optimizer.lr or raise"
            " rollout.temperature; objective.entropy_bonus keeps it up",
        ),
        Symptom(
            "prefixed rollouts never right",
            20,
            lambda row: row["reward_prefixed"] == 0,
            "no rollout that continues a prefix was right: demonstrations and verifier may not agree, or rollout.max_response ="
            f" {limit} leaves too little room after the prefix",
        ),
        Symptom(
            "prefixed rollouts behind plain ones",
            10,
            lambda row: unlearns and _behind(row),
            "rollouts that continue a prefix were right less often than plain ones, so their advantage is negative and the update makes the"
            " demonstrations less likely (docs/findings.md): the model cannot continue this style yet; leave prefixes of negative"
            " advantage untrained (prefix.negative: false), or train by SFT first",
        ),
        Symptom(
            "the verifier times out",
            5,
            lambda row: row["timed_out"] > OFTEN * rows,
            f"more than {100 * OFTEN:.0f} % of the verdicts timed out, which counts as a reward of 0: look at the responses, and at the"
            " load of the machine",
        ),
    ]


class Watch:
    """Follows the rows of a run. Rows of earlier starts are followed too, so a resumed run has the same warnings."""

    def __init__(self, run, rows=()):
        self.symptoms, self.since, self.found = symptoms(run), {}, {}
        for row in rows:
            self.follow(row)

    def follow(self, row) -> list[str]:
        """The warnings that this row, a row of metrics.jsonl, is the first to show."""
        new, step = [], row["step"]
        for symptom in self.symptoms:
            if not symptom.holds(row):
                self.since.pop(symptom.name, None)
                continue
            first = self.since.setdefault(symptom.name, step)
            if step - first + 1 < symptom.steps:
                continue
            if symptom.name not in self.found:
                new.append(f"steps {first} to {step}: {symptom.name}: {symptom.advice}")
                self.found[symptom.name] = {"symptom": symptom.name, "steps": [], "advice": symptom.advice}
            spans = self.found[symptom.name]["steps"]
            if spans and spans[-1][0] == first:
                spans[-1][1] = step
            else:
                spans.append([first, step])
        return new

    def warnings(self) -> list[dict]:
        """For run.json: [{symptom, steps: [[first, last], ...], advice}]."""
        return list(self.found.values())
