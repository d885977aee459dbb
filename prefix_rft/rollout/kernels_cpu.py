"""The three steps of decoding that are not matrix products, for float32 on a CPU, compiled by numba.

One token a row is too little work for an operator of PyTorch: half of a decoding step would be spent in calls, copies
and masks. Here each row attends to exactly its own length, and rotary embedding, cache write, scores, softmax and
weighted sum are one loop. `kernels_torch.py` does the same in plain PyTorch for every device, and is the oracle of the tests.
"""

import math

import numba
import numpy as np
import torch

LOG2E = np.float32(1 / math.log(2))
# Only sums may be reordered. With multiply-add contraction a loop's vector and scalar versions round differently, and which
# of them runs can depend on where the arrays lie in memory: the same seed would not give the same bits.
compiled = numba.njit(cache=True, fastmath={"reassoc", "nsz", "nnan", "ninf"}, error_model="numpy", boundscheck=False)
exact = numba.njit(cache=True, error_model="numpy", boundscheck=False)


@exact
def _exp_parts(x):
    """e**x = 2**n * 2**f: (2**f by its series on [-0.5, 0.5], the bits of 2**n as an integer). Relative error below 5e-6
    for |x| <= 87. A call of math.exp, or a table of powers, would keep LLVM from using vector instructions."""
    y = min(max(x, np.float32(-87.0)), np.float32(87.0)) * LOG2E
    n = np.floor(y + np.float32(0.5))
    f = y - n
    p = np.float32(1.5403530e-4)
    p = p * f + np.float32(1.3333558e-3)
    p = p * f + np.float32(9.6181291e-3)
    p = p * f + np.float32(5.5504109e-2)
    p = p * f + np.float32(2.4022651e-1)
    p = p * f + np.float32(6.9314718e-1)
    p = p * f + np.float32(1.0)
    return p, (np.int32(n) + np.int32(127)) << np.int32(23)


@compiled
def _norm(x, eps, out):
    rows, width = x.shape
    for b in range(rows):
        total = np.float32(0.0)
        for i in range(width):
            total += x[b, i] * x[b, i]
        scale = np.float32(1.0) / np.sqrt(total / np.float32(width) + eps)
        for i in range(width):
            out[b, i] = x[b, i] * scale


@exact
def _silu_mul(gate_up, bits, powers, out):
    """bits int32 and powers float32 [width]: one buffer seen in two ways."""
    rows, width = out.shape
    for b in range(rows):
        for i in range(width):
            out[b, i], bits[i] = _exp_parts(-gate_up[b, i])
        for i in range(width):
            out[b, i] = gate_up[b, i] / (np.float32(1.0) + out[b, i] * powers[i]) * gate_up[b, width + i]


@compiled
def _attend(qkv, position, cos, sin, keys, values, scores, bits, powers, out):
    """qkv [B, heads + 2 kv_heads, D] before rotary embedding, pairs side by side; keys, values [B, kv_heads, D, capacity];
    scores, bits, powers [capacity]: scratch, the last two one buffer seen in two ways; out [B, heads, D]."""
    rows, heads, dim = out.shape
    kv_heads = keys.shape[1]
    group = heads // kv_heads
    half = dim // 2
    for b in range(rows):
        at = position[b]
        length = at + 1
        for g in range(kv_heads):
            for j in range(half):
                x, y, c, s = qkv[b, heads + g, 2 * j], qkv[b, heads + g, 2 * j + 1], cos[at, j], sin[at, j]
                keys[b, g, 2 * j, at] = x * c - y * s
                keys[b, g, 2 * j + 1, at] = x * s + y * c
            for d in range(dim):
                values[b, g, d, at] = qkv[b, heads + kv_heads + g, d]
            for h in range(g * group, (g + 1) * group):
                for t in range(length):
                    scores[t] = np.float32(0.0)
                for j in range(half):  # two rows of keys a pass over the scores
                    x, y, c, s = qkv[b, h, 2 * j], qkv[b, h, 2 * j + 1], cos[at, j], sin[at, j]
                    p, q = x * c - y * s, x * s + y * c
                    for t in range(length):
                        scores[t] += p * keys[b, g, 2 * j, t] + q * keys[b, g, 2 * j + 1, t]
                top = scores[0]
                for t in range(length):
                    top = max(top, scores[t])
                for t in range(length):
                    scores[t], bits[t] = _exp_parts(scores[t] - top)
                for t in range(length):
                    scores[t] *= powers[t]
                total = np.float32(0.0)
                for t in range(length):
                    total += scores[t]
                scale = np.float32(1.0) / total
                for d in range(dim):
                    acc = np.float32(0.0)
                    for t in range(length):
                        acc += scores[t] * values[b, g, d, t]
                    out[b, h, d] = acc * scale


def norm(x, eps):
    """x [B, width] -> x / rms(x)."""
    out = torch.empty_like(x)
    _norm(x.numpy(), np.float32(eps), out.numpy())
    return out


def silu_mul(gate_up):
    """[B, 2 width] -> silu(first half) * second half."""
    out = torch.empty(len(gate_up), gate_up.shape[1] // 2)
    bits = np.empty(out.shape[1], np.int32)
    _silu_mul(gate_up.numpy(), bits, bits.view(np.float32), out.numpy())
    return out


class Cache:
    """Keys and values of one batch, per layer [rows, kv_heads, D, capacity]: a position runs along the last axis, so
    that the loops over positions read neighbours."""

    def __init__(self, layers, rows, heads, kv_heads, dim, capacity, rope, like):
        self.heads, self.shape = heads, (kv_heads, dim, capacity)
        self.keys = [torch.empty(rows, *self.shape) for _ in range(layers)]
        self.values = [torch.empty(rows, *self.shape) for _ in range(layers)]
        self.cos, self.sin = rope.real.contiguous().numpy(), rope.imag.contiguous().numpy()
        self.scores, self.bits = np.empty(capacity, np.float32), np.empty(capacity, np.int32)

    def fill(self, layer, rows, keys, values):
        """Read prompts: keys, values [rows, kv_heads, L, D], rotary embedding applied."""
        length = keys.shape[2]
        self.keys[layer][rows, :, :, :length] = keys.transpose(2, 3)
        self.values[layer][rows, :, :, :length] = values.transpose(2, 3)

    def keep(self, rows, used):
        """Only `rows` stay; positions from `used` on hold nothing yet."""
        for store in (self.keys, self.values):
            for j, old in enumerate(store):
                store[j] = torch.empty(len(rows), *self.shape)
                store[j][..., :used] = old[..., :used][rows]

    def begin(self, position):
        """Before the layers of one decoding step. position [rows]: where each row's new token stands."""
        self.position = position.numpy()

    def attend(self, layer, qkv):
        """qkv [rows, heads + 2 kv_heads, D], no rotary embedding yet -> [rows, heads * D]."""
        out = torch.empty(len(qkv), self.heads, qkv.shape[2])
        _attend(
            qkv.numpy(),
            self.position,
            self.cos,
            self.sin,
            self.keys[layer].numpy(),
            self.values[layer].numpy(),
            self.scores,
            self.bits,
            self.bits.view(np.float32),
            out.numpy(),
        )
        return out.view(len(qkv), -1)
