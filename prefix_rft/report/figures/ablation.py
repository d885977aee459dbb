"""One ablation: scores of its variants with 95 % intervals, and their paired differences to the first.

Variants without a value on an axis are drawn as rows: score on the left, differences beside it. Variants with a value are points on the
line of their series, in a panel for each of avg@k and pass@k on the whole test split and on its hardest level; more series than six have a
panel each.
"""

import numpy as np
from matplotlib.ticker import NullLocator

from ...common.errors import UserError
from ...evaluation.statistics import paired_difference, score_interval
from ..formats import split_name
from ..study import known, paired_scores
from . import lr_sensitivity, style
from .style import plt

MOST = 6  # series in one panel
NOT_CORRECTED = "Intervals are not corrected for the number of variants."


def cells_of(study):
    """(split, level) of the panels: the whole first split and its last level, at the highest temperature."""
    cells = list(study.cells())
    temperature = max(t for _, _, t in cells)
    split = cells[0][0]
    levels = [level for s, level, t in cells if s == split and level != "all"]
    return [(split, "all"), *([(split, levels[-1])] if levels else [])], temperature


def score(member, split, level, temperature, metric):
    counts = member.counts[split, temperature].at(level)
    return score_interval(*known(counts.levels, counts.scores(metric)))


def measure(study, cells, temperature):
    """(run, split, level, metric) -> (score, difference to the first run or None)"""
    out, first = {}, study.reference
    for entry in study.ablation.entries:
        member = study.member(entry.run)
        for split, level in cells:
            for family in ("avg", "pass"):
                metric = f"{family}@{study.samples}"
                difference = None
                if member is not first:
                    difference = paired_difference(*paired_scores(member, first, split, level, temperature, metric))
                out[entry.run, split, level, metric] = (score(member, split, level, temperature, metric), difference)
    return out


def rows_of(study, numbers, temperature):
    rows = []
    for (run, split, level, metric), (value, difference) in numbers.items():
        entry = study.ablation.entry(run)
        row = dict(method=run, label=entry.label, series=entry.series, at=entry.at, split=split_name(split, level))
        row |= dict(metric=metric, temperature=temperature, mean=value.mean, ci_low=value.low, ci_high=value.high)
        row |= dict(n_seeds=value.n_seeds, n_problems=value.n_problems)
        if difference is not None:
            row |= dict(difference=difference.mean, difference_low=difference.low, difference_high=difference.high)
            row |= dict(p=difference.p)
        rows.append(row)
    return rows


def series_looks(study):
    """{series: look}: that of the method of its runs. A run without training belongs to the method of its series."""
    kinds = {}
    for e in study.ablation.entries:
        kind = study.member(e.run).kind
        if kinds.get(e.series, "base") == "base":
            kinds[e.series] = kind
    return style.looks_of(kinds.items())


def finding(study, numbers, cell, metric):
    """The title: the largest decided difference to the first run, and how many are decided."""
    first, found = study.reference, {}
    for e in study.ablation.entries:
        _, i = numbers[e.run, *cell, metric]
        if i is not None:
            found[study.member(e.run).label if e.named or e.series else f"at {e.label}"] = i
    decided = {label: i for label, i in found.items() if i.low > 0 or i.high < 0}
    if not decided:
        return f"{study.label}: no variant told apart from {first.label}"
    label, i = max(decided.items(), key=lambda item: abs(item[1].mean))
    said = style.versus(label, first.label, i.mean, i.low, i.high)
    return f"{study.label}: {said}; {len(decided)} of {len(found)} variants differ ({metric})"


def draw(context):
    study = context.study
    if study.ablation is None:
        raise UserError(f"figure ablation: study {study.name!r} is no ablation; give --study ablation_<name>")
    cells, temperature = cells_of(study)
    numbers = measure(study, cells, temperature)
    series = {e.series for e in study.ablation.entries if e.at is not None}
    kind = draw_rows if not series else draw_lines if len(series) <= MOST else draw_panels
    figure = kind(study, cells, temperature, numbers)
    rows = rows_of(study, numbers, temperature)
    seeds = style.seeds_words({r["n_seeds"] for r in rows})
    style.caption(figure, seeds, f"Sampling temperature {temperature:g}.", NOT_CORRECTED)
    return figure, rows


def draw_rows(study, cells, temperature, numbers):
    entries, looks = study.ablation.entries, series_looks(study)
    k, (split, _) = study.samples, cells[0]
    panels = [
        (split, "all", f"avg@{k}", False),
        (split, "all", f"avg@{k}", True),
        (split, "all", f"pass@{k}", True),
        (*cells[-1], f"avg@{k}", True),
    ]
    several = len(looks) > 1
    labels = [
        f"{e.series}: {e.label}" if several and e.series and not e.label.startswith(e.series) else e.label
        for e in entries
    ]
    labels = [style.wrap(text, 30) for text in labels]
    height = 1.3 + sum(0.12 + 0.12 * (1 + text.count("\n")) for text in labels)
    figure, axes = plt.subplots(1, len(panels), figsize=(style.WIDTH, height), sharey=True)
    for axis, (place, level, metric, relative) in zip(axes, panels, strict=True):
        found = [numbers[e.run, place, level, metric][relative] for e in entries]
        values = [v and (v.mean, v.low, v.high) for v in found]
        style.rows(axis, [looks[e.series] for e in entries], values, relative=relative)
        axis.set_title(f"{style.part(place, level)}\n{style.measure(metric, '')}", fontsize=7)
        axis.set_xlabel("difference (points)" if relative else "%")
    widest = [f(axis.get_xlim()[i] for axis in axes[1:]) for i, f in ((0, min), (1, max))]
    for axis in axes[1:]:
        axis.set_xlim(widest)
    axes[0].set_yticks(range(len(entries)), labels)
    style.head(figure, finding(study, numbers, cells[0], f"avg@{k}"))
    style.caption(
        figure,
        f"Differences are to {study.reference.label} and have the same axis; open: the interval contains 0.",
    )
    return figure


