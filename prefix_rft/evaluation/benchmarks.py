r"""Benchmarks: one entry each in a table (config/benchmarks.yaml), and the command `benchmark-problems` that fetches one benchmark.

    prefix-rft benchmark-problems --preset paper-7b --benchmark aime24

writes `problems.aime24.parquet` (the columns of every problem file: id, prompt, answer, level, canonical) and `aime24.json`, a report
of the origin and of dropped rows with reasons. Multiple-choice options are shuffled with a fixed seed, problem by problem, and their
letters are the answers. The command `evaluate --benchmark aime24` samples a model on these problems (`evaluate.py`).
"""

import random
import sys
from collections import Counter
from pathlib import Path

from ..common.errors import UserError, shown
from ..common.files import hash_of, write_json, write_parquet
from ..config.names import is_name
from ..config.reading import Section, build, load, opt, read_yaml, resolve
from ..config.run import TOP_P, ModelEngine
from ..data.hub import Source, answer_text, column, fetch
from ..data.overlap import words
from ..data.templates import Template, read_template

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
EXAMPLES = 5  # broken rows shown


class Benchmark(Section):
    """An entry of the table."""

    source: Source = opt(..., "data set of the problems")
    question: str = opt(..., "column of the question; a dot leads into a mapping, such as choices.text")
    answer: str = opt(
        ..., "column of the answer; for multiple choice the correct option as letter, index from 0, label or text"
    )
    choices: str | None = opt(None, "column with the list of options")
    labels: str | None = opt(None, "column with the options' labels, where `answer` is one of them")
    wrong: list[str] = opt(
        [], "columns of the wrong options, one column an option; `answer` is then the column of the correct option"
    )
    id: str | None = opt(None, "column of a problem's name; unset: its row number")
    level: str | None = opt(None, "column of the level, which is scored separately; unset: one level")
    verifier: str = opt("math", "how answers are compared", choices=("math", "choice"))
    metric: str = opt("pass@1", "metric in the paper's table", choices=("avg@32", "pass@1"))
    samples: int = opt(1, "responses a problem", ge=1)
    problems: int = opt(..., "expected number of problems, dropped rows included", ge=1)
    group: str = opt("math", "average that includes this benchmark", choices=("math", "ood"))
    seed: int = opt(0, "seed that shuffles the options", ge=0)
    max_broken: float = opt(0.0, "more broken rows than this share are an error", ge=0, le=1)

    def check(self):
        if (self.verifier == "choice") != bool(self.choices or self.wrong):
            raise ValueError("verifier: choice goes with `choices` or `wrong`, and only with them")
        if self.choices and self.wrong:
            raise ValueError("choices, wrong: only one of them")
        if self.metric.startswith("avg") and self.samples != int(self.metric[4:]):
            raise ValueError(f"samples: {self.samples} does not fit metric {self.metric}")

    def metric_of(self, samples: int) -> str:
        """The metric with `samples` responses a problem instead of the entry's number: avg@32 with 2 samples is avg@2."""
        return self.metric if samples == self.samples or not self.metric.startswith("avg") else f"avg@{samples}"


class Benchmarks(ModelEngine):
    """`setup/benchmarks.yaml`: the benchmarks of a preset, and how they are sampled (paper section 3: T = 0.6, 8192 new tokens)."""

    table: str = opt(..., "file with the entries")
    names: list[str] = opt(..., "entries of the table that the preset is evaluated on")
    clear_of: list[str] = opt(
        [], "entries whose questions are removed from the training problems; a change makes new training data"
    )
    template: str = opt(..., "prompt template, as in training")
    choice_template: str = opt(..., "text of a multiple-choice question, with {question} and {choices}")
    max_response: int = opt(8192, "response limit in tokens", ge=1)
    temperature: float = opt(0.6, "sampling temperature", ge=0)
    top_p: float | None = opt(None, TOP_P + "; unknown in the paper", gt=0, le=1)
    seed: int = opt(0, "seed of sampling; combined with the run's seed, the benchmark and the problem", ge=0)
    samples: int | None = opt(None, "responses a problem instead of each entry's number (for trying things out)", ge=1)
    limit: int | None = opt(None, "most problems of each benchmark (for trying things out); unset: all", ge=1)
    check_counts: bool = opt(True, "refuse a benchmark whose number of problems is not its entry's `problems`")
    save_rows: int = opt(
        2048, "responses between two saves: the most that a kill loses; never changes the samples", ge=1
    )

    def check(self):
        super().check()
        if not self.names or len(set(self.names)) != len(self.names):
            raise ValueError(f"names: {self.names} must name at least one benchmark, and none twice")


