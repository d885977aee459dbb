"""Command `data`: make the problems and raw demonstrations of a preset, check them, and record the checks in data.json.

The checks are the same for every task. The columns are known, ids are unique over all splits, and no problem is in two splits (by
canonical form). data.json also holds the score of the best constant answer, by level. A failed check is an error, not a warning.
"""

import sys
from collections import Counter
from pathlib import Path

from ..common.errors import UserError
from ..common.files import check_out_folder, sha256, write_json
from ..config.reading import load, resolve
from .files import read_problems
from .tasks import KNOWN, get_task


def load_config(path, override=None):
    """(task, its DataConfig) from a data.yaml."""
    values = resolve(path, override, "data")
    if "task" not in values:
        raise UserError(
            f"{path}: key 'task' is missing: one of {', '.join(KNOWN)}; the file has the keys {', '.join(map(str, values))}"
        )
    name = values["task"]
    try:
        task = get_task(name)
    except UserError as e:
        raise UserError(f"{path}: key 'task': {e}") from e
    return task, load(task.DataConfig, path, override, "data")


def check(problems: dict[str, list[dict]]) -> dict:
    """Counts and best constant answers for data.json. problems: split -> rows.

    Raises `UserError` if an id is used twice or a problem is in two splits.
    """
    where, first = {}, {}
    for split, rows in problems.items():
        for row in rows:
            if row["id"] in first:
                raise UserError(f"problems.{split}.parquet: id {row['id']!r} is used twice")
            first[row["id"]] = split
            other = where.setdefault(row["canonical"], split)
            if other != split:
                raise UserError(
                    f"problems.{split}.parquet: {row['id']!r} is also in split {other} (canonical form {row['canonical']!r})"
                )
    counts, constant = {}, {}
    for split, rows in problems.items():
        counts[split], constant[split] = {}, {}
        for level in dict.fromkeys(r["level"] for r in rows):
            answers = Counter(r["answer"] for r in rows if r["level"] == level)
            answer, hits = answers.most_common(1)[0]
            counts[split][level] = answers.total()
            constant[split][level] = {"answer": answer, "score": round(hits / answers.total(), 6)}
    return {"problems": counts, "best_constant_answer": constant, "disjoint_by_canonical_form": True}


def make_data(config_file: Path, out: Path, override=None):
    """Write problem files, raw demonstrations and data.json into the folder `out`."""
    task, config = load_config(config_file, override)
    check_out_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    try:
        extra = task.make(config, out)
    except UserError as e:
        named = str(e).startswith("key ")  # the task knows its keys, but not their file
        raise UserError(f"{config_file}: {e}" if named else str(e)) from e
    splits = task.splits_of(config)
    report = check({split: read_problems(out, split) for split in splits})
    names = [*(f"problems.{s}" for s in splits), *(f"raw.{s}" for s in task.sources(config))]
    files = {f"{name}.parquet": sha256(out / f"{name}.parquet") for name in names}
    record = {"task": config.task, "config": config.model_dump(), **report, **(extra or {}), "files": files}
    write_json(out / "data.json", record)
    print(f"{out}: " + ", ".join(f"{k} {sum(v.values())}" for k, v in report["problems"].items()), file=sys.stderr)
