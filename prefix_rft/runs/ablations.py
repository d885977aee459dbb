"""Ablations: many runs that differ from one run in a few keys, described once.

`config/ablations.yaml` holds the ablations that mean the same in every preset. `config/<preset>/ablations.yaml` holds the ablations
that name the preset's demonstration sets, budgets and rates; its keys override those of config/ablations.yaml.

    entropy:
      label: Which prefix tokens are trained
      runs:
        prefix_rft: {label: top 20 %}                                   # a run of the preset: used as it is
        entropy_top50: {label: top 50 %, extends: prefix_rft, prefix: {keep_share: 0.5}}    # a variant: changed keys
        base: {label: none, series: SFT}                                # a base model of setup/bases: nothing is trained

Every other run is compared with the first run. `series` and `at` position a run in the figure: one line a series, `at` on the x axis
(`x` is the label of the axis; `log: true` makes it logarithmic). A `grid` makes one series a run and one variant a value; the run's own
value comes first.

A variant is a run's file and assignments, as `--set key=value` on the command line. So the commands that train and evaluate need
nothing of this module. smoke.yaml overrides variants, as it overrides run files.
"""

import difflib
import json
import math
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from ..common.errors import UserError, shown
from ..config.names import RULE, is_name
from ..config.preset import Files
from ..config.reading import MOST, config_hash, merge, read_section, read_yaml, resolve
from ..config.run import Run
from .load import load_run, run_values

PREFIX = "ablation_"
FILE = "ablations.yaml"
NOT_RUNS = ("preset", "smoke", "ablations")  # files beside the runs' that configure something else
KEYS = {"label", "x", "log", "runs", "grid", "seeds"}
PLACE = ("label", "extends", "series", "at")


@dataclass(frozen=True)
class Entry:
    """One run of an ablation.

    extends: the run that a variant changes; None for a run that has a file, or is a variant of another ablation
    base: whether `run` names a base model, for a point where nothing is trained
    """

    run: str
    label: str
    extends: str | None = None
    changes: tuple[tuple[str, object], ...] = ()  # dotted key -> value
    series: str | None = None
    at: float | None = None
    base: bool = False
    where: str = field(default="", compare=False)  # file and key that describe it

    @property
    def named(self):
        """Whether the label says more than the position on the x axis."""
        return self.at is None or self.label != f"{self.at:g}"

    @property
    def full_label(self):
        """The label with the series, for tables."""
        if self.series is None or self.label.startswith(str(self.series)):
            return self.label
        return f"{self.series}, {self.label}" if self.named else f"{self.series} at {self.label}"


@dataclass(frozen=True)
class Ablation:
    name: str
    label: str
    entries: tuple[Entry, ...]
    x: str | None = None
    log: bool = False
    seeds: tuple[int, ...] | None = None

    def entry(self, run) -> Entry:
        return next(e for e in self.entries if e.run == run)

    @property
    def runs(self) -> list[str]:
        """Names of the trained runs; base models are left out."""
        return [e.run for e in self.entries if not e.base]

    @property
    def bases(self) -> list[str]:
        return [e.run for e in self.entries if e.base]

    def series_of(self, run) -> list[Entry]:
        """The entries of the series that `run` is in; [] if it is in none."""
        own = next((e for e in self.entries if e.run == run), None)
        return [e for e in self.entries if own is not None and e.series == own.series]

    def pairs(self):
        """Pairs (run, rival) to compare, each pair once.

        The first run with every other run; the first run of a series with the others of the series; the first series with the other
        series at the same `at` (or under the same label).
        """
        first, found = self.entries[0], {}
        for e in self.entries:
            same = next(o for o in self.entries if o.series == e.series)
            beside = next(
                o for o in self.entries if (o.at, o.at is None and o.label) == (e.at, e.at is None and e.label)
            )
            for ours in (first, same, beside):
                if ours.run != e.run and (e.run, ours.run) not in found:
                    found[ours.run, e.run] = None
        return list(found)


