"""The steps of decoding that are not matrix products, for float32 on a CPU, compiled by numba.

One token a row is too little work for an operator of PyTorch: half of a decoding step would be spent in calls, copies
and masks. Here each row attends to exactly its own length, and rotary embedding, cache write, scores, softmax and
weighted sum are one loop. `kernels_torch.py` does the same in plain PyTorch for every device, and is the oracle of the tests.
"""

import functools

import numpy as np
import torch
import torch.nn.functional as F

from .compiled import compiled, exact, exp, swiglu
from .simd import BLOCK, rotate, scores, softmax, weighted_sum

COMPACT_BELOW = 1.0  # dropping a finished row costs nothing: the cache stays where it is


def fits(dim):
    """Whether these kernels take heads of `dim` numbers."""
    return dim % 8 == 0


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


@functools.cache
def _attend(dim, tile):
    half = dim // 2

    @compiled
    def attend(
        qkv,
        position,
        slots,
        sources,
        lengths,
        cos,
        sin,
        prompt_keys,
        prompt_values,
        keys,
        values,
        queries,
        weights,
        part,
        out,
    ):
        """qkv [B, heads + 2 kv_heads, D] before rotary embedding, pairs side by side; slots [B]: where a row's own cache lies; sources [B]:
        which prompt the row continues; lengths [prompts]. Keys [prompts or slots, kv_heads, C, D, BLOCK], values [prompts or slots,
        kv_heads, C * BLOCK, D]; a prompt ends at the end of a block, so that what its first block lacks lies in front. queries [tile, D],
        weights [C * tile * BLOCK], part [tile, D]: scratch; out [B, heads, D]. `tile` heads of those that share keys are computed
        together."""
        rows, heads = out.shape[0], out.shape[1]
        kv_heads = keys.shape[1]
        group, columns = heads // kv_heads, qkv.shape[1]
        one = np.float32(1.0)
        key = np.empty(dim, np.float32)
        for b in range(rows):
            at, slot, source = position[b], slots[b], sources[b]
            before = (lengths[source] + BLOCK - 1) // BLOCK  # blocks of the prompt
            lacking = before * BLOCK - lengths[source]
            own = at - lengths[source]
            block, lane = own // BLOCK, own % BLOCK
            for g in range(kv_heads):
                row = (slot * kv_heads + g) * keys.shape[2]
                prompt = (source * kv_heads + g) * prompt_keys.shape[2]
                rotate(dim, 1, qkv, (b * columns + heads + g) * dim, cos, sin, at * half, 1, one, key, 0)
                for d in range(dim):
                    keys[slot, g, block, d, lane] = key[d]
                for d in range(dim):
                    values[slot, g, own, d] = qkv[b, heads + kv_heads + g, d]
                for h in range(g * group, (g + 1) * group, tile):
                    for i in range(tile):
                        rotate(dim, 1, qkv, (b * columns + h + i) * dim, cos, sin, at * half, 1, one, queries, i * dim)
                    mine = before * tile * BLOCK  # where the weights of the row's own keys begin
                    scores(dim, tile, queries, 0, prompt_keys, prompt * dim * BLOCK, before, weights, 0)
                    scores(dim, tile, queries, 0, keys, row * dim * BLOCK, block + 1, weights, mine)
                    for i in range(tile):
                        for j in range(lacking):
                            weights[i * BLOCK + j] = np.float32(-1e30)
                    softmax(tile, 0, weights, 0, before * BLOCK + own + 1, before + block + 1)
                    weighted_sum(
                        dim, tile, weights, mine, values, row * BLOCK * dim, own + 1, out, (b * heads + h) * dim
                    )
                    if before:
                        weighted_sum(
                            dim, tile, weights, 0, prompt_values, prompt * BLOCK * dim, before * BLOCK, part, 0
                        )
                        for i in range(tile):
                            for d in range(dim):
                                out[b, h + i, d] += part[i, d]

    return attend


@exact
def _sample(logits, uniform, tokens, logprobs, entropies):
    rows, size = logits.shape
    weights = np.empty(size, np.float32)
    for b in range(rows):
        top = logits[b, 0]
        for v in range(size):
            top = max(top, logits[b, v])
        for v in range(size):
            weights[v] = exp(logits[b, v] - top)
        total = 0.0
        mean = 0.0
        for v in range(size):
            total += weights[v]
            mean += weights[v] * (logits[b, v] - top)
        target = uniform[b] * total
        seen, token = 0.0, size - 1
        for v in range(size):
            seen += weights[v]
            if seen >= target and weights[v] > 0:
                token = v
                break
        norm = np.log(total)
        tokens[b] = token
        logprobs[b] = logits[b, token] - top - norm
        entropies[b] = norm - mean / total


