"""Speed of the training step with random weights in real shapes: python -m scripts.training_speed [CASE ...] [--out FILE.json]

Tokens a second, model FLOPs utilisation (MFU: FLOPs of forward and backward pass without what activation checkpointing repeats, over the
GPU's peak in config/hardware.yaml) and peak memory of whole updates with the optimizer, in bfloat16 on one GPU; for each size of the chunks
in which log-probs are made (`--chunks`, powers of two: floats held at once, a run's key `head_chunk`). `baseline` is prime-rl's published
throughput on one H100. `small` is a shape for which a CPU is enough: it shows that the script works, its figures say nothing.
"""

import argparse
import dataclasses
import json
import logging
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from prefix_rft.common import provenance
from prefix_rft.common.errors import UserError
from prefix_rft.common.files import write_json_in_lines
from prefix_rft.config.reading import read_yaml
from prefix_rft.episodes import Demonstration, Episode, Problem
from prefix_rft.methods import get_method
from prefix_rft.model import shapes
from prefix_rft.runs.load import build_run
from prefix_rft.training.learner import Learner, use_tensor_cores

log = logging.getLogger(__name__)
HARDWARE = Path(__file__).resolve().parents[1] / "config" / "hardware.yaml"
PROMPT = 160  # tokens
SMALL = dataclasses.replace(shapes.KNOWN["Qwen/Qwen3-0.6B"], layers=2, width=64, heads=4, kv_heads=2, mlp=128)
SMALL = dataclasses.replace(SMALL, vocabulary=512, head_dim=16)


@dataclass(frozen=True)
class Case:
    """micro_tokens: of a micro-batch; micro_batches: in an update; length: mean tokens of a response; baseline: tokens a second."""

    model: str
    method: str
    micro_tokens: int
    micro_batches: int = 2
    length: int = 1800
    checkpointing: bool = False
    baseline: float | None = None


CASES = {
    "sft": Case("Qwen/Qwen3-0.6B", "sft", 8192, baseline=26_000),
    "rl": Case("Qwen/Qwen3-0.6B", "prefix_rft", 16_384, baseline=11_900),
    "sft-1.5b": Case("Qwen/Qwen2.5-Math-1.5B", "sft", 16_384, checkpointing=True),
    "rl-1.5b": Case("Qwen/Qwen2.5-Math-1.5B", "prefix_rft", 16_384, checkpointing=True),
    "small": Case("small", "prefix_rft", 1024, length=100),
}


def shape_of(name):
    return SMALL if name == "small" else shapes.of_name(name, "scripts/training_speed.py")


