"""Command `paper-table`: a table of the paper made from our runs, as .csv and .md.

    table_1   every method: average of each level of the test split, of the whole split, and out of domain
    table_2   quantity and quality of the demonstrations
    table_4   gradient of the prefix part and the rollout part over training
    table_5   Prefix-RFT against every method of table 1, the outcome's p-values corrected for the number of rivals (Holm)
    table_7   pass@k at the largest k, from many samples of few problems
    table_8   the paper's controls

The paper evaluates at temperature 0.6, so tables 1, 2 and 8 take the lowest evaluated temperature. The paper's numbers are shown only if
`published` of preset.yaml names its model; otherwise the text above the table states the difference (`differs` of preset.yaml).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..common.errors import UserError
from ..common.files import write_text
from ..evaluation.statistics import mean_interval, paired_difference, score_interval
from ..runs.ablations import PREFIX, Runs, read_ablations
from . import published
from .code import below, note_of
from .formats import markdown, p_value, percent, read_csv, split_name, write_csv
from .outcome import family, standing
from .study import KINDS, MAIN, Context, kind_of, known, ordered, paired_scores, read_preset
from .tables import PAIRED_FIELDS, SCORE_FIELDS


@dataclass
class Table:
    title: str
    note: str
    header: list[str]
    lines: list[list[str]]
    rows: list[dict]


class Source(Context):
    """Source of a table's numbers: studies, as for figures, and existing tables of scores."""

    @property
    def preset(self):
        return read_preset(self.preset_config, self.override)

    def scores(self, study):
        """Rows of tables/<study>.csv, each with the kind and label of its run."""
        find, labels = Runs(self.preset_config.parent, self.override), self.preset.get("labels") or {}
        own = (self.preset.get("studies") or {}).get(study, {}).get("labels") or {}
        if study.startswith(PREFIX):
            ablation = read_ablations(self.preset_config.parent, self.override)[study.removeprefix(PREFIX)]
            own = {e.run: e.full_label for e in ablation.entries}
        self.tables.append(study)
        rows = read_csv(self.results / "tables" / f"{study}.csv", SCORE_FIELDS)
        known_runs = {r: None for r in dict.fromkeys(r["method"] for r in rows)}
        for run in known_runs:
            file, _ = find.locate(run)
            known_runs[run] = kind_of(find.load(run)) if file.exists() else "base"
        for r in rows:
            kind = known_runs[r["method"]]
            r |= {"kind": kind, "label": own.get(r["method"]) or labels.get(r["method"]) or KINDS.get(kind, kind)}
        return rows

    def widest(self):
        """Name of the study with the most methods: `methods` if the preset has it, else the main comparison."""
        return "methods" if "methods" in (self.preset.get("studies") or {}) else MAIN


def at_lowest(rows, family="avg"):
    """Rows of avg@k or pass@k at the lowest temperature, and this temperature."""
    lowest = min(float(r["temperature"]) for r in rows)
    return [r for r in rows if float(r["temperature"]) == lowest and r["metric"].startswith(family + "@")], lowest


def cell(row):
    return percent(*(float(row[k]) for k in ("mean", "ci_low", "ci_high")))


def in_order(rows):
    methods = dict.fromkeys((r["method"], r["kind"], r["label"]) for r in rows)
    order = ordered(kind for _, kind, _ in methods)
    return sorted(methods, key=lambda m: order.index(m[1]))


def seeds_note(rows):
    """Number of seeds and scope of the intervals. A base model may have fewer seeds than the runs."""
    seeds = {int(r["n_seeds"]) for r in rows}
    return f"{published.count(seeds, 'seed')}, 95 % intervals over {'problems only' if seeds == {1} else 'seeds and problems'}"


def paper_line(label, numbers, cells):
    """The paper's numbers as a line below ours, [label, number or ""...]; no line if it has none for `cells`."""
    return [[f"{label}, paper", *(numbers.get(c, "") for c in cells)]] if any(c in numbers for c in cells) else []


