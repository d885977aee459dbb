"""From a teacher's raw demonstrations to training sets of token ids."""


rule demonstrations:
    """Filter one demonstration set and tokenise it, once."""
    input:
        config=f"{SETUP}/demos/{{demos}}.yaml",
        override=OVERRIDE,
        data=rules.problems.output.report,
        problems=rules.problems.output,
        tokenizer=f"{RESULTS}/models/{S.bases[0]}",
    output:
        demos=f"{RESULTS}/data/demos.{{demos}}.parquet",
        report=f"{RESULTS}/data/demos.{{demos}}.report.json",
    log:
        f"{RESULTS}/logs/demos.{{demos}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/demos.{{demos}}.tsv"
    conda:
        ENVIRONMENT
    params:
        override=OVERRIDE_FLAG,
        data=subpath(input.data, parent=True),
    shell:
        "python -m prefix_rft demos --config {input.config} {params.override} --data {params.data}"
        " --tokenizer {input.tokenizer} --out {output.demos} > {log} 2>&1"


rule demos_report:
    """One report over all sets that the main comparison trains on."""
    input:
        expand(rules.demonstrations.output.report, demos=DEMOS),
    output:
        f"{RESULTS}/data/demos.report.json",
    log:
        f"{RESULTS}/logs/demos_report.log",
    benchmark:
        f"{RESULTS}/benchmarks/demos_report.tsv"
    conda:
        ENVIRONMENT
    shell:
        "python -m scripts.merge_json --prefix demos. --suffix .report.json --out {output} {input} > {log} 2>&1"


rule demos:
    """Target: the demonstration sets of the main comparison, and what was dropped on the way."""
    input:
        expand(rules.demonstrations.output.demos, demos=DEMOS),
        rules.demos_report.output,
