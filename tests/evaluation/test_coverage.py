"""Coverage of the intervals in simulations: quick for the worst designs, slow for every row of docs/statistics.md."""

import json
import re

import numpy as np
import pytest

from prefix_rft.evaluation.statistics import crossed_interval
from scripts import coverage
from tests.conftest import ROOT


def test_few_seeds_that_differ_and_seeds_that_agree_are_both_covered():
    """The two designs in which one of the two intervals fails: shares of 400 simulations, standard error 1.1 points."""
    differ, agree = coverage.coverage(coverage.effects(3, 0.1), 400), coverage.coverage(coverage.effects(5, 0), 400)
    assert differ["ours"] > 0.92 and agree["ours"] > 0.92
    assert agree["student"] < 0.9  # what an interval over seeds alone would have claimed


def test_an_interval_over_problems_alone_would_be_wrong():
    rng, cell, hits = np.random.default_rng(0), coverage.effects(3, 0.05), 0
    for _ in range(200):
        x, strata = cell.draw(rng)
        alone = crossed_interval(x.mean(0, keepdims=True), strata)
        hits += alone.low <= 0 <= alone.high
    assert hits / 200 < 0.6


def test_the_truth_of_a_score_is_the_mean_over_the_population():
    cell = coverage.score(3, 0.3)
    draws = np.mean([cell.draw(np.random.default_rng(i))[0].mean() for i in range(300)])
    assert draws == pytest.approx(cell.truth, abs=0.01)


def test_the_page_has_the_committed_numbers():
    found = json.loads((ROOT / "docs/results/coverage.json").read_text())
    assert [r["cell"] for r in found["cells"]] == [c.name for c in coverage.CELLS]
    assert all(r["ours"] >= coverage.FLOOR - 2 * found["standard_error"] for r in found["cells"])
    page = (ROOT / "docs/statistics.md").read_text()
    inside = re.search(f"{coverage.MARKS[0]}\n(.*){coverage.MARKS[1]}", page, re.DOTALL)
    assert inside[1] == coverage.table(found)


@pytest.mark.slow
@pytest.mark.parametrize("cell", coverage.CELLS, ids=lambda c: c.name)
def test_every_design_is_covered(cell):
    """At least 94.5 %, up to two standard errors of 4,000 simulations (0.7 points)."""
    assert coverage.coverage(cell, 4000, seed=1)["ours"] >= coverage.FLOOR - 2 * coverage.error_of(4000)
