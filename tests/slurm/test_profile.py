"""`snakemake --cores all --profile slurm` on a real Slurm: the graph, its GPUs, and what a failure says."""

import json


def test_graph_completes(finished_on_slurm, cluster):
    workflow, text = finished_on_slurm
    assert "23 of 23 steps (100%) done" in text
    for name in ("sft", "rft", "sft_then_rft", "luffy", "prefix_rft"):
        record = json.loads((workflow.results / f"runs/{name}/seed0/run.json").read_text())
        assert record["status"] == "complete"
    assert (workflow.results / "tables/main.csv").stat().st_size
    # every rule with a command was a job of Slurm's, and ended well
    jobs = [j for j in cluster.jobs("all") if j["folder"] == str(workflow.folder)]
    assert len(jobs) == 22 and {j["state"] for j in jobs} == {"COMPLETED"}, jobs