def table_1(source):
    study = source.widest()
    rows, temperature = at_lowest(source.scores(study))
    paper = published.of(source.preset.get("published"), "table_1")
    columns = sorted(dict.fromkeys(r["split"] for r in rows), key=lambda s: (s.split("/")[0] != "test", "/" not in s))
    lines = []
    for run, kind, label in in_order(rows):
        cells = {r["split"]: cell(r) for r in rows if r["method"] == run}
        lines.append([label, *(cells.get(c, "") for c in columns)])
        lines += paper_line(label, paper.get(kind, {}), columns)
    header = ["Method", *(f"{c} (avg)" if "/" not in c else c.split("/")[1] for c in columns)]
    note = f"{rows[0]['metric']} in %, T = {temperature:g}, {seeds_note(rows)}"
    keys = ("method", "kind", "split", "metric", "temperature", "mean", "ci_low", "ci_high", "n_seeds", "n_problems")
    return Table("Table 1: every method", note, header, lines, [{k: r[k] for k in keys} for r in rows])


def table_2(source):
    rows, temperature = at_lowest(source.scores(source.widest()))
    chosen = [
        (label, kind, r)
        for run, kind, label in in_order(rows)
        for r in rows
        if r["method"] == run and kind in ("sft", "rft", "relift", "luffy", "prefix_rft") and r["split"] == "test"
    ]
    ablations = read_ablations(source.preset_config.parent, source.override)
    for name in ("quantity", "quality"):
        table, _ = at_lowest(source.scores(PREFIX + name))
        first = ablations[name].entries[0]
        for entry in ablations[name].entries[1:]:
            if entry.series == first.series:
                row = next(r for r in table if r["method"] == entry.run and r["split"] == "test")
                share = entry.label if entry.named else f"{entry.label} % of the demonstrations"
                chosen.append((f"{first.series}, {share}", f"prefix_rft, {entry.label}", row))
    paper = published.of(source.preset.get("published"), "table_2")
    lines = [[label, cell(r), *([paper.get(key, "")] if paper else [])] for label, key, r in chosen]
    out = [
        dict(label=label, method=r["method"], metric=r["metric"], temperature=temperature)
        | {k: r[k] for k in ("mean", "ci_low", "ci_high", "n_seeds", "n_problems")}
        for label, _, r in chosen
    ]
    note = f"{rows[0]['metric']} in % on the test split, T = {temperature:g}, {seeds_note(out)}"
    header = ["Method", "test", *(["paper"] if paper else [])]
    return Table("Table 2: quantity and quality of the demonstrations", note, header, lines, out)


