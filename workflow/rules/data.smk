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
        f"{RESULTS}/benchmarks/contamination.tsv"
    retries: RETRIES
    conda:
        ENVIRONMENT
    resources:
        **demand("contamination"),
    params:
        override=OVERRIDE_FLAG,
        versions=clear_versions(),
    shell:
        "python -m prefix_rft contamination --config {input.config} {params.override} --out {output.questions} > {log} 2>&1"


rule problems:
    """Make the problems of every split and each teacher's raw demonstrations; check that the splits are disjoint."""
    input:
        contamination(),
        config=f"{SETUP}/data.yaml",
        parents=setup_parents(f"{SETUP}/data.yaml"),
        override=OVERRIDE,
        templates=S.templates,
    output:
        problems(),
        expand(f"{RESULTS}/data/raw.{{source}}.parquet", source=S.sources),
        report=f"{RESULTS}/data/data.json",
    log:
        f"{RESULTS}/logs/problems.log",
    benchmark:
        f"{RESULTS}/benchmarks/problems.tsv"
    retries: RETRIES
    conda:
        ENVIRONMENT
    resources:
        **demand("problems"),
    params:
        override=OVERRIDE_FLAG,
        out=subpath(output.report, parent=True),
    shell:
        "python -m prefix_rft data --config {input.config} {params.override} --out {params.out} > {log} 2>&1"


rule subset:
    """Choose problems of another problem file: by demonstration, by difficulty, the first of each level."""
    input:
        subset_inputs,
        config=f"{SETUP}/subsets/{{subset}}.yaml",
        parents=parents_in("subsets", "subset"),
        override=OVERRIDE,
        data=f"{RESULTS}/data/data.json",
    output:
        problems=f"{RESULTS}/data/problems.{{subset}}.parquet",
        report=f"{RESULTS}/data/problems.{{subset}}.report.json",
    log:
        f"{RESULTS}/logs/subset.{{subset}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/subset.{{subset}}.tsv"
    retries: RETRIES
    conda:
        ENVIRONMENT
    resources:
        **demand("subset"),
    params:
        override=OVERRIDE_FLAG,
        data=subpath(input.data, parent=True),
    shell:
        "python -m prefix_rft subset --config {input.config} {params.override} --data {params.data} --out {output.problems} > {log} 2>&1"


rule base:
    """Make a base model: pretrained from scratch, or converted from a packaged one."""
    input:
        config=f"{SETUP}/bases/{{base}}.yaml",
        parents=parents_in("bases", "base"),
        override=OVERRIDE,
        data=[] if S.benchmarks else f"{RESULTS}/data/data.json",
        problems=[] if S.benchmarks else problems(),
    output:
        directory(f"{RESULTS}/models/{{base}}"),
    log:
        f"{RESULTS}/logs/base.{{base}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/base.{{base}}.tsv"
    retries: RETRIES
    conda:
        ENVIRONMENT
    resources:
        **demand("base"),
    params:
        override=OVERRIDE_FLAG,
        data=data_folder,
    shell:
        "python -m prefix_rft base --config {input.config} {params.override} --data {params.data} --out {output} > {log} 2>&1"


rule data:
    """Target: all problems and raw demonstrations, and the subsets of problems that are made of them."""
    input:
        rules.problems.output,
        expand(rules.subset.output.problems, subset=USED_SUBSETS),


rule bases:
    """Target: the base models of the main comparison."""
    input:
        expand(rules.base.output, base=BASES),
