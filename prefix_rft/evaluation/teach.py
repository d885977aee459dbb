"""Command `teach`: make demonstrations with any model: sample solutions, verify them, keep the correct ones.

Writes two files, and resumes after a kill, as evaluations do:

    raw.<teacher>.parquet      correct and finished solutions, in sampling order, so that the demonstration filter's `per_prompt: 1`
                               keeps the first one
    levels.<teacher>.parquet   number of correct samples of each problem: the difficulty of the analysis set (paper section 3: 8
                               samples of R1-Distill-Qwen-1.5B)
"""

import sys
from pathlib import Path

from ..common.files import check_out_folder, remove_folder, sha256, write_json, write_parquet
from ..config.reading import config_hash, load, opt
from ..config.run import TOP_P, ModelEngine
from ..data.files import path_of, prompt_ids, read_problems
from ..data.tasks import task_of
from ..data.templates import read_template
from ..model.folder import check_folder, load_tokenizer
from ..rollout import sampling_seed
from .sampling import Job, sample_and_judge


class TeacherConfig(ModelEngine):
    """`setup/teachers/<name>.yaml`."""

    model: str = opt(..., "the model: name of a file in setup/bases")
    split: str = opt("train", "problems to solve: data/problems.<split>.parquet")
    template: str = opt(..., "the teacher's prompt template, a file with {question}; the student may have another one")
    samples: int = opt(8, "solutions a problem (paper section 3: 8)", ge=1)
    temperature: float = opt(0.6, "sampling temperature", ge=0)
    top_p: float | None = opt(None, TOP_P, gt=0, le=1)
    max_response: int = opt(8192, "response limit in tokens", ge=1)
    seed: int = opt(0, "seed of sampling", ge=0)
    save_rows: int = opt(
        4096, "solutions between two saves: the most that a kill loses; never changes the samples", ge=1
    )


def teach(config_file: Path, teacher: str, data: Path, model: Path, out: Path, override=None):
    """Write raw.<teacher>.parquet, levels.<teacher>.parquet and a report into the folder `out`."""
    config = load(TeacherConfig, config_file, override, "teachers")
    check_out_folder(out)
    task, problems, path = task_of(data), read_problems(data, config.split), path_of(data, config.split)
    template = read_template(config.template, f"{config_file}: key 'template'")
    check_folder(model)

    from ..common.provenance import versions

    tokenizer, parts = load_tokenizer(model), out / f"parts.{teacher}"
    prompts = prompt_ids(path, problems, lambda prompt: template.ids(tokenizer, prompt))
    identity = {
        "teacher": teacher,
        "config_hash": config_hash(config.model_copy(update={"save_rows": 1, "max_rows": 1})),
        "model_sha256": sha256(model / "model.safetensors"),
        "problems": sha256(path),
        "template_sha256": template.sha256,
    }
    job = Job(
        *(model, identity["model_sha256"], config.split, problems, prompts, config.samples, config.temperature),
        sampling_seed(config.seed, teacher),
    )
    (rows,) = sample_and_judge(config, [job], tokenizer, task, parts, config_file, f"teacher {teacher}")
    kept = [r for r in rows if r["correct"] and r["finished"] and r["response"].strip()]
    raw = [
        {
            "problem_id": r["problem_id"],
            "demo_id": f"{teacher}-{r['problem_id']}-{r['sample']}",
            "response": r["response"].strip(),
            "source": teacher,
        }
        for r in kept
    ]
    levels = {p["id"]: {"problem_id": p["id"], "tried": 0, "right": 0, "timed_out": 0} for p in problems}
    for r in rows:
        level = levels[r["problem_id"]]
        level["tried"] += 1
        level["right"] += r["correct"]
        level["timed_out"] += r["timed_out"]
    report = {
        "config": config.model_dump(),
        **identity,
        "versions": versions(),
        "steps": [
            {"step": "sampled", "out": len(rows)},
            {"step": "ended by itself", "out": sum(r["finished"] for r in rows)},
            {"step": "right", "out": sum(r["correct"] for r in rows)},
            {"step": "kept", "out": len(kept)},
        ],
        "timed_out": sum(r["timed_out"] for r in rows),
        "problems": len(problems),
        "problems_with_a_demonstration": len({r["problem_id"] for r in kept}),
        "template": {"file": config.template, "example": tokenizer.decode(prompts[0])},
    }
    columns = ("problem_id", "demo_id", "response", "source")
    write_parquet(out / f"levels.{teacher}.parquet", list(levels.values()))
    write_parquet(out / f"raw.{teacher}.parquet", raw, columns)
    write_json(out / f"raw.{teacher}.report.json", report)
    remove_folder(parts)
    print(
        f"teacher {teacher}: {len(kept)} of {len(rows)} solutions kept, for {report['problems_with_a_demonstration']} problems",
        file=sys.stderr,
    )