def flatten(values, prefix=""):
    """{"prefix": {"keep": "all"}} -> ("prefix.keep", "all"), ..."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def run_names(folder) -> list[str]:
    """The runs of a preset that have a file, own or inherited."""
    return [name for name in Files(folder).listed() if name not in NOT_RUNS]


def base_names(folder) -> list[str]:
    """The base models of a preset."""
    return list(Files(folder).listed("setup/bases"))


def files(folder) -> list[Path]:
    """The files that a preset's ablations are described in."""
    return [p for p in (Path(folder).parent / FILE, Files(folder).find(FILE)) if p.exists()]


class Ablations(dict):
    """The ablations of a preset: name without the prefix -> `Ablation`.

    An ablation is checked when it is asked for, because config/ablations.yaml holds for every preset and a preset need not have
    every run that it names. `broken` maps the name of an ablation that this preset cannot make to its error, one line;
    `ablations[name]` raises it as a `UserError`, and iteration leaves the ablation out.
    """

    def __init__(self):
        super().__init__()
        self.broken: dict[str, str] = {}

    def __missing__(self, name):
        raise UserError(self.broken[name]) if name in self.broken else KeyError(name)


def read_ablations(folder, override=None) -> Ablations:
    """The ablations of the preset in `folder`: config/ablations.yaml, overridden by the preset's own file and by the section `ablations`
    of `override`. A run whose value is null is left out."""
    folder, values, where = Path(folder), {}, {}
    for file in files(folder):
        own = read_yaml(file)
        values, where = merge(values, own), where | dict.fromkeys(own, file)
    values = merge(values, read_section(override, "ablations"))
    where = dict.fromkeys(values, override) | where
    ordinary, bases, preset = run_names(folder), base_names(folder), Files(folder)
    found, out = {}, Ablations()
    for name, spec in values.items():
        try:
            ablation = _ablation(name, spec, where[name], preset, override)
            entries = tuple(_own_file(replace(e, base=e.run in bases), preset, ordinary) for e in ablation.entries)
            found[name] = replace(ablation, entries=entries)
        except UserError as e:
            out.broken[name] = str(e)
    makers = {}  # variant -> the ablations that describe it
    for a in found.values():
        for e in a.entries:
            if e.extends:
                makers.setdefault(e.run, []).append(a.name)
    for a in found.values():
        try:
            for e in a.entries:
                _check_entry(a, e, where[a.name], folder, ordinary, bases, makers)
            out[a.name] = a
        except UserError as e:
            out.broken[a.name] = str(e)
    for a in [*out.values()]:  # a variant of a broken ablation
        lost = next((e.run for e in a.entries if e.run in makers and makers[e.run][0] in out.broken), None)
        if lost:
            out.broken[a.name] = out.broken[makers[lost][0]]
            del out[a.name]
    return out


def _check_entry(ablation, e, where, folder, ordinary, bases, makers):
    """Raise `UserError` for an entry of an ablation that cannot be trained."""
    at = f"{where}: key '{ablation.name}.runs.{e.run}'"
    if e.base and e.extends:
        raise UserError(f"{at}.extends = {e.extends!r}: {e.run!r} is a base model; give the variant another name")
    if e.base and e is ablation.entries[0]:
        raise UserError(f"{at}: the others are compared with the first one, which must be a run, not a base model")
    if e.extends is None and not e.base and e.run not in [*ordinary, *makers]:
        near = difflib.get_close_matches(e.run, [n for n in [*ordinary, *makers, *bases] if n != e.run], 1)
        hint = f"did you mean {near[0]!r}?" if near else "a variant must say which run it extends"
        raise UserError(f"{at}: no run {e.run!r} ({folder}/{e.run}.yaml); {hint}")
    if e.extends and e.extends not in ordinary:
        near = difflib.get_close_matches(str(e.extends), ordinary, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(ordinary)}"
        raise UserError(f"{at}.extends = {shown(e.extends)}: no such run in {folder}; {hint}")
    if e.extends and (e.run in ordinary or len(makers[e.run]) > 1):
        raise UserError(f"{at}: another run has this name; give the variant another name, or leave out its changes")
    if e.extends and not e.changes:
        raise UserError(f"{at}.extends = {shown(e.extends)}: the variant changes no key of it; name one")