def draw_panels(study, cells, temperature, numbers):
    """A panel for each of many series: avg@k on the whole split."""
    looks, metric, curves = series_looks(study), f"avg@{study.samples}", {}
    for series in looks:
        own = sorted((e for e in study.ablation.entries if e.series == series and e.at), key=lambda e: e.at)
        values = [numbers[e.run, *cells[0], metric][0] for e in own]
        ends = (np.array([getattr(v, end) for v in values]) for end in ("mean", "low", "high"))
        curves[series] = (series, [e.at for e in own], *ends)
    figure = lr_sensitivity.panels(curves, looks, study.ablation.x, style.measure(metric), study.label)
    style.caption(figure, f"{style.part(*cells[0])}. Ring: the best of the panel. Grey: the others.")
    return figure


def draw_lines(study, cells, temperature, numbers):
    looks, entries = series_looks(study), study.ablation.entries
    metrics = [f"{family}@{study.samples}" for family in ("avg", "pass")]
    panels = [(*cell, metric) for metric in metrics for cell in cells]
    flat = {}
    for panel in list(panels):
        if end := style.flat(numbers[e.run, *panel][0].mean for e in entries):
            flat[f"{style.part(*panel[:2])}, {panel[2]}"] = end
            panels.remove(panel)
    panels = panels or [(*cells[0], metrics[0])]
    figure, axes = plt.subplots(1, len(panels), figsize=(style.WIDTH, 2.9), sharex=True, sharey=True, squeeze=False)
    positions = sorted({e.at for e in entries if e.at is not None})
    places, broken = places_of(positions, study.ablation.log)
    logarithmic, handles = any(place != p for p, place in places.items()), {}
    for axis, panel in zip(axes[0], panels, strict=True):
        for series, look in looks.items():
            for e in (e for e in entries if e.series == series and e.at is None):
                value = numbers[e.run, *panel][0]
                axis.axhspan(100 * value.low, 100 * value.high, color=look["color"], alpha=0.12, linewidth=0)
                handles[e.label] = axis.axhline(100 * value.mean, **style.line_look(look))
            own = sorted((e for e in entries if e.series == series and e.at is not None), key=lambda e: e.at)
            if not own:
                continue
            x = np.array([places[e.at] for e in own])
            values = [numbers[e.run, *panel][0] for e in own]
            mean, low, high = (100 * np.array([getattr(v, end) for v in values]) for end in ("mean", "low", "high"))
            axis.vlines(x, low, high, color=look["color"], linewidth=0.8)
            joined = np.array([not (broken and e.at == 0) for e in own])  # no line across the break of the axis
            if joined.sum() > 1:
                style.band(axis, x[joined], low[joined], high[joined], look, 0.12)
            axis.plot(x[joined], mean[joined], **style.line_look(look))
            axis.plot(x, mean, linestyle="none", **style.point_look(look))
            shown = style.point_look(look) | style.line_look(look)
            handles[series or study.reference.label] = plt.Line2D([], [], **shown)
        style.percent_axis(axis)
        axis.set_title(f"{style.part(*panel[:2])}\n{style.measure(panel[2], '')}", fontsize=7)
        axis.set_xlabel(style.wrap(f"{study.ablation.x or ''}{LOG if logarithmic else ''}", 24))
        axis.set_xticks([places[p] for p in positions], [f"{p:g}" for p in positions])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.margins(x=0.1)
        if broken:
            at = places[0] + 0.35 * (places[positions[1]] - places[0])
            axis.plot([at], [0], transform=axis.get_xaxis_transform(), clip_on=False, **BREAK)
    axes[0, 0].set_ylabel("%")
    if len(handles) == 1:
        handles = {}
    style.head(figure, finding(study, numbers, cells[0], metrics[0]), list(handles.values()), list(handles))
    notes = [
        f"{e.series or study.ablation.x} at {e.at:g}: {e.label}."
        for e in entries
        if e.at is not None and e.named and e.label != e.series and e.run != study.reference.run
    ]
    style.caption(figure, *notes, "//: the axis is broken before 0." if broken else "", style.left_out(flat))
    return figure


LOG = " (log\u00a0axis)"
BREAK = dict(color=style.BLACK, marker=r"$//$", markersize=7, linestyle="none", zorder=5)


def places_of(positions, log):
    """{position: place on the axis} and whether the axis is broken before 0. Positions that would overlap on a linear axis, such as 1, 10
    and 100, stand by their logarithm; 0 has none and stands a step before the first of them."""
    positive = [p for p in positions if p > 0]
    if not log and not (len(positive) > 2 and max(positive) / min(positive) >= 50):
        return {p: p for p in positions}, False
    places = {p: float(np.log10(p)) for p in positive}
    if 0 in positions:
        places[0] = min(places.values()) - (max(places.values()) - min(places.values())) / 3
    return places, 0 in positions
