"""The embedded rollout engine: batched decoding of a Llama-, Qwen2- or Qwen3-style transformers model in plain PyTorch.

The key-value cache is static. Each token is one forward pass of all unfinished rows, and finished rows leave the batch. A prompt that
several rows share is read once. Norm weights and the attention scale are folded into the projections, and q, k, v are one product.
The rows of q and k are reordered so that the two numbers of each rotation are neighbours; attention does not depend on their order.
Operations other than projections are in `model/kernels/decoding.py` and `decoding_torch.py`.

Qwen3's norms of q and k stand between projection and rotation; there the attention scale is folded into the norm of q.

Left out: paged cache and continuous batching (use vLLM on a GPU), top-k, penalties.
"""

from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from ..common.errors import UserError
from ..common.version import __version__
from ..model.kernels import decoding_torch as kernels_torch
from ..model.kernels.decoding_torch import rotate
from ..model.kernels.products import add_product, product
from ..model.shapes import FAMILIES
from . import Completion, Sampling
from .drawing import batches, draw, uniforms


def left_out(model) -> str | None:
    """What this engine does not know of a model; None: it knows all there is."""
    if model.config.model_type not in FAMILIES:
        return f"it is of type {model.config.model_type}"
    layer = model.base_model.layers[0]
    parts = [
        n for n, m in (("o_proj", layer.self_attn.o_proj), ("down_proj", layer.mlp.down_proj)) if m.bias is not None
    ]
    sliding = "sliding_attention" in (getattr(model.config, "layer_types", None) or [])
    parts = [f"a bias of {n}" for n in parts] + (["a sliding window"] if sliding else [])
    return f"it has {', '.join(parts)}" if parts else None


