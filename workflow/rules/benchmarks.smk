"""Benchmarks: fetched one by one and sampled one by one, so that a benchmark that cannot be fetched costs its own targets only."""


rule benchmark_problems:
    """Fetch the problems of one entry of the benchmark table. Only a change of this entry makes it run again."""
    input:
        table=ancient(BENCHMARK_TABLE),
        config=ancient(BENCHMARKS),
    output:
        problems=f"{RESULTS}/benchmark_data/problems.{{benchmark}}.parquet",
        report=f"{RESULTS}/benchmark_data/{{benchmark}}.json",
    log:
        f"{RESULTS}/logs/benchmark_problems.{{benchmark}}.log",
    benchmark:
        f"{RESULTS}/timings/benchmark_problems.{{benchmark}}.tsv"
    retries: RETRIES
    conda:
        ENVIRONMENT
    resources:
        **demand("benchmark_problems"),
    params:
        preset=S.preset,
        override=plan.override_flag,
        version=lambda w: plan.benchmark_version(w.benchmark),
    shell:
        "python -m prefix_rft benchmark-problems --preset {params.preset:q} {params.override:q} --benchmark {wildcards.benchmark:q} > {log:q} 2>&1"


rule evaluate_base_on_benchmark:
    """Sample and verify responses of a base model to one benchmark. A killed job resumes from the responses that it saved."""
    input:
        config=lambda w: ancient(plan.sampling_config(w.kind)),
        problems=ancient(str(rules.benchmark_problems.output.problems)),
        report=rules.benchmark_problems.output.report,
        templates=S.templates,
        model=lambda w: ancient(plan.base_model(w.base, w.seed)),
        model_record=lambda w: plan.base_record(w.base, w.seed),
    output:
        scores=f"{RESULTS}/{{kind}}/{{base}}/seed{{seed}}/benchmarks/{{benchmark}}/scores.json",
        samples=f"{RESULTS}/{{kind}}/{{base}}/seed{{seed}}/benchmarks/{{benchmark}}/samples.parquet",
    log:
        f"{RESULTS}/logs/{{kind}}.{{base}}.seed{{seed}}.{{benchmark}}.log",
    benchmark:
        f"{RESULTS}/timings/{{kind}}.{{base}}.seed{{seed}}.{{benchmark}}.tsv"
    retries: RETRIES
    group:
        "benchmarks_{kind}_{base}_{seed}"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **demand("evaluate_on_benchmark", TOGETHER),
        engines=1,
        gpu=lambda w: launch.engine_gpus(S, plan.sampling_values(w.kind)),
    params:
        override=plan.override_flag,
        preset=S.preset,
        scoring=lambda w: plan.scoring(w.kind),
    shell:
        "${{IN_TURN:-}} python -m prefix_rft evaluate --preset {params.preset:q} {params.override:q} --run {wildcards.base:q} --seed {wildcards.seed:q}"
        " --kind {wildcards.kind:q} --benchmark {wildcards.benchmark:q} ${{IN_TURN:+--keep-parts}} > {log:q} 2>&1"


rule evaluate_on_benchmark:
    """Sample and verify responses of a trained run to one benchmark. A killed job resumes from the responses that it saved."""
    input:
        config=lambda w: ancient(plan.sampling_config(w.kind)),
        run_config=lambda w: ancient(plan.run_config(w.run)),
        problems=ancient(str(rules.benchmark_problems.output.problems)),
        report=rules.benchmark_problems.output.report,
        templates=S.templates,
        data=f"{RESULTS}/data/data.json",
        record=rules.train.output.record,
        model=ancient(str(rules.train.output.model)),
    output:
        scores=f"{RESULTS}/{{kind}}/{{run}}/seed{{seed}}/benchmarks/{{benchmark}}/scores.json",
        samples=f"{RESULTS}/{{kind}}/{{run}}/seed{{seed}}/benchmarks/{{benchmark}}/samples.parquet",
    log:
        f"{RESULTS}/logs/{{kind}}.{{run}}.seed{{seed}}.{{benchmark}}.log",
    benchmark:
        f"{RESULTS}/timings/{{kind}}.{{run}}.seed{{seed}}.{{benchmark}}.tsv"
    retries: RETRIES
    group:
        "benchmarks_{kind}_{run}_{seed}"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **demand("evaluate_on_benchmark", TOGETHER),
        engines=1,
        gpu=lambda w: launch.engine_gpus(S, plan.sampling_values(w.kind)),
    params:
        override=plan.override_flag,
        preset=S.preset,
        scoring=lambda w: plan.scoring(w.kind),
    shell:
        "${{IN_TURN:-}} python -m prefix_rft evaluate --preset {params.preset:q} {params.override:q} --run {wildcards.run:q} --seed {wildcards.seed:q}"
        " --kind {wildcards.kind:q} --benchmark {wildcards.benchmark:q} ${{IN_TURN:+--keep-parts}} > {log:q} 2>&1"


rule table_benchmarks:
    """The scores of every run on every benchmark, with intervals: the paper's Table 1."""
    input:
        by_record(plan.evaluations()),
        plan.models(S.runs, S.seeds),
        config=ancient(BENCHMARKS),
        identity=lambda w: plan.records.preset(),
        preset=ancient(PRESET),
    output:
        csv=f"{RESULTS}/tables/benchmarks.csv",
        md=f"{RESULTS}/tables/benchmarks.md",
    log:
        f"{RESULTS}/logs/table_benchmarks.log",
    benchmark:
        f"{RESULTS}/timings/table_benchmarks.tsv"
    conda:
        ENVIRONMENT
    params:
        preset=S.preset,
        override=plan.override_flag,
        seeds=plan.seed_list("main"),
        kept=lambda w: plan.kept(plan.models(S.runs, S.seeds)),
    shell:
        "python -m prefix_rft benchmark-table --preset {params.preset:q} {params.override:q} --seeds {params.seeds:q} > {log:q} 2>&1"
