"""The learner: log-probs of pi_old, gradients of a mini-batch from packed micro-batches, AdamW.

A token's loss is divided by the count of its whole mini-batch, never by a number of its micro-batch. Packing and the size of
micro-batches so change memory and speed only.

`Learner` trains in one process. `DeepSpeedLearner` (learner_deepspeed.py) subclasses it for several processes and overrides the methods
of the section "one process or several". `Learner` is its oracle in the tests.
"""

import copy
import math
from contextlib import nullcontext

import numpy as np
import torch

from ..config.run import Run
from ..episodes import LEARNER, joined, prefix_mask, token_rows
from ..model.forward import make_forward
from ..model.logprobs import logprobs
from ..streams import NONE, Tokens
from .batch import Batch
from .loss import ce_terms, importance_weights, kl_terms, rl_terms
from .part_norms import accumulate_parts


def learning_rate(optimizer, step, total):
    """Learning rate of update `step` (from 0) of `total`: linear warm-up, then constant, or linear or cosine decay to `final` x lr.

    optimizer: section `optimizer` of the run.
    """
    warmup = optimizer.warmup * total
    if step < warmup:
        return optimizer.lr * (step + 1) / warmup if warmup > 1 else optimizer.lr
    progress = (step - warmup) / max(total - 1 - warmup, 1)
    decay = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * min(progress, 1)))}
    share = decay[optimizer.schedule]
    return optimizer.lr * (optimizer.final + (1 - optimizer.final) * share if optimizer.schedule != "constant" else 1.0)


def adamw(model, cfg):
    """AdamW of `model`; weight decay on matrices only. cfg: section `optimizer` of the run."""
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    return torch.optim.AdamW(
        [{"params": decay, "weight_decay": cfg.weight_decay}, {"params": rest, "weight_decay": 0.0}],
        lr=cfg.lr,
        betas=(cfg.beta1, cfg.beta2),
        fused=True,
    )


def use_tensor_cores(device, dtype):
    """Allow TF32 for products of fp32 matrices, if the pass is in bfloat16 on a GPU. Such a product is the output head's, whose logits
    stay fp32. TF32 is more exact than bfloat16 and several times as fast as fp32."""
    if device == "cuda" and dtype == "bfloat16":
        torch.set_float32_matmul_precision("high")


