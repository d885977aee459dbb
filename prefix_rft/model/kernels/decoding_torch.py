"""The steps of decoding that are not projections, in plain PyTorch: any device and dtype. See `kernels_cpu.py`."""

import torch
import torch.nn.functional as F

COMPACT_BELOW = 0.88  # share of live rows below which the finished ones are dropped; a copy of the cache pays then


def norm(x, eps, out=None):
    """x [B, width] -> x / rms(x). out: may hold the result, here and below."""
    return (x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + eps)).to(x.dtype)


def silu_mul(gate_up, out=None):
    """[B, 2 width] -> silu(first half) * second half."""
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate) * up


def sample(logits, uniform):
    """logits [B, V], uniform [B] in (0, 1] -> (tokens [B], their log-probs [B], entropies [B]) by inversion of the cumulative
    distribution."""
    logp = torch.log_softmax(logits, -1)
    p = logp.exp()
    cumulative = p.cumsum(-1)
    target = uniform * cumulative[:, -1]  # rounding: the last sum may differ from 1
    tokens = torch.searchsorted(cumulative, target[:, None]).squeeze(1).clamp_(max=logits.shape[1] - 1)
    entropies = -(p * logp.clamp(min=torch.finfo(logp.dtype).min)).sum(-1)
    return tokens, logp.gather(1, tokens[:, None]).squeeze(1), entropies


def rotate(x, rope):
    """x [N, heads, D] with pairs side by side, rope [N, D / 2] complex -> x with rotary embedding."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * rope[:, None]).flatten(-2).to(x.dtype)


class Cache:
    """Keys and values of one batch, per layer [2, rows, kv_heads, capacity, D]."""

    def __init__(self, layers, heads, kv_heads, dim, sources, lengths, new, rope, like):
        self.heads, self.kv_heads, self.dim, self.rope, self.sources = heads, kv_heads, dim, rope, sources
        capacity = max(lengths) + new
        # zeros: what is masked must still be finite
        self.store = [like.new_zeros(2, len(sources), kv_heads, capacity, dim) for _ in range(layers)]

    def fill(self, layer, first, keys, values):
        rows = ((self.sources >= first) & (self.sources < first + len(keys))).nonzero()[:, 0]
        at = self.sources[rows] - first
        self.store[layer][:, rows, :, : keys.shape[2]] = torch.stack([keys[at], values[at]])

    def keep(self, rows, used):
        for j, old in enumerate(self.store):
            self.store[j] = old.new_zeros(2, len(rows), *old.shape[2:])
            self.store[j][:, :, :, :used] = old[:, rows, :, :used]

    def begin(self, position):
        self.position, self.length = position, int(position.max()) + 1
        mask = torch.arange(self.length, device=position.device) <= position[:, None]
        self.bias = torch.where(mask, 0.0, float("-inf")).to(self.store[0].dtype)[:, None, None]
        self.here, self.rows = self.rope[position], torch.arange(len(position), device=position.device)

    def attend(self, layer, qkv, out=None):
        h, kv, n = self.heads, self.kv_heads, len(qkv)
        qk = rotate(qkv[:, : h + kv], self.here)
        store = self.store[layer]
        store[0, self.rows, :, self.position] = qk[:, h:]
        store[1, self.rows, :, self.position] = qkv[:, h + kv :]
        keys, values = store[:, :, :, : self.length]
        q = qk[:, :h].reshape(n, kv, h // kv, self.dim)
        p = torch.softmax(q @ keys.transpose(2, 3) + self.bias, -1)
        return (p @ values).view(n, -1)
