"""The window of the prefix share over a run (paper section 2 step 2).

The share l is drawn from U[low_t, high]. With the paper's cosine low_t goes 0.95 -> 0.05, so the window opens downward
and the mean share falls from 0.95 to 0.50, not to 0.
"""

import math
from dataclasses import dataclass

from ..config import opt


@dataclass(frozen=True, kw_only=True)
class Window:
    """Options of a method that shows prefixes of random length."""

    schedule: str = opt(
        "cosine",
        "how the lower end of the window moves from low_start to low_end over the run; constant keeps low_start,"
        " uniform keeps low_end (what the paper's uniform is, exactly, is unknown)",
        choices=("cosine", "linear", "constant", "uniform"),
    )
    low_start: float = opt(0.95, "lower end of the window at the first step", ge=0, le=1)
    low_end: float = opt(0.05, "lower end of the window at the last step", ge=0, le=1)
    high: float = opt(0.95, "upper end of the window", ge=0, le=1)
    min_length: int = opt(1, "least prefix length in tokens; unknown in the paper", ge=0)

    def __post_init__(self):
        if max(self.low_start, self.low_end) > self.high:
            raise ValueError(f"high: {self.high} is below low_start or low_end")


def window_low(window: Window, progress: float) -> float:
    """low_t at `progress` in [0, 1] (0: first step, 1: last step)."""
    start, end = window.low_start, window.low_end
    match window.schedule:
        case "cosine":
            return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))
        case "linear":
            return start + (end - start) * progress
        case "constant":
            return start
        case "uniform":
            return end
    raise ValueError(f"schedule = {window.schedule!r}")


def prefix_length(share: float, demo_length: int, min_length: int) -> int:
    """L = floor(l |y*|), at least `min_length`, at most |y*| - 1 so that something is left to sample."""
    return max(min(max(math.floor(share * demo_length), min_length), demo_length - 1), 0)
