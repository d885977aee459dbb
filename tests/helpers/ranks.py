"""What the ranks of `test_deepspeed.py` run, started by torchrun: the learner of several processes beside that of one.

    torchrun --standalone --nproc-per-node 2 tests/helpers/ranks.py OUT.json [WORD of the names of the cases wanted]

Writes [{name, loss: [one process], loss_ranks: [ranks], norm, norm_ranks, parts, parts_ranks, weights: greatest difference}], by rank 0.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from prefix_rft.config.run import Parallel
from prefix_rft.episodes import Demonstration, Episode, Problem
from prefix_rft.methods import get_method
from prefix_rft.methods.parts.groups import whole
from prefix_rft.methods.parts.tokens import ce_streams
from prefix_rft.model.forward_transformers import TransformersForward
from prefix_rft.training import distributed
from prefix_rft.training.learner import Learner
from prefix_rft.training.learner_deepspeed import DeepSpeedLearner
from tests.helpers.small import run_config, small_model, small_qwen

STEPS = 10
SFT, PREFIX = {"method": "sft", "demos": "d"}, {"method": "prefix_rft", "demos": "d"}
OTHERS = (
    "relift",
    "rft",
    "luffy",
    "srft",
    "hpt",
    "chord",
    "uft",
    "rl_with_sft",
    "drpo",
    "trapo",
    "g2rpo_a",
    "prefix_shown",
)


def cases():
    """(name, what changes in the configuration, prompts a step, steps, model)"""
    for stage in (1, 2, 3):
        for micro_tokens in (1, 48, 100_000):  # a micro-batch for each sequence, several sequences in each, one for all
            for name, method in (("sft", SFT), ("prefix_rft", PREFIX)):
                changes = method | {"micro_tokens": micro_tokens}
                yield f"{name}, ZeRO {stage}, {micro_tokens} tokens", changes, 4, STEPS, small_model, stage
    yield "one demonstration for two ranks", SFT, 1, 3, small_model, 3
    yield "tied embeddings", PREFIX, 4, 3, small_qwen, 3
    yield "activation checkpointing", PREFIX | {"parallel": {"activation_checkpointing": True}}, 4, 3, small_model, 3
    yield "entropy bonus", PREFIX | {"objective": {"entropy_bonus": 0.1}}, 4, 3, small_model, 2
    for stage in (1, 3):
        yield f"bfloat16, ZeRO {stage}", SFT | {"dtype": "bfloat16"}, 4, 5, small_model, stage
        for name, changes in (("part norms", {}), ("matched", {"prefix": {"keep": "matched"}})):
            yield f"{name}, ZeRO {stage}", PREFIX | changes | {"micro_tokens": 48}, 4, 3, small_model, stage
    yield "part norms, ZeRO 2", PREFIX | {"micro_tokens": 48}, 4, 3, small_model, 2
    yield "part norms, bfloat16, ZeRO 1", PREFIX | {"dtype": "bfloat16"}, 4, 3, small_model, 1
    luffy = {"method": "luffy", "demos": "d", "micro_tokens": 48}
    yield "part norms, whole demonstrations", luffy, 4, 3, small_model, 2
    for stage in (1, 2, 3):  # the rollout part has no token
        yield f"part norms, no rollouts, ZeRO {stage}", SFT, 4, 3, small_model, stage
    for method in OTHERS:
        yield method, {"method": method, "demos": "d"}, 4, 3, small_model, 3


def batch(method, prompts, rng, progress):
    """Groups as the method composes them, with random tokens and rewards."""

    def tokens(low, high):
        return rng.integers(2, 32, rng.integers(low, high)).tolist()

    out = []
    for g in range(prompts):
        problem = Problem(f"p{g}", tokens(1, 9), "", [Demonstration(f"d{g}", tokens(8, 30))])
        for i, start in enumerate(method.compose(problem, progress, rng)):
            tail = tokens(1, 24) if start.sample else []
            logp = -rng.exponential(2.0, len(tail))
            reward = float(i % 2 if g % 2 else rng.integers(2)) if start.sample else 1.0
            out.append(Episode(g, start, tail, logp, True, reward=reward))
    return out


def whole_of(episode):
    problem = episode.start.problem
    return Episode(episode.group, whole(problem, problem.demos[0]), [], np.zeros(0), True, reward=1.0)


PARTS = ("grad_norm_prefix", "grad_norm_rollout", "grad_cosine", "prefix_scale")


def train(learner, run, prompts, steps, part_norms=False):
    """Losses, gradient norms and what is known of the gradient's parts, of `steps` updates; pi_old is scored before each second one, so
    that ratios differ from 1."""
    method, losses, norms, parts = get_method(run), [], [], []
    for t in range(steps):
        if t % 2 == 0:
            episodes = batch(method, prompts, np.random.default_rng(t), t / steps)
            learner.score(episodes)
            if method.uses_reference:
                learner.score_reference(episodes)
        out = learner.update(episodes, method.weigh(episodes, t / steps, np.random.default_rng([1, t])), part_norms)
        parts += [out[k] for k in PARTS if out.get(k) is not None]
        outs = [out]
        if learner.further:  # two AdamW in turn
            demos = [whole_of(e) for e in episodes[:: run.rollout.group_size]]
            outs.append(learner.further_update(demos, ce_streams(demos)))
        for out in outs:
            losses.append(out["rl_loss"] + out["ce_loss"])
            norms.append(out["grad_norm"])
    return losses, norms, parts


def main(out, word=""):
    parallel = Parallel(processes_per_node=2, zero=1, timeout_minutes=5)
    ranks, rows = distributed.start(parallel, "cpu", "tests/helpers/ranks.py"), []
    for name, changes, prompts, steps, model, stage in cases():
        if word not in name:
            continue
        run = run_config(**{"part_norms_every": 0} | changes)
        uses_reference, further = get_method(run).uses_reference, get_method(run).further_optimizer()
        own_model = model()
        forward = TransformersForward(
            own_model
        )  # the model's own, as the ranks use it; without activation checkpointing
        one = Learner(own_model, run, steps, forward=forward, reference=uses_reference, further=further)
        with_parts = name.startswith(("part norms", "matched"))
        losses, norms, parts = train(one, run, prompts, steps, with_parts)
        parallel = run.parallel.model_copy(update={"processes_per_node": 2, "zero": stage})
        run = run.model_copy(update={"parallel": parallel})
        several = DeepSpeedLearner(model(), run, steps, "cpu", uses_reference, ranks, further)
        losses_ranks, norms_ranks, parts_ranks = train(several, run, prompts, steps, with_parts)
        weights = several.weights()
        several.engine.destroy()
        if ranks.first:
            own = one.model.state_dict()
            worst = max(float((weights[k] - own[k]).abs().max()) for k in own)
            row = dict(name=name, loss=losses, loss_ranks=losses_ranks, norm=norms, norm_ranks=norms_ranks)
            rows.append(row | dict(parts=parts, parts_ranks=parts_ranks, weights=worst))
            Path(out).write_text(json.dumps(rows))
    ranks.end()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