class NativeEngine:
    name, version = "native", __version__

    def __init__(self, model, stop_ids, max_rows=512, whole=nullcontext):
        config = model.config
        if why := left_out(model):  # it would sample from another model than the trained one
            raise UserError(f"rollout.engine = 'native': cannot run this model: {why}")
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width = config.hidden_size
        self.head_dim = getattr(config, "head_dim", None) or self.width // self.heads
        self.eps = config.rms_norm_eps
        self.window = config.max_position_embeddings
        self.stop_ids, self.max_rows = sorted(set(stop_ids)), max_rows
        self.generated_tokens = self.prefilled_tokens = 0
        self.buffers = None
        self.sync(model, whole)

    # ------------------------------------------------------------------------------------------------ weights

    @torch.no_grad()
    def sync(self, model, whole=nullcontext):
        """Copy and fold the model's current weights. whole: makes the context in which the model has all its weights."""
        with whole():
            self._fold(model)

    def _fold(self, model):
        body = model.base_model
        self.device = body.embed_tokens.weight.device
        self.embed = body.embed_tokens.weight.detach().clone()
        self.kernels = _kernels(self.embed, self.head_dim)
        self.exact = self.embed.dtype == torch.float32  # log-probs equal the model's up to rounding
        order = torch.arange(self.head_dim).view(2, -1).t().reshape(-1)  # i and i + D/2 become neighbours

        def interleave(w, heads):  # rows of a projection, head by head
            return w.view(heads, self.head_dim, *w.shape[1:])[:, order.to(w.device)].reshape(w.shape)

        self.layers = []
        for layer in body.layers:
            a, mlp = layer.self_attn, layer.mlp
            norms, scale = None, self.head_dim**-0.5
            if hasattr(a, "q_norm"):
                heads = a.q_norm.weight.expand(self.heads, -1) * scale, a.k_norm.weight.expand(self.kv_heads, -1)
                norms, scale = torch.cat(heads)[:, order.to(self.device)].contiguous(), 1.0
            qkv = [
                interleave(a.q_proj.weight, self.heads) * scale,
                interleave(a.k_proj.weight, self.kv_heads),
                a.v_proj.weight,
            ]
            bias = None
            if a.q_proj.bias is not None:
                bias = torch.cat(
                    [
                        interleave(a.q_proj.bias, self.heads) * scale,
                        interleave(a.k_proj.bias, self.kv_heads),
                        a.v_proj.bias,
                    ]
                )
            self.layers.append(
                (
                    (torch.cat(qkv) * layer.input_layernorm.weight).t().contiguous(),
                    bias,
                    a.o_proj.weight.detach().t().contiguous(),
                    (torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * layer.post_attention_layernorm.weight)
                    .t()
                    .contiguous(),
                    mlp.down_proj.weight.detach().t().contiguous(),
                    norms,
                )
            )
        self.head = (model.get_output_embeddings().weight * body.norm.weight).t().contiguous()
        positions = torch.arange(self.window, device=self.device).float()
        # the model's frequencies, which include any rope scaling of its configuration
        angles = positions[:, None] * body.rotary_emb.inv_freq.float().to(self.device)
        scaling = getattr(body.rotary_emb, "attention_scaling", 1.0)
        self.rope = torch.polar(torch.full_like(angles, scaling), angles)  # [window, D/2] complex

    # ---------------------------------------------------------------------------------------------- the layers

    def _qkv(self, h, weights, bias, norms, out=None):
        """Normed states h [N, width] -> [N, heads + 2 kv_heads, D], before rotary embedding."""
        qkv = product(h, weights, bias, out).view(len(h), self.heads + 2 * self.kv_heads, self.head_dim)
        if norms is None:
            return qkv
        qk = qkv[:, : len(norms)]
        normed = self.kernels.norm(qk.reshape(-1, self.head_dim), self.eps).view(qk.shape) * norms
        return torch.cat([normed, qkv[:, len(norms) :]], 1)

    def _prefill(self, prompts):
        """Yield keys and values [prompts, kv_heads, L, D] of all tokens of `prompts` (lists of ids), layer by layer."""
        n, length = len(prompts), max(map(len, prompts))
        ids = np.zeros((n, length), dtype=np.int64)
        for i, p in enumerate(prompts):
            ids[i, : len(p)] = p  # no token attends to the padding behind a shorter prompt
        x = self.embed[torch.from_numpy(ids).to(self.device).view(-1)]
        rope = self.rope[:length].repeat(n, 1)
        h, kv = self.heads, self.kv_heads
        for index, (w_qkv, b_qkv, w_o, gate_up, down, norms) in enumerate(self.layers):
            qkv = self._qkv(self.kernels.norm(x, self.eps), w_qkv, b_qkv, norms)
            qk = rotate(qkv[:, : h + kv], rope)
            qk = qk.view(n, length, h + kv, self.head_dim).transpose(1, 2)
            q, k = qk[:, :h], qk[:, h:]
            v = qkv[:, h + kv :].reshape(n, length, kv, self.head_dim).transpose(1, 2)
            yield k, v
            if index + 1 < len(self.layers):  # the last layer's output is not needed
                o = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0, enable_gqa=kv != h)
                x = add_product(x, o.transpose(1, 2).reshape(n * length, -1), w_o)
                x = add_product(x, self.kernels.silu_mul(product(self.kernels.norm(x, self.eps), gate_up)), down)
        self.prefilled_tokens += sum(map(len, prompts))

    def _decode(self, tokens, position, cache):
        """One token for each row. tokens, position [B] -> logits [B, vocabulary], valid until the next call."""
        kernels, b = self.kernels, self._buffers(len(tokens))
        x = torch.index_select(self.embed, 0, tokens, out=b.x)
        cache.begin(position)
        for index, (w_qkv, b_qkv, w_o, gate_up, down, norms) in enumerate(self.layers):
            qkv = self._qkv(kernels.norm(x, self.eps, b.h), w_qkv, b_qkv, norms, b.qkv)
            x = add_product(x, cache.attend(index, qkv, b.o), w_o)
            h = product(kernels.norm(x, self.eps, b.h), gate_up, out=b.gate_up)
            x = add_product(x, kernels.silu_mul(h, b.m), down)
        return product(kernels.norm(x, self.eps, b.h), self.head, out=b.logits).float()

    def _buffers(self, rows):
        """What a step over `rows` rows writes into. Made anew only where their number changes: at small sizes memory costs as much as
        the products."""
        if self.buffers is None or len(self.buffers.x) != rows:
            w_qkv, _, w_o, gate_up, down, _ = self.layers[0]
            widths = dict(x=self.width, h=self.width, qkv=w_qkv.shape[1], o=w_o.shape[0], logits=self.head.shape[1])
            widths |= dict(gate_up=gate_up.shape[1], m=down.shape[0])
            self.buffers = SimpleNamespace(**{k: self.embed.new_empty(rows, n) for k, n in widths.items()})
        return self.buffers

    # ----------------------------------------------------------------------------------------------- sampling

    @torch.no_grad()
    def generate(self, prompts, max_new, sampling: Sampling):
        """`Completion`s of the prompts, in order.

        prompts: lists of ids, not empty
        max_new: most new tokens of each prompt

        The random numbers of a row depend only on the seed and on the row's index, `sampling.first` + its index in `prompts`.
        Raises `UserError` if a prompt and its response may exceed the model's window.
        """
        out = [Completion([], np.zeros(0), np.zeros(0), False) for _ in prompts]
        for numbers in batches(prompts, max_new, self.window, self.max_rows):
            self._generate(numbers, prompts, max_new, sampling, out)
        return out

    def _start_cache(self, numbers, prompts, new):
        """The cache of a batch, with all tokens of each prompt but the last. new: most tokens of a row after those."""
        heads = [tuple(prompts[i][:-1]) for i in numbers]
        unique = sorted(set(heads), key=len)
        where = {p: j for j, p in enumerate(unique)}
        sources = torch.tensor([where[p] for p in heads], device=self.device)
        sizes = len(self.layers), self.heads, self.kv_heads, self.head_dim
        cache = self.kernels.Cache(*sizes, sources, [len(p) for p in unique], new, self.rope, self.embed)
        start = 0
        while start < len(unique):  # prompts of similar length together, for little padding
            stop = start + 1
            while stop < len(unique) and stop - start < 64 and len(unique[stop]) <= 1.25 * len(unique[start]) + 4:
                stop += 1
            if unique[stop - 1]:
                for layer, (keys, values) in enumerate(self._prefill(unique[start:stop])):
                    cache.fill(layer, start, keys, values)
            start = stop
        return cache

    def _generate(self, numbers, prompts, max_new, sampling, out):
        device = self.device
        capacity = max(len(prompts[i]) + max_new[i] for i in numbers)
        cache = self._start_cache(numbers, prompts, max(max_new[i] for i in numbers))
        limit = torch.tensor([max_new[i] for i in numbers], device=device)
        position = torch.tensor([len(prompts[i]) - 1 for i in numbers], device=device)
        tokens = torch.tensor([prompts[i][-1] for i in numbers], device=device)
        steps = int(limit.max())
        places = [sampling.first + i for i in numbers]
        uniform = torch.from_numpy(uniforms(places, steps, sampling.seed).T.copy()).to(device)  # [steps, rows]
        stops = torch.tensor(self.stop_ids, device=device)
        kept_tokens = torch.zeros(steps, len(numbers), dtype=torch.long, device=device)
        kept_logp = torch.zeros(steps, len(numbers), device=device)
        kept_entropy = torch.zeros_like(kept_logp)
        lengths = torch.zeros(len(numbers), dtype=torch.long, device=device)  # of the response, 0 while it grows
        stopped = torch.zeros(len(numbers), dtype=torch.bool, device=device)
        rows = torch.arange(len(numbers), device=device)  # row at each index of the batch
        live = torch.ones(len(numbers), dtype=torch.bool, device=device)
        for step in range(steps):
            logits = self._decode(tokens, position, cache)
            drawn = uniform[step].index_select(0, rows)
            tokens, logp, entropy = draw(logits, sampling.temperature, drawn, self.kernels, sampling.top_p)
            kept_tokens[step].index_copy_(0, rows, tokens)
            kept_logp[step].index_copy_(0, rows, logp)
            kept_entropy[step].index_copy_(0, rows, entropy)
            hit = tokens == stops if len(stops) == 1 else torch.isin(tokens, stops)
            ends = (hit | (limit == step + 1)) & live
            if bool(ends.any()):
                ended = rows[ends]
                lengths[ended] = step + 1
                stopped[ended] = hit[ends]
                live = live & ~ends
            count = int(live.sum())
            if count == 0:
                break
            # a finished row in the batch overwrites its last position; the value is never used
            position = (position + 1).clamp_(max=capacity - 1)
            if count < self.kernels.COMPACT_BELOW * len(rows):
                keep = live.nonzero()[:, 0]
                rows, position, tokens, limit, live = rows[keep], position[keep], tokens[keep], limit[keep], live[keep]
                cache.keep(keep, int(position.max()))
        self.generated_tokens += int(lengths.sum())
        ids, logp, entropy = (kept.T.cpu().numpy() for kept in (kept_tokens, kept_logp, kept_entropy))
        for row, (i, n, ended) in enumerate(zip(numbers, lengths.tolist(), stopped.tolist(), strict=True)):
            out[i] = Completion(
                ids[row, :n].tolist(), logp[row, :n].astype(np.float64), entropy[row, :n].astype(np.float64), ended
            )
            if not np.isfinite(out[i].logprobs).all():
                raise FloatingPointError(f"rollout engine native: prompt {i} got a log-prob that is not finite")


def _kernels(like, head_dim):
    """Compiled kernels for float32 on a CPU, otherwise PyTorch kernels."""
    if like.device.type == "cpu" and like.dtype == torch.float32:
        from ..model.kernels import decoding as kernels_cpu

        if kernels_cpu.fits(head_dim):
            return kernels_cpu
    return kernels_torch
