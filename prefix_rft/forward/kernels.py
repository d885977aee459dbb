"""Forward and backward of what is not a matrix product in a Llama layer, for float32 on a CPU, compiled by numba.

A batch is a flat list of N tokens cut into segments (`FlatBatch`): a response sees its prompt, which stands elsewhere in the list and
only once for all responses to it, and itself up to each token. Nothing is spent on padding or on masked pairs of tokens.
"""

import functools

import numpy as np
import torch

from ..compiled import BLOCK, block_scores, compiled, exact, exp_parts, softmax, weighted_sum


@compiled
def _norm_forward(x, weight, eps, out, scales):
    rows, width = x.shape
    for b in range(rows):
        total = np.float32(0.0)
        for i in range(width):
            total += x[b, i] * x[b, i]
        scale = np.float32(1.0) / np.sqrt(total / np.float32(width) + eps)
        scales[b] = scale
        for i in range(width):
            out[b, i] = x[b, i] * scale * weight[i]


@compiled
def _norm_backward(grad, x, weight, scales, grad_x, grad_weight):
    """y = x s w, s = 1 / rms(x): dx = s (g w) - x s^3 / width * sum(g w x); dw = sum over rows of g x s."""
    rows, width = x.shape
    for b in range(rows):
        s = scales[b]
        dot = np.float32(0.0)
        for i in range(width):
            dot += grad[b, i] * weight[i] * x[b, i]
        c = dot * s * s * s / np.float32(width)
        for i in range(width):
            grad_x[b, i] = grad[b, i] * weight[i] * s - x[b, i] * c
        for i in range(width):
            grad_weight[i] += grad[b, i] * x[b, i] * s


@exact
def _swiglu_forward(gate_up, bits, powers, out):
    """bits int32 and powers float32 [width]: one buffer seen in two ways."""
    rows, width = out.shape
    for b in range(rows):
        for i in range(width):
            out[b, i], bits[i] = exp_parts(-gate_up[b, i])
        for i in range(width):
            out[b, i] = gate_up[b, i] / (np.float32(1.0) + out[b, i] * powers[i]) * gate_up[b, width + i]


@exact
def _swiglu_backward(grad, gate_up, bits, powers, grad_gate_up):
    """y = silu(a) b, s = 1 / (1 + e^-a): da = g b s (1 + a (1 - s)); db = g a s."""
    rows, width = grad.shape
    one = np.float32(1.0)
    for r in range(rows):
        for i in range(width):
            grad_gate_up[r, i], bits[i] = exp_parts(-gate_up[r, i])
        for i in range(width):
            a, b, g = gate_up[r, i], gate_up[r, width + i], grad[r, i]
            s = one / (one + grad_gate_up[r, i] * powers[i])
            grad_gate_up[r, i] = g * b * s * (one + a * (one - s))
            grad_gate_up[r, width + i] = g * a * s


