r"""Task `math`: competition problems with demonstrations from the hub (paper section 3: Elliott/Openr1-Math-46k-8192).

Columns of this data set: `prompt` and `target` are lists of messages (role, content); `reward_model` has the reference answer as
`ground_truth`. The user's message is the problem, the assistant's message the demonstration. The system message is not used, because
the prompt template (a file, see `templates.py`) is all that a model sees. A similar data set needs only other column names.

Dropped and counted in data.json: broken rows (named by number, an error above a share), reference answers that cannot be compared,
repeated problems, and problems of a benchmark (`overlap.py`). The validation split is drawn from the rest, for learning rates. The
tests are the benchmarks (`evaluation/benchmarks.py`).
"""

import random
import sys
from pathlib import Path

from ...common.errors import UserError
from ...common.files import read_json, read_parquet, write_parquet
from ...config.reading import Section, opt
from ...verifier.answers import final_answer
from ..hub import Source, answer_text, column, fetch
from ..overlap import read_index, words
from ..templates import Template, read_template
from . import Task

EXAMPLES = 5
COMPLEMENT = "complement"  # key of the configuration, and split


class Decontaminate(Section):
    n: int = opt(
        13,
        "words in a row that a problem must share with a benchmark's question to be dropped; unknown in the paper",
        ge=8,
    )
    required: bool = opt(False, "true: stop if a benchmark of the preset could not be fetched and compared")


class DataConfig(Section):
    task: str = opt(..., "math", choices=("math",))
    seed: int = opt(0, "draws the validation split", ge=0)
    source: Source = opt(..., "problems, reference answers and demonstrations")
    complement: Source | None = opt(
        None,
        "further problems, in the same columns, for which there are no demonstrations: data/problems.complement.parquet. What `source`"
        " has too is left out. unset: none",
    )
    question: str = opt("prompt", "column of the problem: text, or a list of messages whose last user message counts")
    answer: str = opt("reward_model.ground_truth", "column of the reference answer; a dot leads into a mapping")
    demonstration: str | None = opt("target", "column of the demonstration: text, or messages; null: no demonstrations")
    teacher: str = opt("r1", "name of the demonstrations' teacher: data/raw.<teacher>.parquet")
    template: str = opt(..., "prompt template, a file with {question}; the paper's exact system prompt is unknown")
    validation: int = opt(256, "problems kept out of training, for learning rates; unknown in the paper", ge=1)
    limit: int | None = opt(None, "most rows read of the data set (for trying things out); unset: all", ge=2)
    max_broken: float = opt(0.01, "more broken rows than this share are an error", ge=0, le=1)
    decontaminate: Decontaminate | None = opt(
        Decontaminate(),
        "drop problems that a benchmark also has; null: keep them; a preset without setup/benchmarks.yaml needs null",
    )


def message(value, role):
    """Text of a column: the string, or the content of the last message of `role`. Raises ValueError if there is none."""
    if isinstance(value, list):
        found = [m.get("content") for m in value if isinstance(m, dict) and m.get("role") == role]
        value = found[-1] if found else None
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"no text of {role}")
    return value.strip()


