"""The two functions that use what Snakemake does not document; a new version of Snakemake can break the workflow here only.

Why each is needed:
* main: only the Snakemake that a user starts may retry a job. A cluster job runs its own Snakemake; nested retries would multiply
  (3 x 3) inside one time limit.
* executor, defaults: a missing Slurm and a missing account are said before the first job, not in the middle of its errors.
* local, jobs: the check before the first job looks for the packages and devices of the jobs that are going to run.
* set_defaults: profiles cannot include another file, and a site's three values should not need a copy of the profile.
* resources: a job on several nodes takes its cores per GPU from the profile, and a resource function is not told of another resource.
* together: the jobs of a group share the time that the site allows one.
"""

from dataclasses import dataclass

from snakemake.resources import Resources
from snakemake.settings.types import DeploymentMethod

NAMES = ("kind", "run", "teacher", "base", "demos", "benchmark")  # wildcards that choose a configuration, first match


@dataclass(frozen=True)
class State:
    """What Snakemake knows about itself."""

    main: bool  # started by a user, not by a job
    local: bool  # jobs run on this machine
    executor: str  # such as local or slurm
    defaults: list[str]  # names of the default resources: of the profile, the command line and site.yaml
    # "rule:name" of every job to run; none with conda, whose jobs have another Python
    jobs: list[str]
    resources: dict[str, dict]  # rule -> resources given by the profile or by --set-resources
    together: int  # most jobs that are one of the cluster's, by --group-components


def internals(workflow, planned=False) -> State:
    """The state of a `snakemake.workflow.Workflow`.

    Args:
        workflow: the object of that name in a Snakefile.
        planned: the graph is drawn (`onstart`): `local`, `executor` and `jobs` are known. Before, they are True, "local" and empty.
    """
    conda = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
    jobs = set()
    for job in workflow.dag.needrun_jobs() if planned and not conda else ():
        wildcards = job.wildcards_dict
        jobs.add(f"{job.rule.name}:{next((wildcards[k] for k in NAMES if k in wildcards), '')}")
    return State(
        main=workflow.is_main_process,
        local=not planned or not workflow.non_local_exec,
        executor=workflow.executor_plugin.name if planned else "local",
        defaults=sorted(workflow.resource_settings._parsed_default_resources),
        jobs=sorted(jobs),
        resources={rule: dict(values) for rule, values in workflow.resource_settings.overwrite_resources.items()},
        together=max(workflow.group_settings.group_components.values(), default=1),
    )


def set_defaults(workflow, expressions: list[str]):
    """Default resources of every rule that is read after this call; they take the place of the profile's.

    Args:
        workflow: the object of that name in a Snakefile.
        expressions: as for --default-resources, {name}={expression}.
    """
    parsed = Resources.parse(expressions, allow_expressions=True)
    workflow.resource_settings._parsed_default_resources.update(parsed)
