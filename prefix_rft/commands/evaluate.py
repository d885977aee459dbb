"""Command `evaluate`."""

import click

from . import options
from .group import command


@command(
    "prefix-rft evaluate --preset tiny --run prefix_rft --seed 0",
    "prefix-rft evaluate --preset paper-7b --run base --seed 0 --benchmark aime24",
)
@options.layout("its sections `evaluation`, `benchmarks` and `run`", required=True)
@options.run("name of the run, or of a base model")
@options.seed()
@options.benchmark(help="entry of the benchmark table; unset: the splits of the configuration")
@click.option(
    "--kind",
    type=options.Choice(("eval", "pass_at_k")),
    default="eval",
    help="scores of the tables, or many samples for pass@k",
)
@options.changes()
@options.config("unset: setup/evaluation.yaml, setup/benchmarks.yaml with --benchmark, or setup/pass_at_k.yaml")
@click.option(
    "--run-config",
    type=options.FILE,
    metavar="FILE",
    help="configuration of the run; unset: config/<preset>/<run>.yaml, none for a base model",
)
@options.data("folder made by the command `data`; unset: results/<preset>/data")
@click.option(
    "--problems",
    type=options.FILE,
    metavar="DIR",
    help="folder of the problem files; unset: the folder of the data, or results/<preset>/benchmark_data",
)
@options.model("model folder; unset: of the run or the base model in results/<preset>")
@click.option(
    "--keep-parts",
    is_flag=True,
    help="leave the parts, for a start after the outputs were removed; `sweep` removes them",
)
@options.out(
    "folder for scores.json, samples.parquet and, until then, parts; unset: results/<preset>/<kind>/<run>/seed<N>",
    metavar="DIR",
)
def cli(
    layout,
    preset,
    override,
    run,
    seed,
    benchmark,
    kind,
    changes,
    config_file,
    run_config,
    data,
    problems,
    model,
    out,
    keep_parts,
):
    """Sample responses of a model to held-out problems or to a benchmark, verify and score them.

    A killed evaluation resumes when it is started again.
    """
    from ..evaluation.evaluate import EvaluationJob, evaluate

    # a changed key is one of a trained run
    if run_config is None and (changes or model is None and not layout().is_base(run)):
        run_config, own = layout().run(run)
        changes = (*own, *changes)
    if problems is None and data is None and benchmark:
        problems = layout().benchmark_data
    job = EvaluationJob(
        config_file=config_file or layout().sampling(kind, benchmark),
        preset=preset.name,
        run=run,
        seed=seed,
        data=data or layout().data,
        model=model or layout().model(run, seed),
        out=out or layout().evaluation(kind, run, seed, benchmark),
        benchmark=benchmark,
        override=override,
        run_config=run_config,
        changes=changes,
        problems=problems,
        keep_parts=keep_parts,
    )
    evaluate(job)
