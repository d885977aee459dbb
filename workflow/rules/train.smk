"""Training runs: one job for each run and seed."""


rule train:
    """Train one run under one seed. A killed job goes on from its own checkpoints, which Snakemake must not delete and so does
    not know of; `retries` starts it again."""
    input:
        config=run_config,
        parents=run_config_parents,
        data=f"{RESULTS}/data/data.json",
        sets=train_sets,
        init=initial_model,
    output:
        record=f"{RESULTS}/runs/{{run}}/seed{{seed}}/run.json",
        metrics=f"{RESULTS}/runs/{{run}}/seed{{seed}}/metrics.jsonl",
        timing=f"{RESULTS}/runs/{{run}}/seed{{seed}}/timing.jsonl",
        model=directory(f"{RESULTS}/runs/{{run}}/seed{{seed}}/model"),
    log:
        f"{RESULTS}/logs/train.{{run}}.seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/train.{{run}}.seed{{seed}}.tsv"
    retries: RETRIES
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **training("train"),
    params:
        launcher=launcher,
        override=run_flags,
        preset=S.preset,
        data=subpath(input.data, parent=True),
        checkpoints=f"{RESULTS}/checkpoints/{{run}}/seed{{seed}}",
        out=subpath(output.record, parent=True),
    shell:
        "{params.launcher} prefix_rft train --config {input.config} {params.override} --preset {params.preset}"
        " --run {wildcards.run} --seed {wildcards.seed} --data {params.data} --init {input.init}"
        " --checkpoints {params.checkpoints} --out {params.out} > {log} 2>&1"


rule runs:
    """Target: every run of the main comparison under every seed."""
    input:
        models(S.runs, SEEDS),
