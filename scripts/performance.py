"""How fast the embedded engine and trainer are on a CPU, and where the time goes: python scripts/performance.py [SECTION ...]

    sizes     rollout and RL step against the size of the model, beside transformers' `generate` and TRL's GRPOTrainer
    rows      rollout against the rows of a batch
    lengths   rollout against the length of the responses
    memory    peak memory and time of an update against the packed tokens of a micro-batch, beside a padded batch in transformers
    plan      time of `snakemake -n` against the number of jobs
    verifier  verdicts a second against worker processes
    figures   draws docs/results/performance.png and writes the table of docs/performance.md from the JSON

Each section is measured in processes of its own and written to docs/results/performance.json as it ends; sections that stand there are
measured again only if they are named. Models have random weights and responses run to their limit: speed does not depend on what is said.
It takes about 15 minutes on a quiet machine. Data and base model: snakemake --cores all bases data
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
FILE, PAGE = ROOT / "docs/results/performance.json", ROOT / "docs/performance.md"
DATA, BASE = ROOT / "results/tiny/data", ROOT / "results/tiny/models/base/seed0"
# width, layers, heads, kv heads, MLP, vocabulary; the last is SmolLM2-135M's shape
SHAPES = {
    "0.3M": (96, 3, 4, 2, 256, 24),
    "5M": (256, 4, 4, 2, 688, 4096),
    "30M": (512, 8, 8, 4, 1376, 8192),
    "135M": (576, 30, 9, 3, 1536, 49152),
}
FROM_30M = {"skip_trl": True, "rounds": 1}


def model_folder(name, folder):
    """A model of random weights with tiny's tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    width, layers, heads, kv_heads, mlp, vocabulary = SHAPES[name]
    torch.manual_seed(0)
    sizes = dict(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=kv_heads)
    sizes |= dict(intermediate_size=mlp, vocab_size=vocabulary, tie_word_embeddings=name == "135M")
    model = LlamaForCausalLM(
        LlamaConfig(**sizes, max_position_embeddings=4096, bos_token_id=None, eos_token_id=1, pad_token_id=0)
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(BASE).save_pretrained(folder)
    return model.num_parameters()


def speed(name, **load):
    """What `speed-trl` prints for a model of a size."""
    from prefix_rft.speed.against_trl import Load, measure

    with tempfile.TemporaryDirectory() as folder:
        parameters = model_folder(name, folder)
        out = Path(folder) / "out.json"
        measure(Load(model=Path(folder), data=DATA, out=out, **load))
        found = json.loads(out.read_text())
    return {
        "model": name,
        "parameters": parameters,
        **{k: found[k] for k in ("shape", "sgemm_gflops", "rollout", "step") if k in found},
    }


def update(name, packed, tokens):
    """Seconds and peak memory (MiB above the start) of forward and backward of 8 groups of 8 responses of 64 tokens."""
    import torch
    from torch.nn import functional as F

    from prefix_rft.episodes import UPDATE, Episode, Problem, Start
    from prefix_rft.methods import get_method
    from prefix_rft.model.folder import load_model
    from prefix_rft.runs.load import build_run
    from prefix_rft.training.learner import Learner

    with tempfile.TemporaryDirectory() as folder:
        model_folder(name, folder)
        model = load_model(Path(folder))
    values = {"method": "rft", "steps": 10, "batch_prompts": 8, "minibatch_prompts": 8, "micro_tokens": tokens}
    values |= {"rollout": {"group_size": 8, "max_response": 64}, "optimizer": {"lr": 1e-6}}
    run = build_run(values, "performance")
    learner, method = Learner(model, run, 10), get_method(run)
    generator = torch.Generator().manual_seed(0)

    def ids(count):
        return torch.randint(2, 24, (count,), generator=generator).tolist()

    problems = [Problem(str(g), ids(32), "") for g in range(8)]
    episodes = [
        Episode(
            g,
            Start(problems[g]),
            ids(64),
            torch.full((64,), -3.0).double().numpy(),
            False,
            reward=float(r % 2),
            old_from=UPDATE,
        )
        for g in range(8)
        for r in range(8)
    ]
    rows = torch.tensor([problems[e.group].prompt + e.ids for e in episodes])

    def padded():
        for part in rows.split(max(1, tokens // rows.shape[1])):
            logits = model(input_ids=part).logits[:, 31:-1]
            (F.cross_entropy(logits.flatten(0, 1), part[:, 32:].flatten(), reduction="sum") / rows.numel()).backward()

    def step():
        learner.update(episodes, method.weigh(episodes)) if packed else padded()

    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = []
    for _ in range(4):
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) / 1024
    return {"model": name, "packed": packed, "tokens": tokens, "seconds": sorted(seconds[1:])[1], "peak_mib": peak}


def in_a_process(function, *args, **kwargs):
    """The result of a function of this file, called in a process of its own: its memory is its own."""
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from scripts import performance as p;"
        " r = getattr(p, sys.argv[2])(*json.loads(sys.argv[3]), **json.loads(sys.argv[4])); print('RESULT' + json.dumps(r))"
    )
    call = [sys.executable, "-c", code, str(ROOT), function, json.dumps(args), json.dumps(kwargs)]
    done = subprocess.run(call, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        sys.exit(f"error: {function}{args}: {done.stderr[-2000:]}")
    print(f"  {function} {args} {kwargs}", file=sys.stderr, flush=True)
    return json.loads(done.stdout.rpartition("RESULT")[2])


def sizes():
    rest = dict(prompts=8, group_size=8, new_tokens=64)
    return [in_a_process("speed", name, **rest, **({} if name in ("0.3M", "5M") else FROM_30M)) for name in SHAPES]


def rows():
    return [
        in_a_process("speed", "5M", prompts=n, group_size=8, new_tokens=64, rounds=3, skip_trl=True)
        for n in (1, 4, 16, 32)
    ]


def lengths():
    return [
        in_a_process("speed", "5M", prompts=2, group_size=8, new_tokens=n, rounds=1, skip_trl=True)
        for n in (64, 256, 1024, 2048)
    ]


def memory():
    return [in_a_process("update", "5M", packed, n) for packed in (True, False) for n in (512, 1024, 2048, 4096, 8192)]


def plan():
    found = []
    for seeds in (1, 3, 10, 30):
        call = [
            "snakemake",
            "-n",
            "--cores",
            "1",
            "--config",
            f"seeds={list(range(seeds))}".replace(" ", ""),
            "--",
            "all",
            "study_methods",
        ]
        begin = time.perf_counter()
        text = subprocess.run(call, capture_output=True, text=True, cwd=ROOT, check=True).stdout
        jobs = int(re.findall(r"^total +(\d+)$", text, re.M)[-1])
        found.append({"seeds": seeds, "jobs": jobs, "seconds": time.perf_counter() - begin})
        print(f"  plan of {jobs} jobs: {found[-1]['seconds']:.1f} s", file=sys.stderr, flush=True)
    return found


def verdicts(workers):
    """Verdicts a second on answers that math-verify has to compare: numbers of the same form are judged without it."""
    from prefix_rft.verifier.verifier import Verifier

    def answers(first, count):
        numbers = range(first, first + count)
        return [f"So the answer is $\\boxed{{x^2+{2 * n}x+{n * n}}}$." for n in numbers], [
            f"(x+{n})^2" for n in numbers
        ]

    with Verifier("math", workers=workers) as verify:
        verify.score(*answers(0, 50))  # the workers start
        begin = time.perf_counter()
        verify.score(*answers(1000, 400))
        return {"workers": workers, "verdicts_per_second": 400 / (time.perf_counter() - begin)}


def verifier():
    return [in_a_process("verdicts", n) for n in (1, 2, 4)]


MEASURED = {f.__name__: f for f in (sizes, rows, lengths, memory, plan, verifier)}


def table(found):
    """The measured rates in Markdown, between the marks of the page."""
    head = "| model | rows x tokens | ours, tokens/s | generate, tokens/s | ratio | times the arithmetic limit | RL step beside TRL |"
    lines = [head, "|---|---:|---:|---:|---:|---:|---:|"]
    for row in (row for name in ("sizes", "rows", "lengths") for row in found.get(name, ())):
        rollout, step, shape = row["rollout"], row.get("step"), row["shape"]
        cells = [row["model"], f"{shape['rows']} x {shape['new_tokens']}"]
        cells += [f"{rollout[f'{side}_tokens_per_second']:,.0f}" for side in ("ours", "their")]
        cells += [
            f"{rollout['ratio']:.2f}",
            f"{rollout['ours_times_the_limit']:.2f}",
            f"{step['ratio']:.2f}" if step else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    before, _, rest = PAGE.read_text().partition("<!-- table -->")
    after = rest.partition("<!-- end -->")[2]
    return "\n".join([before + "<!-- table -->", *lines, "<!-- end -->" + after])


def panel(axis, title, xlabel, ylabel, curves, ticks, *, log=True):
    """Curves with a label, x, y, colour and marker; `ticks` of x are written as plain numbers."""
    from matplotlib.ticker import NullLocator

    for label, x, y, colour, marker in curves:
        axis.plot(x, y, label=label, color=colour, marker=marker)
    if log:
        axis.set_xscale("log")
        axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(list(ticks), list(ticks.values()))
    top = 1.08 * max(max(y) for _, _, y, _, _ in curves)
    axis.set(title=title, xlabel=xlabel + (" (log axis)" if log else ""), ylabel=ylabel, ylim=(0, top))


def figures():
    """docs/results/performance.png and the page's table."""
    from PIL import Image

    from prefix_rft.common.files import atomic_path, write_text
    from prefix_rft.report.figures import style

    found = json.loads(FILE.read_text())

    def ratio(rows, x, part="rollout"):
        rows = [r for r in rows if part in r]
        return [x(r) for r in rows], [r[part]["ratio"] for r in rows]

    with style.sheet():
        figure, axes = style.plt.subplots(2, 3, figsize=(style.WIDTH, 3.9))
        sizes, ours, peer = found["sizes"], (style.VERMILION, "o"), (style.BLUE, "s")
        names = {r["parameters"]: r["model"] for r in sizes}
        size = lambda r: r["parameters"]  # noqa: E731
        panel(
            axes[0, 0],
            "Against the size of the model",
            "parameters",
            "times the peer's speed",
            [
                ("rollout beside generate", *ratio(sizes, size), *ours),
                ("RL step beside TRL", *ratio(sizes, size, "step"), *peer),
            ],
            names,
        )
        for axis, section, key, title, label in (
            (axes[0, 1], "rows", "rows", "Rollout against rows, 5M", "rows of 64 tokens"),
            (axes[0, 2], "lengths", "new_tokens", "Rollout against length, 5M", "tokens of 16 responses"),
        ):
            x, y = ratio(found[section], lambda r, key=key: r["shape"][key])
            panel(axis, title, label, "times generate's speed", [("", x, y, *ours)], {v: str(v) for v in x})
        memory = {
            packed: ([r["tokens"] for r in rows], [r["peak_mib"] / 1024 for r in rows])
            for packed in (True, False)
            for rows in [[r for r in found["memory"] if r["packed"] == packed]]
        }
        panel(
            axes[1, 0],
            "Memory of an update, 5M",
            "tokens of a micro-batch",
            "peak, GiB",
            [("ours, packed", *memory[True], *ours), ("transformers, padded", *memory[False], *peer)],
            {n: f"{n:,}" for n in (512, 2048, 8192)},
        )
        for axis in axes[:, 0]:
            axis.legend()
        plan = [r["jobs"] for r in found["plan"]], [r["seconds"] for r in found["plan"]]
        panel(
            axes[1, 1],
            "Plan of the workflow",
            "jobs",
            "seconds",
            [("", *plan, *ours)],
            {n: str(n) for n in (0, 500, 1000)},
            log=False,
        )
        workers = [r["workers"] for r in found["verifier"]]
        rates = [r["verdicts_per_second"] for r in found["verifier"]]
        panel(
            axes[1, 2],
            "Answers judged by math-verify",
            "worker processes",
            "verdicts a second",
            [("", workers, rates, *ours)],
            {n: str(n) for n in workers},
            log=False,
        )
        axes[1, 2].axvline(cores := found["hardware"]["cpus"], color=style.GREY, linestyle=":")
        low, high = (
            f(r["rollout"]["ratio"] for name in ("sizes", "rows", "lengths") for r in found[name]) for f in (min, max)
        )
        style.head(
            figure,
            f"Rollouts are {low:.1f} to {high:.1f} times as fast as transformers' generate, side by side on one core",
        )
        style.caption(figure, f"Medians of pairs. Dotted: the {cores} cores of the machine.")
        with atomic_path(FILE.with_suffix(".png")) as path:
            figure.savefig(path, dpi=200, format="png")
            Image.open(path).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, "png", optimize=True)
    write_text(PAGE, table(found))


def main():
    from prefix_rft.common import provenance
    from prefix_rft.common.files import write_json_in_lines, write_text

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"{', '.join(MEASURED)} or figures; none: all that is missing"
    )
    chosen = parser.parse_args().sections
    if unknown := set(chosen) - {*MEASURED, "figures"}:
        sys.exit(f"error: SECTION = {sorted(unknown)[0]}: must be one of {', '.join(MEASURED)}, figures")
    if not BASE.is_dir():
        sys.exit(f"error: {BASE}: no such folder; make it with `snakemake --cores all bases data`")
    found = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name, function in MEASURED.items():
        if name in chosen or (not chosen and name not in found):
            print(name, file=sys.stderr, flush=True)
            found[name] = function()
            write_json_in_lines(FILE, found | {"versions": provenance.versions(), "hardware": provenance.hardware()})
    if missing := [name for name in MEASURED if name not in found]:
        write_text(PAGE, table(found))
        print(f"not measured yet, so no figure: {', '.join(missing)}", file=sys.stderr)
    else:
        figures()


if __name__ == "__main__":
    main()
