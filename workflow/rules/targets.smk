"""Targets: `snakemake --cores all TARGET`. Each asks for files; the rules that make them are in the other files.

The targets of the loop have the names of config/: figure_<name>, table_<number>, study_<name>, ablation_<name>,
benchmark_<name>, run_<name>. Snakemake takes only the name of a rule as a target without a path, so each is a rule without a command.
"""

from functools import partial


rule data:
    """Target: all problems and raw demonstrations, and the subsets of problems that the main comparison trains on."""
    input:
        rules.problems.output,
        expand(rules.subset.output.problems, subset=plan.subsets),


rule bases:
    """Target: the base models of the main comparison."""
    input:
        plan.base_models(),


rule demos:
    """Target: the demonstration sets of the main comparison, and what was dropped on the way."""
    input:
        expand(rules.demonstrations.output.demos, demos=plan.demos),
        rules.demos_report.output,


rule runs:
    """Target: every run of the main comparison under every seed."""
    input:
        plan.models(S.runs, S.seeds),


rule evaluations:
    """Target: base models and runs of the main comparison, evaluated."""
    input:
        plan.evaluations(),


rule tables:
    """Target: the tables of the main comparison."""
    input:
        plan.study_tables("main"),
        rules.dvc_metrics.output,


rule figures:
    """Target: the figures that need nothing but the main comparison."""
    input:
        plan.figure_files(*MAIN_FIGURES),


rule studies:
    """Target: the tables and figures of every study."""
    input:
        [plan.study_files(name) for name in S.studies],
        [name for name in S.broken if name.startswith("study_")],  # ends in the error of rule unknown_target


rule ablations:
    """Target: the figure and the tables of every ablation."""
    input:
        [plan.ablation_files(name) for name in S.ablations],
        [name for name in S.broken if name.startswith("ablation_")],  # ends in the error of rule unknown_target


rule lr_grid:
    """Target: the learning-rate grid of every method, scored on the validation split."""
    input:
        rules.choose_lr.output,


rule benchmarks:
    """Target: the problems of every benchmark."""
    input:
        expand(rules.benchmark_problems.output.problems, benchmark=S.benchmarks),


rule benchmark_bases:
    """Target: the base models of the main comparison on every benchmark."""
    input:
        plan.scores(plan.bases, S.seeds),


rule paper_claims:
    """Target: every claim of the paper and of its critics that the preset can test."""
    input:
        plan.table_files("paper_claims"),


rule paper_figures:
    """Target: the figures, tables and claims of the paper from our runs."""
    input:
        plan.figure_files(*plan.paper_figures),
        plan.table_files(*plan.paper_tables, "paper_claims"),


rule unknown_target:
    """End a misspelt or impossible target in one line. A name without a folder that no other rule makes can be nothing else."""
    input:
        lambda w: sys.exit(f"error: {plan.unknown_target(w.target)}"),
    output:
        "{target}",
    wildcard_constraints:
        target="[^/]+",


for target in plan.targets:

    rule:
        name:
            target
        input:
            partial(plan.target_files, target),
