"""Prefix-RFT in TRL: `GRPOTrainer` with one renamed class and one more column, `demonstration`.

    from prefix_rft.trl import PrefixGRPOConfig, PrefixGRPOTrainer

    args = PrefixGRPOConfig(output_dir="out")
    # rows: columns prompt, demonstration, and what the reward reads
    PrefixGRPOTrainer("HuggingFaceTB/SmolLM2-135M", my_reward, args, train_dataset=rows).train()

Everything else is TRL's: generation, rewards, advantages, loss, several processes, LoRA, checkpoints. The window of the prefix share and
the ranking by entropy are this package's own, so one definition of the paper's method serves both trainers. docs/trl.md says which
methods of TRL are extended and why.
"""

import inspect
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers.utils import logging

from .common.errors import UserError
from .config.reading import build
from .episodes import Demonstration
from .methods.parts.schedules import Window, draw_prefix, window
from .methods.parts.tokens import top_entropy
from .methods.prefix_rft import Options

try:
    from accelerate.utils import gather_object
    from trl import GRPOConfig, GRPOTrainer
except ImportError as e:
    raise ImportError(f"prefix_rft.trl needs TRL: pip install prefix-rft[trl] ({e})") from None

log = logging.get_logger(__name__)
WHERE = "PrefixGRPOTrainer"
COLUMN = f"{WHERE}: column 'demonstration'"


def _like(section, name):
    """A field of a dataclass with default and help of key `name` of `section`."""
    return field(default=section.model_fields[name].default, metadata={"help": section.model_fields[name].description})


@dataclass
class PrefixGRPOConfig(GRPOConfig):
    """`GRPOConfig`, the keys of section `prefix` that have a meaning here, and two other defaults: the loss of the paper is Dr.GRPO's.

    The mini-batch of the paper, over which prefix tokens are ranked, is TRL's optimizer batch. For the paper's two updates a batch of
    rollouts set steps_per_generation to twice gradient_accumulation_steps.

    Raises:
        UserError: a value out of range, or settings of TRL with which the method cannot work.
    """

    loss_type: str = field(default="dr_grpo", metadata={"help": "loss of TRL; the paper's is dr_grpo"})
    scale_rewards: str = field(default="none", metadata={"help": "advantages are divided by; the paper's by nothing"})
    prefix_per_group: int = _like(Options, "per_group")
    prefix_keep_share: float = _like(Options, "keep_share")
    prefix_negative: bool = _like(Options, "negative")
    prefix_schedule: str = _like(Window, "schedule")
    prefix_low_start: float = _like(Window, "low_start")
    prefix_low_end: float = _like(Window, "low_end")
    prefix_high: float = _like(Window, "high")
    prefix_min_length: int = _like(Window, "min_length")

    def __post_init__(self):
        super().__post_init__()
        self.prefix_window = self._section(Window, Window.model_fields)
        self._section(Options, ("per_group", "keep_share", "negative"))
        at_once, most = self.gradient_accumulation_steps, self.num_generations
        self._refuse("prefix_per_group", self.prefix_per_group > most, f"at most num_generations = {most}")
        if self.prefix_per_group:
            self._refuse("importance_sampling_level", self.importance_sampling_level != "token", "token")
            self._refuse("loss_type", self.loss_type == "vespo", "another loss: VESPO weighs whole sequences")
            self._refuse("off_policy_mask_threshold", self.off_policy_mask_threshold is not None, "None")
            self._refuse("top_entropy_quantile", self.top_entropy_quantile < 1, "1.0: it would thin out prefixes again")
            self._refuse("remove_unused_columns", self.remove_unused_columns, "False: demonstration is a column")
            parts = self.steps_per_generation % at_once  # an optimizer step must see one generation, to rank it
            self._refuse("steps_per_generation", parts, f"a multiple of gradient_accumulation_steps = {at_once}")

    def _section(self, section, keys):
        return build(section, {k: getattr(self, f"prefix_{k}") for k in keys}, "PrefixGRPOConfig, keys prefix_*")

    def _refuse(self, key, wrong, wanted):
        if wrong:
            raise UserError(f"PrefixGRPOConfig: {key} = {getattr(self, key)!r}: must be {wanted}")


