"""A small TRL trainer on the world of `small.make_world`, and a record of what it trained on."""

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback

from prefix_rft.common.files import read_parquet
from prefix_rft.episodes import Demonstration, Episode, Problem, Start
from prefix_rft.methods import get_method
from prefix_rft.model.folder import load_model
from prefix_rft.training.learner import Learner
from prefix_rft.trl import PrefixGRPOConfig, PrefixGRPOTrainer
from tests.helpers.small import run_config, small_model

GROUP = 4
LIMIT = 60  # of a response, in tokens
HALF = dict(prefix_schedule="constant", prefix_low_start=0.5, prefix_low_end=0.5, prefix_high=0.5)
MESSAGES = "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}<eos>{% endif %}{% endfor %}"


def odd(ids):
    """A reward that differs in nearly every group: parity of the sum of a response's ids."""
    return float(sum(ids) % 2)


def reward(completion_ids, **_):
    return [odd(ids) for ids in completion_ids]


def rows(world, form="ids"):
    """Problems with their demonstration as token ids, text or messages."""
    problems = {p["id"]: p["prompt"] for p in read_parquet(world / "data/problems.train.parquet")}
    out = []
    for demo in read_parquet(world / "data/demos.strong.parquet"):
        prompt = problems[demo["problem_id"]]
        out.append(
            {
                "ids": {"prompt": prompt, "demonstration": demo["response_ids"]},
                "text": {"prompt": prompt, "demonstration": demo["response"]},
                "messages": {
                    "prompt": [{"role": "user", "content": prompt}],
                    "demonstration": [{"role": "assistant", "content": demo["response"]}],
                },
            }[form]
        )
    return out


def settings(out, **changes):
    base = dict(output_dir=str(out), use_cpu=True, bf16=False, report_to=[], save_strategy="no", disable_tqdm=True)
    base |= dict(per_device_train_batch_size=2 * GROUP, num_generations=GROUP, max_completion_length=LIMIT)
    base |= dict(loss_type="dr_grpo", scale_rewards="none", learning_rate=1e-3, lr_scheduler_type="constant")
    return base | dict(logging_steps=1, max_steps=2, gradient_checkpointing=False) | changes


def trainer(world, out, cls=PrefixGRPOTrainer, config=PrefixGRPOConfig, data=None, model=None, more=None, **changes):
    """A trainer of class `cls` for `model` (default: the world's) on `data` (default: `rows`). changes: settings; more: further arguments
    of the trainer."""
    tokenizer = AutoTokenizer.from_pretrained(world / "base")
    tokenizer.chat_template = MESSAGES
    data = rows(world) if data is None else data
    return cls(
        model=model or load_model(world / "base"),
        args=config(**settings(out, **changes)),
        reward_funcs=reward,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(data) if isinstance(data, list) else data,
        **(more or {}),
    )


class Record(TrainerCallback):
    """What a trainer did: every optimizer batch before and after the choice of prefix tokens, and weights and gradient of each update.

    batches: [[micro-batch]], each {tensor's name: tensor, "weighed": advantages after the choice}.
    updates: [(weights before the update, gradient)], each {parameter's name: tensor}.
    """

    def __init__(self, trainer):
        self.batches, self.updates = [], []
        choose = trainer._clip_by_entropy

        def recorded(micro_batches):
            before = [{k: v.clone() for k, v in b.items()} for b in micro_batches]
            choose(micro_batches)
            self.batches.append([b | {"weighed": m["advantages"]} for b, m in zip(before, micro_batches, strict=True)])

        trainer._clip_by_entropy = recorded
        trainer.add_callback(self)

    def on_pre_optimizer_step(self, args, state, control, model, **_):
        named = list(model.named_parameters())
        self.updates.append(
            ({n: p.detach().clone() for n, p in named}, {n: p.grad.clone() for n, p in named if p.grad is not None})
        )


def trained(trainer, **resume):
    """Run `trainer`; (its weights, its log)."""
    trainer.train(**resume)
    return {n: p.detach().clone() for n, p in trainer.model.named_parameters()}, trainer.state.log_history


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def unpadded(batch):
    """[(prompt ids, completion ids, prefix length)] of a micro-batch's rows."""
    out = []
    for i in range(len(batch["prompt_ids"])):
        prompt = batch["prompt_ids"][i][batch["prompt_mask"][i].bool()].tolist()
        completion = batch["completion_ids"][i][batch["completion_mask"][i].bool()].tolist()
        out.append((prompt, completion, int(batch["prefix_mask"][i].sum())))
    return out


def expected_advantages(batch):
    """[(B, T)] of the micro-batches of an optimizer batch, by sorting: a fifth of all its prefix tokens, those of highest entropy, and
    every sampled token have the row's advantage; every other prefix token has 0."""
    entropies = sorted((h for b in batch for h in b["prefix_entropies"][b["prefix_mask"]].tolist()), reverse=True)
    keep = len(entropies) - int(0.8 * len(entropies))
    assert 0 < keep < len(entropies) and entropies[keep - 1] > entropies[keep]
    out = []
    for b in batch:
        dropped = b["prefix_mask"] & (b["prefix_entropies"] < entropies[keep - 1])
        out.append(torch.where(dropped, 0.0, b["advantages"][:, None]))
    return out


def gentle_model(world):
    """Random and of small weights: large ones multiply the rounding of float32."""
    return small_model(
        vocab_size=len(AutoTokenizer.from_pretrained(world / "base")), hidden_size=32, initializer_range=0.1
    )


def episodes_of(batch):
    """The rows of an optimizer batch as our own trainer knows them; groups by prompt."""
    groups, out = {}, []
    for b in batch:
        for prompt, completion, length in unpadded(b):
            group = groups.setdefault(tuple(prompt), len(groups))
            prefix, tail = completion[:length], completion[length:]
            problem = Problem(str(group), prompt, "", [Demonstration("d", prefix)] if prefix else [])
            start = Start(problem, prefix=prefix)
            out.append(Episode(group, start, tail, np.zeros(len(tail)), True, reward=odd(completion)))
    return out


def own_gradients(model, batch, updates, forward=None, **prefix):
    """[{parameter's name: gradient}] of an optimizer batch by our own method and learner, at the weights before each of `updates`.

    model: pi_old. forward: class of the forward pass; None: the fastest. prefix: keys of that section.
    """
    run = run_config(
        method="prefix_rft", demos="d", rollout={"group_size": GROUP, "max_response": LIMIT}, prefix=prefix
    )
    learner = Learner(model, run, 2, forward=forward and forward(model))
    method, episodes, out = get_method(run), episodes_of(batch), []
    learner.score(episodes)
    for weights, _ in updates:
        learner.model.load_state_dict({k.removeprefix("module."): v for k, v in weights.items()})
        learner.model.zero_grad()
        learner.gradients(episodes, method.weigh(episodes))
        out.append({n: p.grad.clone() for n, p in learner.model.named_parameters()})
    return out


def relative(a, b):
    """|a - b| / |b| of two gradients, {parameter's name: tensor}."""
    b = {k.removeprefix("module."): v for k, v in b.items()}  # of a model that is distributed over processes
    assert a.keys() == b.keys()
    square = sum(float((a[k].double() - b[k].double()).square().sum()) for k in a)
    size = sum(float(v.double().square().sum()) for v in b.values())
    assert size > 1e-8, "no gradient to compare"
    return (square / size) ** 0.5