class Learner:
    """The model and its optimizer.

    Args:
        model: a transformers causal language model, which is trained in place.
        run: the configuration.
        total_updates: optimizer steps of the whole run, for the learning rate's schedule.
        device: "cpu" or "cuda".
        forward: the forward pass; unset: the fastest that fits the model.
        reference: keep a frozen copy of the model for `score_reference`.
        further: settings of a second AdamW, for `further_update`; None: none.
    """

    def __init__(self, model, run: Run, total_updates: int, device="cpu", forward=None, reference=False, further=None):
        self.model, self.run, self.device = model.to(device), run, device
        self.forward = forward or self._make_forward(self.model)
        self.total_updates, self.updates = total_updates, 0
        self.temperature = run.rollout.temperature if run.rollout else 1.0
        self.reference = None
        if reference:
            self.reference = self._make_forward(copy.deepcopy(self.model).requires_grad_(False))
        self.trained_tokens = 0
        self.scored_tokens = 0
        self.optimizer = adamw(self.model, run.optimizer)
        self.further, self.further_optimizer = further, adamw(self.model, further) if further else None

    # ------------------------------------------------------------------------------------- one process or several

    def _make_forward(self, model):
        if self.run.parallel.activation_checkpointing:  # the compiled forward pass has none
            checkpoint_activations(model)
        return make_forward(model, self.device, self.run.dtype, compiled=not self.run.parallel.activation_checkpointing)

    def _own(self, lengths):
        """[index] of the episodes that this process computes. lengths: tokens of every episode."""
        return list(range(len(lengths)))

    def _exchange(self, own):
        """{index: result} of this process -> {index: result} of all processes."""
        return own

    def _backward(self, loss):
        """Add the gradient of a micro-batch's loss, a scalar."""
        loss.backward()

    def _total(self, sums):
        """Replace sums over this process's micro-batches by sums over all processes."""

    def gradient(self):
        """[tensor]: this process's shards of the accumulated gradient; all processes together hold it whole."""
        return [torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters()]

    def take_gradient(self):
        """The same as `gradient`, and the accumulation starts anew."""
        taken = self.gradient()
        self.model.zero_grad(set_to_none=True)
        return taken

    def add_gradient(self, parts):
        """Add `parts` to the accumulated gradient, as `take_gradient` returned them."""
        for p, g in zip(self._parameters(), parts, strict=True):
            p.grad = g if p.grad is None else p.grad.add_(g)

    def dot(self, a, b):
        """Inner product of two gradients, lists of tensors, summed in float64 over all processes."""
        return sum(float((x.double() * y.double()).sum()) for x, y in zip(a, b, strict=True))

    def full_weights(self):
        """A context in which the model holds whole weights."""
        return nullcontext()

    def weights(self):
        """{key: tensor} of the model to write; None: the weights that the model holds."""

    # ------------------------------------------------------------------------------------------------- the passes

    def _logprobs(self, micro, with_entropy, forward=None):
        forward = forward or self.forward
        head = forward.model.get_output_embeddings()
        states, chunk = forward.hidden(micro), self.run.head_chunk
        return logprobs(states, head, micro.targets, self.temperature, with_entropy, chunk)

    def _parameters(self):
        return [p for p in self.model.parameters() if p.requires_grad]

    def _micro(self, episodes, forward=None, more=False):
        return (forward or self.forward).micro_batches(
            [e.prompt for e in episodes], [e.response for e in episodes], self.run.micro_tokens
        )

    @torch.no_grad()
    def score(self, episodes):
        """Write pi_old's log-probs and entropies of all response tokens into `episodes` (paper section 2 step 6)."""
        for i, (logp, entropy) in self._passes(episodes, with_entropy=True).items():
            episodes[i].old_logprobs, episodes[i].entropies, episodes[i].old_from = logp, entropy, LEARNER
        self.scored_tokens += sum(len(e.ids) for e in episodes)

    @torch.no_grad()
    def score_reference(self, episodes):
        """Write the reference model's log-probs of all response tokens into `episodes`."""
        for i, (logp, _) in self._passes(episodes, with_entropy=False, forward=self.reference).items():
            episodes[i].reference_logprobs = logp
        self.scored_tokens += sum(len(e.ids) for e in episodes)

    def _passes(self, episodes, with_entropy, forward=None):
        """{index of an episode: (log-probs, entropies) of its response tokens} of all episodes."""
        if not episodes:
            return {}
        indices = self._own([len(e.ids) for e in episodes])
        own = [episodes[i] for i in indices]
        ends = np.cumsum([len(e.response) for e in own], dtype=int)
        logp, entropy = np.zeros((2, ends[-1] if len(ends) else 0))
        for micro in self._micro(own, forward):
            lp, h = self._logprobs(micro, with_entropy, forward)
            where = micro.tokens.cpu().numpy()
            logp[where] = lp.cpu().numpy()
            if with_entropy:
                entropy[where] = h.cpu().numpy()
        parts = zip(np.split(logp, ends[:-1]), np.split(entropy, ends[:-1]), strict=True) if own else ()
        return self._exchange(dict(zip(indices, parts, strict=True)))

    def gradients(self, episodes, streams, part_norms=False, entropy_bonus=None):
        """Accumulate the gradient of a mini-batch into the parameters; no optimizer step.

        Args:
            episodes: whole groups, with pi_old's log-probs where the streams have a ratio.
            streams: `Streams`, flat over all response tokens of `episodes`.
            part_norms: also measure the norms of the prefix part and the rollout part.
            entropy_bonus: coefficient of the mean entropy of the sampled tokens; None: the run's `objective.entropy_bonus`.

        Returns:
            rl_loss, ce_loss: the two components.
            clipped_*, clippable_*: tokens whose gradient a clip removed, or could remove, on prefixes and on rollouts.
            mismatch_sum, mismatch_tokens: |sampler - learner| log-prob over sampled tokens whose pi_old is the update's own.
            importance_*: weights of truncated importance sampling over the sampled tokens with an advantage.
            demonstrations: number of whole demonstrations that have a gradient.
            With `part_norms` or `streams.match` also the keys of `part_norms.accumulate_parts`.

        Raises:
            ValueError: an episode lacks log-probs of pi_old or of the reference model that a token needs.
        """
        # the bonus is a mean over the sampled tokens of the whole mini-batch, the same in every method, whatever `rl_count` counts
        bonus = self.run.objective.entropy_bonus if entropy_bonus is None else entropy_bonus
        self.bonus = bonus / max(sum(len(e.continuation) for e in episodes), 1)
        episodes, streams = self._with_gradient(episodes, streams)
        self.has_gradient, self.has_rl = bool(episodes), bool((streams.surrogate != NONE).any())
        self.trained_tokens += sum(len(e.ids) for e in episodes)
        sums, parts = dict(SUMS), {}
        if part_norms or streams.match is not None:
            parts = accumulate_parts(self, episodes, streams, sums, part_norms)
        else:
            self.accumulate(episodes, streams, sums)
        self._total(sums)
        copied = prefix_mask(episodes)
        return sums | {
            "demonstrations": sum(not e.start.sample for e in episodes),
            "clippable_prefix": int((streams.clippable & copied).sum()),
            "clippable_rollout": int((streams.clippable & ~copied).sum()),
            **parts,
        }

    def _with_gradient(self, episodes, streams):
        """(episodes that have a gradient, hybrids first; their streams). Every other episode is left out of the pass. The counts in the
        streams stay the counts of the whole mini-batch."""
        active, rows = streams.active, token_rows(episodes)
        chosen = [i for i, e in enumerate(episodes) if (self.bonus and e.continuation) or active[rows[i]].any()]
        chosen.sort(key=lambda i: not episodes[i].prefix)
        return [episodes[i] for i in chosen], streams.at(joined(rows[i] for i in chosen))

    def accumulate(self, episodes, streams, sums, more=False):
        """The core of every update: log-probs -> rl + ce (+ kl) -> backward, one micro-batch after the other.

        Args:
            episodes: episodes that have a gradient.
            streams: flat over their response tokens. The gradient is of the tokens in `streams.mask`, losses and counts are of all.
            sums: {key of `SUMS`: number}, to which losses and counts are added.
            more: another call follows before the gradient is read.
        """
        if not episodes:
            return
        objective, rows = self.run.objective, token_rows(episodes)
        own = sorted(self._own([len(e.ids) for e in episodes]))
        episodes, streams = [episodes[i] for i in own], streams.at(joined(rows[i] for i in own))
        batch = Batch.of(episodes, streams, self.device)
        with_entropy = bool(self.bonus) or streams.needs_entropy
        for micro in self._micro(episodes, more=more):
            part = batch[micro.tokens]
            logp, entropy = self._logprobs(micro, with_entropy)
            old = torch.where(part.current, logp.detach(), part.old)
            low, high = objective.clip_low, objective.clip_high
            tokens = Tokens(logp, old, part.advantage, entropy, streams.gamma, low, high, part.row)
            rl = torch.zeros_like(logp)
            if self.has_rl:  # anywhere in the mini-batch: the counts do not depend on how it is split
                rl, clipped = rl_terms(tokens, part.surrogate)
                if objective.importance_cap is not None:
                    weights = importance_weights(old, part.drawn, ~part.is_prefix, objective.importance_cap)
                    rl = rl * weights
                    count_importance(sums, part, weights, objective.importance_cap)
                count_tokens(sums, part, logp.detach(), clipped)
            if part.reference is not None:
                rl = rl + kl_terms(logp, part.reference, part.kl_weight)
            ce = ce_terms(tokens, part.ce_weight, part.ce_factor)
            loss = rl / streams.rl_count + ce / streams.ce_count
            if self.bonus:
                loss = loss - self.bonus * torch.where(part.is_prefix, 0.0, entropy)
            if part.mask is not None:
                loss = loss * part.mask
            self._backward(loss.sum())
            sums["rl_loss"] += float(rl.detach().sum()) / streams.rl_count
            sums["ce_loss"] += float(ce.detach().sum()) / streams.ce_count

    def update(self, episodes, streams, part_norms=False):
        """One optimizer step on a mini-batch; returns the keys of `gradients`, `grad_norm` and `lr`."""
        out = self.gradients(episodes, streams, part_norms)
        out |= self._apply(self.optimizer, self.run.optimizer, self.updates)
        self.updates += 1
        return out

    def further_update(self, episodes, streams):
        """One optimizer step between two updates of the run, with its own batch and the second AdamW. `updates` does not count it; its
        learning rate has the schedule's factor at the last update. It trains on
        demonstrations, so it has no entropy bonus."""
        out = self.gradients(episodes, streams, entropy_bonus=0.0)
        return out | self._apply(self.further_optimizer, self.further, max(self.updates - 1, 0))

    def _apply(self, optimizer, cfg, update):
        """One step of `optimizer` with the learning rate of `update`; {lr, grad_norm: before clipping}."""
        lr = learning_rate(cfg, update, self.total_updates)
        for group in optimizer.param_groups:
            group["lr"] = lr
        with_grad = [p for p in self.model.parameters() if p.grad is not None]
        norm = 0.0
        if with_grad:  # without: rewards agree in every group, and the weights stay
            norm = float(torch.nn.utils.clip_grad_norm_(with_grad, cfg.grad_clip))
            if not math.isfinite(norm):
                raise FloatingPointError(f"gradient norm is {norm} at update {self.updates}")
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {"lr": lr, "grad_norm": norm}

    def state_dict(self):
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "further": self.further_optimizer.state_dict() if self.further else None,
            "updates": self.updates,
            "trained_tokens": self.trained_tokens,
            "scored_tokens": self.scored_tokens,
        }

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.further:
            self.further_optimizer.load_state_dict(state["further"])
        self.updates = state["updates"]
        self.trained_tokens, self.scored_tokens = state["trained_tokens"], state["scored_tokens"]


