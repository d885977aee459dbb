"""Command `cost`: GPU-hours, tokens, disk and memory of a run, or of everything that a target of the workflow would run. Runs nothing.

    prefix-rft cost --preset paper-7b --run prefix_rft       # one training run
    prefix-rft cost --preset paper-7b --target figure_2      # the jobs that `snakemake -n` lists for a target

Why: a user should know the price of a target before jobs are submitted. Seconds come from a roofline (roofline.py), memory from
training/memory.py. The lengths of responses that are not sampled yet (`expected` of preset.yaml) are assumptions, and are printed with the
result. Numbers of problems and demonstrations come from the reports in results/<preset>, where these exist.

Left out: ReLIFT's extra updates, reading the data, verification (on CPUs, beside the GPUs), exchanges between GPUs, waiting in a queue.
"""

import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import PositiveFloat, PositiveInt

from ..common.errors import UserError
from ..common.files import read_json
from ..config.preset import preset_values
from ..config.reading import Section, load, opt, resolve
from ..config.reading import build as build_config
from ..config.run import Vllm
from ..evaluation.benchmarks import load_benchmarks
from ..methods import get_method
from ..model import shapes
from ..report.formats import markdown, si
from ..runs.ablations import Runs, run_names
from ..runs.layout import Layout
from ..training import memory
from ..training.memory import GIB
from .roofline import decode_seconds, group_of, load_hardware, training_flops

EVALUATIONS = {  # rule -> (what it does, file in setup/)
    "evaluate": ("evaluate", "evaluation"),
    "evaluate_base": ("evaluate", "evaluation"),
    "sample": ("sample for pass@k", "pass_at_k"),
    "sample_base": ("sample for pass@k", "pass_at_k"),
    "validate_grid": ("validate", "validation"),
}
SAMPLE_BYTES = 3.0  # a sampled token as text in samples.parquet


class Expected(Section):
    """Section `expected` of preset.yaml: assumed sizes, for data that do not exist yet and runs that have not run."""

    prompt_tokens: float = opt(160, "mean length of a prompt", gt=0)
    response_tokens: float = opt(2500, "mean length of a sampled response, training and evaluation", gt=0)
    teacher_tokens: float = opt(4500, "mean length of a teacher's solution", gt=0)
    problems: dict[str, PositiveInt] = opt({}, "problem file -> number of problems")
    demonstrations: dict[str, PositiveInt] = opt({}, "demonstration set -> number of demonstrations")
    demonstration_tokens: dict[str, PositiveFloat] = opt({}, "demonstration set -> their mean length")


@dataclass
class Job:
    """Cost of one job.

    seconds: wall-clock time of the whole job
    sampled, trained: tokens
    disk: bytes
    memory: bytes on one GPU
    """

    what: str
    gpus: int = 0
    seconds: float = 0.0
    sampled: float = 0.0
    trained: float = 0.0
    disk: float = 0.0
    memory: float = 0.0
    parts: dict = field(default_factory=dict)

    @property
    def gpu_hours(self):
        return self.gpus * self.seconds / 3600


# -------------------------------------------------------------------------------------------------------- single jobs


