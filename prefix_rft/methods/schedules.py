"""The window of the prefix share over a run (paper section 2 step 2).

The share l is drawn from U[low_t, high]. With the paper's cosine low_t goes 0.95 -> 0.05, so the window opens downward
and the mean share falls from 0.95 to 0.50, not to 0.
"""

import math

from ..config import Prefix


def window_low(prefix: Prefix, progress: float) -> float:
    """low_t at `progress` in [0, 1] (0: first step, 1: last step)."""
    start, end = prefix.low_start, prefix.low_end
    match prefix.schedule:
        case "cosine":
            return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))
        case "linear":
            return start + (end - start) * progress
        case "constant":
            return start
        case "uniform":
            return end
    raise ValueError(f"prefix.schedule = {prefix.schedule!r}")


def prefix_length(share: float, demo_length: int, min_length: int) -> int:
    """L = floor(l |y*|), at least `min_length`, at most |y*| - 1 so that something is left to sample."""
    return max(min(max(math.floor(share * demo_length), min_length), demo_length - 1), 0)
