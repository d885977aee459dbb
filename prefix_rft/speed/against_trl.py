"""Command `speed-trl`: speed against transformers' `generate` and TRL's `GRPOTrainer`, side by side in one run.

    python -m prefix_rft speed-trl --model results/tiny/models/base --data results/tiny/data

Both sides get the same model, prompts and lengths (every response runs to `--new-tokens`: no end mark), the same two
updates a step, and rewards under which no group is without a gradient. They take turns, so that a drift of the
machine's speed hits both; the ratio is the median of the ratios of neighbours. Beside them stands how far each is from the arithmetic
limit: the time that the matrix products alone would take at the rate measured for a large product.
"""

import json
import logging
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

from ..common import provenance
from ..common.errors import UserError
from ..common.files import check_out_file, write_json
from ..data.files import path_of, prompt_ids, read_problem_rows
from ..data.tasks import task_of
from ..episodes import SAMPLER, UPDATE, Episode, Problem, Start
from ..methods import get_method
from ..model.folder import load_model
from ..model.kernels.products import product
from ..rollout import Sampling, make_engine
from ..runs.load import build_run
from ..training.learner import Learner

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Load:
    """What is measured.

    model, data: folders
    prompts: prompts a step
    group_size: responses a prompt
    new_tokens: tokens of every response
    rounds: times that both sides take turns, after one that does not count
    skip_trl: only the rollouts
    out: JSON file for the measured values
    """

    model: Path
    data: Path
    prompts: int = 16
    group_size: int = 8
    new_tokens: int = 64
    rounds: int = 7
    skip_trl: bool = False
    out: Path | None = None


def reward_of(ids):
    """A reward that differs within nearly every group and costs nothing: parity of the sum of a response's ids."""
    return float(sum(ids) % 2)


