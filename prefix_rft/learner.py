"""The learner: pi_old's log-probs, gradients of a mini-batch from packed micro-batches, AdamW.

`gradients` never divides by anything of a micro-batch: each token's loss is divided by the count of its whole
mini-batch, so packing and the micro-batch size change memory and speed only.
"""

import math

import numpy as np
import torch

from .config import Run
from .forward import make_forward
from .logprobs import logprobs
from .objectives import Clip, ce_terms, rl_terms
from .streams import CLIPPED, NONE


def learning_rate(optimizer, step, total):
    """Learning rate of update `step` (from 0) of `total`: linear warm-up, then constant, linear or cosine to `final`."""
    warmup = optimizer.warmup * total
    if step < warmup:
        return optimizer.lr * (step + 1) / warmup if warmup > 1 else optimizer.lr
    progress = (step - warmup) / max(total - 1 - warmup, 1)
    decay = {"constant": 1.0, "linear": 1 - progress, "cosine": 0.5 * (1 + math.cos(math.pi * min(progress, 1)))}
    share = decay[optimizer.schedule]
    return optimizer.lr * (optimizer.final + (1 - optimizer.final) * share if optimizer.schedule != "constant" else 1.0)


class Learner:
    """Holds the model and its optimizer.

    model: a transformers causal language model; total_updates: optimizer steps of the whole run (for the schedule); forward: the
    forward pass, by default the fastest that fits the model.
    """

    def __init__(self, model, run: Run, total_updates: int, device="cpu", forward=None):
        self.model, self.run, self.device = model.to(device), run, device
        self.forward = forward or make_forward(self.model, device, run.dtype)
        self.total_updates, self.updates = total_updates, 0
        self.temperature = run.rollout.temperature if run.rollout else 1.0
        cfg = run.optimizer
        decay = [p for p in model.parameters() if p.ndim >= 2]
        rest = [p for p in model.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [{"params": decay, "weight_decay": cfg.weight_decay}, {"params": rest, "weight_decay": 0.0}],
            lr=cfg.lr,
            betas=(cfg.beta1, cfg.beta2),
            fused=True,
        )
        self.trained_tokens = 0
        self.scored_tokens = 0

    def _logprobs(self, micro, with_entropy):
        head = self.model.get_output_embeddings()
        return logprobs(self.forward.hidden(micro), head, micro.targets, self.temperature, with_entropy)

    def _micro(self, episodes):
        return self.forward.micro_batches(
            [e.prompt for e in episodes], [e.response for e in episodes], self.run.micro_tokens
        )

    @torch.no_grad()
    def score(self, episodes):
        """Write pi_old's log-probs and entropies of all response tokens into `episodes` (paper section 2 step 6)."""
        flat = sum(len(e.response) for e in episodes)
        logp, entropy = np.zeros(flat), np.zeros(flat)
        for micro in self._micro(episodes):
            lp, h = self._logprobs(micro, with_entropy=True)
            where = micro.tokens.cpu().numpy()
            logp[where], entropy[where] = lp.cpu().numpy(), h.cpu().numpy()
        at = 0
        for e in episodes:
            n = len(e.response)
            e.old_logprobs, e.entropies, e.scored = logp[at : at + n], entropy[at : at + n], True
            at += n
            self.scored_tokens += len(e.ids)

    def gradients(self, episodes, streams, part_norms=False):
        """Accumulate the gradient of a mini-batch into the parameters; no optimizer step.

        episodes: whole groups, whose old log-probs are known (`has_old`) where the streams have an rl component;
        streams: see `Streams`, flat over all their response tokens. Episodes without an active token are left out of the pass: they have no
        gradient, and the counts are given. Returns a dict of losses and clip counts and, with `part_norms`,
        `grad_norm_prefix`, `grad_norm_rollout` and the cosine between the two parts. mismatch_*: |sampler - learner|
        log-prob over the sampled tokens of on-policy episodes.
        """
        bonus = self.run.objective.entropy_bonus
        lengths = [len(e.response) for e in episodes]
        ends = np.cumsum(lengths, dtype=int)
        active = streams.active
        chosen = [i for i in range(len(episodes)) if bonus or active[ends[i] - lengths[i] : ends[i]].any()]
        chosen.sort(key=lambda i: not episodes[i].prefix)  # hybrids first: their two parts are told apart below
        hybrids = sum(bool(episodes[i].prefix) for i in chosen)
        flat = np.concatenate([np.arange(ends[i] - lengths[i], ends[i]) for i in chosen] or [np.zeros(0, int)])

        def tensor(values, dtype=torch.float32):
            return torch.as_tensor(np.asarray(values)[flat], dtype=dtype, device=self.device)

        copied = np.concatenate([e.is_prefix for e in episodes] or [np.zeros(0, bool)])
        advantage, surrogate = tensor(streams.advantage), tensor(streams.surrogate, torch.int8)
        ce_weight, is_prefix = tensor(streams.ce_weight), tensor(copied, torch.bool)
        old = tensor(np.concatenate([e.old_logprobs for e in episodes] or [np.zeros(0)]))
        current = tensor(np.repeat([e.on_policy and not e.scored for e in episodes], lengths), torch.bool)
        has_rl = bool((surrogate != NONE).any())
        if any(
            not e.has_old and streams.advantage[n - k : n].any()
            for e, n, k in zip(episodes, ends, lengths, strict=True)
        ):
            raise ValueError("an episode with an advantage has no log-probs of pi_old: call score first")
        clip = Clip(self.run.objective.clip_low, self.run.objective.clip_high)

        out = dict(rl_loss=0.0, ce_loss=0.0, clipped_prefix=0, clipped_rollout=0, mismatch_sum=0.0, mismatch_tokens=0)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        prefix_grads = [torch.zeros_like(p) for p in parameters] if part_norms and hybrids else None
        groups = [chosen[:hybrids], chosen[hybrids:]] if prefix_grads else [chosen]
        offset = 0
        for group in groups:
            for micro in self._micro([episodes[i] for i in group]):
                at = micro.tokens + offset
                logp, entropy = self._logprobs(micro, with_entropy=bool(bonus))
                rl = torch.zeros_like(logp)
                if has_rl:
                    now = current[at]
                    before = torch.where(now, logp.detach(), old[at])
                    sampled = now & ~is_prefix[at]  # there pi is pi_old still: the sampler must have given the same
                    out["mismatch_sum"] += float((logp.detach() - old[at])[sampled].abs().sum())
                    out["mismatch_tokens"] += int(sampled.sum())
                    rl, clipped = rl_terms(logp, before, advantage[at], surrogate[at], streams.gamma, clip)
                    out["clipped_prefix"] += int((clipped & is_prefix[at]).sum())
                    out["clipped_rollout"] += int((clipped & ~is_prefix[at]).sum())
                ce = ce_terms(logp, ce_weight[at])
                loss = rl / streams.rl_count + ce / streams.ce_count
                if bonus:
                    loss = loss - bonus * entropy / streams.rl_count
                if prefix_grads and group is groups[0]:
                    whole = bool(is_prefix[at].all())  # whole demonstrations have no other part
                    part = (loss * is_prefix[at]).sum()
                    own = torch.autograd.grad(part, parameters, retain_graph=not whole)
                    for total, g in zip(prefix_grads, own, strict=True):
                        total += g
                    loss = None if whole else loss * ~is_prefix[at]
                if loss is not None:
                    loss.sum().backward()
                out["rl_loss"] += float(rl.detach().sum()) / streams.rl_count
                out["ce_loss"] += float(ce.detach().sum()) / streams.ce_count
            offset += sum(lengths[i] for i in group)
        self.trained_tokens += sum(len(episodes[i].ids) for i in chosen)
        clippable = (streams.surrogate == CLIPPED) & (streams.advantage != 0)
        out["clippable_prefix"], out["clippable_rollout"] = (
            int((clippable & copied).sum()),
            int((clippable & ~copied).sum()),
        )
        if part_norms:
            out |= _join_parts(parameters, prefix_grads)
        return out

    def update(self, episodes, streams, part_norms=False):
        """One optimizer step on a mini-batch; returns what `gradients` returns, with `grad_norm` and `lr`."""
        out = self.gradients(episodes, streams, part_norms)
        out["lr"] = learning_rate(self.run.optimizer, self.updates, self.total_updates)
        for group in self.optimizer.param_groups:
            group["lr"] = out["lr"]
        with_grad = [p for p in self.model.parameters() if p.grad is not None]
        out["grad_norm"] = 0.0
        if with_grad:  # a mini-batch whose groups all agree has no gradient: the weights stay where they are
            out["grad_norm"] = float(torch.nn.utils.clip_grad_norm_(with_grad, self.run.optimizer.grad_clip))
            if not math.isfinite(out["grad_norm"]):
                raise FloatingPointError(f"gradient norm is {out['grad_norm']} at update {self.updates}")
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.updates += 1
        return out

    def state_dict(self):
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "updates": self.updates,
            "trained_tokens": self.trained_tokens,
            "scored_tokens": self.scored_tokens,
        }

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.updates = state["updates"]
        self.trained_tokens, self.scored_tokens = state["trained_tokens"], state["scored_tokens"]


def _join_parts(parameters, prefix_grads):
    """Add the prefix part to the gradients, which hold the rollout part; returns the norms of both and their cosine."""
    rollout = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    b = global_norm(rollout)
    if prefix_grads is None:
        return dict(grad_norm_prefix=0.0, grad_norm_rollout=b, grad_cosine=None)
    a = global_norm(prefix_grads)
    dot = sum(float((x.double() * y.double()).sum()) for x, y in zip(prefix_grads, rollout, strict=True))
    for p, g in zip(parameters, prefix_grads, strict=True):
        p.grad = g if p.grad is None else p.grad.add_(g)
    return dict(grad_norm_prefix=a, grad_norm_rollout=b, grad_cosine=dot / (a * b) if a * b > 0 else None)


def global_norm(grads):
    """Euclidean norm over a list of tensors, summed in float64."""
    return math.sqrt(sum(float(g.double().pow(2).sum()) for g in grads))
