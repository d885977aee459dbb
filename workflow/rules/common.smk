"""What the rules of every stage share: settings, the plan of inputs and targets, wildcard constraints, the check before the first job."""

import os
import sys

from prefix_rft.common.errors import UserError
from scripts import pass_warning
from workflow import launch
from workflow.inputs import MAIN_FIGURES, TABLE_NAMES, Plan, pattern, table_page
from workflow.internals import internals, set_defaults
from workflow.settings import load_settings
from workflow.sites import defaults, read_site
from workflow.start import check_configuration, free_lock, tidy_up

if internals(workflow).main:
    free_lock()

try:
    S = load_settings(config)
    plan = Plan(S, main=internals(workflow).main)
    SITE = read_site()
except UserError as e:
    sys.exit(f"error: {e}")

set_defaults(workflow, defaults(SITE))

if "SLURM_JOB_ID" in os.environ:
    # Slurm's warning before the time limit is for the trainer: the processes that start it ignore the signal or pass it on
    pass_warning.install()
    shell.prefix("set -euo pipefail; trap '' USR1; ")
    if not internals(workflow).main:
        launch.take_turns()

# How often a job that resumes from its own checkpoints is started again
RETRIES = 2 if internals(workflow).main else 0

RESULTS = plan.results
setup = plan.setup  # the file of setup/ with this name, own or inherited
PRESET = f"{S.folder}/preset.yaml"
BENCHMARKS = setup("benchmarks")
BENCHMARK_TABLE = "config/benchmarks.yaml"
ENVIRONMENT = "../envs/prefix-rft.yaml"
ONE_GPU = launch.one_gpu(S)


wildcard_constraints:
    **plan.wildcards(),


onstart:
    check_configuration(S, internals(workflow, planned=True))


onsuccess:
    tidy_up(S)


def by_record(files):
    """Inputs of which the records decide, by content: a large file or a folder has a record beside it and is never too new itself."""
    files = plan.with_reports(files)
    return [f if f.endswith((".json", ".csv")) else ancient(f) for f in files]


def training(rule):
    return launch.training(S, rule, lambda: internals(workflow), SITE.longest_job)


def demand(rule, together=1):
    return launch.demand(S, rule, SITE.longest_job, together)


# The profile says how many benchmarks of a model are one job of the cluster's
TOGETHER = internals(workflow).together
