"""Problems and raw demonstrations, and the base models that are trained on them."""


rule problems:
    """Make the problems of every split and each teacher's raw demonstrations; check that the splits are disjoint."""
    input:
        config=f"{SETUP}/data.yaml",
        override=OVERRIDE,
    output:
        problems(),
        expand(f"{RESULTS}/data/raw.{{source}}.parquet", source=S.sources),
        report=f"{RESULTS}/data/data.json",
    log:
        f"{RESULTS}/logs/problems.log",
    benchmark:
        f"{RESULTS}/benchmarks/problems.tsv"
    conda:
        ENVIRONMENT
    params:
        override=OVERRIDE_FLAG,
        out=subpath(output.report, parent=True),
    shell:
        "python -m prefix_rft data --config {input.config} {params.override} --out {params.out} > {log} 2>&1"


rule base:
    """Make a base model: pretrained from scratch, or converted from a packaged one."""
    input:
        config=f"{SETUP}/bases/{{base}}.yaml",
        override=OVERRIDE,
        data=f"{RESULTS}/data/data.json",
        problems=problems(),
    output:
        directory(f"{RESULTS}/models/{{base}}"),
    log:
        f"{RESULTS}/logs/base.{{base}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/base.{{base}}.tsv"
    conda:
        ENVIRONMENT
    params:
        override=OVERRIDE_FLAG,
        data=subpath(input.data, parent=True),
    shell:
        "python -m prefix_rft base --config {input.config} {params.override} --data {params.data} --out {output} > {log} 2>&1"


rule data:
    """Target: all problems and raw demonstrations."""
    input:
        rules.problems.output,


rule bases:
    """Target: the base models of the main comparison."""
    input:
        expand(rules.base.output, base=BASES),
