"""A prefix that is shown and not trained: some groups continue one prefix of a demonstration, all others are plain.

alpha = W, with A over the group, whose trajectories all start alike; beta = 0. This is the claim against Prefix-RFT of three papers:
PrefixRL (arXiv 2601.18795) and POPE (2601.18779) mix prompts with and without a prefix, and mask the prefix; Prefix Sampling (2605.05112)
masks replayed tokens too. POPE writes the prefix into the prompt, with an instruction; here it begins the response. In PrefixRL the
demonstrations are right answers of the base model itself: a set that a teacher with `model: base` makes (docs/methods.md).

DR-PO, in which every group continues a prefix, is `groups: 1`. Unknown: the share of prompts with a prefix, and the lengths; the window is
that of Prefix-RFT, so that a comparison is about the training of the prefix.
"""

from ..config.reading import opt
from . import drpo
from .parts.groups import plain


class Options(drpo.Options):
    """The window of the shared prefix, and how many groups get one."""

    groups: float = opt(0.5, "share of the prompts whose group continues a prefix; unknown", ge=0, le=1)


class PrefixShown(drpo.DRPO):
    section, Options = "prefix_shown", Options

    def compose(self, problem, progress, rng):
        if rng.random() >= self.options.groups:
            return plain(problem, self.group_size)
        return super().compose(problem, progress, rng)


METHOD = PrefixShown
