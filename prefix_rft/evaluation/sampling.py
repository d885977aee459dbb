"""Sample responses to problems and verify them: the sampler of evaluations, teachers and probes.

Rows are saved in parts, so that a kill loses at most one part. The folder of the parts is not an output of a rule, because Snakemake
deletes outputs before a retry. The random numbers of a row depend on the seed and on the row's index among all rows. So neither a kill
nor another part size changes a sample.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..common.errors import UserError
from ..common.files import hash_of, read_mapping, read_parquet, sweep, write_parquet
from ..rollout import Sampling, make_engine

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Problems that one model answers at one temperature.

    model: folder of the model
    weights: identity of its weights, such as their hash
    split: name of the problem set, written into every row
    problems: mappings with id, level and answer
    prompts: token ids of each problem's prompt
    samples: responses a problem
    temperature: sampling temperature, 0 is greedy
    seed: of the random numbers (`rollout.sampling_seed`)
    """

    model: Path
    weights: str
    split: str
    problems: list[dict]
    prompts: list[list[int]]
    samples: int
    temperature: float
    seed: int


def sample_and_judge(config, jobs, tokenizer, verifier, parts, where, title) -> list[list[dict]]:
    """The rows of each job, problem by problem, `samples` rows a problem.

    config: has engine, vllm, max_rows, max_response and save_rows; may have dtype and top_p
    jobs: a list of `Job`; the engine is started once and takes over the weights of one model after another
    verifier: a task or the name of a verifier (`Verifier`)
    parts: folder for the parts; the caller removes it once its outputs are written
    where: file of the configuration, for errors
    title: label of the progress bar

    Raises `UserError` before the first sample if a prompt and a response together may exceed a model's window.
    """
    from ..verifier.verifier import Verifier

    for job in jobs:
        window, longest = read_mapping(job.model / "config.json").get("max_position_embeddings"), _longest(job)
        if window and longest + config.max_response > window:
            raise UserError(
                f"{where}: key 'max_response' = {config.max_response}: with the longest prompt of {job.split} ({longest} tokens) it"
                f" exceeds the model's window of {window}"
            )
    sweep(parts)  # a start before may have been killed while it removed them
    engine = _Engine(config, jobs, tokenizer)
    total = sum(len(job.prompts) * job.samples for job in jobs)
    with Verifier(verifier) as verify, tqdm(total=total, desc=title, unit="response", disable=None) as bar:
        return [_rows(config, job, engine, tokenizer, verify, Path(parts), bar) for job in jobs]


def _rows(config, job, engine, tokenizer, verifier, parts, bar):
    """The rows of one job. The name of the folder of its parts is a hash of everything that decides the rows."""
    asked = [[p["id"], p["level"], p["answer"]] for p in job.problems]
    sampled = [job.samples, job.temperature, job.seed, config.max_response, config.engine, _dtype(config)]
    top_p = top_p_of(config)
    sampled += [top_p] if top_p < 1 else []
    folder = parts / hash_of([job.weights, job.split, asked, job.prompts, sampled, verifier.kind])[:16]
    rows, total = [], len(job.prompts) * job.samples
    for part in sorted(folder.glob("rows-*.parquet")):
        if part.stem != f"rows-{len(rows):08d}":  # a part after a gap is sampled again
            continue
        try:
            rows += read_parquet(part)
        except UserError as e:
            log.warning("%s; its responses are sampled again", e)
    if rows:
        log.info("%s: %d of %d responses were saved before", folder, len(rows), total)
        bar.update(len(rows))
    while len(rows) < total:
        first = len(rows)
        numbers = range(first, min(first + config.save_rows, total))
        prompts = [job.prompts[n // job.samples] for n in numbers]
        sampling = Sampling(job.temperature, job.seed, first, top_p)
        completions = engine.of(job.model).generate(prompts, [config.max_response] * len(prompts), sampling)
        part = judge(job, numbers, completions, tokenizer, verifier)
        write_parquet(folder / f"rows-{first:08d}.parquet", part)
        rows += part
        bar.update(len(part))
    return rows


def judge(job, numbers, completions, tokenizer, verifier) -> list[dict]:
    """A row of each completion. numbers: the rows' indices in the job. Text is decoded as in training."""
    problems = [job.problems[n // job.samples] for n in numbers]
    texts = tokenizer.batch_decode([c.ids for c in completions], skip_special_tokens=True)
    verdicts = verifier.score(texts, [p["answer"] for p in problems])
    return [
        {
            "split": job.split,
            "problem_id": problem["id"],
            "level": problem["level"],
            "temperature": float(job.temperature),
            "sample": n % job.samples,
            "response": text,
            "extracted": verdict.extracted or "",
            "n_tokens": len(completion.ids),
            "finished": bool(completion.finished),
            "correct": verdict.correct is True,
            "timed_out": verdict.correct is None,
        }
        for n, problem, completion, text, verdict in zip(numbers, problems, completions, texts, verdicts, strict=True)
    ]


class _Engine:
    """The configured engine with the weights of the model that `of` names. The first call of `of` starts the engine."""

    def __init__(self, config, jobs, tokenizer):
        self.config, self.tokenizer, self.engine, self.model = config, tokenizer, None, None
        self.longest, self.probe = max(map(_longest, jobs)) + config.max_response, jobs[0].prompts[0]

    def of(self, folder):
        if folder != self.model:
            import torch

            from ..model.folder import load_model, stop_ids

            config, gpu = self.config, torch.cuda.is_available()
            native = config.engine == "native"
            model = load_model(folder, _dtype(config), parameters_only=native and not gpu)
            if native and gpu:  # vLLM has its own copy on the GPU
                model = model.to("cuda")
            if self.engine is None:
                options = dict(options=config.vllm, dtype=_dtype(config), longest=self.longest, probe=self.probe)
                stops = stop_ids(model, self.tokenizer)
                self.engine = make_engine(config.engine, model, stops, config.max_rows, **options)
            else:
                self.engine.sync(model)
            self.model = folder
        return self.engine


def _longest(job):
    return max(map(len, job.prompts))


def top_p_of(config):
    """Key `top_p` of a configuration; 1 where it is unset or unknown."""
    return getattr(config, "top_p", None) or 1.0


def _dtype(config):
    return getattr(config, "dtype", "float32")
