"""Twin of Figure 3a on the quarter of the problems that RFT solves least (the paper: the 256 of 2048 hardest for RFT)."""

from ..trajectories import hardest, trajectories
from .figure_3a import paths


def draw(context):
    found = trajectories(context.probed())
    return paths(found, hardest(found), "training problems, those that RFT solves least")