def checkpoint_activations(model):
    """Let the layers of `model` keep their inputs only and compute the rest again in the backward pass.

    transformers asks for `training` of the layer itself. The layer's modules stay in evaluation mode, without dropout.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    model.gradient_checkpointing_enable({"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = True


# -------------------------------------------------------------------------------------------- sums over micro-batches

SUMS = dict(rl_loss=0.0, ce_loss=0.0, clipped_prefix=0, clipped_rollout=0, mismatch_sum=0.0, mismatch_tokens=0)
SUMS |= dict(importance_sum=0.0, importance_capped=0, importance_tokens=0)


def count_tokens(sums, part: Batch, logp, clipped):
    """Add a micro-batch's counts of clipped tokens, and its mismatch of sampler and learner."""
    sampled = part.current & ~part.is_prefix  # pi is still pi_old there: sampler and learner should agree
    sums["mismatch_sum"] += float((logp - part.old)[sampled].abs().sum())
    sums["mismatch_tokens"] += int(sampled.sum())
    sums["clipped_prefix"] += int((clipped & part.is_prefix).sum())
    sums["clipped_rollout"] += int((clipped & ~part.is_prefix).sum())


def count_importance(sums, part: Batch, weights, cap):
    """Add a micro-batch's weights of truncated importance sampling."""
    counted = ~part.is_prefix & (part.surrogate != NONE) & (part.advantage != 0)
    sums["importance_sum"] += float(weights[counted].sum())
    sums["importance_capped"] += int((weights[counted] >= cap).sum())
    sums["importance_tokens"] += int(counted.sum())