def _own_file(entry, preset, ordinary):
    """A variant that the preset has a file of the same name for, with the same values, is that run."""
    if entry.extends not in ordinary or entry.run not in ordinary:
        return entry

    def identity(run, changes):
        return config_hash(load_run(preset.folder / f"{run}.yaml", None, assignments(changes)))

    same = identity(entry.extends, entry.changes) == identity(entry.run, ())
    return replace(entry, extends=None, changes=()) if same else entry


def _ablation(name, spec, where, preset, override):
    def wrong(key, value, expected):
        return UserError(f"{where}: key '{name}{key}' = {shown(value, MOST)}: must be {expected}")

    if not is_name(name, dots=False):
        raise UserError(
            f"{where}: key {shown(name)}: an ablation's name must be text made of letters, digits, - and _, of at most 100 characters"
        )
    if not isinstance(spec, dict):
        raise wrong("", spec, "a mapping with the keys label and runs")
    for key in spec:
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(KEYS))}"
            raise UserError(f"{where}: unknown key '{name}.{key}' = {shown(spec[key], MOST)}; {hint}")
    seeds = spec.get("seeds")
    if seeds is not None and not _are_seeds(seeds):
        raise wrong(".seeds", seeds, "a list of different whole numbers from 0, such as [0, 1]")
    for key in ("label", "x"):
        if not isinstance(spec.get(key), str | None):
            raise wrong(f".{key}", spec[key], "text")
    if not isinstance(spec.get("log"), bool | None):
        raise wrong(".log", spec["log"], "true or false")
    runs = spec.get("runs") or {}
    if not isinstance(runs, dict):
        raise wrong(".runs", runs, "a mapping from names to labels and changed keys")
    for run, v in runs.items():
        if not isinstance(v, dict | None):
            raise wrong(f".runs.{run}", v, "a mapping such as {label: top 20 %}, or null to leave the run out")
    entries = [_entry(name, run, dict(v), where) for run, v in runs.items() if v is not None]
    if "grid" in spec:
        entries += _grid(name, spec["grid"], where, preset, override)
    if not entries:
        raise wrong(".runs", runs, "a mapping that names at least one run")
    twice = next((r for r, n in Counter(e.run for e in entries).items() if n > 1), None)
    if twice:
        raise UserError(f"{where}: key '{name}.runs': run {twice!r} is given twice")
    if spec.get("log") and not any(e.at is not None and e.at > 0 for e in entries):
        raise wrong(".log", True, "false: no run has a position (at) above 0 on the x axis")
    return Ablation(
        name,
        spec.get("label") or name,
        tuple(entries),
        spec.get("x"),
        bool(spec.get("log")),
        seeds and tuple(seeds),
    )


def _are_seeds(values) -> bool:
    """The rule of `seeds` in preset.yaml."""
    whole = isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)
    return whole and len(values) == len(set(values)) > 0


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _entry(name, run, values, where):
    if not is_name(str(run)):
        raise UserError(f"{where}: key '{name}.runs': run {shown(run)}: its name {RULE}")
    place = {key: values.pop(key, None) for key in PLACE}
    if values and not place["extends"]:
        key = next(iter(values))
        raise UserError(
            f"{where}: key '{name}.runs.{run}.{key}' = {shown(values[key], MOST)}: a variant needs the key 'extends'"
        )
    at = place["at"]
    if at is not None and not _is_number(at):
        raise UserError(
            f"{where}: key '{name}.runs.{run}.at' = {shown(at)}: must be a finite number, the position on the x axis"
        )
    for key in ("label", "extends", "series"):
        if not isinstance(place[key], str | int | float | None) or isinstance(place[key], bool):
            raise UserError(f"{where}: key '{name}.runs.{run}.{key}' = {shown(place[key], MOST)}: must be text")
    label = place["label"] or (f"{at:g}" if at is not None else run)
    described = f"{where}: key '{name}.runs.{run}'"
    return Entry(str(run), str(label), place["extends"], tuple(flatten(values)), place["series"], at, where=described)


