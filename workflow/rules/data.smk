"""Problems and raw demonstrations, and the base models that are trained on them."""


rule contamination:
    """Collect the questions of every benchmark of the preset; one that cannot be fetched is named in the report and stops nothing."""
    input:
        config=ancient(BENCHMARKS),
        table=ancient(BENCHMARK_TABLE),
    output:
        questions=f"{RESULTS}/data/contamination.parquet",
        report=f"{RESULTS}/data/contamination.report.json",
    log:
        f"{RESULTS}/logs/contamination.log",
    benchmark:
        f"{RESULTS}/timings/contamination.tsv"
    retries: RETRIES
    conda:
        ENVIRONMENT
    resources:
        **demand("contamination"),
    params:
        preset=S.preset,
        override=plan.override_flag,
        versions=plan.clear_versions(),
    shell:
        "python -m prefix_rft contamination --preset {params.preset:q} {params.override:q} > {log:q} 2>&1"


rule problems:
    """Make the problems of every split and each teacher's raw demonstrations; check that the splits are disjoint."""
    input:
        by_record(plan.contamination()),
        identity=lambda w: plan.records.setup("data"),
        config=ancient(setup("data")),
        templates=S.templates,
    output:
        plan.problems(),
        expand(f"{RESULTS}/data/raw.{{source}}.parquet", source=S.sources),
        report=f"{RESULTS}/data/data.json",
    log:
        f"{RESULTS}/logs/problems.log",
    benchmark:
        f"{RESULTS}/timings/problems.tsv"
    retries: RETRIES
    conda:
        ENVIRONMENT
    resources:
        **demand("problems"),
    params:
        preset=S.preset,
        override=plan.override_flag,
    shell:
        "python -m prefix_rft data --preset {params.preset:q} {params.override:q} > {log:q} 2>&1"


rule subset:
    """Choose problems of another problem file: by demonstration, by difficulty, the first of each level."""
    input:
        lambda w: by_record(plan.subset_inputs(w.subset)),
        identity=lambda w: plan.records.setup(f"subsets/{w.subset}"),
        config=ancient(setup("subsets/{subset}")),
        data=f"{RESULTS}/data/data.json",
    output:
        problems=f"{RESULTS}/data/problems.{{subset}}.parquet",
        report=f"{RESULTS}/data/problems.{{subset}}.report.json",
    log:
        f"{RESULTS}/logs/subset.{{subset}}.log",
    benchmark:
        f"{RESULTS}/timings/subset.{{subset}}.tsv"
    retries: RETRIES
    conda:
        ENVIRONMENT
    resources:
        **demand("subset"),
    params:
        preset=S.preset,
        override=plan.override_flag,
    shell:
        "python -m prefix_rft subset --preset {params.preset:q} {params.override:q} --subset {wildcards.subset:q} > {log:q} 2>&1"


rule base:
    """Make a base model: pretrained from scratch, or converted from a packaged one."""
    input:
        identity=lambda w: plan.records.setup(f"bases/{w.base}"),
        config=ancient(setup("bases/{base}")),
        data=[] if S.benchmarks else f"{RESULTS}/data/data.json",
        problems=[] if S.benchmarks else ancient(plan.problems()),
    output:
        model=directory(f"{RESULTS}/models/{{base}}"),
        record=f"{RESULTS}/models/{{base}}.json",
    log:
        f"{RESULTS}/logs/base.{{base}}.log",
    benchmark:
        f"{RESULTS}/timings/base.{{base}}.tsv"
    wildcard_constraints:
        base=pattern(name for name in S.bases if name not in plan.bases_per_seed),
    retries: RETRIES
    conda:
        ENVIRONMENT
    resources:
        **demand("base"),
    params:
        preset=S.preset,
        override=plan.override_flag,
        seed=[],
    shell:
        "python -m prefix_rft base --preset {params.preset:q} {params.override:q} --base {wildcards.base:q} {params.seed:q} > {log:q} 2>&1"


use rule base as base_of_seed with:
    output:
        model=directory(f"{RESULTS}/models/{{base}}/seed{{seed}}"),
        record=f"{RESULTS}/models/{{base}}/seed{{seed}}.json",
    log:
        f"{RESULTS}/logs/base.{{base}}.seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/timings/base.{{base}}.seed{{seed}}.tsv"
    wildcard_constraints:
        base=pattern(plan.bases_per_seed),
    params:
        preset=S.preset,
        override=plan.override_flag,
        seed=lambda w: ["--seed", w.seed],