def load_benchmarks(path, override=None) -> tuple[Benchmarks, dict[str, Benchmark]]:
    """(settings, {name: entry}) of a preset. Raises `UserError` for errors in settings, table and templates."""
    config = load(Benchmarks, path, override, "benchmarks")
    try:
        table = read_yaml(config.table)
    except UserError as e:
        raise UserError(f"{path}: key 'table' = {shown(config.table)}: {e}") from e
    every = [*dict.fromkeys([*config.names, *config.clear_of])]
    for name in every:
        if name not in table:
            key = "names" if name in config.names else "clear_of"
            raise UserError(
                f"{path}: key {key!r}: {name!r} is not an entry of {config.table}, which has {', '.join(table)}"
            )
        if not is_name(name, dots=False):
            raise UserError(
                f"{config.table}: entry {shown(name)}: must be a name of letters, digits, - and _, of at most 100 characters"
            )
    entries = {name: build(Benchmark, table[name], f"{config.table}: {name}") for name in every}
    read_template(config.template, f"{path}: key 'template'")
    if "{choices}" not in read_template(config.choice_template, f"{path}: key 'choice_template'").text:
        raise UserError(f"{config.choice_template}: must hold {{choices}}")
    return config, entries


def entry_hash(path, name, override=None) -> str:
    """Hash of all settings that decide a benchmark's problems: its entry and its limits. No other entry is read."""
    values = resolve(path, override, "benchmarks")
    entry = read_yaml(values.get("table")).get(name)
    return hash_of([entry, values.get("limit"), values.get("check_counts"), values.get("choice_template")])[:16]


def scoring_hash(path, override=None) -> str:
    """Hash of the preset's settings that can change a score."""
    values = resolve(path, override, "benchmarks")
    blind = ("table", "names", "clear_of", "limit", "check_counts", "choice_template", "max_rows", "save_rows", "vllm")
    return hash_of([{k: v for k, v in values.items() if k not in blind}, read_template(values.get("template")).text])[
        :16
    ]


# ----------------------------------------------------------------------------------------------------------- problems


def options(entry: Benchmark, row, rng) -> tuple[list[str], int]:
    """(options in shuffled order, index of the correct option). Raises ValueError if the answer fits no option."""
    right = column(row, entry.answer)
    if entry.wrong:
        texts, at = [str(right), *(str(column(row, w)) for w in entry.wrong)], 0
    else:
        texts = [str(c) for c in column(row, entry.choices)]
        labels = [str(x) for x in column(row, entry.labels)] if entry.labels else list(LETTERS[: len(texts)])
        if isinstance(right, int) and not entry.labels:
            at = right
        elif str(right) in labels:
            at = labels.index(str(right))
        elif texts.count(str(right)) == 1:
            at = texts.index(str(right))
        else:
            raise ValueError(f"answer {right!r} is not one of {', '.join(labels)}")
    if not 2 <= len(texts) <= len(LETTERS) or not 0 <= at < len(texts):
        raise ValueError(f"{len(texts)} options and answer {right!r}")
    order = list(range(len(texts)))
    rng.shuffle(order)
    return [texts[i].strip() for i in order], order.index(at)


