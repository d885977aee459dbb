"""What only the paper's figures and tables need: snapshots of runs, evaluations with many samples, and the tables and claims themselves."""


rule replay:
    """Train a run again, bit for bit, and keep models on the way (Figure 3). Its own model is compared with that of the run."""
    input:
        identity=lambda w: plan.records.run(w.run),
        config=lambda w: ancient(plan.run_config(w.run)),
        data=f"{RESULTS}/data/data.json",
        sets=lambda w: by_record(plan.train_sets(w.run)),
        init=lambda w: ancient(plan.initial_model(w.run, w.seed)),
        init_record=lambda w: plan.initial_record(w.run, w.seed),
        probe=lambda w: plan.records.setup("probe"),
    output:
        record=f"{RESULTS}/replay/{{run}}/seed{{seed}}/run.json",
        metrics=f"{RESULTS}/replay/{{run}}/seed{{seed}}/metrics.jsonl",
        timing=f"{RESULTS}/replay/{{run}}/seed{{seed}}/timing.jsonl",
        model=directory(f"{RESULTS}/replay/{{run}}/seed{{seed}}/model"),
        snapshots=directory(f"{RESULTS}/replay/{{run}}/seed{{seed}}/snapshots"),
    log:
        f"{RESULTS}/logs/replay.{{run}}.seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/timings/replay.{{run}}.seed{{seed}}.tsv"
    retries: RETRIES
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **training("replay"),
    params:
        launcher=lambda w: launch.launcher(S.run(w.run)),
        override=plan.override_flag,
        preset=S.preset,
        snapshots=S.snapshots,
        out=subpath(output.record, parent=True),
    shell:
        "{params.launcher} prefix_rft train --preset {params.preset:q} {params.override:q} --run {wildcards.run:q} --seed {wildcards.seed:q}"
        " --snapshots {params.snapshots:q} --out {params.out:q} > {log:q} 2>&1"


use rule replay as train_with_snapshots with:
    output:
        record=f"{RESULTS}/runs/{{run}}/seed{{seed}}/run.json",
        metrics=f"{RESULTS}/runs/{{run}}/seed{{seed}}/metrics.jsonl",
        timing=f"{RESULTS}/runs/{{run}}/seed{{seed}}/timing.jsonl",
        model=directory(f"{RESULTS}/runs/{{run}}/seed{{seed}}/model"),
        snapshots=directory(f"{RESULTS}/runs/{{run}}/seed{{seed}}/snapshots"),
    log:
        f"{RESULTS}/logs/train.{{run}}.seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/timings/train.{{run}}.seed{{seed}}.tsv"
    wildcard_constraints:
        run=pattern(plan.keeping),
    params:
        launcher=lambda w: launch.launcher(S.run(w.run)),
        override=plan.override_flag,
        preset=S.preset,
        out=subpath(output.record, parent=True),
        snapshots=S.snapshots,


rule probe:
    """Likelihood of demonstrations and success rates of every snapshot, on a fixed subset of the training problems. A killed job
    resumes from the likelihoods and responses that it saved."""
    input:
        identity=lambda w: plan.records.setup("probe"),
        config=ancient(setup("probe")),
        data=f"{RESULTS}/data/data.json",
        sets=by_record([*plan.problems([S.probe_split]), f"{RESULTS}/data/demos.{S.probe_demos}.parquet"]),
        record=rules.train.output.record,
        replay=lambda w: f"{plan.snapshots_of(w.run, w.seed)}/run.json",
        snapshots=lambda w: ancient(f"{plan.snapshots_of(w.run, w.seed)}/snapshots"),
    output:
        table=f"{RESULTS}/probes/{{run}}/seed{{seed}}/probe.parquet",
        note=f"{RESULTS}/probes/{{run}}/seed{{seed}}/probe.json",
    log:
        f"{RESULTS}/logs/probe.{{run}}.seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/timings/probe.{{run}}.seed{{seed}}.tsv"
    retries: RETRIES
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        **demand("probe"),
        gpu=ONE_GPU,
    params:
        preset=S.preset,
        override=plan.override_flag,
    shell:
        "python -m prefix_rft probe --preset {params.preset:q} {params.override:q} --run {wildcards.run:q} --seed {wildcards.seed:q} > {log:q} 2>&1"


