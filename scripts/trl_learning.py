"""Does the trainer for TRL learn as ours does? python -m scripts.trl_learning results/extension docs/results/trl_learning

Trains the base model of a preset by Prefix-RFT twice for each seed, with our trainer and with `PrefixGRPOTrainer`: same problems,
demonstrations, rewards and settings. Writes OUT.json, the mean reward of the plain rollouts of every step, and OUT.png. What OUT.json has
already is not trained again. docs/trl.md has the command that makes data and base model.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import numpy as np
from datasets import Dataset
from tqdm import tqdm
from transformers import AutoTokenizer, TrainerCallback

from prefix_rft.common import provenance
from prefix_rft.common.errors import UserError
from prefix_rft.common.files import atomic_path, read_json, read_jsonl, write_json
from prefix_rft.config.reading import plain
from prefix_rft.data import problems as data_problems
from prefix_rft.data.tasks import task_of
from prefix_rft.model.folder import load_model, stop_ids
from prefix_rft.report.figures import style
from prefix_rft.runs.layout import Layout
from prefix_rft.runs.load import load_run
from prefix_rft.training.train import TrainJob, train
from prefix_rft.trl import PrefixGRPOConfig, PrefixGRPOTrainer
from prefix_rft.verifier.verifier import Verifier

WINDOW = 11  # steps of the moving mean in the figure


def arguments(run, seed):
    """TRL's settings for a run of ours: as many rollouts and updates a step, the same loss and optimizer."""
    adam, prefix, rows = run.optimizer, run.prefix, run.rollout.group_size
    updates = run.batch_prompts // run.minibatch_prompts
    return PrefixGRPOConfig(
        output_dir=tempfile.mkdtemp(),
        seed=seed,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        max_steps=run.steps * updates,
        num_generations=rows,
        per_device_train_batch_size=run.minibatch_prompts * rows,
        steps_per_generation=updates,
        max_completion_length=run.rollout.max_response,
        temperature=run.rollout.temperature,
        epsilon=run.objective.clip_low,
        epsilon_high=run.objective.clip_high,
        learning_rate=adam.lr,
        adam_beta1=adam.beta1,
        adam_beta2=adam.beta2,
        weight_decay=adam.weight_decay,
        max_grad_norm=adam.grad_clip,
        lr_scheduler_type="polynomial",  # of power 1: linear to lr_end
        lr_scheduler_kwargs={"lr_end": adam.lr * adam.final, "power": 1.0},
        **{f"prefix_{k}": getattr(prefix, k) for k in ("per_group", "keep_share", "schedule", "low_start", "low_end")},
        **{f"prefix_{k}": getattr(prefix, k) for k in ("high", "min_length")},
    )


class Bar(TrainerCallback):
    """TRL prints a line of numbers a step; a bar says as much."""

    def __init__(self, steps, seed):
        self.bar = tqdm(total=steps, desc=f"seed {seed}", mininterval=10)

    def on_step_end(self, args, state, control, **_):
        self.bar.update()


