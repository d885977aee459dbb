"""Where Prefix-RFT wins and where it does not: its paired difference to every rival, in every study of the preset.

Numbers come from the studies' paired tables; a study without a table is left out.
"""

from ...common.errors import UserError
from ..formats import read_csv
from ..outcome import TEMPERATURE
from ..study import KINDS, MAIN, read_preset, study_names
from ..tables import PAIRED_FIELDS, SCORE_FIELDS
from . import style
from .style import plt

RIVALS = ("rft", "sft_then_rft", "sft", "luffy")
KEYS = ("rival", "split", "metric", "temperature", "difference", "ci_low", "ci_high", "n_seeds", "n_problems")


def studies(context):
    """(name, label, rows of the paired table, rows of the scores) of every study that has a paired table."""
    preset, out = read_preset(context.preset_config, context.override), []
    for name in study_names(preset):
        if name != MAIN and preset["studies"][name].get("regime") is False:
            continue
        tables = context.results / "tables"
        path = tables / ("paired.csv" if name == MAIN else f"{name}.paired.csv")
        if path.exists() and (table := read_csv(path, PAIRED_FIELDS)):
            context.tables.append(name)
            label = "Main comparison" if name == MAIN else (preset["studies"][name] or {}).get("label") or name
            out.append((name, str(label), table, read_csv(tables / f"{name}.csv", SCORE_FIELDS)))
    return out


def draw(context):
    regimes = studies(context)
    if not regimes:
        raise UserError(f"{context.results}/tables: no paired table of any study; run the command `tables` first")
    everything = [r for _, _, table, _ in regimes for r in table]
    metric = next(r["metric"] for r in everything if r["metric"].startswith("avg@"))
    temperatures = {float(r["temperature"]) for r in everything}
    temperature = TEMPERATURE if TEMPERATURE in temperatures else min(temperatures)

    def here(r, split):
        return (r["split"], r["metric"], float(r["temperature"])) == (split, metric, temperature)

    kinds = [k for k in RIVALS if any(r["rival_kind"] == k for r in everything)]
    looks = style.looks_of((k, k) for k in kinds)
    splits, flat = [s for s in dict.fromkeys(r["split"] for r in everything) if "/" not in s], {}
    for split in splits[1:]:
        scores = [r["mean"] for _, _, _, table in regimes for r in table if here(r, split)]
        if scores and (end := style.flat(scores)):
            flat[style.part(split)] = end
            splits.remove(split)
    rows, numbers, seeds = [], {}, {}
    for split in splits:
        for name, label, table, _ in regimes:
            for kind in kinds:
                r = next((r for r in table if here(r, split) and r["rival_kind"] == kind), None)
                seeds[name] = seeds.get(name) or (r and int(r["n_seeds"]))
                if r:
                    rows.append({"study": name, "regime": label, **{k: r[k] for k in KEYS}})
                numbers[split, name, kind] = r and tuple(float(r[k]) for k in ("difference", "ci_low", "ci_high"))
    labels = [
        style.wrap(f"{label} ({seeds[name]}\u00a0seed{'s' * (seeds[name] != 1)})", 34) for name, label, _, _ in regimes
    ]
    height = 0.9 + len(splits) * (0.55 + sum(0.1 + 0.11 * (1 + text.count("\n")) for text in labels))
    size = (style.WIDTH, height)
    figure, axes = plt.subplots(len(splits), len(kinds), figsize=size, sharex=True, sharey=True, squeeze=False)
    for line, split in zip(axes, splits, strict=True):
        for axis, kind in zip(line, kinds, strict=True):
            values = [numbers[split, name, kind] for name, _, _, _ in regimes]
            style.rows(axis, [looks[kind]] * len(regimes), values, relative=True)
            axis.set_title(f"minus {KINDS[kind]}", fontsize=7.5)
        line[0].set_ylabel(style.part(split))
        line[0].set_yticks(range(len(regimes)), labels)
    for axis in axes[-1]:
        axis.set_xlabel("percentage points")
        axis.locator_params(axis="x", nbins=4)
        axis.tick_params(axis="x", labelsize=6)
    style.head(figure, finding({k: [numbers[splits[0], name, k] for name, *_ in regimes] for k in kinds}))
    style.caption(
        figure,
        f"Prefix-RFT minus the rival named above, correct samples ({metric}, T = {temperature:g}), paired.",
        style.seeds_words(set(filter(None, seeds.values()))),
        "Open: the interval contains 0. No mark: the study has no such run.",
        "Intervals are not corrected for their number. All panels have the same axis.",
        style.left_out(flat),
    )
    return figure, rows


def finding(values):
    """The title: how often Prefix-RFT is above and below its first rivals. `values`: kind -> (mean, low, high) or None, one a study."""
    said = []
    for kind in list(values)[:2]:
        known = [v for v in values[kind] if v]
        above, below = sum(v[1] > 0 for v in known), sum(v[2] < 0 for v in known)
        said.append(f"{KINDS[kind]} in {above} of {len(known)} regimes (below in {below})")
    return f"Prefix-RFT above {'; above '.join(said)}"
