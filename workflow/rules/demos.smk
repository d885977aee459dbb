"""From a teacher's raw demonstrations to training sets of token ids."""


rule teach:
    """Sample demonstrations from a model, verify them and keep the right ones. A killed job resumes from the responses that it saved."""
    input:
        identity=lambda w: plan.records.setup(f"teachers/{w.teacher}"),
        config=ancient(setup("teachers/{teacher}")),
        data=rules.problems.output.report,
        split=lambda w: by_record(plan.teacher_problems(w.teacher)),  # which may be a subset, made by a rule of its own
        model=lambda w: ancient(plan.teacher_model(w.teacher)),
        model_record=lambda w: f"{plan.teacher_model(w.teacher)}.json",
    output:
        raw=f"{RESULTS}/data/raw.{{teacher}}.parquet",
        levels=f"{RESULTS}/data/levels.{{teacher}}.parquet",
        report=f"{RESULTS}/data/raw.{{teacher}}.report.json",
    log:
        f"{RESULTS}/logs/teach.{{teacher}}.log",
    benchmark:
        f"{RESULTS}/timings/teach.{{teacher}}.tsv"
    retries: RETRIES
    conda:
        ENVIRONMENT
    resources:
        **demand("teach"),
        gpu=lambda w: launch.engine_gpus(S, plan.teacher_values(w.teacher)),
    params:
        preset=S.preset,
        override=plan.override_flag,
    shell:
        "python -m prefix_rft teach --preset {params.preset:q} {params.override:q} --teacher {wildcards.teacher:q} > {log:q} 2>&1"


rule demonstrations:
    """Filter one demonstration set and tokenise it, once."""
    input:
        lambda w: by_record(plan.raw_demonstrations(w.demos)),
        identity=lambda w: plan.records.setup(f"demos/{w.demos}"),
        config=ancient(setup("demos/{demos}")),
        data=rules.problems.output.report,
        tokenizer=ancient(plan.tokenizer()),
        tokenizer_record=f"{plan.tokenizer()}.json",
    output:
        demos=f"{RESULTS}/data/demos.{{demos}}.parquet",
        report=f"{RESULTS}/data/demos.{{demos}}.report.json",
    log:
        f"{RESULTS}/logs/demos.{{demos}}.log",
    benchmark:
        f"{RESULTS}/timings/demos.{{demos}}.tsv"
    retries: RETRIES
    conda:
        ENVIRONMENT
    resources:
        **demand("demonstrations"),
    params:
        preset=S.preset,
        override=plan.override_flag,
    shell:
        "python -m prefix_rft demos --preset {params.preset:q} {params.override:q} --demos {wildcards.demos:q} > {log:q} 2>&1"


rule demos_report:
    """One report over all sets that the main comparison trains on."""
    input:
        expand(rules.demonstrations.output.report, demos=plan.demos),
    output:
        f"{RESULTS}/data/demos.report.json",
    log:
        f"{RESULTS}/logs/demos_report.log",
    benchmark:
        f"{RESULTS}/timings/demos_report.tsv"
    conda:
        ENVIRONMENT
    shell:
        "python -m scripts.merge_json --prefix demos. --suffix .report.json --out {output:q} {input:q} > {log:q} 2>&1"