def thirds(rows, key):
    """Means of `key` over the first, middle and last third of a run's steps; None if it was never logged. With one or two logged steps the
    thirds overlap."""
    values = [r[key] for r in rows if r.get(key) is not None]
    if not values:
        return None
    third = max(1, len(values) // 3)
    return [float(np.mean(part)) for part in (values[:third], values[third:-third] or values, values[-third:])]


def table_4(source):
    member = source.load(method="prefix_rft", evaluation=None).reference
    if member is None:
        raise UserError(f"{source.preset_config}: the main comparison has no run of method prefix_rft")
    runs = list(member.metrics().values())
    measures = {
        "share of prefix tokens (%)": [thirds(r, "prefix_token_share") for r in runs],
        "gradient norm, prefix part": [thirds(r, "grad_norm_prefix") for r in runs],
        "gradient norm, rollout part": [thirds(r, "grad_norm_rollout") for r in runs],
        "angle between them (degrees)": [thirds(r, "grad_cosine") for r in runs],
    }
    norms = [measures[f"gradient norm, {part} part"] for part in ("prefix", "rollout")]
    missing, every = any(v is None for values in norms for v in values), member.config.part_norms_every
    if missing and every:
        raise UserError(
            f"{member.run_dir(member.seeds[0])}/metrics.jsonl: has no gradient norms of the parts, although part_norms_every is {every};"
            " train the run again"
        )
    if missing:
        measures["prefix norm / rollout norm"] = [None]
    else:
        prefix, rollout = map(np.array, norms)
        measures["prefix norm / rollout norm"] = np.divide(
            prefix, rollout, np.full(prefix.shape, np.nan), where=rollout > 0
        )
    # without logged norms there is no ratio; where one part was always zero there is no angle, and without rollouts' gradient no ratio
    unknown = {k for k, v in measures.items() if any(row is None or np.isnan(row).any() for row in v)}
    scale = {"share of prefix tokens (%)": lambda v: 100 * v}
    scale["angle between them (degrees)"] = lambda v: np.degrees(np.arccos(np.clip(v, -1, 1)))
    lines, rows = [], []
    for name, values in measures.items():
        if name in unknown:
            lines.append([name, "", "", ""])
            continue
        values = scale.get(name, lambda v: v)(np.array(values, float))
        intervals = [mean_interval(values[:, i]) for i in range(3)]
        lines.append([name, *(number(i) for i in intervals)])
        for part, i in zip(("first third", "middle third", "last third"), intervals, strict=True):
            rows.append(dict(measure=name, part=part, mean=i.mean, ci_low=i.low, ci_high=i.high, n_seeds=i.n_seeds))
    note = f"{member.label}, mean over steps and {published.count({len(runs)}, 'seed')}, 95 % intervals over seeds"
    if missing:
        note += ". Norms and angle: not measured, part_norms_every is 0"
    header = ["", "first third", "middle third", "last third"]
    return Table("Table 4: gradient of the prefix and of the rollouts", note, header, lines, rows)


def number(i):
    text = f"{i.mean:.3g}"
    return f"{text} [{i.low:.3g}, {i.high:.3g}]" if np.isfinite([i.low, i.high]).all() else text


def table_5(source):
    study = source.widest()
    path = source.results / "tables" / ("paired.csv" if study == MAIN else f"{study}.paired.csv")
    rows = [r for r in read_csv(path, PAIRED_FIELDS) if "/" not in r["split"]]
    if not rows:
        raise UserError(f"{path}: compares nothing; study {study} of {source.preset_config} needs a Prefix-RFT run")
    judged = family(rows)
    labels = {r["method"]: r["label"] for r in source.scores(study)}
    lines, out = [], []
    for r in [*judged, *(r for r in rows if r not in judged)]:
        difference = percent(*(float(r[k]) for k in ("difference", "ci_low", "ci_high")), "+")
        p = float(r["p_holm"]) if r in judged else None
        sign = "" if p is None else standing(float(r["difference"]), p, float(r["ci_low"]), float(r["ci_high"]))
        label = labels.get(r["rival"], r["rival"])
        temperature = f"{float(r['temperature']):g}"
        lines.append(
            [
                label,
                r["split"],
                r["metric"],
                temperature,
                difference,
                p_value(float(r["p"])),
                "" if p is None else p_value(p),
                sign,
            ]
        )
        out.append({k: r[k] for k in PAIRED_FIELDS} | {"verdict": sign})
    note = (
        f"{labels.get(rows[0]['method'])} minus each rival in percentage points, {seeds_note(rows)}. The outcome of the comparison"
        f" is in the first {len(judged)} rows, and Holm corrects its p-values for {len(judged)} rivals; the other rows are descriptive"
    )
    header = ["Rival", "split", "metric", "T", "difference", "p", "p corrected", "Prefix-RFT is"]
    return Table("Table 5: significance", note, header, lines, out)


def table_7(source):
    study = source.load(evaluation="pass_at_k")
    metric, temperature = f"pass@{study.samples}", max(t for _, _, t in study.cells())
    cells = [(s, level) for s, level, t in study.cells() if t == temperature]
    paper, ours = published.of(source.preset.get("published"), "table_7"), study.reference
    # split of each column; None: the difference beside a whole split
    columns = [c for s, level in cells for c in ([s, None] if level == "all" else [split_name(s, level)])]
    lines, rows = [], []
    for member in study.members:
        line = [member.label]
        for split, level in cells:
            counts = member.counts[split, temperature].at(level)
            i = score_interval(*known(counts.levels, counts.scores(metric)))
            line.append(percent(i.mean, i.low, i.high))
            row = dict(method=member.run, split=split_name(split, level), metric=metric)
            row |= dict(temperature=temperature, mean=i.mean, ci_low=i.low, ci_high=i.high)
            row |= dict(n_seeds=i.n_seeds, n_problems=i.n_problems)
            if member is not ours and ours is not None:
                d = paired_difference(*paired_scores(ours, member, split, level, temperature, metric))
                row |= dict(difference=d.mean, difference_low=d.low, difference_high=d.high, p=d.p)
                if level == "all":
                    line.append(percent(d.mean, d.low, d.high, "+"))
            elif level == "all":
                line.append("")
            rows.append(row)
        lines += [line, *paper_line(member.label, paper.get(member.kind, {}), columns)]
    header = ["Method"]
    for split, level in cells:
        header += [f"{split} (all)", "Prefix-RFT minus it"] if level == "all" else [level]
    note = f"{metric} in %, T = {temperature:g}, unbiased estimate, {seeds_note(rows)}"
    return Table("Table 7: pass@k at the largest k", note, header, lines, rows)


def table_8(source):
    study = source.load("controls")
    metric = f"avg@{study.samples}"
    temperature = min(t for _, _, t in study.cells())
    paper, ours = published.of(source.preset.get("published"), "table_8"), study.reference
    lines, rows = [], []
    for member in study.trained():
        counts = member.counts["test", temperature]
        i = score_interval(*known(counts.levels, counts.scores(metric)))
        length = [thirds(run, "response_length") for run in member.metrics().values()]
        ends = mean_interval([v[-1] for v in length if v])
        row = dict(method=member.run, kind=member.kind, metric=metric, temperature=temperature, mean=i.mean)
        row |= dict(ci_low=i.low, ci_high=i.high, length_first=float(np.mean([v[0] for v in length if v])))
        row |= dict(length_last=ends.mean, n_seeds=i.n_seeds, n_problems=i.n_problems)
        text = ""
        if member is not ours:
            d = paired_difference(*paired_scores(ours, member, "test", "all", temperature, metric))
            row |= dict(difference=d.mean, difference_low=d.low, difference_high=d.high, p=d.p)
            text = percent(d.mean, d.low, d.high, "+")
        lengths = f"{row['length_first']:.0f} to {row['length_last']:.0f}"
        own = [paper.get(member.kind, "")] if paper else []
        lines.append([member.label, percent(i.mean, i.low, i.high), text, lengths, *own])
        rows.append(row)
    header = ["Method", "test", f"{ours.label} minus it", "tokens, first to last third", *(["paper"] if paper else [])]
    note = f"{metric} in % on the test split, T = {temperature:g}, {seeds_note(rows)}"
    return Table("Table 8: controls", note, header, lines, rows)


TABLES = {f.__name__: f for f in (table_1, table_2, table_4, table_5, table_7, table_8)}


def make_table(name: str, preset_config: Path, results: Path, out: Path, seeds=None, override=None):
    """Write the table `name` as `out` (.csv) and as .md beside it."""
    source = Source(preset_config, results, MAIN, seeds, override)
    table = TABLES[name](source)
    write_csv(out.with_suffix(".csv"), list(dict.fromkeys(k for r in table.rows for k in r)), table.rows)
    label = f"{source.preset['label']}. " if source.preset.get("label") else ""
    text = f"## {table.title}\n\n{label}{table.note}. {published.beside_table(source.preset, name)}\n\n"
    write_text(out.with_suffix(".md"), text + markdown(table.header, table.lines) + below(note_of(source)))
