"""The paper's Figure 6b: the cosine schedule against the uniform one (claim: cosine is better, on AIME above all)."""

from ...common.errors import UserError
from .figure_6a import compare

ABLATION, RUNS = "ablation_schedule", ("prefix_rft", "schedule_uniform")


def draw(context):
    study = context.load(ABLATION, only=RUNS)
    if [m.config.prefix.schedule for m in study.trained()] != ["cosine", "uniform"]:
        raise UserError(f"config: {' and '.join(RUNS)} must be the runs with prefix.schedule cosine and uniform")
    return compare(study, study.trained(), "reward_plain", "Reward of plain\nrollouts (share right)", (0, 1))