rule sample_base:
    """Many samples of few problems from a base model (Figure 2, Table 7)."""
    input:
        identity=lambda w: plan.records.setup("pass_at_k"),
        config=ancient(setup("pass_at_k")),
        data=f"{RESULTS}/data/data.json",
        problems=ancient(plan.problems()),
        model=lambda w: ancient(plan.base_model(w.base, w.seed)),
        model_record=lambda w: plan.base_record(w.base, w.seed),
    output:
        scores=f"{RESULTS}/pass_at_k/{{base}}/seed{{seed}}/scores.json",
        samples=f"{RESULTS}/pass_at_k/{{base}}/seed{{seed}}/samples.parquet",
    log:
        f"{RESULTS}/logs/pass_at_k.{{base}}.seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/timings/pass_at_k.{{base}}.seed{{seed}}.tsv"
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
        "python -m prefix_rft evaluate --preset {params.preset:q} {params.override:q} --run {wildcards.base:q} --seed {wildcards.seed:q}"
        " --kind pass_at_k > {log:q} 2>&1"


rule sample:
    """Many samples of few problems from a trained run (Figure 2, Table 7)."""
    input:
        identity=lambda w: plan.records.setup("pass_at_k"),
        config=ancient(setup("pass_at_k")),
        run_config=lambda w: ancient(plan.run_config(w.run)),
        data=f"{RESULTS}/data/data.json",
        problems=ancient(plan.problems()),
        record=rules.train.output.record,
        model=ancient(str(rules.train.output.model)),
    output:
        scores=f"{RESULTS}/pass_at_k/{{run}}/seed{{seed}}/scores.json",
        samples=f"{RESULTS}/pass_at_k/{{run}}/seed{{seed}}/samples.parquet",
    log:
        f"{RESULTS}/logs/pass_at_k.{{run}}.seed{{seed}}.log",
    benchmark:
        f"{RESULTS}/timings/pass_at_k.{{run}}.seed{{seed}}.tsv"
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
        "python -m prefix_rft evaluate --preset {params.preset:q} {params.override:q} --run {wildcards.run:q} --seed {wildcards.seed:q}"
        " --kind pass_at_k > {log:q} 2>&1"


rule paper_table:
    """Make one table of the paper from our runs."""
    input:
        lambda w: by_record(plan.table_inputs(w.table)),
        identity=lambda w: plan.records.preset(),
        preset=ancient(PRESET),
    output:
        csv=f"{RESULTS}/tables/{{table}}.csv",
        md=f"{RESULTS}/tables/{{table}}.md",
    log:
        f"{RESULTS}/logs/tables.{{table}}.log",
    benchmark:
        f"{RESULTS}/timings/tables.{{table}}.tsv"
    wildcard_constraints:
        table=pattern(plan.paper_tables),
    conda:
        ENVIRONMENT
    params:
        preset=S.preset,
        override=plan.override_flag,
        seeds=plan.seed_list("main"),
        kept=lambda w: plan.kept(plan.table_inputs(w.table)),
    shell:
        "python -m prefix_rft paper-table {wildcards.table:q} --preset {params.preset:q} {params.override:q} --seeds {params.seeds:q} > {log:q} 2>&1"


rule test_claims:
    """The claims need every comparison that they speak of; tables/claims.md has those of the main comparison alone."""
    input:
        lambda w: by_record(plan.paper_claims_inputs()),
        identity=lambda w: plan.records.preset(),
        preset=ancient(PRESET),
    output:
        csv=f"{RESULTS}/tables/paper_claims.csv",
        md=f"{RESULTS}/tables/paper_claims.md",
    log:
        f"{RESULTS}/logs/paper_claims.log",
    benchmark:
        f"{RESULTS}/timings/paper_claims.tsv"
    conda:
        ENVIRONMENT
    params:
        preset=S.preset,
        studies=",".join(plan.claim_studies),
        kept=lambda w: plan.kept(plan.paper_claims_inputs()),
        override=plan.override_flag,
        seeds=["--seeds", plan.seed_list("main")] if S.seeds_given else [],  # else every study has its own
    shell:
        "python -m prefix_rft paper-claims --preset {params.preset:q} {params.override:q} {params.seeds:q} --studies {params.studies:q} > {log:q} 2>&1"


rule html_paper:
    """A table of the paper, or the claims, as a page of the report."""
    input:
        f"{RESULTS}/tables/{{table}}.md",
    output:
        report(
            f"{RESULTS}/tables/{{table}}.html",
            caption="../report/table.rst",
            category="Paper",
            labels=lambda w: {"figure": w.table.replace("_", " ")},
        ),
    log:
        f"{RESULTS}/logs/html.{{table}}.log",
    benchmark:
        f"{RESULTS}/timings/html.{{table}}.tsv"
    conda:
        ENVIRONMENT
    shell:
        "python -m scripts.html_tables {input:q} > {log:q} 2>&1"
