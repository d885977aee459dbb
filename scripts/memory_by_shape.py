"""Peak memory of the learner's real step at the shapes of the paper presets, beside what `prefix-rft cost` reckons. Needs no GPU.

    python -m scripts.memory_by_shape --out docs/results/memory.json

The step runs on fake tensors: PyTorch propagates shapes and dtypes and computes nothing, and its memory tracker counts every storage. One
micro-batch is full (`micro_tokens`). ZeRO's weights are bfloat16, as on a rank; its shares of weights, gradients and optimizer follow from
arithmetic (`training/memory.py`) and are left out on both sides. Compared is what only a run can tell: activations, hidden states, logits
and the gradient of the output head.

The tracker does not see: what libraries take (CUDA context, cuBLAS, NCCL), vLLM, ZeRO's exchange buffers and gathered weights,
fragmentation. `cost` counts them by constants.
"""

import argparse
import itertools
import random
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils._python_dispatch import TorchDispatchMode

from prefix_rft.common.files import write_json_in_lines
from prefix_rft.episodes import LEARNER, Episode, Problem, Start
from prefix_rft.methods import get_method
from prefix_rft.model import logprobs, shapes
from prefix_rft.model.forward_transformers import TransformersForward
from prefix_rft.report.formats import markdown
from prefix_rft.runs.ablations import Runs
from prefix_rft.streams import CLIPPED
from prefix_rft.training import loss, memory
from prefix_rft.training.learner import Learner, checkpoint_activations
from scripts.training_speed import model_of

CASES = (
    ("paper-7b", "Qwen/Qwen2.5-Math-7B", "rft"),
    ("paper-7b", "Qwen/Qwen2.5-Math-7B", "sft"),
    ("paper-1.5b", "Qwen/Qwen2.5-Math-1.5B", "rft"),
    ("paper-1.5b", "Qwen/Qwen2.5-Math-1.5B", "sft"),
    ("paper-llama", "meta-llama/Llama-3.1-8B", "rft"),
    ("paper-llama", "meta-llama/Llama-3.1-8B", "sft"),
)
COMPARED = ("activations", "hidden states and logits", "gradient of the output head")


class NoValues(TorchDispatchMode):
    """Answers the questions of the loss for values, which fake tensors do not have: every number is 0, no mask chooses anything."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten._local_scalar_dense.default:
            return 0.0 if args[0].is_floating_point() else 0
        if func is torch.ops.aten.index.Tensor and any(i is not None and i.dtype == torch.bool for i in args[1]):
            return args[0].new_empty((0, *args[0].shape[len(args[1]) :]))
        return func(*args, **(kwargs or {}))


def full_micro_batch(run, vocabulary):
    """Two episodes of one group that fill a micro-batch, one right and one wrong, with log-probs of pi_old."""
    length, rng, out = run.micro_tokens // 2, random.Random(0), []
    for number in range(2):
        prompt = [rng.randrange(vocabulary) for _ in range(memory.PROMPT)]
        tokens = [rng.randrange(vocabulary) for _ in range(length - memory.PROMPT)]
        sampled = run.rollout is not None
        start = Start(
            Problem("p", prompt, "", []), prefix=[] if sampled else tokens, demo_id=None, share=1.0, sample=sampled
        )
        zeros = [0.0] * len(tokens)
        episode = Episode(0, start, tokens if sampled else [], zeros if sampled else [], True, reward=float(number))
        episode.old_logprobs, episode.entropies, episode.old_from = zeros, zeros, LEARNER
        out.append(episode)
    return out


def logits_on_a_gpu(hidden, weight, bias, temperature):
    """What the product with fp32 results leaves on a GPU. A CPU has no such product, and its substitute takes memory of its own."""
    return torch.empty(len(hidden), len(weight), dtype=torch.float32)


def measure(preset, name, run_name) -> dict:
    """Bytes at the peak of one accumulated gradient, by the tracker and by `cost`."""
    run, shape = Runs(f"config/{preset}").load(run_name), shapes.KNOWN[name]
    method = get_method(run)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = model_of(name, torch.bfloat16).eval()
        model.to = lambda device: model  # fake parameters cannot be moved, and are where they should be
        if run.parallel.activation_checkpointing:
            checkpoint_activations(model)
        for p in model.parameters():  # ZeRO reduces a gradient and keeps its share elsewhere
            p.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
        learner = Learner(model, run, 1, forward=TransformersForward(model, dtype="float32"))
        episodes = full_micro_batch(run, shape.vocabulary)
        streams, tracker = method.weigh(episodes), MemTracker()
        tracker.track_external(model)
        # what the loss finds in its codes: a surrogate where there is a rollout, and no factor of the demonstrations' loss
        codes = itertools.cycle([[CLIPPED], []] if run.rollout else [[]])
        with (
            tracker,
            NoValues(),
            patch.object(logprobs, "_logits", logits_on_a_gpu),
            patch.object(loss, "_codes", lambda tensor, none: next(codes)),
        ):
            learner.gradients(episodes, streams)
        snapshot = tracker.get_tracker_snapshot("peak")
    (parts,) = snapshot.values()
    seen = {str(getattr(k, "value", k)): v for k, v in parts.items()}
    return {
        "preset": preset,
        "run": run_name,
        "model": name,
        "micro_tokens": run.micro_tokens,
        "tracker": seen,
        "cost": memory.training(run, shape, method),
    }


def table(rows) -> str:
    """Markdown: GiB of a rank at the update, with the compared part by the tracker and by `cost`."""
    lines = []
    for row in rows:
        seen = row["tracker"]["Activation"] + row["tracker"]["Temp"]
        moments = memory.moments(row["cost"])
        reckoned = sum(row["cost"][name] for name in COMPARED)
        whole = moments["update"] - reckoned + seen
        sizes = [f"{size / memory.GIB:.1f}" for size in (seen, reckoned, whole, moments["update"])]
        lines.append([row["preset"], row["run"], *sizes, f"{moments['update'] / whole - 1:+.1%}"])
    head = ["preset", "run", "tracker", "`cost`", "rank, tracker", "rank, `cost`", "difference"]
    return markdown(head, lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    rows = []
    for case in CASES:
        rows.append(measure(*case))
        print(rows[-1], flush=True)
    write_json_in_lines(args.out, rows)


if __name__ == "__main__":
    main()
