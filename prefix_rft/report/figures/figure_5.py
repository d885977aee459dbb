"""The paper's Figure 5: the methods on several base models (its bars: 1.5B and LLaMA averages by method).

Numbers come from tables/main.csv and from the tables of the studies that start from another base model.
"""

from ...common.errors import UserError
from ...runs.ablations import Runs
from ..formats import read_csv
from ..study import KINDS, MAIN, Member, kind_of, ordered, read_preset, study_names
from ..tables import SCORE_FIELDS
from . import style
from .comparison import panels


def by_base(context):
    """{base: rows of its table with the kind of each run}, the main comparison's base first; labels of runs and bases."""
    preset, find, out = read_preset(context.preset_config, context.override), Runs(context.preset_config.parent), {}
    find.override = context.override
    for name in study_names(preset):
        runs = preset["runs"] if name == MAIN else preset["studies"][name]["runs"]
        bases = {find.load(r).base for r in runs}
        path = context.results / "tables" / f"{name}.csv"
        if len(bases) > 1 or (base := bases.pop()) in out or not path.exists():
            continue
        rows = []
        context.tables.append(name)
        for r in read_csv(path, SCORE_FIELDS):
            kind = "base" if r["method"] == base else kind_of(find.load(r["method"]))
            rows.append(r | {"kind": kind, "base": base, "study": name})
        out[base] = rows
    return out, preset.get("labels") or {}


def draw(context):
    bases, labels = by_base(context)
    if not bases:
        raise UserError(f"{context.results}/tables/main.csv: no such table; run the command `tables` first")
    everything = [r for rows in bases.values() for r in rows]
    split = everything[0]["split"]
    names = {}  # of a kind: as the main comparison calls its first run
    for r in everything:
        names.setdefault(r["kind"], labels.get(r["method"]) or KINDS.get(r["kind"], r["kind"]))
    members = [
        Member(k, "Base model" if k == "base" else names[k], k, None, context.results, [])
        for k in ordered(r["kind"] for r in everything)
    ]
    groups = [
        (labels.get(base, base), [r | {"method": r["kind"]} for r in table if r["split"] == split])
        for base, table in bases.items()
    ]
    temperatures = sorted({float(r["temperature"]) for r in everything})
    title = f"{style.part(split)}, highest {ranks(groups, temperatures[0], names)}"
    figure, rows = panels(members, groups, temperatures, title)
    return figure, [{k: r[k] for k in ("study", "base", *SCORE_FIELDS)} for r in rows]


def ranks(groups, temperature, names):
    """Which method is best on each base model, by avg@k at the lowest temperature."""
    found = []
    for base, table in groups:
        own = [r for r in table if r["metric"].startswith("avg@") and float(r["temperature"]) == temperature]
        best = max(own, key=lambda r: float(r["mean"]))
        found.append(f"on {base}: {names[best['kind']]} ({style.points(float(best['mean']))} %)")
    return f"{', '.join(found)} ({own[0]['metric']}, T = {temperature:g})"