class PrefixGRPOTrainer(GRPOTrainer):
    """`GRPOTrainer` where `prefix_per_group` rollouts of each group continue a prefix of the row's demonstration.

    Column `demonstration` of the training set: the response to the prompt as text, as messages (one of role assistant), or as token ids
    with the end mark. Rows where it is None or empty train as plain GRPO, so does evaluation. Text is appended to the prompt as it is.

    Metrics beside TRL's: `prefix/rollout_reward`, mean reward of the plain rollouts (TRL's `reward` has the hybrids in it);
    `prefix/reward`, of the hybrids; `prefix/length`, mean prefix length in tokens; `prefix/low`, lower end of the window;
    `prefix/too_long`, share of the hybrids whose demonstration is longer than max_completion_length, so that they became plain rollouts.

    Raises:
        UserError: tools, environments, images, a rollout function, or a training set without the column.
    """

    _tag_names = ["trl", "grpo", "prefix-rft"]
    _name = "Prefix-RFT"
    _paper = {"title": "Blending Supervised and Reinforcement Fine-Tuning with Prefix Sampling", "id": "2507.01679"}

    def __init__(self, *args, **kwargs):
        given = inspect.signature(GRPOTrainer.__init__).bind(self, *args, **kwargs).arguments
        cfg = given.get("args")
        if not isinstance(cfg, PrefixGRPOConfig):
            raise UserError(f"{WHERE}: args = {type(cfg).__name__}: must be a PrefixGRPOConfig")
        columns = (data := given.get("train_dataset")) and (data.column_names or list(next(iter(data))))
        if cfg.prefix_per_group:
            for name in filter(given.get, ("tools", "environment_factory", "rollout_func")):
                raise UserError(f"{WHERE}: {name}: cannot continue a prefix; leave it out")
            if columns and "demonstration" not in columns:
                raise UserError(
                    f"{COLUMN} is missing from train_dataset, which has {columns}; or set prefix_per_group=0"
                )
        super().__init__(*args, **kwargs)
        if cfg.prefix_per_group and self._is_vlm:
            raise UserError(f"{WHERE}: images are not supported; pass processing_class=tokenizer for text alone")
        self._rows = None  # rows whose rollouts are being generated; None: no prefixes wanted

    def _generate_and_score_completions(self, inputs):
        """TRL's, with two more tensors: prefix_mask (B, T) bool, prefix_entropies (B, T) float, pi_old's."""
        if not (self.model.training and self.args.prefix_per_group):
            return super()._generate_and_score_completions(inputs)
        self._rows = inputs
        try:
            batch = super()._generate_and_score_completions(inputs)
        finally:
            self._rows = None
        lengths = torch.tensor([len(p) for p in self._prefixes], device=self.accelerator.device)
        place = torch.arange(batch["completion_ids"].size(1), device=lengths.device)
        batch["prefix_mask"] = (place < lengths[:, None]) & batch["completion_mask"].bool()
        batch["prefix_entropies"] = self._prefix_entropies(batch, lengths)
        self._log_prefixes(lengths)
        return batch

    def _generate_single_turn(self, prompt_ids, images, multimodal_fields, num_generations, **more):
        """TRL's, from prompt + prefix; the completion begins with the prefix. A prefix token has no log-prob of the sampler (None)."""
        if self._rows is None:
            return super()._generate_single_turn(prompt_ids, images, multimodal_fields, num_generations, **more)
        limit = self.max_completion_length
        self._prefixes = self._draw_prefixes(prompt_ids)
        starts = [[*prompt, *prefix] for prompt, prefix in zip(prompt_ids, self._prefixes, strict=True)]
        # num_generations = 1: a vLLM server would sample from every num_generations-th start alone
        sampled, logprobs = super()._generate_single_turn(starts, images, multimodal_fields, 1, **more)
        completions = [(p + list(ids))[:limit] for p, ids in zip(self._prefixes, sampled, strict=True)]
        if logprobs is not None:
            logprobs = [([None] * len(p) + list(row))[:limit] for p, row in zip(self._prefixes, logprobs, strict=True)]
        return completions, logprobs

    def _draw_prefixes(self, prompt_ids):
        """[B] prefixes, token ids; [] for plain rollouts. The last `prefix_per_group` of a group, which may span processes, get one."""
        cfg, size, first = self.args, self.num_generations, self.accelerator.process_index * len(prompt_ids)
        updates = cfg.steps_per_generation // cfg.gradient_accumulation_steps * self.num_iterations  # of one generation
        last = max((self.state.max_steps - 1) // updates, 1)
        self._window = window(cfg.prefix_window, min(self.state.global_step // updates / last, 1.0))
        self._too_long, prefixes = 0, []
        for i, (row, prompt) in enumerate(zip(self._rows, prompt_ids, strict=True), first):
            ids = self._demonstration(row, prompt) if i % size >= size - cfg.prefix_per_group else []
            if len(ids) > self.max_completion_length:
                log.warning_once(f"{COLUMN}: longer than max_completion_length, so plain rollouts: see prefix/too_long")
                self._too_long, ids = self._too_long + 1, []
            rng = np.random.default_rng([cfg.seed, self.state.global_step, i])  # whatever the number of processes
            prefixes.append(draw_prefix(Demonstration("", ids), self._window, cfg.prefix_min_length, rng)[0])
        return prefixes

    def _demonstration(self, row, prompt_ids):
        """Token ids of a row's demonstration, end mark included; []: it has none."""
        demo = row.get("demonstration")
        if demo is None or len(demo) == 0:
            return []
        if isinstance(demo, str):
            ids = self._tokenizer(demo, add_special_tokens=False)["input_ids"] + [self._tokenizer.eos_token_id]
        elif isinstance(demo[0], dict):
            if isinstance(row["prompt"], str) or [m["role"] for m in demo] != ["assistant"]:
                roles = [m["role"] for m in demo]
                raise UserError(
                    f"{COLUMN}: messages must be one of role assistant, after a prompt of messages; found {roles}"
                )
            chat = dict(tokenize=True, return_dict=True, chat_template=self.chat_template) | self.chat_template_kwargs
            ids = self._tokenizer.apply_chat_template([*row["prompt"], *demo], **chat)["input_ids"]
            if ids[: len(prompt_ids)] != list(prompt_ids):
                raise UserError(
                    f"{COLUMN}: the chat template changes the prompt where an answer follows; give text or token ids"
                )
            ids = ids[len(prompt_ids) :]
        else:
            ids = [int(token) for token in demo]
        end = next((i for i, token in enumerate(ids) if token in self.eos_token_ids), len(ids))
        return ids[: end + 1]

    @torch.no_grad()
    def _prefix_entropies(self, batch, lengths):
        """(B, T): entropies of pi_old on prefix tokens, 0 elsewhere; one forward pass over the hybrids alone."""
        entropies = torch.zeros(batch["completion_ids"].shape, device=lengths.device)
        rows = lengths.nonzero().squeeze(1)
        count = int(self.accelerator.gather(torch.tensor([len(rows)], device=lengths.device)).max())
        if count:  # all processes make as many passes: sharded weights are gathered layer by layer
            chosen = torch.cat([rows, rows.new_zeros(count - len(rows))])
            width = max(int(lengths.max()), 1)
            ids = torch.cat([batch["prompt_ids"][chosen], batch["completion_ids"][chosen, :width]], dim=1)
            mask = torch.cat([batch["prompt_mask"][chosen], batch["completion_mask"][chosen, :width]], dim=1)
            size = self.args.per_device_train_batch_size
            found = self._get_per_token_logps_and_entropies(self.model, ids, mask, width, size, compute_entropy=True)[1]
            entropies[rows, :width] = found[: len(rows)].float()
        return entropies

    def _prepare_inputs(self, generation_batch):
        """TRL's. New rollouts have been shuffled and split into micro-batches by then: what an optimizer step has in it is known."""
        inputs = super()._prepare_inputs(generation_batch)
        if self.model.training and "prefix_mask" in self._buffered_inputs[0]:
            size = self.args.gradient_accumulation_steps
            for first in range(0, len(self._buffered_inputs), size):
                self._clip_by_entropy(self._buffered_inputs[first : first + size])
        return inputs

    def _clip_by_entropy(self, micro_batches):
        """Advantages (B) -> (B, T) with 0 on the prefix tokens of the optimizer batch, over all processes, that are not among the
        `prefix_keep_share` of highest entropy, and without `prefix_negative` on those of rows that are not better than their group. They
        stay in the loss's denominator."""
        masks = [b.pop("prefix_mask") for b in micro_batches]
        values = [b.pop("prefix_entropies")[m].cpu().numpy() for b, m in zip(micro_batches, masks, strict=True)]
        everyone = gather_object([np.concatenate(values)])
        ranked = np.concatenate(everyone)
        kept = top_entropy(ranked, np.ones(len(ranked), dtype=bool), self.args.prefix_keep_share)
        at = sum(len(part) for part in everyone[: self.accelerator.process_index])
        for b, mask, own in zip(micro_batches, masks, values, strict=True):
            dropped = torch.zeros_like(mask)
            dropped[mask] = torch.from_numpy(~kept[at : at + len(own)]).to(mask.device)
            advantages = b["advantages"].unsqueeze(1)
            if not self.args.prefix_negative:
                dropped |= mask & (advantages <= 0)
            b["advantages"] = advantages.masked_fill(dropped, 0.0)
            at += len(own)

    def _calculate_rewards(self, *args, **kwargs):
        self._rewards = super()._calculate_rewards(*args, **kwargs)  # (rows of all processes, reward functions)
        return self._rewards

    def _log_prefixes(self, lengths):
        lengths = self.accelerator.gather(lengths)
        too_long = self.accelerator.gather(torch.tensor([self._too_long], device=lengths.device)).sum()
        rewards = (self._rewards * self.reward_weights.to(lengths.device)).nansum(dim=1)
        hybrid, metrics = lengths > 0, self._metrics["train"]
        metrics["prefix/low"].append(self._window[0])
        metrics["prefix/too_long"].append(float(too_long / max(int(hybrid.sum() + too_long), 1)))
        if hybrid.any():
            metrics["prefix/length"].append(lengths[hybrid].float().mean().item())
            metrics["prefix/reward"].append(rewards[hybrid].mean().item())
        if not hybrid.all():
            metrics["prefix/rollout_reward"].append(rewards[~hybrid].mean().item())
