"""How often the 95 % intervals of `prefix_rft/evaluation/statistics.py` hold the truth, in simulations.

    python -m scripts.coverage docs/results/coverage.json docs/statistics.md

Writes the shares as JSON, and as the table of the page between its two marks. A cell is a design: numbers of seeds and problems, and how
much seeds, problems and their interaction vary. The truth is the mean over the population of seeds and problems. Beside our interval stand
the two that it is the wider of, and Student's on the means of the seeds. tests/evaluation/test_coverage.py asserts that ours covers at
least 94.5 %, up to the error of the simulation.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import special

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from prefix_rft.common.errors import UserError
from prefix_rft.common.files import write_json_in_lines, write_text
from prefix_rft.evaluation.statistics import Counts, crossed_error, crossed_interval, mean_squares, separate_reach
from prefix_rft.report.formats import markdown

EXPERIMENTS = 10_000
FLOOR = 0.945  # what every cell has to reach
MARKS = ("<!-- coverage -->", "<!-- end of coverage -->")


@dataclass(frozen=True)
class Cell:
    """A design. draw: random generator -> (x [S, P], strata [P]); truth: the mean that x is a sample of."""

    name: str
    seeds: int
    draw: Callable
    truth: float = 0.0
    bounds: tuple[float, float] = (-1, 1)


def effects(seeds, sd, heavy=False):
    """Differences of 360 problems in three levels: effects of problems (sd 0.15) and of seed x problem (0.25), and of seeds (`sd`, normal
    or with the tails of Student's t with 3 degrees of freedom)."""
    strata = np.repeat([0, 1, 2], 120)

    def draw(rng):
        by_seed = rng.standard_t(3, (seeds, 1)) / np.sqrt(3) if heavy else rng.normal(0, 1, (seeds, 1))
        problem, both = rng.normal(0, 0.15, 360), rng.normal(0, 0.25, (seeds, 360))
        return np.array([0.1, 0.0, -0.1])[strata] + sd * by_seed + problem + both, strata

    tails = ", tails of t3" if heavy else ""
    return Cell(f"difference, {seeds} seeds, sd of the seeds {sd:g}{tails}", seeds, draw)


def logits(rng, seeds, sizes, ease, sd):
    """[S, P] chances: logit = ease of the level + problem (sd 1.5) + seed (`sd`) + seed x problem (0.5)."""
    problems = sum(sizes)
    logit = np.repeat(ease, sizes) + rng.normal(0, 1.5, problems)
    return special.expit(logit + rng.normal(0, sd, (seeds, 1)) + rng.normal(0, 0.5, (seeds, problems)))


# AIME24, AIME25, AMC, MATH-500, Minerva, OlympiadBench: (problems, samples)
BENCHMARKS = ((30, 32), (30, 32), (40, 32), (500, 1), (272, 1), (674, 1))


def benchmarks(seeds, sd):
    """Two methods of equal ability on the paper's benchmarks, which have equal weights: avg@32 or one sample a problem."""
    sizes, samples = zip(*BENCHMARKS, strict=True)
    levels, judged = np.repeat(np.arange(6), sizes), np.repeat(samples, sizes)

    def draw(rng):
        # the difficulty of a problem is the same for both methods
        difficulty = np.repeat([-2.0, -2.0, 0.0, 1.0, -0.5, 0.0], sizes) + rng.normal(0, 1.5, len(levels))

        def scores():
            logit = difficulty + rng.normal(0, sd, (seeds, 1)) + rng.normal(0, 0.5, (seeds, len(levels)))
            right = rng.binomial(judged, special.expit(logit))
            return Counts([], levels, right, np.broadcast_to(judged, right.shape), alike=True).scores("avg@32")

        return scores() - scores(), levels

    return Cell(
        f"difference on the paper's benchmarks, {seeds} seeds, sd of the seeds {sd:g} on the logit", seeds, draw
    )


def score(seeds, sd, sizes=(120, 120, 120), ease=(1.5, -0.5, -3.5), metric="avg@8"):
    """avg@8 of one method; the truth by quadrature of the normal effects."""
    levels = np.repeat(np.arange(len(sizes)), sizes)
    at, weight = np.polynomial.hermite_e.hermegauss(61)
    spread = np.sqrt(1.5**2 + sd**2 + 0.5**2)
    chance = [float(special.expit(e + spread * at) @ weight / weight.sum()) for e in ease]

    def draw(rng):
        right = rng.binomial(8, logits(rng, seeds, sizes, ease, sd))
        return Counts([], levels, right, np.full(right.shape, 8)).scores(metric), levels

    truth = float(np.average(chance, weights=sizes))
    name = f"score of {100 * truth:.0f} % on {sum(sizes)} problems, {seeds} seeds, sd of the seeds {sd:g} on the logit"
    return Cell(name, seeds, draw, truth, (0, 1))


CELLS = [
    *(effects(3, sd) for sd in (0, 0.01, 0.02, 0.05, 0.1)),
    effects(3, 0.05, heavy=True),
    *(effects(5, sd) for sd in (0, 0.01, 0.02, 0.05, 0.1)),
    *(benchmarks(seeds, sd) for seeds in (3, 5) for sd in (0.05, 0.3)),
    *(score(seeds, sd) for seeds in (3, 5) for sd in (0.1, 0.3)),
]
# known to be below the floor: the page says so
LIMITS = [score(5, 0.3, (120,), (-6.0,)), effects(2, 0.05)]


def coverage(cell: Cell, experiments: int, seed: int = 0) -> dict:
    """Shares of the experiments whose intervals hold the truth, and the mean half-width of ours."""
    rng = np.random.default_rng([seed, len(cell.name), *cell.name.encode()])
    hits, reach = dict.fromkeys(("ours", "crossed", "separate", "student"), 0), 0.0
    for _ in range(experiments):
        x, strata = cell.draw(rng)
        ours, squares = crossed_interval(x, strata, bounds=cell.bounds), mean_squares(x, strata)
        off = abs(ours.mean - cell.truth)
        error, df = crossed_error(squares)
        hits["ours"] += ours.low <= cell.truth <= ours.high
        hits["crossed"] += off <= special.stdtrit(df, 0.975) * error
        hits["separate"] += off <= separate_reach(squares, 0.025)
        hits["student"] += off <= special.stdtrit(cell.seeds - 1, 0.975) * np.sqrt(squares.seed / x.size)
        reach += (ours.high - ours.low) / 2
    found = {name: count / experiments for name, count in hits.items()}
    return {"cell": cell.name, "seeds": cell.seeds, **found, "half_width": reach / experiments}


def error_of(experiments: int) -> float:
    """Standard error of a share near `FLOOR`."""
    return float(np.sqrt(FLOOR * (1 - FLOOR) / experiments))


def table(found: dict) -> str:
    lines = [
        [
            row["cell"],
            *(f"{100 * row[k]:.1f}" for k in ("ours", "crossed", "separate", "student")),
            f"{row['half_width']:.4f}",
        ]
        for row in found["cells"] + found["limits"]
    ]
    header = ["Design", "ours", "crossed alone", "separate alone", "Student's alone", "half-width"]
    note = f"{found['experiments']} experiments a row; standard error {100 * found['standard_error']:.2f} points."
    return f"{markdown(header, lines)}\n{note}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument("page", type=Path, nargs="?", help="page whose table is written, between its marks")
    parser.add_argument("--experiments", type=int, default=EXPERIMENTS, help="simulated studies for each design")
    args = parser.parse_args()
    found = {"experiments": args.experiments, "standard_error": error_of(args.experiments), "level": 0.95}
    found |= {"cells": [coverage(c, args.experiments) for c in CELLS]}
    found |= {"limits": [coverage(c, args.experiments) for c in LIMITS]}
    text = table(found)
    if args.page:
        page = args.page.read_text(encoding="utf-8")
        if any(page.count(mark) != 1 for mark in MARKS):
            raise UserError(f"{args.page}: must have the lines {MARKS[0]} and {MARKS[1]} once each, around the table")
        before, after = page.split(MARKS[0])[0], page.split(MARKS[1])[1]
        write_text(args.page, f"{before}{MARKS[0]}\n{text}{MARKS[1]}{after}")
    write_json_in_lines(args.out, found)
    print(text)


if __name__ == "__main__":
    try:
        main()
    except UserError as e:
        sys.exit(f"error: {e}")
