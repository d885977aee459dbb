"""Notes below tables and figures, so that none of them shows in silence what it should not be compared with.

Runs that other code trained than the present one: the workflow trains such runs again unless it is told to keep them. Runs that showed
signs of learning nothing (`training/symptoms.py`).
"""

from collections import Counter
from pathlib import Path

from ..common.files import read_mapping
from ..data.tasks import task_of
from ..runs import record as run_record

MANY = 6  # warnings of a run: more are counted


def other_code(study) -> dict[str, dict[int, list[str]]]:
    """Runs of a study that other code trained, or that started from a run that other code trained.

    Returns:
        {run: {seed: files that differ}}; `[UNKNOWN]` in place of the files for a run.json without a fingerprint.
    """
    found = {}
    for member in study.trained():
        for seed in member.seeds:
            files = _files(study, member, seed)
            if files:
                found.setdefault(member.run, {})[seed] = files
    return found


def code_note(studies) -> str:
    """A sentence for below a table or figure of these studies; empty where the present code trained every run."""
    parts = {}
    for study in studies:
        for run, seeds in other_code(study).items():
            files = sorted({f for listed in seeds.values() for f in listed})
            number = "seed" if len(seeds) == 1 else "seeds"
            parts[run] = f"{study.member(run).label} ({number} {', '.join(map(str, seeds))}: {', '.join(files)})"
    return f"Trained by other code than the present: {'; '.join(parts.values())}." if parts else ""


def symptom_note(studies) -> str:
    """A sentence for below a table or figure of these studies; empty where no run had a warning. Many are counted: a list of them would be
    larger than a figure."""
    found, trainings = {}, 0
    for study in studies:
        for member in study.trained():
            for seed in member.seeds:
                trainings += 1
                for warning in (member.meta[seed]["run"] or {}).get("warnings", ()):
                    found.setdefault((member.label, warning["symptom"]), {})[seed] = None
    if len(found) > MANY:
        counts = Counter()
        for (_, symptom), seeds in found.items():
            counts[symptom] += len(seeds)
        listed = ", ".join(f"{symptom} ({n})" for symptom, n in counts.most_common())
        return f"Warnings of {trainings} trainings, and how many had each (run.json says when, and what to change): {listed}."
    parts = [
        f"{label} (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, sorted(seeds)))}): {symptom}"
        for (label, symptom), seeds in found.items()
    ]
    return f"Warnings of trainings (run.json says when, and what to change): {'; '.join(parts)}." if parts else ""


def note_of(context) -> str:
    """The same sentences for all that a figure or table read: studies, and tables of studies, whose <study>.runs.json has theirs."""
    folder = Path(context.results) / "tables"
    records = [folder / f"{name}.runs.json" for name in dict.fromkeys(context.tables)]
    found = [read_mapping(path) for path in records if path.exists()]
    said = [note.get(key) for note in found for key in ("code_note", "symptom_note")]
    merged = {}  # heading -> what it is said of, each once
    for sentence in filter(None, [code_note(context.loaded), symptom_note(context.loaded), *said]):
        heading, _, body = sentence.partition(": ")
        merged.setdefault(heading, {}).update(dict.fromkeys(body.removesuffix(".").split("; ")))
    return " ".join(f"{heading}: {'; '.join(bodies)}." for heading, bodies in merged.items())


def below(note) -> str:
    """The sentence as a paragraph of its own at the end of a Markdown table."""
    return f"\n{note}\n" if note else ""


def _files(study, member, seed):
    """Files of the code of one run, and of the runs that it started from, that are not the present ones."""
    task, config, record = task_of(study.results / "data"), member.config, member.meta[seed]["run"]
    files = run_record.other_code(record, config, task)
    while config.init_from is not None:
        record = read_mapping(member.run_dir(seed, config.init_from) / "run.json")
        config = study.runs.load(config.init_from)
        files += run_record.other_code(record, config, task)
    return sorted(set(files))