class Math(Task):
    name = "math"
    verifier = "math"
    splits = ("train", "validation")
    DataConfig = DataConfig
    golden = [
        (r"<think>\boxed{3}?</think> The answer is $\boxed{\frac{1}{2}}$.", "0.5", True),
        (r"so $x=\boxed{(1,2)}$", "(1, 2)", True),
        (r"\boxed{4} or rather \boxed{5}", "4", False),
        ("I do not know.", "4", False),
    ]

    def __init__(self, template: Template | None = None):
        self._template = template

    def of_folder(self, summary):
        return Math(Template(summary["prompt_template"], "data.json: prompt_template"))

    def template(self) -> Template:
        if self._template is None:
            raise UserError("task math has a prompt template only with a data folder (data.json)")
        return self._template

    def prompt_ids(self, tokenizer, prompt: str) -> list[int]:
        return self.template().ids(tokenizer, prompt)

    def extract(self, response: str) -> str | None:
        return final_answer(response)

    @property
    def DemosConfig(self):
        from ..demonstration_filters import MathDemosConfig

        return MathDemosConfig

    def left_out(self, data):
        return {
            r["problem_id"]: f"is problem {r['benchmark_id']} of {r['benchmark']} ({r['kind']}: {r['shared']})"
            for r in read_parquet(Path(data) / "contaminated.parquet", ("problem_id", "benchmark"))
        }

    def filter_demonstrations(self, config, funnel, data):
        from ..demonstration_filters import apply

        apply(config, funnel, data)

    # ------------------------------------------------------------------------------------------------------ problems

    def splits_of(self, config) -> list[str]:
        return [*self.splits, *([COMPLEMENT] if getattr(config, COMPLEMENT, None) else [])]

    def sources(self, config: DataConfig) -> list[str]:
        return [config.teacher] if config.demonstration else []

    def make(self, config: DataConfig, out: Path) -> dict:
        template = self.read_template(config)
        fetched = fetch(config.source, "key source")
        numbered, counts = self._rows(config, fetched)
        rows, dropped, compared = self._clean(config, numbered, out, counts)
        rng = random.Random(config.seed)
        sizes = self.held_out(config)
        if len(rows) <= sum(sizes.values()):
            wanted = " and ".join(f"key {split!r} = {n}" for split, n in sizes.items())
            raise UserError(f"{wanted}: only {len(rows)} problems are left ({counts})")
        drawn = rng.sample(range(len(rows)), sum(sizes.values()))
        names = dict(zip(drawn, (split for split, n in sizes.items() for _ in range(n)), strict=True))
        splits = {split: [] for split in self.splits}
        for i, row in enumerate(rows):
            splits[names.get(i, "train")].append(row)
        complement = self._complement(config, {r["canonical"] for r in [*rows, *dropped]}, out)
        if complement:
            splits[COMPLEMENT] = complement.pop("rows")
        for split, part in splits.items():
            kept = [{k: v for k, v in r.items() if k not in ("response", "hit")} for r in part]
            write_parquet(out / f"problems.{split}.parquet", kept)
        kept_out = [{"problem_id": d["id"], **d["hit"]} for d in dropped]
        write_parquet(
            out / "contaminated.parquet",
            kept_out,
            columns=("problem_id", "benchmark", "benchmark_id", "kind", "shared"),
        )
        if config.demonstration:
            raw = [
                {
                    "problem_id": r["id"],
                    "demo_id": f"{config.teacher}-{r['id']}",
                    "response": r["response"],
                    "source": config.teacher,
                }
                for r in [*splits["train"], *dropped]
                if r["response"] is not None
            ]
            write_parquet(out / f"raw.{config.teacher}.parquet", raw)
        return {
            "origin": fetched.origin,
            "steps": counts,
            "contaminated": kept_out[:50],
            "not_compared_with": compared,
            **({COMPLEMENT: complement} if complement else {}),
            "prompt_template": template.text,
            "prompt_template_sha256": template.sha256,
            "prompt_template_file": config.template,
            **self.record(config),
        }

    def read_template(self, config) -> Template:
        return read_template(config.template, "key 'template'")

    def held_out(self, config) -> dict[str, int]:
        """Split -> problems that are drawn for it."""
        return {"validation": config.validation}

    def record(self, config) -> dict:
        """Further keys of data.json."""
        return {}

    def prompt_of(self, config, value) -> str:
        """The prompt of a row, from its column."""
        return message(value, "user")

    def canonical(self, question) -> str:
        """Equal for prompts that are the same problem."""
        return " ".join(words(question))

    def demonstration_of(self, row, name) -> str | None:
        return message(column(row, name), "assistant")

    def further(self, config, row) -> dict:
        """Further columns of a problem file."""
        return {}

    def _complement(self, config, seen, out):
        """{rows, origin, steps} of the problems of key `complement`, without those in `seen` (canonical forms); None without the key."""
        if not getattr(config, COMPLEMENT, None):
            return None
        fetched = fetch(config.complement, f"key {COMPLEMENT}")
        bare = config.model_copy(update={"demonstration": None})
        rows, counts = self._rows(bare, fetched, COMPLEMENT)
        rows, _, _ = self._clean(bare, rows, out, counts)
        new = [r for r in rows if r["canonical"] not in seen]
        counts.append({"step": "not in source", "in": len(rows), "out": len(new), "dropped": []})
        if not new:
            raise UserError(f"key {COMPLEMENT!r}: no problem is left ({counts})")
        return {"rows": new, "origin": fetched.origin, "steps": counts}

    def _rows(self, config, fetched, source="source"):
        """(complete rows, counts of this step). source: the key that names the data"""
        total = len(fetched.rows) + len(fetched.broken)
        name = self.name if source == "source" else f"{self.name}-{source}"
        if total == 0:
            raise UserError(f"key {source!r}: {fetched.origin.get('path') or fetched.origin['name']} holds no row")
        for key in ("question", "answer", "demonstration"):
            wanted = getattr(config, key)
            if wanted and fetched.rows and not any(_has(row, wanted) for _, row in fetched.rows):
                known = sorted({k for _, row in fetched.rows[:100] for k in row})
                there = "" if source == "source" else f" in the data of key {source!r}"
                raise UserError(f"key {key!r}: column {wanted!r} is missing{there}; the data have {', '.join(known)}")
        rows, broken = [], list(fetched.broken)
        for number, row in fetched.rows[: config.limit]:
            try:
                question = self.prompt_of(config, column(row, config.question))
                response = self.demonstration_of(row, config.demonstration) if config.demonstration else None
                answer = answer_text(column(row, config.answer))
                if not answer:
                    raise ValueError("the answer is empty")
                further = self.further(config, row)
            except (KeyError, ValueError, TypeError) as e:
                broken.append((number, f"column {e} is missing" if isinstance(e, KeyError) else str(e)))
                continue
            form = self.canonical(question)
            rows.append(
                {
                    "id": f"{name}-{number - 1:06d}",
                    "prompt": question,
                    "answer": answer,
                    "level": "all",
                    "canonical": form,
                    "response": response,
                    **further,
                }
            )
        if len(broken) > config.max_broken * total:
            shown = "; ".join(f"row {n}: {reason}" for n, reason in sorted(broken)[:EXAMPLES])
            raise UserError(
                f"key {source!r}: {len(broken)} of {total} rows are broken, more than max_broken = {config.max_broken}: {shown}"
            )
        for number, reason in broken:
            print(f"key {source!r}: row {number} dropped: {reason}", file=sys.stderr)
        return rows, [
            {
                "step": "parse",
                "in": len(rows) + len(broken),
                "out": len(rows),
                "dropped": [{"row": n, "reason": r} for n, r in broken[:EXAMPLES]],
            }
        ]

    def _clean(self, config, rows, out, counts):
        """(problems that are left, contaminated problems, benchmarks that could not be compared)"""
        from ...verifier.verifier import Verifier

        def step(name, keep, show):
            kept = [r for r in rows if keep(r)]
            lost = [r for r in rows if not keep(r)]
            counts.append(
                {
                    "step": name,
                    "in": len(rows),
                    "out": len(kept),
                    "dropped": [{"id": r["id"], **show(r)} for r in lost[:EXAMPLES]],
                }
            )
            return kept, lost

        with Verifier(getattr(config, "verifier", "math")) as verifier:
            sure = dict(zip([r["id"] for r in rows], verifier.parses([r["answer"] for r in rows]), strict=True))
        rows, _ = step("answer can be compared", lambda r: sure[r["id"]], lambda r: {"answer": r["answer"]})
        first = {}
        for r in rows:
            first.setdefault(r["canonical"], r["id"])
        rows, _ = step(
            "deduplicate", lambda r: first[r["canonical"]] == r["id"], lambda r: {"same_as": first[r["canonical"]]}
        )
        if config.decontaminate is None:
            return rows, [], ["all: key 'decontaminate' is null"]
        index = read_index(out / "contamination.parquet", config.decontaminate.n)
        report = read_json(out / "contamination.report.json")
        missing = [f"{name}: {r['why']}" for name, r in report.items() if not r["compared"]]
        if missing and config.decontaminate.required:
            raise UserError(
                f"key 'decontaminate.required': training data could not be compared with {'; '.join(missing)}"
            )
        for m in missing:
            print(f"warning: training data not compared with benchmark {m}", file=sys.stderr)
        hits = {r["id"]: hit for r in rows if (hit := index.find(r["prompt"]))}
        for r in rows:
            if hit := hits.get(r["id"]):
                r["hit"] = {"benchmark": hit.benchmark, "benchmark_id": hit.id, "kind": hit.kind, "shared": hit.text}
        rows, lost = step("decontaminate", lambda r: r["id"] not in hits, lambda r: r["hit"])
        return rows, lost, missing


def _has(row, name):
    try:
        column(row, name)
        return True
    except KeyError:
        return False


TASK = Math()
