"""`snakemake --cores all --profile slurm` on a real Slurm: the graph, its GPUs, and what a failure says."""

import json
import shutil

from tests.helpers.flow import RESULTS


def test_graph_completes(finished_on_slurm):
    workflow, text = finished_on_slurm
    assert "23 of 23 steps (100%) done" in text
    for name in ("sft", "rft", "sft_then_rft", "luffy", "prefix_rft"):
        record = json.loads((workflow.results / f"runs/{name}/seed0/run.json").read_text())
        assert record["status"] == "complete"
    assert (workflow.results / "tables/main.csv").stat().st_size
    # every rule with a command was a job of Slurm's, and ended well
    jobs = workflow.jobs()
    assert len(jobs) == 22 and {j["state"] for j in jobs} == {"COMPLETED"}, jobs


def test_jobs_that_want_both_gpus_wait_for_each_other(trained, cluster):
    flow = trained(cluster)
    for run in ("rft", "luffy"):
        flow.configure(run)
    # as a user edits the profile: a commented line made true, and a line more
    profile = flow.folder / "slurm/config.yaml"
    line = """# slurm_partition: "'gpu'\""""
    assert line in profile.read_text()
    profile.write_text(profile.read_text().replace(line, """gpu: 2\n    slurm_partition: "'all'\""""))
    flow.start(f"{flow.target('rft')} {flow.target('luffy')}").end(900)
    first, second = flow.jobs()[-2:]
    for job in (first, second):
        assert job["comment"].startswith("rule_train") and (job["gpus"], job["partition"]) == ("gres:gpu:2", "all")
    assert first["state"] == second["state"] == "COMPLETED"
    # Slurm ran both, one after the other, on a node with room for the cores and the memory of both
    assert sorted([first["end"] <= second["start"], second["end"] <= first["start"]]) == [False, True]


def test_failed_job_prints_the_path_of_its_logs_and_what_they_say(trained, cluster):
    flow = trained(cluster)
    shutil.rmtree(flow.results / "eval/rft")
    (flow.results / "runs/rft/seed0/model/config.json").unlink()
    text = flow.start(f"{RESULTS}/eval/rft/seed0/scores.json").end(600, fails=True)
    failed = [j for j in flow.jobs() if j["state"] != "COMPLETED"]
    assert len(failed) == 3  # an evaluation goes on from what it has sampled, so it is started three times
    lines = [x for x in text.splitlines() if x.strip().startswith("log:") and ".snakemake/slurm_logs" in x]
    for job, line in zip(failed, lines, strict=True):
        assert job["state"] == "FAILED" and job["comment"].startswith("rule_evaluate")
        slurm_log = flow.folder / f".snakemake/slurm_logs/rule_evaluate/rft_0/{job['id']}.log"
        assert slurm_log.exists()
        assert f"{RESULTS}/logs/evaluate.rft.seed0.log" in line and f"{slurm_log} (check log file(s)" in line
    assert f"Logfile {RESULTS}/logs/evaluate.rft.seed0.log:" in text and "error: " in text  # the command's own words
