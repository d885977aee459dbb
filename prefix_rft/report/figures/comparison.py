"""The main comparison: avg@k and pass@k by method with 95 % intervals, on whole splits at every temperature.

Numbers come from tables/<study>.csv, the title from tables/<study>.paired.csv. `pass_at_k.py` shows the levels.
"""

from ...common.errors import UserError
from ..formats import read_csv
from ..outcome import family
from ..tables import PAIRED_FIELDS, SCORE_FIELDS
from . import style
from .style import plt

RIVALS = ("rft", "sft_then_rft")  # that the title names


def draw(context):
    study, path = context.study, context.table("main")
    table = [r for r in read_csv(path, SCORE_FIELDS) if "/" not in r["split"]]
    if not table:
        raise UserError(f"{path}: has no rows; make it again with the command `tables`")
    members = [m for m in study.members if any(r["method"] == m.run for r in table)]
    temperatures = sorted({float(r["temperature"]) for r in table})
    title = finding(read_csv(context.table("paired"), PAIRED_FIELDS), {m.run: m.label for m in members})
    groups = [(style.part(s), [r for r in table if r["split"] == s]) for s in dict.fromkeys(r["split"] for r in table)]
    figure, rows = panels(members, groups, temperatures, title)
    return figure, rows


def finding(pairs, labels):
    """The title: our method against the rivals, on the outcome that comparisons are judged by."""
    judged = {r["rival_kind"]: r for r in family(pairs)}
    own = [judged[kind] for kind in RIVALS if kind in judged] or list(judged.values())[:2]
    if not own:
        return "Scores by method"
    said = [
        style.versus(
            labels[r["method"]],
            labels[r["rival"]],
            *(float(r[k]) for k in ("difference", "ci_low", "ci_high")),
            float(r["p_holm"]),
        )
        for r in own
    ]
    return f"{'; '.join(said)} ({own[0]['metric']}, T = {float(own[0]['temperature']):g})"


def panels(members, groups, temperatures, title):
    """Dots with intervals: a row a member, a column of panels for each metric of each group, a line of panels a temperature.

    Args:
        groups: (name, rows of a table of scores, whose `method` is a member's run).

    Returns:
        the figure, and the rows that it shows.
    """
    looks, shown, flat = style.looks(members), [], {}
    columns = [(name, part, m) for name, part in groups for m in dict.fromkeys(r["metric"] for r in part)]
    for name, part, metric in list(columns):
        if end := style.flat(r["mean"] for r in part if r["metric"] == metric):
            flat[f"{name}, {metric}"] = end
            columns.remove((name, part, metric))
    columns = columns or [(name, part, m) for name, part in groups for m in dict.fromkeys(r["metric"] for r in part)]
    size = (style.WIDTH, 0.9 + len(temperatures) * (0.5 + 0.15 * len(members)))
    figure, axes = plt.subplots(len(temperatures), len(columns), figsize=size, sharex=True, sharey=True, squeeze=False)
    for line, temperature in zip(axes, temperatures, strict=True):
        for axis, (_, part, metric) in zip(line, columns, strict=True):
            found = {r["method"]: r for r in part if r["metric"] == metric and float(r["temperature"]) == temperature}
            values = [
                tuple(float(found[m.run][k]) for k in ("mean", "ci_low", "ci_high")) if m.run in found else None
                for m in members
            ]
            style.rows(axis, [looks[m.run] for m in members], values)
            style.percent_axis(axis, "x")
            shown += found.values()
        line[0].set_yticks(range(len(members)), [m.label for m in members])
        line[0].set_ylabel(f"T = {temperature:g}")
    for axis, (name, _, _) in zip(axes[0], columns, strict=True):
        axis.set_title(style.wrap(name, 22), fontsize=7.5)
    for axis, (_, _, metric) in zip(axes[-1], columns, strict=True):
        axis.set_xlabel(style.measure(metric), fontsize=6.5)
    style.head(figure, title)
    seeds = style.seeds_words({int(r["n_seeds"]) for r in shown})
    style.caption(figure, seeds, "T: sampling temperature.", style.left_out(flat))
    return figure, shown
