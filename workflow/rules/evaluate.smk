"""Evaluation of base models and trained runs on held-out problems."""


rule evaluate_base:
    """Sample and verify responses of a base model, under each seed of the runs that start from it."""
    input:
        identity=lambda w: plan.records.setup("evaluation"),
        config=ancient(setup("evaluation")),
        data=f"{RESULTS}/data/data.json",
        problems=ancient(plan.problems()),
        model=lambda w: ancient(plan.base_model(w.base, w.seed)),
        model_record=lambda w: plan.base_record(w.base, w.seed),
    output:
        scores=f"{RESULTS}/eval/{{base}}/seed{{seed}}/scores.json",
        samples=f"{RESULTS}/eval/{{base}}/seed{{seed}}/samples.parquet",
    log:
        f"{RESULTS}/logs/evaluate.{{base}}.seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/timings/evaluate.{{base}}.seed{{seed}}.tsv"
    retries: RETRIES
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=ONE_GPU,
    params:
        override=plan.override_flag,
        preset=S.preset,
    shell:
        "python -m prefix_rft evaluate --preset {params.preset:q} {params.override:q} --run {wildcards.base:q} --seed {wildcards.seed:q} > {log:q} 2>&1"


rule evaluate:
    """Sample and verify responses of a trained run. A killed job resumes from the responses that it saved."""
    input:
        identity=lambda w: plan.records.setup("evaluation"),
        config=ancient(setup("evaluation")),
        run_config=lambda w: ancient(plan.run_config(w.run)),
        data=f"{RESULTS}/data/data.json",
        problems=ancient(plan.problems()),
        record=rules.train.output.record,
        model=ancient(str(rules.train.output.model)),
    output:
        scores=f"{RESULTS}/eval/{{run}}/seed{{seed}}/scores.json",
        samples=f"{RESULTS}/eval/{{run}}/seed{{seed}}/samples.parquet",
    log:
        f"{RESULTS}/logs/evaluate.{{run}}.seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/timings/evaluate.{{run}}.seed{{seed}}.tsv"
    retries: RETRIES
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        gpu=ONE_GPU,
    params:
        override=plan.override_flag,
        preset=S.preset,
    shell:
        "python -m prefix_rft evaluate --preset {params.preset:q} {params.override:q} --run {wildcards.run:q} --seed {wildcards.seed:q} > {log:q} 2>&1"
