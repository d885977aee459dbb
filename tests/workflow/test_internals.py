"""The one function that reads what Snakemake does not document, on a real Snakemake; and that no other place does."""

import ast
import re

import pytest

from tests.conftest import ROOT, run

SNAKEFILE = """
import sys
sys.path.insert(0, {root!r})
from workflow.internals import internals

print("state", internals(workflow), file=sys.stderr)

onstart:
    print("state", internals(workflow, planned=True), file=sys.stderr)

rule all:
    input: "a.made.txt", "b.there.txt"

rule make:
    output: "{{run}}.made.txt"
    shell: "touch {{output}}"

rule there:
    output: "{{base}}.there.txt"
    shell: "touch {{output}}"
"""


def states(folder, arguments="") -> list[dict]:
    """What `internals` gave while the rules were read, and in `onstart`."""
    text = run(f"snakemake --cores 1 {arguments}", folder)
    found = [re.sub(r"<[^>]*>", "None", line) for line in re.findall(r"^state State\((.*)\)$", text, re.M)]
    calls = [ast.parse(f"dict({line})", mode="eval").body.keywords for line in found]
    return [{k.arg: ast.unparse(k.value) for k in keywords} for keywords in calls]


@pytest.fixture
def flow(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(root=str(ROOT)))
    return tmp_path


def test_jobs_are_those_that_are_going_to_run(flow):
    (flow / "b.there.txt").touch()
    reading, starting = states(flow, "--rerun-triggers mtime")
    assert reading["jobs"] == "[]" and starting["jobs"] == "['all:', 'make:a']"
    assert starting["main"] == "True" and starting["local"] == "True" and starting["executor"] == "'local'"


def test_the_executor_and_default_resources_are_known_before_the_first_job(flow):
    arguments = "--executor slurm --jobs 1 --default-resources slurm_account=a --target-jobs make:run=a"
    (flow / "Snakefile").write_text(
        (flow / "Snakefile").read_text().replace("rule all:", "    sys.exit(0)\n\nrule all:")
    )
    _, starting = states(flow, arguments)
    assert starting["executor"] == "'slurm'" and "'slurm_account'" in starting["defaults"]


def test_a_job_is_not_the_main_process(flow):
    assert states(flow, "--mode subprocess --target-jobs make:run=a")[0]["main"] == "False"


def test_resources_of_the_command_line_are_known_while_rules_are_read(flow):
    reading, _ = states(flow, "--set-resources make:cpus_per_gpu=3")
    assert reading["resources"].startswith("{'make': {'cpus_per_gpu':") and "3" in reading["resources"]


def test_no_other_place_reads_the_workflow_object():
    """`workflow` is handed to the two functions of `internals.py` and used for nothing else."""
    for file in [ROOT / "Snakefile", ROOT / "workflow/Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]:
        code = re.sub(r'""".*?"""', "", file.read_text(), flags=re.S)
        uses = [line for line in code.splitlines() if re.search(r"\bworkflow\b", re.sub(r"#.*|\"[^\"]*\"", "", line))]
        other = [
            x for x in uses if not re.search(r"^from workflow[. ]|internals\(workflow[,)]|^set_defaults\(workflow,", x)
        ]
        assert not other, (file, other)
    for file in (ROOT / "workflow").glob("*.py"):
        if file.name != "internals.py":
            assert "snakemake" not in re.findall(r"^(?:from|import) (\w+)", file.read_text(), re.M), file