@functools.cache
def _attention(dim):
    """(forward, backward) for heads of `dim` numbers. `segments` [S, 5] int64: first token and end of a segment, first token and end
    of what it continues (0, 0: nothing), and where its softmax weights begin in `weights`: for each head and token a row of
    whole blocks."""
    scores_of, sum_of = block_scores(dim), weighted_sum(dim)
    half = dim // 2

    @compiled
    def turn(row, cos, sin, scale, out):
        for j in range(half):
            x, y = row[j], row[j + half]
            out[j] = (x * cos[j] - y * sin[j]) * scale
            out[j + half] = (y * cos[j] + x * sin[j]) * scale

    @compiled
    def load(qkv, segment, column, kv_column, cos, sin, keys, blocked, values):
        """Rotated keys of a segment and of what it continues, row by row and in blocks, and its values. Returns their number."""
        n = 0
        for part in range(2):
            for t in range(segment[2 - 2 * part], segment[3 - 2 * part]):
                turn(qkv[t, column], cos[t], sin[t], np.float32(1.0), keys[n])
                for d in range(dim):
                    blocked[n // BLOCK, d, n % BLOCK] = keys[n, d]
                for d in range(dim):
                    values[n, d] = qkv[t, kv_column, d]
                n += 1
        return n

    @compiled
    def forward(qkv, segments, cos, sin, heads, longest, weights, out):
        """qkv [N, heads + 2 kv_heads, D]; cos, sin [N, D / 2]; out [N, heads, D]."""
        kv_heads = (qkv.shape[1] - heads) // 2
        group = heads // kv_heads
        count = (longest + BLOCK - 1) // BLOCK
        keys, values = np.empty((count * BLOCK, dim), np.float32), np.empty((count * BLOCK, dim), np.float32)
        blocked = np.zeros((count, dim, BLOCK), np.float32)
        query = np.empty(dim, np.float32)
        bits = np.empty(count * BLOCK, np.int32)
        powers = bits.view(np.float32)
        scale = np.float32(1.0) / np.sqrt(np.float32(dim))
        for i in range(segments.shape[0]):
            segment = segments[i]
            first, before = segment[0], segment[3] - segment[2]
            for g in range(kv_heads):
                load(qkv, segment, heads + g, heads + kv_heads + g, cos, sin, keys, blocked, values)
                at = segment[4] + g * group * _room(before, segment[1] - first)
                for h in range(g * group, (g + 1) * group):
                    for t in range(first, segment[1]):
                        n = before + t - first + 1
                        m = (n + BLOCK - 1) // BLOCK
                        row = weights[at : at + m * BLOCK]
                        at += m * BLOCK
                        turn(qkv[t, h], cos[t], sin[t], scale, query)
                        scores_of(query, blocked, m, row)
                        softmax(row, n, m * BLOCK, bits, powers)
                        sum_of(row, values, n, out[t, h])

    @compiled
    def backward(grad, qkv, segments, cos, sin, heads, longest, weights, grad_qkv):
        """grad [N, heads, D] of out -> grad_qkv, which holds zeros."""
        kv_heads = (qkv.shape[1] - heads) // 2
        group = heads // kv_heads
        count = (longest + BLOCK - 1) // BLOCK
        room = count * BLOCK
        keys, values = np.empty((room, dim), np.float32), np.empty((room, dim), np.float32)
        grad_keys, grad_values = np.empty((room, dim), np.float32), np.empty((room, dim), np.float32)
        blocked, blocked_values = np.zeros((count, dim, BLOCK), np.float32), np.zeros((count, dim, BLOCK), np.float32)
        query, part = np.empty(dim, np.float32), np.empty(dim, np.float32)
        slopes = np.empty(room, np.float32)
        scale = np.float32(1.0) / np.sqrt(np.float32(dim))
        for i in range(segments.shape[0]):
            segment = segments[i]
            first, before = segment[0], segment[3] - segment[2]
            for g in range(kv_heads):
                total = load(qkv, segment, heads + g, heads + kv_heads + g, cos, sin, keys, blocked, values)
                for n in range(total):
                    for d in range(dim):
                        blocked_values[n // BLOCK, d, n % BLOCK] = values[n, d]
                        grad_keys[n, d] = np.float32(0.0)
                        grad_values[n, d] = np.float32(0.0)
                at = segment[4] + g * group * _room(before, segment[1] - first)
                for h in range(g * group, (g + 1) * group):
                    for t in range(first, segment[1]):
                        n = before + t - first + 1
                        m = (n + BLOCK - 1) // BLOCK
                        p = weights[at : at + m * BLOCK]
                        at += m * BLOCK
                        g_out = grad[t, h]
                        # dp = grad . v; ds = p (dp - sum p dp): p is 0 from n on
                        scores_of(g_out, blocked_values, m, slopes)
                        mean = np.float32(0.0)
                        for u in range(m * BLOCK):
                            mean += p[u] * slopes[u]
                        for u in range(m * BLOCK):
                            slopes[u] = p[u] * (slopes[u] - mean)
                        turn(qkv[t, h], cos[t], sin[t], scale, query)
                        for u in range(n):
                            w, s = p[u], slopes[u]
                            for d in range(dim):
                                grad_values[u, d] += w * g_out[d]
                                grad_keys[u, d] += s * query[d]
                        sum_of(slopes, keys, n, part)
                        turn(part, cos[t], -sin[t], scale, grad_qkv[t, h])
                n = 0
                for half_of in range(2):
                    for t in range(segment[2 - 2 * half_of], segment[3 - 2 * half_of]):
                        turn(grad_keys[n], cos[t], -sin[t], np.float32(1.0), part)
                        for d in range(dim):
                            grad_qkv[t, heads + g, d] += part[d]
                            grad_qkv[t, heads + kv_heads + g, d] += grad_values[n, d]
                        n += 1

    return forward, backward


@compiled
def _room(before, length):
    """Softmax weights of one head of a segment: whole blocks for each of `length` tokens, which see `before` more each."""
    total = 0
    for t in range(length):
        total += (before + t + BLOCK) // BLOCK * BLOCK
    return total


@compiled
def lay_out(segments, heads):
    """Fill the last column of `segments`; returns the length of `weights`."""
    total = 0
    for i in range(segments.shape[0]):
        segments[i, 4] = total
        total += heads * _room(segments[i, 3] - segments[i, 2], segments[i, 1] - segments[i, 0])
    return total


class Norm(torch.autograd.Function):
    """RMSNorm: x [N, width], weight [width] -> x / rms(x) * weight."""

    @staticmethod
    def forward(ctx, x, weight, eps):
        out, scales = torch.empty_like(x), torch.empty(len(x))
        _norm_forward(x.numpy(), weight.detach().numpy(), np.float32(eps), out.numpy(), scales.numpy())
        ctx.save_for_backward(x, weight, scales)
        return out

    @staticmethod
    def backward(ctx, grad):
        x, weight, scales = ctx.saved_tensors
        grad_x, grad_weight = torch.empty_like(x), torch.zeros_like(weight)
        _norm_backward(
            grad.contiguous().numpy(),
            x.detach().numpy(),
            weight.detach().numpy(),
            scales.numpy(),
            grad_x.numpy(),
            grad_weight.numpy(),
        )
        return grad_x, grad_weight, None


class SwiGLU(torch.autograd.Function):
    """[N, 2 width] -> silu(first half) * second half."""

    @staticmethod
    def forward(ctx, gate_up):
        out = torch.empty(len(gate_up), gate_up.shape[1] // 2)
        bits = np.empty(out.shape[1], np.int32)
        _swiglu_forward(gate_up.numpy(), bits, bits.view(np.float32), out.numpy())
        ctx.save_for_backward(gate_up)
        return out

    @staticmethod
    def backward(ctx, grad):
        (gate_up,) = ctx.saved_tensors
        grad_gate_up = torch.empty_like(gate_up)
        bits = np.empty(grad.shape[1], np.int32)
        _swiglu_backward(
            grad.contiguous().numpy(), gate_up.detach().numpy(), bits, bits.view(np.float32), grad_gate_up.numpy()
        )
        return grad_gate_up


class Attention(torch.autograd.Function):
    """qkv [N, heads + 2 kv_heads, D] before rotary embedding -> [N, heads, D]. cos, sin: arrays [N, D / 2]."""

    @staticmethod
    def forward(ctx, qkv, segments, cos, sin, heads):
        dim = qkv.shape[2]
        out = torch.empty(len(qkv), heads, dim)
        weights = torch.empty(lay_out(segments, heads))
        longest = int((segments[:, 1] - segments[:, 0] + segments[:, 3] - segments[:, 2]).max())
        _attention(dim)[0](qkv.numpy(), segments, cos, sin, heads, longest, weights.numpy(), out.numpy())
        ctx.save_for_backward(qkv, weights)
        ctx.rest = segments, cos, sin, heads, longest
        return out

    @staticmethod
    def backward(ctx, grad):
        qkv, weights = ctx.saved_tensors
        segments, cos, sin, heads, longest = ctx.rest
        grad_qkv = torch.zeros_like(qkv)
        _attention(qkv.shape[2])[1](
            grad.contiguous().numpy(),
            qkv.detach().numpy(),
            segments,
            cos,
            sin,
            heads,
            longest,
            weights.numpy(),
            grad_qkv.numpy(),
        )
        return grad_qkv, None, None, None, None
