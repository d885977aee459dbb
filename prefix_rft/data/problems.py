"""Training problems as token ids, read from the data folder, and the order in which a run trains on them."""

import json
import logging
import math
import random
from pathlib import Path

import numpy as np

from ..common.errors import UserError
from ..episodes import Demonstration, Problem
from .files import path_of, prompt_ids, read_demonstration_rows, read_problem_rows

log = logging.getLogger(__name__)


def load_problems(data, split, demos, task, tokenizer, stops, vocabulary):
    """[Problem] of `data/problems.<split>.parquet`, with the demonstrations of `data/demos.<demos>.parquet` attached.

    stops: stop ids; every demonstration must end with one of them
    vocabulary: number of rows of the model's embedding

    Demonstrations keep the token ids that the command `demos` wrote.
    """
    path = path_of(data, split)
    rows = read_problem_rows(path)
    by_problem = {}
    if demos is not None:
        demo_path = Path(data) / f"demos.{demos}.parquet"
        for r in read_demonstration_rows(demo_path, vocabulary):
            ids = r["response_ids"]
            if not ids or ids[-1] not in stops:
                raise UserError(
                    f"{demo_path}: demonstration {r['demo_id']!r} ends with token {ids[-1:]}: must be one of the stop ids"
                    f" {stops}, because a model that imitates it would never stop"
                )
            by_problem.setdefault(r["problem_id"], []).append(Demonstration(r["demo_id"], ids))
    prompts = prompt_ids(path, rows, lambda prompt: task.prompt_ids(tokenizer, prompt))
    problems = [
        Problem(r["id"], prompt, r["answer"], by_problem.pop(r["id"], []), r["level"], columns(task, r))
        for r, prompt in zip(rows, prompts, strict=True)
    ]
    if by_problem and all(not p.demos for p in problems):
        raise UserError(
            f"{demo_path}: no demonstration belongs to a problem of {path} (first: {next(iter(by_problem))!r})"
        )
    if by_problem:
        left = sum(map(len, by_problem.values()))
        log.info(
            "%s: %d demonstrations belong to no problem of %s (first: %r)",
            demo_path,
            left,
            path,
            next(iter(by_problem)),
        )
    return problems


def draw(problems, prompts, seed, where):
    """The problems that a run trains on: all, or its seed's own draw of them, in their order.

    Seed k shuffles the problems, the same way in every run on the same problem file, and cuts them in two. A run takes the first
    problems of its half.

    Args:
        problems: [Problem] of the run's problem file.
        prompts: section `prompts` of the run; None: all problems.
        seed: of the run.
        where: start of an error, such as the run's file.

    Raises:
        UserError: the half has fewer problems than `prompts.count`, or no demonstration where there are some.
    """
    if prompts is None:
        return problems
    order = list(range(len(problems)))
    random.Random(f"training problems {seed}").shuffle(order)
    middle = len(order) // 2
    half = order[:middle] if prompts.half == "demonstrations" else order[middle:]
    count = len(half) if prompts.count is None else prompts.count
    if not 0 < count <= len(half):
        raise UserError(
            f"{where}: key 'prompts.count' = {count}: half of the {len(problems)} problems is {len(half)}; give at most that, or leave the"
            " key out"
        )
    found = [problems[i] for i in sorted(half[:count])]
    if any(p.demos for p in problems) and not any(p.demos for p in found):
        raise UserError(
            f"{where}: key 'prompts': none of the {count} problems that seed {seed} draws has a demonstration; raise"
            " prompts.count, or leave the key out"
        )
    return found


def columns(task, row) -> dict:
    """What a reward function may read of a problem: the prompt as it was given, and all columns of the data."""
    further = json.loads(row.get("columns") or "{}")
    return (
        {k: v for k, v in row.items() if k not in ("columns", "canonical")}
        | {"prompt": task.given(row["prompt"])}
        | further
    )


def say_short_limit(problems, max_response, where):
    """Warn before the first step if demonstrations do not fit into a response: the model will learn to be cut off."""
    lengths = [len(d.ids) for p in problems for d in p.demos]
    longer = sum(n > max_response for n in lengths)
    if longer:
        log.warning(
            "%s: key 'rollout.max_response' = %d: %d of %d demonstrations are longer (longest: %d tokens); responses like them are cut"
            " off and judged wrong",
            *(where, max_response, longer, len(lengths), max(lengths)),
        )


def refuse_long(problems, max_response, window, where):
    """Raise `UserError` before the first step if a prompt and a response may exceed the window. Nothing is truncated."""
    for p in problems:
        if len(p.prompt) + max_response > window:
            raise UserError(
                f"{where}: problem {p.id!r} has a prompt of {len(p.prompt)} tokens; with max_response = {max_response} it"
                f" exceeds the model's window of {window}"
            )


class Order:
    """The problems of each step: shuffled passes one after another, cut into batches across the end of a pass.

    The batch is a function of (seed, step) alone, so a resumed run continues with exactly the next problem. Example: 5
    problems, batch 2: step 2 takes the last problem of pass 0 and the first problem of pass 1.

    count: number of problems
    batch: problems a step
    seed: of the shuffles
    """

    def __init__(self, count, batch, seed):
        self.count, self.batch, self.seed = count, batch, seed
        self._passes = {}

    def _pass(self, number):
        if number not in self._passes:
            self._passes = {k: v for k, v in self._passes.items() if k == number - 1}
            self._passes[number] = np.random.default_rng([self.seed, 0, number]).permutation(self.count)
        return self._passes[number]

    def indices(self, step):
        places = range(step * self.batch, (step + 1) * self.batch)
        return [int(self._pass(p // self.count)[p % self.count]) for p in places]

    def epoch(self, step):
        """Passes over the problems, as a fraction, when `step` (from 0) is done."""
        return (step + 1) * self.batch / self.count


def total_steps(run, count):
    """Steps of a run over `count` training items."""
    return run.steps if run.steps is not None else math.ceil(run.epochs * count / run.batch_prompts)