def make_problems(name: str, entry: Benchmark, template: Template, fetched, where: str, limit=None, check_counts=True):
    """(rows of the problem file, report). Broken rows are named by number.

    name: of the benchmark
    template: text of a multiple-choice question
    fetched: a `hub.Fetched`
    where: file and entry, for errors
    limit: most problems; None: all
    check_counts: whether the number of rows must be the entry's `problems`

    Raises `UserError` for an empty benchmark, a missing column, an id that is used twice, and more broken rows than `max_broken`.
    """
    total = len(fetched.rows) + len(fetched.broken)
    if total == 0:
        raise UserError(f"{where}: is empty: {fetched.origin.get('files') or fetched.origin.get('path')} has no row")
    if check_counts and total != entry.problems:
        raise UserError(
            f"{where}: key 'problems' = {entry.problems}: the data have {total} rows; are they another version of the benchmark?"
        )
    wanted = [
        entry.question,
        entry.answer,
        *filter(None, (entry.choices, entry.labels, entry.id, entry.level)),
        *entry.wrong,
    ]
    missing = [c for c in wanted if not any(_has(row, c) for _, row in fetched.rows)]
    if missing:
        known = sorted({k for _, row in fetched.rows[:100] for k in row})
        raise UserError(f"{where}: column {missing[0]!r} is missing; the data have {', '.join(known)}")
    rows, broken, ids = [], list(fetched.broken), {}
    for number, row in fetched.rows:
        try:
            made = _problem(name, entry, template, number, row)
        except (KeyError, ValueError, TypeError) as e:
            broken.append((number, f"column {e} is missing" if isinstance(e, KeyError) else str(e)))
            continue
        if made["id"] in ids:
            raise UserError(
                f"{where}: rows {ids[made['id']]} and {number} have the same id {made['id']!r} (column {entry.id!r})"
            )
        ids[made["id"]] = number
        rows.append(made)
    if len(broken) > entry.max_broken * total:
        shown = "; ".join(f"row {n}: {reason}" for n, reason in sorted(broken)[:EXAMPLES])
        raise UserError(
            f"{where}: {len(broken)} of {total} rows are broken, more than max_broken = {entry.max_broken}: {shown}"
        )
    for number, reason in broken:
        print(f"{where}: row {number} dropped: {reason}", file=sys.stderr)
    repeated = [i for i, c in Counter(r["canonical"] for r in rows).items() if c > 1]
    report = {
        "benchmark": name,
        "origin": fetched.origin,
        "problems": len(rows[:limit]),
        "limit": limit,
        "broken": [{"row": n, "reason": reason} for n, reason in broken],
        "repeated_questions": len(repeated),
        "answers": dict(Counter(r["answer"] for r in rows).most_common(5)) if entry.verifier == "choice" else None,
    }
    return rows[:limit], report


def _has(row, name):
    try:
        column(row, name)
        return True
    except KeyError:
        return False


def _problem(name, entry, template, number, row):
    question = column(row, entry.question)
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f"question {question!r} is not a text")
    id = str(column(row, entry.id)) if entry.id else f"{number - 1:05d}"
    question = question.strip()
    if entry.verifier == "choice":
        texts, at = options(entry, row, random.Random(f"{entry.seed} {name} {id}"))
        listed = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, texts, strict=False))
        prompt, answer = template.render(question, choices=listed), LETTERS[at]
    else:
        prompt, answer = question, answer_text(column(row, entry.answer))
        if not answer:
            raise ValueError("the answer is empty")
    level = str(column(row, entry.level)) if entry.level else "all"
    return {
        "id": f"{name}-{id}",
        "prompt": prompt,
        "answer": answer,
        "level": level,
        "canonical": " ".join(words(question)),
    }


# ------------------------------------------------------------------------------------------------------------ command


def fetch_problems(config_file: Path, benchmark: str, out: Path, override=None):
    """Write the problem file of an entry of the table, and its report, into the folder `out`."""
    from ..verifier.verifier import Verifier

    config, entries = load_benchmarks(config_file, override)
    if benchmark not in entries:
        raise UserError(f"--benchmark {benchmark}: {config_file} has {', '.join(entries)}")
    entry, where = entries[benchmark], f"{config.table}: {benchmark}"
    fetched = fetch(entry.source, f"{where}.source")
    rows, report = make_problems(
        benchmark, entry, read_template(config.choice_template), fetched, where, config.limit, config.check_counts
    )
    with Verifier(entry.verifier) as verifier:
        doubtful = [r["id"] for r, ok in zip(rows, verifier.parses([r["answer"] for r in rows]), strict=True) if not ok]
    for id in doubtful:
        print(f"{where}: the answer of {id} cannot be parsed; only the same text counts as correct", file=sys.stderr)
    report |= {
        "unparsed_answers": doubtful,
        "entry": entry.model_dump(),
        "entry_hash": entry_hash(config_file, benchmark, override),
        "choice_template_sha256": read_template(config.choice_template).sha256,
    }
    write_parquet(out / f"problems.{benchmark}.parquet", rows)
    write_json(out / f"{benchmark}.json", report)
    print(
        f"{where}: {len(rows)} problems, {len(report['broken'])} broken, {len(doubtful)} unparsed answers",
        file=sys.stderr,
    )
