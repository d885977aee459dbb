"""The paper's Figure 4: reward of the prefixed rollouts and of the plain ones over steps, with the prefix window below."""

from ...common.errors import UserError
from ..study import MAIN
from . import curves, style
from .style import plt

# both are rollouts of one method: its colour and a neutral one
SERIES = [
    ("reward_prefixed", "prefixed rollouts", {"color": style.VERMILION, "linestyle": "-"}),
    ("reward_plain", "plain rollouts", {"color": style.BLACK, "linestyle": (0, (3, 1.5))}),
]


def draw(context):
    study = context.study_of("prefix_rft")
    member = study.reference
    if member is None or curves.curve(member, "reward_prefixed") is None:
        raise UserError(
            f"{context.results}/runs: study {context.study_name} has no run with prefixed rollouts (reward_prefixed in metrics.jsonl)"
        )
    rows = []
    heights = {"height_ratios": [2.4, 1]}
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(style.WIDTH, 3.6), sharex=True, gridspec_kw=heights)
    for key, label, look in SERIES:
        curves.plot(top, member, key, look, rows, label=label)
    top.set_ylabel("Reward\n(share of right answers)")
    top.set_ylim(0, 1)
    low = curves.curve(member, "window_low")
    if low is not None:
        steps, lowest, highest = low[0], low[1].mean(0), member.config.prefix.high
        window = dict(color=style.GREY, alpha=0.25, linewidth=0, label="window that the share shown is drawn from")
        bottom.fill_between(steps, lowest, highest, **window)
    curves.plot(bottom, member, "prefix_ratio", SERIES[0][2], rows)
    note = curves.words(rows)
    if low is not None:
        rows += [
            dict(method=member.run, metric="window_low", step=int(t), mean=v)
            for t, v in zip(steps, lowest, strict=True)
        ]
    bottom.set_ylabel("Share of the\ndemonstration\nshown")
    bottom.set_ylim(0, 1)
    bottom.set_yticks([0, 0.5, 1])
    style.step_axis(bottom)
    for axis in (top, bottom):
        axis.margins(x=0.01)
    handles, labels = top.get_legend_handles_labels()
    if low is not None:
        handles, labels = [*handles, bottom.collections[0]], [*labels, bottom.collections[0].get_label()]
    prefixed, plain = (curves.last(member, key) for key, _, _ in SERIES)
    title = f"Prefixed rollouts are right in {style.points(prefixed)} % over the last tenth of the steps"
    if plain is not None:
        title += f", plain ones in {style.points(plain)} %"
    style.head(figure, title, handles, labels)
    style.caption(
        figure, f"{member.label}{'' if study.name == MAIN else f', study {study.name}: {study.label}'}.", note
    )
    return figure, rows