def _grid(name, grid, where, preset, override):
    """One series a run, one variant a value. The run's own value gives the run itself; it comes first, because the others of the series
    are compared with it."""
    if not isinstance(grid, dict) or set(grid) != {"key", "values", "runs"} or not isinstance(grid["runs"], dict):
        raise UserError(
            f"{where}: key '{name}.grid' = {shown(grid, MOST)}: must have the keys key, values and runs (run: label)"
        )
    key, values = grid["key"], grid["values"]
    if not isinstance(key, str):
        raise UserError(
            f"{where}: key '{name}.grid.key' = {shown(key)}: must be the key that varies, such as optimizer.lr"
        )
    if not isinstance(values, list) or not values or not all(map(_is_number, values)):
        raise UserError(
            f"{where}: key '{name}.grid.values' = {shown(values, MOST)}: must be a list of finite numbers such as [0.001, 0.01]"
        )
    known = run_names(preset.folder)
    for run, series in grid["runs"].items():
        if run not in known:
            near = difflib.get_close_matches(str(run), known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise UserError(f"{where}: key '{name}.grid.runs': no run {shown(run)}; {hint}")
        own = run_values(preset.folder / f"{run}.yaml", override)
        for part in key.split("."):
            own = own.get(part) if isinstance(own, dict) else None
        if own is not None and not _is_number(own):
            raise UserError(f"{where}: key '{name}.grid.key' = {key!r}: run {run!r} has {own!r} there, not a number")
        for value in sorted({*values, *([own] if own is not None else [])}, key=lambda v: (v != own, v)):
            if value == own:
                yield Entry(run, f"{value:g}", None, (), str(series), value)
            else:
                described = f"{where}: key '{name}.grid'"
                yield Entry(
                    f"{name}_{run}_{value:g}", f"{value:g}", run, ((key, value),), str(series), value, where=described
                )


# ------------------------------------------------------------------------------------------------ from name to run


class Runs:
    """Finds the configuration of a run of one preset by its name: its own file, an inherited file, or a variant of an ablation."""

    def __init__(self, folder, override=None):
        self.files, self.override = Files(folder), override
        self._variants, self._located = None, {}

    @property
    def variants(self) -> dict[str, Entry]:
        if self._variants is None:
            ablations = read_ablations(self.files.folder, self.override).values()
            self._variants = {e.run: e for a in ablations for e in a.entries if e.extends}
        return self._variants

    def locate(self, run) -> tuple[Path, list[str]]:
        """(file, assignments) of a run. A name that nobody knows gives the file that it should have had."""
        if run not in self._located:
            self._located[run] = self._locate(run)
        return self._located[run]

    def _locate(self, run):
        file, changes = self.files.find(f"{run}.yaml"), ()
        if not file.exists() and run in self.variants:
            entry = self.variants[run]
            file, changes = self.files.find(f"{entry.extends}.yaml"), entry.changes
        changes = dict([*flatten(self.files.changes(file)), *changes])
        fixed = set()
        if self.override is not None and changes:
            method = changes.get("method") or resolve(file, self.override, "run").get("method")
            fixed = {k for s in ("run", f"run_{method}") for k, _ in flatten(read_section(self.override, s))}
        return file, assignments((k, v) for k, v in changes.items() if k not in fixed)

    def origin(self, run) -> str:
        """The start of an error for a run whose file is not the whole truth: the variant's entry or the key `inherited`; else ""."""
        file, changes = self.locate(run)
        if file.stem != run:
            return f"{self.variants[run].where}: variant {run}"
        if file.parent != self.files.folder and changes:
            return f"{self.files.folder}/preset.yaml: key 'inherited': run {run}"
        return ""

    def load(self, run, sets=()) -> Run:
        file, changes = self.locate(run)
        try:
            return load_run(file, self.override, [*changes, *sets])
        except UserError as e:
            origin = self.origin(run)
            raise (UserError(f"{origin} of {e}") if origin else e) from None


def assignments(changes) -> list[str]:
    """Pairs of dotted key and value as `--set` of the commands takes them."""
    return [f"{key}={_text(value)}" for key, value in changes]


def _text(value):
    """A value as `--set` reads it: YAML on one line, the same text every time."""
    if isinstance(value, str) and yaml.safe_load(value) == value:
        return value
    return json.dumps(value, default=str)  # a date is no value of any key, which the error says
