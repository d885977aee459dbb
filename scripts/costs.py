"""What every target costs, from the `benchmark:` files of a results folder: python scripts/costs.py results/tiny docs/costs.md [TARGET ...]

Which jobs a target consists of is asked of Snakemake (`snakemake -n --forceall TARGET`), so the table needs no list of its own. CPU time is
the sum over jobs, whatever ran beside them; a job that has no benchmark yet is counted as missing. Snakemake samples the CPU time of a long
job every 30 seconds and so misses its end; a training counts its own in its run.json, and the greater of the two is taken.
"""

import argparse
import csv
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from prefix_rft.ablations import PREFIX, read_ablations
from prefix_rft.errors import UserError
from prefix_rft.io import read_json, write_text
from prefix_rft.tables import markdown


def jobs_of(target, settings=()) -> list[str]:
    """The benchmark file of every job that makes `target` from nothing."""
    command = ["snakemake", "-n", "--forceall", "--cores", "1", target, *settings]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return benchmarks(done.stdout + done.stderr)


def benchmarks(text) -> list[str]:
    """Paths after `benchmark:` in the output of a dry run, each once, in order."""
    return list(dict.fromkeys(re.findall(r"^\s*benchmark: (\S+)$", text, re.MULTILINE)))


def seconds(path: Path):
    """(CPU seconds, wall seconds) of the last run in a benchmark file; None if there is none."""
    if not path.exists():
        return None
    with open(path, newline="") as f:
        rows = list(csv.DictReader(f, delimiter="\t"))
    try:
        sampled, wall = float(rows[-1]["cpu_time"]), float(rows[-1]["s"])
    except (IndexError, KeyError, ValueError) as e:
        raise UserError(f"{path}: is no benchmark file of Snakemake (columns s and cpu_time)") from e
    return max(sampled, counted(path)), wall


def counted(path: Path) -> float:
    """The CPU seconds that a training counted itself, from the run.json that belongs to its benchmark file; 0 for another job."""
    rule, *rest = path.name.removesuffix(".tsv").split(".")
    folder = {"train": "runs", "train_grid": "lr_grid"}.get(rule)
    if folder is None:
        return 0.0
    *name, seed = rest
    # a run may have a dot in its name (lr_sft_0.00025); in the grid the first dot parts method and rate (luffy.lr0.0005)
    parts = [name[0], ".".join(name[1:])] if rule == "train_grid" else [".".join(name)]
    record = path.parents[1].joinpath(folder, *parts, seed, "run.json")
    if not record.exists():
        return 0.0
    return float(read_json(record)["budget"]["cpu_seconds"])


def cost(files, already=()):
    """Sums over the jobs of a target; `already`: jobs that are there when the target is asked for."""
    found = {f: seconds(Path(f)) for f in files}
    known = {f: v for f, v in found.items() if v is not None}
    new = {f: v for f, v in known.items() if f not in already}
    return {
        "jobs": len(files),
        "trainings": sum(Path(f).name.startswith(("train.", "train_grid.", "replay.")) for f in files),
        "cpu": sum(c for c, _ in known.values()),
        "further_cpu": sum(c for c, _ in new.values()),
        "longest": max((w for _, w in known.values()), default=0.0),
        "missing": len(files) - len(known),
    }


def table(costs):
    header = ["Target", "Jobs", "Trainings", "CPU min", "beyond `all`", "longest job (s)", "not run yet"]
    lines = [
        [
            f"`{t}`",
            c["jobs"],
            c["trainings"],
            f"{c['cpu'] / 60:.1f}",
            f"{c['further_cpu'] / 60:.1f}",
            f"{c['longest']:.0f}",
            c["missing"],
        ]
        for t, c in costs.items()
    ]
    return markdown(header, lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "targets", nargs="*", help="default: all, every study and ablation, the learning rates and the paper's figures"
    )
    parser.add_argument("--config", nargs="+", default=[], help="as for Snakemake, such as seeds=[0,1,2]")
    args = parser.parse_args()
    preset = args.results.name
    folder = Path("config") / preset
    ablations = [PREFIX + name for name in read_ablations(folder)]
    targets = args.targets or ["all", *ablations, "ablations", "studies", "lr_grid", "paper_figures"]
    settings = ["--config", f"preset={preset}", *args.config]
    jobs = {t: jobs_of(t, settings) for t in dict.fromkeys(["all", *targets])}
    costs = {t: cost(jobs[t], () if t == "all" else jobs["all"]) for t in targets}
    given = f" with `--config {' '.join(args.config)}`" if args.config else ""
    head = (
        f"# What the targets of preset `{preset}` cost\n\n"
        f"Made by `python scripts/costs.py {args.results} {args.out}` from the benchmark files of Snakemake{given}. CPU minutes are"
        " summed over jobs, each on one thread; on N free cores a target takes about the Nth part. *Beyond `all`*: what it costs when the"
        " main comparison is there already. Targets share runs, so the sums of two are more than both together.\n\n"
    )
    write_text(args.out, head + table(costs))


if __name__ == "__main__":
    try:
        main()
    except UserError as e:
        sys.exit(f"error: {e}")