def train_ours(layout, config, seed, changes, override):
    """[steps] mean reward of the plain rollouts, by our trainer."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        places = dict(data=layout.data, checkpoints=folder / "checkpoints", out=folder / "out")
        init = layout.base(load_run(config, override).base, seed)
        named = dict(config_file=config, preset=layout.preset.name, run=config.stem, seed=seed, init=init)
        train(TrainJob(**named, **places, override=override, changes=changes))
        return [row["reward_plain"] for row in read_jsonl(folder / "out/metrics.jsonl")]


def train_trl(layout, run, seed):
    """[steps] the same by TRL."""
    task, base = task_of(layout.data), layout.base(run.base, seed)
    tokenizer, model = AutoTokenizer.from_pretrained(base), load_model(base)
    stops = stop_ids(model, tokenizer)
    problems = data_problems.load_problems(
        layout.data, run.train_split, run.demos, task, tokenizer, stops, len(tokenizer)
    )
    problems = data_problems.draw(problems, run.prompts, seed, layout.preset)
    rows = [
        {"prompt": tokenizer.decode(p.prompt), "demonstration": p.demos[0].ids, "answer": p.answer} for p in problems
    ]
    if any(tokenizer(r["prompt"])["input_ids"] != p.prompt for r, p in zip(rows, problems, strict=True)):
        raise UserError(
            f"{layout.data}: prompts have other token ids as text; this comparison needs a task like registers"
        )
    with Verifier(task) as verifier:

        def reward(completions, answer, **_):
            return [float(v.correct is True) for v in verifier.score(completions, answer)]

        args = arguments(run, seed)
        trainer = PrefixGRPOTrainer(
            model, reward, args, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
        )
        trainer.add_callback(Bar(args.max_steps, seed))
        trainer.train()
    log = trainer.state.log_history
    return [row["prefix/rollout_reward"] for row in log if "prefix/rollout_reward" in row]


def draw(found, path):
    """The two trainers' rewards over steps, a thin line for each seed and a thick one for the mean."""
    from matplotlib import pyplot as plt

    with style.sheet():
        figure, axis = plt.subplots(figsize=(style.WIDTH, 2.8))
        last = {}
        for name, label, color, dash in (
            ("ours", "This repository's trainer", style.VERMILION, "-"),
            ("trl", "PrefixGRPOTrainer (TRL)", style.BLACK, (0, (5, 1))),
        ):
            curves = [seed[name] for seed in found["seeds"].values()]
            last[label] = np.mean([np.mean(c[-max(1, len(c) // 10) :]) for c in curves])
            smooth = [style.smooth(c, min(WINDOW, len(c)))[0] for c in curves]
            for curve in smooth:
                axis.plot(curve, color=color, linewidth=0.5, alpha=0.5)
            common = min(map(len, smooth))  # of a run that was stopped
            axis.plot(np.mean([c[:common] for c in smooth], axis=0), color=color, linestyle=dash, label=label)
        axis.set(xlabel="Step of reinforcement learning", ylabel="Reward of plain rollouts\n(share right)", ylim=(0, 1))
        said = ", ".join(f"{label} {style.points(end)} %" for label, end in last.items())
        style.head(figure, f"Plain rollouts right over the last tenth: {said}", *axis.get_legend_handles_labels())
        thick = f"Thick: mean of {len(found['seeds'])} seeds; thin: the seeds; moving means over {WINDOW} steps."
        style.caption(figure, thick)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=300)
        plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="folder of preset tiny's results")
    parser.add_argument("out", type=Path, help="path without suffix")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="unset: those of the run")
    parser.add_argument("--preset", type=Path, default=Path("config/tiny"), help="its configuration")
    parser.add_argument("--override", type=Path, help="such as config/tiny/smoke.yaml")
    job = parser.parse_args()
    layout, config = Layout(job.preset, job.results, job.override), job.preset / "prefix_rft.yaml"
    changes = (f"steps={job.steps}",) if job.steps else ()
    run = load_run(config, job.override, changes)
    data, figure = Path(f"{job.out}.json"), Path(f"{job.out}.png")
    found = read_json(data) if data.exists() else {"run": plain(run), "seeds": {}}
    if found["run"] != plain(run):
        raise UserError(f"{data}: is of another run configuration; remove it to start anew")
    for seed in job.seeds:
        curves = found["seeds"].setdefault(str(seed), {})
        for name, trained in (
            ("ours", lambda s: train_ours(layout, config, s, changes, job.override)),
            ("trl", lambda s: train_trl(layout, run, s)),
        ):
            if name not in curves:
                curves[name] = trained(seed)
                found |= {"versions": provenance.versions(), "hardware": provenance.hardware()}
                write_json(data, found)
    draw(found, figure)
    for name in ("ours", "trl"):
        curves = [s[name] for s in found["seeds"].values()]
        ends = [
            np.round([np.mean(part) for part in parts], 3)
            for parts in ([c[:20] for c in curves], [c[-20:] for c in curves])
        ]
        print(f"{name}: first 20 steps {ends[0]}, last 20 steps {ends[1]}, by seed")


if __name__ == "__main__":
    try:
        main()
    except UserError as e:
        sys.exit(f"error: {e}")