class Preset:
    """What the jobs of a preset need to know: shapes, sizes, configurations."""

    def __init__(self, folder, hardware, override=None, engine=None):
        self.folder, self.hardware, self.override, self.engine = Path(folder), hardware, override, engine
        file = self.folder / "preset.yaml"
        values = preset_values(file, override) if file.exists() else {}
        self.expected = build_config(Expected, values.get("expected") or {}, f"{file}: expected")
        self.results = Path("results") / self.folder.name
        self.runs = Runs(self.folder, override)
        self.find = self.runs.files.find
        self.measured = set()

    def shape(self, base):
        file = self.find(f"setup/bases/{base}.yaml")
        values = resolve(file, self.override, "base")
        for folder in (Layout(self.folder, self.results, self.override).base(base), values.get("path")):
            config = folder and Path(folder) / "config.json"
            if config and config.exists() and (shape := shapes.of_values(read_json(config))):
                return shape
        return shapes.of_name(str(values.get("name") or values.get("package")), str(file))

    def problems(self, split):
        """How many there are: of the data where they are made, else as expected."""
        report = self.results / "data/data.json"
        counts = read_json(report).get("problems", {}) if report.exists() else {}
        if split in counts:
            self.measured.add(f"problems of {split}")
            return sum(counts[split].values())
        if split not in self.expected.problems:
            raise UserError(
                f"{self.folder}/preset.yaml: key 'expected.problems.{split}' is missing: how many problems it has;"
                f" or make the data first: snakemake --cores 1 --config preset={self.folder.name} -- data"
            )
        return self.expected.problems[split]

    def demonstrations(self, name):
        """(number, mean tokens), from the report where there is one."""
        report = self.results / f"data/demos.{name}.report.json"
        if report.exists():
            found = read_json(report)
            self.measured.add(f"demonstrations of {name}")
            return found["demonstrations"], found["tokens"]["total"] / found["demonstrations"]
        for key in ("demonstrations", "demonstration_tokens"):
            if name not in getattr(self.expected, key):
                raise UserError(
                    f"{self.folder}/preset.yaml: key 'expected.{key}.{name}' is missing, and {report} is not there yet"
                )
        return self.expected.demonstrations[name], self.expected.demonstration_tokens[name]

    def drawn(self, run):
        """The share of the problems that a run trains on (key `prompts`)."""
        if run.prompts is None:
            return 1.0
        return 0.5 if run.prompts.count is None else run.prompts.count / self.problems(run.train_split)

    # ------------------------------------------------------------------------------------------------------------

    def main_memory(self, run):
        """Bytes of main memory of a node in training."""
        method = get_method(run)
        reads = run.demos is not None and (method.uses_demos or not method.samples)
        count, length = self.demonstrations(run.demos) if reads else (0, 0.0)
        return memory.main_memory(run, self.shape(run.base), count * length)

    def with_engine(self, run):
        """The run, with the engine of the command line where it names one."""
        if self.engine is None or run.rollout is None:
            return run
        own = run.rollout.vllm if self.engine == "vllm" else None  # a section that a native engine would refuse
        return run.model_copy(update={"rollout": run.rollout.model_copy(update={"engine": self.engine, "vllm": own})})

    def train(self, run, name, snapshots=0):
        """A training run (paper section 2, step by step)."""
        run = self.with_engine(run)
        shape, hw, ex = self.shape(run.base), self.hardware, self.expected
        method, parallel = get_method(run), getattr(run, "parallel", None)
        gpus = parallel.nodes * parallel.processes_per_node if parallel else 1
        checkpointing = bool(parallel and parallel.activation_checkpointing)
        job = Job(f"train {name}", gpus)
        count, length = self.demonstrations(run.demos) if method.uses_demos or not method.samples else (0, 0.0)
        if not method.samples:
            steps = run.steps or -(-run.epochs * count * self.drawn(run) // run.batch_prompts)
            sequences = steps * run.batch_prompts
            job.trained = sequences * (ex.prompt_tokens + length)
            flops = training_flops(shape, job.trained, ex.prompt_tokens + length, sequences * length, checkpointing)
            job.seconds = hw.seconds_of(flops, "train", gpus)
        else:
            mean = min(ex.response_tokens, run.rollout.max_response)
            having = min(1.0, count / self.problems(run.train_split)) if count else 0.0
            group = group_of(method, mean, length)
            plain = group if having == 1 else group_of(method, mean, 0)
            rows, sampled, read, responses = (
                run.batch_prompts * (having * a + (1 - having) * b) for a, b in zip(group, plain, strict=True)
            )
            vllm = run.rollout.engine == "vllm"
            cache = ("rollout.vllm.kv_cache_gib", (run.rollout.vllm or Vllm()).kv_cache_gib)
            decode = decode_seconds(
                *(shape, hw, run.rollout.engine, -(-rows // gpus)),
                *(ex.prompt_tokens + read / rows, sampled / rows, run.rollout.max_response),
                cache=(f"{name}: {cache[0]}", cache[1]) if vllm else None,
                size=2 if vllm and run.dtype == "bfloat16" else 4,  # the native engine samples in float32
            )
            count = max(rows, run.batch_prompts * run.rollout.group_size)
            tokens, long = count * ex.prompt_tokens + responses, responses / count
            passes = 1 + method.uses_reference  # log-probs of pi_old; of the first model
            score = hw.seconds_of(passes * shape.forward_flops(tokens, long / 2, responses), "forward", gpus)
            update = hw.seconds_of(training_flops(shape, tokens, long, responses, checkpointing), "train", gpus)
            job.seconds = run.steps * (decode + score + update)
            job.sampled, job.trained = run.steps * sampled, run.steps * tokens
            job.parts = {"rollout": decode, "log-probs": score, "update": update}
        states = 3 + 2 * (method.further_optimizer() is not None)
        # `keep` checkpoints, one being written, and the model; snapshots exist twice when the run ends
        job.disk = (
            4 * shape.parameters * (states * (run.checkpoint.keep + 1) + 1 + 2 * (snapshots + 1 if snapshots else 0))
        )
        job.memory = memory.peak(memory.training(run, shape, method, "cuda"))
        return job

    def sample(self, what, base, rows, mean, config):
        """The `Job` that samples `rows` responses with the engine, response limit and dtype of `config`."""
        shape, prompt, options = self.shape(base), self.expected.prompt_tokens, config.vllm or Vllm()
        engine = self.engine or config.engine
        mean, cache, parallel, spread = min(mean, config.max_response), None, 1, 1
        if engine == "vllm":
            cache = (f"{what}: vllm.kv_cache_gib", options.kv_cache_gib)
            parallel, spread = options.tensor_parallel, options.data_parallel
        size = 2 if getattr(config, "dtype", "float32") == "bfloat16" else 4
        seconds = decode_seconds(
            *(shape, self.hardware, engine, -(-rows // spread), prompt, mean, config.max_response),
            *(cache, parallel, size),
        )
        if engine == "native":  # the model and its folded copy
            need = 2 * size * shape.parameters + min(rows, config.max_rows) * (
                prompt + config.max_response
            ) * shape.cache_bytes(size)
        else:
            need = size * shape.parameters / parallel + options.kv_cache_gib * GIB
            need += memory.vllm_work_bytes(shape, config.max_rows)
        need += memory.OVERHEAD["cuda"]
        return Job(what, parallel * spread, seconds, sampled=rows * mean, disk=rows * mean * SAMPLE_BYTES, memory=need)

    def benchmark(self, kind, model, name):
        file = self.find("setup/pass_at_k.yaml" if kind == "pass_at_k" else "setup/benchmarks.yaml")
        config, entries = load_benchmarks(file, self.override)
        rows = entries[name].problems * (config.samples or entries[name].samples)
        base = self.base_of(model)
        what = "sample for pass@k" if kind == "pass_at_k" else "evaluate"
        return self.sample(f"{what} {model}", base, rows, self.expected.response_tokens, config)

    def teach(self, name):
        from ..evaluation.teach import TeacherConfig

        config = load(TeacherConfig, self.find(f"setup/teachers/{name}.yaml"), self.override, "teachers")
        rows = self.problems(config.split) * config.samples
        return self.sample(f"teach {name}", config.model, rows, self.expected.teacher_tokens, config)

    def probe(self, name):
        from ..evaluation.probe import Probe

        config = load(Probe, self.find("setup/probe.yaml"), self.override, "probe")
        run, problems = self.runs.load(name), self.problems(config.split)
        rows = problems * config.samples
        one = self.sample(f"probe {name}", run.base, rows, self.expected.response_tokens, config)
        models = config.snapshots + 1
        _, length = self.demonstrations(config.demos)
        shape = self.shape(run.base)
        # in float32, whatever the sampling is in
        flops = shape.forward_flops(problems * (self.expected.prompt_tokens + length), length / 2, problems * length)
        likelihood = self.hardware.seconds_of(flops, "forward", size=4)
        one.memory += 4 * shape.parameters if config.engine == "vllm" else 0  # the snapshot itself
        one.seconds, one.sampled = models * (one.seconds + likelihood), models * one.sampled
        one.disk = models * problems * 100.0
        return one

    def evaluate(self, what, model, stem):
        """The `Job` that evaluates a base model or a run on held-out problems. stem: of the file in setup/ that says how."""
        from ..evaluation.evaluate import Evaluation

        config = load(Evaluation, self.find(f"setup/{stem}.yaml"), self.override, "evaluation")
        problems = sum(self.problems(split) for split in config.splits)
        return self.sample(
            f"{what} {model}",
            self.base_of(model),
            problems * config.samples * len(config.temperatures),
            self.expected.response_tokens,
            config,
        )

    def base_of(self, model):
        """The base model of a run; a base model itself."""
        return model if self.find(f"setup/bases/{model}.yaml").exists() else self.runs.load(model).base

    def job(self, rule, wildcards):
        """The `Job` of a rule of the workflow; None for those that take no GPU and little else."""
        w = wildcards
        if rule in ("train", "train_grid", "replay", "train_with_snapshots"):
            kept = rule in ("replay", "train_with_snapshots")
            snapshots = int(read_yaml_of(self, "setup/probe.yaml", "probe").get("snapshots", 10)) if kept else 0
            return self.train(self.runs.load(w["run"]), w["run"], snapshots)
        if rule in ("evaluate_on_benchmark", "evaluate_base_on_benchmark"):
            return self.benchmark(w["kind"], w.get("run") or w["base"], w["benchmark"])
        if rule == "teach":
            return self.teach(w["teacher"])
        if rule == "probe":
            return self.probe(w["run"])
        if rule in EVALUATIONS:
            what, stem = EVALUATIONS[rule]
            return self.evaluate(what, w.get("run") or w["base"], stem)
        if rule in ("base", "base_of_seed"):
            return Job(
                f"base model {w['base']}", disk=2.0 * self.shape(w["base"]).parameters * 2
            )  # and the hub's cache
        return None


def read_yaml_of(preset, file, section):
    return resolve(preset.find(file), preset.override, section)


# ------------------------------------------------------------------------------------------------------------- a plan


def planned(preset, target, cores=1):
    """[(rule, wildcards)] of every job that makes `target`, those included that are done already. Asks Snakemake."""
    command = [sys.executable, "-m", "snakemake", "-n", "--forceall", "--nolock", "--cores", str(cores)]
    command += ["--config", f"preset={preset}", "--", target]
    done = subprocess.run(command, capture_output=True, text=True)
    text = done.stdout + done.stderr
    if done.returncode:
        last = (text.strip().splitlines() or ["failed"])[-1]
        own = last.removeprefix("error: ")  # a line of the workflow itself, such as the nearest target
        raise UserError(f"--target {target}: {own}" if own != last else f"{' '.join(command[2:])}: {last}")
    return read_plan(text)


def read_plan(text):
    """The jobs in the output of a dry run; those of a group are indented there."""
    jobs = []
    for block in re.split(r"\n(?=\s*(?:local)?rule [\w.+-]+:)", text)[1:]:
        rule = re.match(r"\s*(?:local)?rule ([\w.+-]+):", block)[1]
        found = re.search(r"^\s+wildcards: (.*)$", block, re.MULTILINE)
        pairs = re.findall(r"(\w+)=([^,]+)", found[1]) if found else []
        jobs.append((rule, {k: v.strip() for k, v in pairs}))
    total = re.findall(r"^total +(\d+)$", text, re.MULTILINE)
    if total and int(total[-1]) != len(jobs):
        raise RuntimeError(f"snakemake -n counts {total[-1]} jobs, {len(jobs)} were read from its output")
    return jobs


# ----------------------------------------------------------------------------------------------------------- printing

HEADER = ["Job", "jobs", "GPUs", "hours each", "GPU-hours", "sampled", "trained", "disk", "GiB a GPU"]


def few(number):
    """Two digits of a number below ten, all of a larger one without decimals."""
    return f"{number:.2g}" if number < 10 else f"{number:.0f}"


def hours(seconds):
    return f"{seconds / 3600:.1f}" if seconds >= 360 else f"{seconds / 3600:.2f}"


def table(jobs, hardware):
    """(Markdown, total of GPU-hours): one line for jobs of one kind, which differ by seed and benchmark."""
    groups = {}
    for j in jobs:
        groups.setdefault(j.what, []).append(j)
    lines, total = [], Job("total")
    gpu_hours = 0.0
    verbs = [what.split()[0] for what in groups]
    for what in sorted(groups, key=lambda what: verbs.index(what.split()[0])):
        group = groups[what]
        worst = max(j.memory for j in group)
        own = sum(j.gpu_hours for j in group)
        seconds = [j.seconds for j in group]
        each = (
            hours(max(seconds))
            if max(seconds) - min(seconds) < 360
            else f"{hours(min(seconds))} to {hours(max(seconds))}"
        )
        too_much = " (too much)" if worst > hardware.memory_gib * GIB else ""
        sums = {k: sum(getattr(j, k) for j in group) for k in ("sampled", "trained", "disk")}
        lines.append(
            [
                what,
                len(group),
                max(j.gpus for j in group) or "",
                each if max(seconds) else "",
                few(own) if own else "",
            ]
            + [si(sums[k]) if sums[k] else "" for k in ("sampled", "trained")]
            + [si(sums["disk"]) + "B", f"{worst / GIB:.0f}{too_much}" if worst else ""]
        )
        gpu_hours += own
        for k, v in sums.items():
            setattr(total, k, getattr(total, k) + v)
    lines.append(
        [
            "**all**",
            len(jobs),
            "",
            "",
            f"**{few(gpu_hours)}**",
            si(total.sampled),
            si(total.trained),
            si(total.disk) + "B",
            "",
        ]
    )
    return markdown(HEADER, lines), gpu_hours


def assumptions(preset, hardware):
    ex, use = preset.expected, hardware.utilisation
    known = f" Measured: {', '.join(sorted(preset.measured))}." if preset.measured else ""
    return (
        f"{hardware.label}: {hardware.tflops:g} TFLOP/s ({hardware.tflops_float32:g} in float32), {hardware.bandwidth_tb_s:g} TB/s,"
        f" {hardware.memory_gib:g} GiB. Assumed, not"
        f" measured: {use.train:.0%} of the peak in training and {use.forward:.0%} in forward passes,"
        f" {use.decode_vllm:.0%} of the bandwidth in decoding by vLLM and {use.decode_native:.0%} by the native engine; prompts of"
        f" {ex.prompt_tokens:g} tokens, responses of {ex.response_tokens:g}, a teacher's of {ex.teacher_tokens:g}; sizes of the data as in"
        f" `expected` of preset.yaml.{known} Disk: the peak of each job, checkpoints included; a complete run"
        " has deleted its checkpoints.\n"
    )


def print_cost(layout: Layout, name=None, target="all", changes=(), hardware="h100", engine=None):
    """Print what a run or the jobs of a target cost.

    Args:
        layout: files of the preset.
        name: of the run; None: the jobs of `target`.
        changes: single values of the run's configuration, such as "steps=10".
        hardware: an entry of config/hardware.yaml.
        engine: in place of the configuration's.
    """
    hardware, folder = load_hardware(hardware), layout.preset
    runs = Runs(folder)
    if all(runs.load(n).device == "cpu" for n in run_names(folder)):
        raise UserError(
            f"--preset {folder.name}: its runs have device: cpu, and prices are of GPUs; docs/costs.md has what was measured"
        )
    preset = Preset(folder, hardware, engine=engine)
    if name is not None:
        layout.run(name)  # says so where there is no such run
        run = preset.with_engine(layout.finder.load(name, changes))
        job = preset.train(run, name)
        jobs = [job]
    else:
        jobs = [j for j in (preset.job(*p) for p in planned(folder.name, target)) if j is not None]
        if not jobs:
            raise UserError(
                f"--target {target}: preset {folder.name} has no job for it that trains, samples or fetches a model"
            )
    text, _ = table(jobs, hardware)
    print(text)
    if name is not None:
        shape = preset.shape(run.base)
        if job.parts:
            print("Seconds a step: " + ", ".join(f"{k} {few(v)}" for k, v in job.parts.items()) + "\n")
        parts = memory.training(run, shape, get_method(run), "cuda")
        rows = [[name, f"{size / GIB:.1f}"] for name, size in sorted(parts.items(), key=lambda kv: -kv[1])]
        moments = memory.moments(parts)
        worst = max(moments, key=moments.get)
        rows += [[f"**peak: the {worst}**", f"{moments[worst] / GIB:.1f}"]]
        rows += [[f"at the {name}", f"{size / GIB:.1f}"] for name, size in moments.items() if name != worst]
        rows += [["main memory of a node", f"{preset.main_memory(run) / GIB:.0f}"]]
        print(markdown(["Memory of a GPU in training", "GiB"], rows))
        print(
            "Not all of it is there at once: `rollout` is freed for the update, gradients and activations for the sampling.\n"
        )
    print(assumptions(preset, hardware))