def norm(x, eps, out=None):
    """x [B, width] -> x / rms(x). out: holds the result, here and below."""
    out = torch.empty_like(x) if out is None else out
    _norm(x.numpy(), np.float32(eps), out.numpy())
    return out


def silu_mul(gate_up, out=None):
    """[B, 2 width] -> silu(first half) * second half."""
    out = torch.empty(len(gate_up), gate_up.shape[1] // 2) if out is None else out
    swiglu(gate_up.numpy(), out.numpy())
    return out


def sample(logits, uniform):
    """logits [B, V], uniform [B] in (0, 1] -> (tokens [B], their log-probs [B], entropies [B]) by inversion of the cumulative
    distribution."""
    tokens = torch.empty(len(logits), dtype=torch.long)
    logprobs, entropies = torch.empty(len(logits)), torch.empty(len(logits))
    _sample(logits.numpy(), uniform.numpy(), tokens.numpy(), logprobs.numpy(), entropies.numpy())
    return tokens, logprobs, entropies


class Cache:
    """Keys and values of one batch, layer by layer (see `_attend`): a block of positions runs along the last axis of the keys, so
    that the loop over positions reads neighbours. A prompt is kept once for all rows that continue it, which makes less to read at
    each step. Finished rows leave `slots`; nothing is moved."""

    def __init__(self, layers, heads, kv_heads, dim, sources, lengths, new, rope, like):
        """sources [rows]: which prompt a row continues; lengths: of the prompts; new: most tokens of a row after its prompt."""
        self.heads = heads
        tile = next(t for t in (4, 2, 1) if heads // kv_heads % t == 0)
        self.attend_rows = _attend(dim, tile)
        prompt, own = -(-max(lengths) // BLOCK), -(-new // BLOCK)  # blocks

        def store(rows, blocks):
            return torch.zeros(rows, kv_heads, blocks, dim, BLOCK), torch.zeros(rows, kv_heads, blocks * BLOCK, dim)

        self.prompts = [store(len(lengths), prompt) for _ in range(layers)]
        # the loops read numpy's view of the same memory
        self.arrays = [tuple(x.numpy() for x in (*p, *store(len(sources), own))) for p in self.prompts]
        self.slots, self.sources, self.lengths = np.arange(len(sources)), sources.numpy(), np.array(lengths)
        self.cos, self.sin = rope.real.contiguous().numpy(), rope.imag.contiguous().numpy()
        self.scratch = (
            np.empty((tile, dim), np.float32),
            np.empty((prompt + own) * tile * BLOCK, np.float32),
            np.empty((tile, dim), np.float32),
        )

    def fill(self, layer, first, keys, values):
        """Read prompts `first`, `first` + 1, ...: keys, values [prompts, kv_heads, L, D], rotary embedding applied."""
        for i in range(len(keys)):
            length = int(self.lengths[first + i])
            count = -(-length // BLOCK)
            k = F.pad(keys[i, :, :length], (0, 0, count * BLOCK - length, 0)).unflatten(1, (count, BLOCK))
            self.prompts[layer][0][first + i, :, :count] = k.transpose(2, 3)
            self.prompts[layer][1][first + i, :, count * BLOCK - length : count * BLOCK] = values[i, :, :length]

    def keep(self, rows, used):
        """Only `rows` stay; positions from `used` on hold nothing yet."""
        self.slots, self.sources = self.slots[rows.numpy()], self.sources[rows.numpy()]

    def begin(self, position):
        """Before the layers of one decoding step. position [rows]: where each row's new token stands."""
        self.position = position.numpy()

    def attend(self, layer, qkv, out=None):
        """qkv [rows, heads + 2 kv_heads, D], no rotary embedding yet -> [rows, heads * D]."""
        out = torch.empty(len(qkv), self.heads * qkv.shape[2]) if out is None else out
        self.attend_rows(
            qkv.numpy(),
            self.position,
            self.slots,
            self.sources,
            self.lengths,
            self.cos,
            self.sin,
            *self.arrays[layer],
            *self.scratch,
            out.view(len(qkv), self.heads, -1).numpy(),
        )
        return out
