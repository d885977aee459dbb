"""RFT: N rollouts, Dr.GRPO advantage, clipped ratio, alpha = W = I_clip(r, A) A r (paper section 1)."""

from .base import Method, dr_grpo, per_token, plain, rl_streams


class RFT(Method):
    def compose(self, problem, progress, rng):
        return plain(problem, self.group_size)

    def weigh(self, episodes):
        return rl_streams(self.run, episodes, per_token(episodes, dr_grpo(episodes)))


METHOD = RFT