def model_of(name, dtype=torch.float32):
    """A model of the shape `name` with random weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = shape_of(name)
    kind = "qwen2" if shape.bias else "qwen3" if shape.qk_norm else "llama"
    config = AutoConfig.for_model(
        kind,
        num_hidden_layers=shape.layers,
        hidden_size=shape.width,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.dim,
        intermediate_size=shape.mlp,
        vocab_size=shape.vocabulary,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=32_768,
    )
    return AutoModelForCausalLM.from_config(config, dtype=dtype)


def batch(case, method, rng, vocabulary):
    """Groups as the method composes them, until the update has its tokens; responses of 0.5 to 1.5 times the mean length."""

    def tokens(low, high):
        return rng.integers(2, vocabulary, rng.integers(low, high + 1)).tolist()

    out, total = [], 0
    while total < case.micro_tokens * case.micro_batches - case.length // 2:
        group = len({e.group for e in out})
        problem = Problem(f"p{group}", tokens(PROMPT, PROMPT), "", [])
        problem = dataclasses.replace(
            problem, demos=[Demonstration("d", tokens(case.length // 2, case.length + case.length // 2))]
        )
        for place, start in enumerate(method.compose(problem, 0.5, rng)):
            low = max(case.length // 2 - len(start.prefix), 1)
            tail = tokens(low, low + case.length) if start.sample else []
            logp = -rng.exponential(1.0, len(tail))
            out.append(Episode(group, start, tail, logp, True, reward=float(place % 2)))
            total += len(out[-1].ids)
    return out


def measure(name, case, device, updates, chunk):
    """One row of figures."""
    torch.manual_seed(0)
    rng, shape = np.random.default_rng(0), shape_of(case.model)
    values = {
        "method": case.method,
        "micro_tokens": case.micro_tokens,
        "dtype": "bfloat16",
        "batch_prompts": 8,
        "head_chunk": chunk,
    }
    values |= {"parallel": {"activation_checkpointing": case.checkpointing}, "optimizer": {"lr": 1e-6}}
    if case.method == "sft":
        values |= {"demos": "d", "epochs": 1}
    else:
        values |= {"demos": "d", "steps": 100, "minibatch_prompts": 8}
        values["rollout"] = {"group_size": 8, "max_response": 4 * case.length}
    run = build_run(values, "scripts/training_speed.py")
    use_tensor_cores(device, run.dtype)
    method = get_method(run)
    with torch.device(device):
        model = model_of(case.model)
    learner = Learner(model, run, 1000, device)
    log.info("%s: %s, %.0f M parameters", name, case.model, sum(p.numel() for p in learner.model.parameters()) / 1e6)
    taken, tokens, flops = [], 0, 0.0
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for k in range(updates + 2):  # the first two do not count
        episodes = batch(case, method, rng, shape.vocabulary)
        if case.method != "sft":
            learner.score(episodes)
        streams = method.weigh(episodes, 0.5, rng)
        if device == "cuda":
            torch.cuda.synchronize()
        begun, before = time.perf_counter(), learner.trained_tokens
        learner.update(episodes, streams)
        if device == "cuda":
            torch.cuda.synchronize()
        if k < 2:
            continue
        taken.append(time.perf_counter() - begun)
        tokens += learner.trained_tokens - before
        lengths = [len(e.ids) for e in episodes]
        context = sum(n * n for n in lengths) / 2 / sum(lengths)
        flops += 3 * shape.forward_flops(sum(lengths), context, sum(len(e.response) for e in episodes))
        log.info("%s: update %d of %d: %.2f s", name, k - 1, updates, taken[-1])
    memory = torch.cuda.max_memory_allocated() if device == "cuda" else 1024 * resource.getrusage(0).ru_maxrss
    per_second, peak = tokens / sum(taken), peak_of(device)
    return dataclasses.asdict(case) | {
        "case": name,
        "chunk_floats": chunk,
        "updates": updates,
        "seconds_per_update": float(np.median(taken)),
        "tokens_per_second": per_second,
        "times_baseline": per_second / case.baseline if case.baseline else None,
        "mfu": flops / sum(taken) / peak if peak else None,
        "peak_memory_gib": memory / 2**30,
    }


def peak_of(device):
    """FLOPs a second of dense bfloat16 products of this GPU; None for what the table does not have."""
    if device != "cuda":
        return None
    name = torch.cuda.get_device_name().lower()
    table = read_yaml(HARDWARE)
    return next((1e12 * v["tflops"] for k, v in table.items() if k in name), None)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; default: all but small")
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--chunks", type=int, nargs="+", default=[24], help="powers of two, such as 24 26 28")
    parser.add_argument("--out", help="JSON file for the figures")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    names = args.cases or [n for n in CASES if n != "small"]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for name in names:
        if name not in CASES:
            raise UserError(f"case {name!r} is not known; known: {', '.join(CASES)}")
        if device == "cpu" and name != "small":
            raise UserError(f"case {name!r} needs a GPU; without one only `small` can be run")
    rows = [measure(n, CASES[n], device, args.updates, 1 << c) for n in names for c in args.chunks]
    result = {"cases": rows, "hardware": provenance.hardware(), "versions": provenance.versions()}
    if args.out:
        write_json_in_lines(args.out, result)
    print(json.dumps(result, indent=2))
    return result


if __name__ == "__main__":
    try:
        main()
    except UserError as e:
        sys.exit(f"error: {e}")
