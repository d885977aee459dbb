"""What the compiled kernels of decoding (`rollout/kernels_cpu.py`) and of training (`forward/kernels.py`) share."""

import functools
import math

import numba
import numpy as np

# Keys are stored in blocks of this many positions. An inner loop whose length is known when it is compiled becomes a few
# vector instructions; with the length of a response it would mostly be the scalar remainder.
BLOCK = 16
LOG2E = np.float32(1 / math.log(2))
# Only sums may be reordered. With multiply-add contraction a loop's vector and scalar versions round differently, and which
# of them runs can depend on where the arrays lie in memory: the same seed would not give the same bits.
compiled = numba.njit(cache=True, fastmath={"reassoc", "nsz", "nnan", "ninf"}, error_model="numpy", boundscheck=False)
exact = numba.njit(cache=True, error_model="numpy", boundscheck=False)


@exact
def exp_parts(x):
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


@functools.cache
def block_scores(width):
    """The function (q [width], keys [at least count, width, BLOCK], count, out): the products of q with each key become the first
    count * BLOCK of `out`. `width`, a multiple of 8, is known when it is compiled, for the same reason as `BLOCK`."""

    @compiled
    def function(q, keys, count, out):
        for c in range(count):
            o = c * BLOCK
            for d in range(0, width, 8):
                a0, a1, a2, a3, a4, a5, a6, a7 = (
                    q[d],
                    q[d + 1],
                    q[d + 2],
                    q[d + 3],
                    q[d + 4],
                    q[d + 5],
                    q[d + 6],
                    q[d + 7],
                )
                if d == 0:  # not zeros first: a vector read right after single writes waits for them
                    for u in range(BLOCK):
                        out[o + u] = (
                            (a0 * keys[c, d, u] + a1 * keys[c, d + 1, u])
                            + (a2 * keys[c, d + 2, u] + a3 * keys[c, d + 3, u])
                        ) + (
                            (a4 * keys[c, d + 4, u] + a5 * keys[c, d + 5, u])
                            + (a6 * keys[c, d + 6, u] + a7 * keys[c, d + 7, u])
                        )
                else:
                    for u in range(BLOCK):
                        out[o + u] += (
                            (a0 * keys[c, d, u] + a1 * keys[c, d + 1, u])
                            + (a2 * keys[c, d + 2, u] + a3 * keys[c, d + 3, u])
                        ) + (
                            (a4 * keys[c, d + 4, u] + a5 * keys[c, d + 5, u])
                            + (a6 * keys[c, d + 6, u] + a7 * keys[c, d + 7, u])
                        )

    return function


@compiled
def softmax(scores, n, m, bits, powers):
    """softmax of the first n of `scores`, in place; those from n to m become 0. bits int32, powers float32 [at least m]: one
    buffer seen in two ways."""
    for t in range(n, m):
        scores[t] = np.float32(-1e30)
    top = scores[0]
    for t in range(m):
        top = max(top, scores[t])
    for t in range(m):
        scores[t], bits[t] = exp_parts(scores[t] - top)
    for t in range(m):
        scores[t] *= powers[t]
    for t in range(n, m):
        scores[t] = np.float32(0.0)
    total = np.float32(0.0)
    for t in range(m):
        total += scores[t]
    scale = np.float32(1.0) / total
    for t in range(m):
        scores[t] *= scale


@functools.cache
def weighted_sum(width):
    """The function (weights [at least n], values [at least n, width], n, out [width]): out = sum over the first n positions.
    `width` is known when it is compiled, for the same reason as `BLOCK`."""

    @compiled
    def function(weights, values, n, out):
        for d in range(width):
            out[d] = np.float32(0.0)
        for t in range(0, n - 3, 4):
            p0, p1, p2, p3 = weights[t], weights[t + 1], weights[t + 2], weights[t + 3]
            for d in range(width):
                out[d] += (p0 * values[t, d] + p1 * values[t + 1, d]) + (p2 * values[t + 2, d] + p3 * values[t + 3, d])
        for t in range(n - n % 4, n):
            p = weights[t]
            for d in range(width):
                out[d] += p * values[t, d]

    return function