class Ours:
    """A step of RFT as `train.py` does it: sample (the sampler's log-probs are pi_old's), reward, two updates, sync."""

    def __init__(self, model, load, prompts):
        half = max(1, load.prompts // 2)
        self.run = build_run(
            {
                "method": "rft",
                "steps": 1000,
                "batch_prompts": load.prompts,
                "minibatch_prompts": half,
                "micro_tokens": 1024,
                "rollout": {"group_size": load.group_size, "max_response": load.new_tokens},
                "optimizer": {"lr": 1e-6},
            },
            "speed-trl",
        )
        self.half, self.new_tokens = half, load.new_tokens
        self.prompts = [(g, p) for g, p in enumerate(prompts) for _ in range(load.group_size)]
        self.learner = Learner(model, self.run, 1000)
        self.engine = make_engine("native", model, [], load.prompts * load.group_size)
        self.method = get_method(self.run)
        self.count = 0

    def rollout(self):
        self.count += 1
        return self.engine.generate(
            [p for _, p in self.prompts], [self.new_tokens] * len(self.prompts), Sampling(1.0, seed=self.count)
        )

    def step(self):
        episodes = [
            Episode(g, Start(Problem(str(g), p, "")), c.ids, c.logprobs, False, reward=reward_of(c.ids))
            for (g, p), c in zip(self.prompts, self.rollout(), strict=True)
        ]
        for e in episodes:
            e.old_from = UPDATE if e.group < self.half else SAMPLER
        for first in range(0, self.prompts[-1][0] + 1, self.half):
            mini = [e for e in episodes if first <= e.group < first + self.half]
            self.learner.update(mini, self.method.weigh(mini))
        self.engine.sync(self.learner.model)


class Trl:
    """The same step by TRL: one batch of rollouts, two optimizer steps, Dr.GRPO loss, no KL."""

    def __init__(self, folder, tokenizer, load, texts):
        try:
            from datasets import Dataset
            from trl import GRPOConfig, GRPOTrainer
        except ImportError as e:
            raise UserError(
                "TRL is not installed: pip install -c requirements/pins.txt -r requirements/bench.txt"
            ) from e
        self.rows = load.prompts * load.group_size
        self.new_tokens = load.new_tokens
        options = dict(
            output_dir=tempfile.mkdtemp(),
            use_cpu=True,
            bf16=False,
            per_device_train_batch_size=self.rows // 2,
            steps_per_generation=2,
            num_generations=load.group_size,
            max_completion_length=load.new_tokens,
            temperature=1.0,
            beta=0.0,
            loss_type="dr_grpo",
            scale_rewards="none",
            learning_rate=1e-6,
            report_to=[],
            logging_strategy="no",
            save_strategy="no",
            gradient_checkpointing=False,
            disable_tqdm=True,
            max_steps=2 * (load.rounds + 2),
            generation_kwargs={"min_new_tokens": load.new_tokens},
        )
        self.trainer = GRPOTrainer(
            model=str(folder),
            args=GRPOConfig(**options),
            processing_class=tokenizer,
            reward_funcs=lambda completion_ids, **_: [reward_of(ids) for ids in completion_ids],
            train_dataset=Dataset.from_list([{"prompt": t} for t in texts] * (load.rounds + 3)),
        )

    def times(self, take_turn):
        """Seconds of each whole step (two optimizer steps); `take_turn()` runs between them, outside of the clock."""
        from transformers import TrainerCallback

        out, state = [], {"start": None}

        class Clock(TrainerCallback):
            def on_step_begin(self, load, trainer_state, control, **_):
                if trainer_state.global_step % 2 == 0:
                    take_turn()
                    state["start"] = time.perf_counter()

            def on_step_end(self, load, trainer_state, control, **_):
                if trainer_state.global_step % 2 == 0:
                    out.append(time.perf_counter() - state["start"])

        self.trainer.add_callback(Clock())
        self.trainer.train()
        return out


def clocked(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def sgemm_rate(size=1024, repeats=15):
    """FLOP/s of a large fp32 matrix product on this machine with the threads in use, by the faster library."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / statistics.median(clocked(lambda: product(a, b)) for _ in range(repeats))


def flops(model, prompt_tokens, new_tokens, rows):
    """(rollout, whole step): multiply-adds x 2 of the matrix products and of attention's two."""
    config = model.config
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    parameters = sum(p.numel() for p in model.parameters()) - model.get_input_embeddings().weight.numel()
    length = prompt_tokens + new_tokens
    attention = 4 * config.num_hidden_layers * config.num_attention_heads * head * length**2 / 2
    # the rollout's pass and the update's are the same sum: the prompt is counted for each row, sharing it is a saving
    rollout = forward = rows * (2 * parameters * length + attention)
    return rollout, rollout + 3 * forward  # forward, and backward of twice the work


def measure(load: Load):
    """Print the measured values; with `load.out`, also write them."""
    folder = Path(load.model)
    model = load_model(folder, attn_implementation="sdpa")
    tokenizer = AutoTokenizer.from_pretrained(folder)  # TRL takes no other, and `generate` needs its padding
    if load.out:
        check_out_file(load.out)
    task = task_of(load.data)
    path = path_of(load.data, "train")
    rows = read_problem_rows(path)[: load.prompts]
    if len(rows) < load.prompts:
        raise UserError(f"{path}: has {len(rows)} problems; --prompts asks for {load.prompts}")
    prompts = prompt_ids(path, rows, lambda prompt: task.prompt_ids(tokenizer, prompt))
    texts = [tokenizer.decode(p) for p in prompts]
    n = load.prompts * load.group_size
    ours = Ours(model, load, prompts)
    rate = sgemm_rate()
    rollout_flops, step_flops = flops(model, float(np.mean([len(p) for p in prompts])), load.new_tokens, n)
    tokens = n * load.new_tokens

    batch = tokenizer(
        [t for t in texts for _ in range(load.group_size)], return_tensors="pt", padding=True, padding_side="left"
    )

    def generate():
        with torch.no_grad():
            model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                do_sample=True,
                top_k=0,
                min_new_tokens=load.new_tokens,
                max_new_tokens=load.new_tokens,
            )

    native, theirs = [], []
    for i in range(load.rounds + 1):
        log.info("rollouts: round %d of %d", i, load.rounds)
        native.append(clocked(ours.rollout))
        theirs.append(clocked(generate))
    result = {
        "shape": {"rows": n, "new_tokens": load.new_tokens, "prompt_tokens": float(np.mean([len(p) for p in prompts]))},
        "sgemm_gflops": rate / 1e9,
        "rollout": compare("transformers generate", native[1:], theirs[1:], tokens, rollout_flops / rate),
    }
    if not load.skip_trl:
        trl, mine = Trl(folder, tokenizer, load, texts), []
        their_steps = trl.times(lambda: mine.append(clocked(ours.step)))
        count = min(len(mine), len(their_steps))
        result["step"] = compare("TRL GRPOTrainer", mine[1:count], their_steps[1:count], tokens, step_flops / rate)
    result |= {"versions": provenance.versions(), "hardware": provenance.hardware()}
    if load.out:
        write_json(load.out, result)
    print(json.dumps({k: v for k, v in result.items() if k not in ("versions", "hardware")}, indent=2))


def compare(name, ours, theirs, tokens, limit):
    """Medians, and the median of the pairwise ratios theirs / ours. limit: seconds at the measured sgemm rate."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    a, b = statistics.median(ours), statistics.median(theirs)
    return {
        "against": name,
        "ours_seconds": a,
        "their_seconds": b,
        "ours_tokens_per_second": tokens / a,
        "their_tokens_per_second": tokens / b,
        "ratio": statistics.median(ratios),
        "ratio_min_max": [min(ratios), max(ratios)],
        "rounds": len(ratios),
        "arithmetic_limit_seconds": limit,
        "ours_times_the_limit": a / limit,
        "theirs_times_the_limit": b / limit,
    }
