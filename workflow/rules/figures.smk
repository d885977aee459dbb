"""Tables of the main comparison and of every study, and the figures.

The tables of the main comparison have other file names than the tables of a study (`paired.csv`, `<study>.paired.csv`), and an ablation
has no claims. So there is a rule for each of the three; `use rule` takes over what they share.
"""


rule tables_main:
    """The tables of the main comparison, and the hashes of the runs that they were made from."""
    input:
        lambda w: by_record(plan.study_inputs("main")),
        identity=lambda w: plan.records.preset(),
        preset=ancient(PRESET),
    output:
        plan.tables("main", "csv"),
        md=plan.tables("main", "md"),
        hashes=f"{RESULTS}/tables/main.runs.json",
    log:
        f"{RESULTS}/logs/tables.main.log",
    benchmark:
        f"{RESULTS}/timings/tables.main.tsv"
    conda:
        ENVIRONMENT
    params:
        preset=S.preset,
        study="main",
        override=plan.override_flag,
        seeds=plan.seed_list("main"),
        kept=lambda w: plan.kept(plan.study_inputs("main")),
    shell:
        "python -m prefix_rft tables --preset {params.preset:q} {params.override:q} --study {params.study:q} --seeds {params.seeds:q} > {log:q} 2>&1"


use rule tables_main as tables_study with:
    input:
        lambda w: by_record(plan.study_inputs(w.study)),
        identity=lambda w: plan.records.preset(),
        preset=ancient(PRESET),
    output:
        plan.tables("{study}", "csv"),
        md=plan.tables("{study}", "md"),
        hashes=f"{RESULTS}/tables/{{study}}.runs.json",
    log:
        f"{RESULTS}/logs/tables.{{study}}.log",
    benchmark:
        f"{RESULTS}/timings/tables.{{study}}.tsv"
    params:
        study="{study}",
        override=plan.override_flag,
        preset=S.preset,
        seeds=lambda w: plan.seed_list(w.study),
        kept=lambda w: plan.kept(plan.study_inputs(w.study)),


use rule tables_main as tables_ablation with:
    input:
        lambda w: by_record(plan.study_inputs(w.ablation)),
        identity=lambda w: plan.records.preset(),
        preset=ancient(PRESET),
    output:
        plan.tables("{ablation}", "csv", claims=False),
        md=plan.tables("{ablation}", "md", claims=False),
        hashes=f"{RESULTS}/tables/{{ablation}}.runs.json",
    log:
        f"{RESULTS}/logs/tables.{{ablation}}.log",
    benchmark:
        f"{RESULTS}/timings/tables.{{ablation}}.tsv"
    params:
        study="{ablation}",
        override=plan.override_flag,
        preset=S.preset,
        seeds=lambda w: plan.seed_list(w.ablation),
        kept=lambda w: plan.kept(plan.study_inputs(w.ablation)),


rule html_main:
    """The tables of the main comparison as pages of the report."""
    input:
        rules.tables_main.output.md,
    output:
        [report(plan.table("main", kind, "html"), **table_page("main", kind)) for kind in TABLE_NAMES],
    log:
        f"{RESULTS}/logs/html.main.log",
    benchmark:
        f"{RESULTS}/timings/html.main.tsv"
    conda:
        ENVIRONMENT
    shell:
        "python -m scripts.html_tables {input:q} > {log:q} 2>&1"


use rule html_main as html_study with:
    input:
        rules.tables_study.output.md,
    output:
        [report(plan.table("{study}", kind, "html"), **table_page("{study}", kind)) for kind in TABLE_NAMES],
    log:
        f"{RESULTS}/logs/html.{{study}}.log",
    benchmark:
        f"{RESULTS}/timings/html.{{study}}.tsv"


use rule html_main as html_ablation with:
    input:
        rules.tables_ablation.output.md,
    output:
        [
            report(plan.table("{ablation}", kind, "html"), **table_page("{ablation}", kind))
            for kind in TABLE_NAMES
            if kind != "claims"
        ],
    log:
        f"{RESULTS}/logs/html.{{ablation}}.log",
    benchmark:
        f"{RESULTS}/timings/html.{{ablation}}.tsv"


rule dvc_metrics:
    """The scores of the main table in the form that `dvc metrics` reads."""
    input:
        f"{RESULTS}/tables/main.csv",
    output:
        f"{RESULTS}/tables/metrics.json",
    log:
        f"{RESULTS}/logs/dvc_metrics.log",
    benchmark:
        f"{RESULTS}/timings/dvc_metrics.tsv"
    conda:
        ENVIRONMENT
    shell:
        "python -m scripts.dvc_metrics {input:q} --out {output:q} > {log:q} 2>&1"


rule draw_figure:
    """Draw one figure of the paper or of the main comparison."""
    input:
        lambda w: by_record(plan.figure_inputs(w.figure)),
        identity=lambda w: plan.records.preset(),
        preset=ancient(PRESET),
    output:
        pdf=f"{RESULTS}/figures/{{figure}}.pdf",
        png=report(
            f"{RESULTS}/figures/{{figure}}.png",
            caption="../report/figure.rst",
            category=lambda w: plan.figure_category(w.figure),
            labels=lambda w: {"figure": w.figure.replace("_", " ")},
        ),
        csv=f"{RESULTS}/figures/{{figure}}.csv",
    log:
        f"{RESULTS}/logs/figure.{{figure}}.log",
    benchmark:
        f"{RESULTS}/timings/figure.{{figure}}.tsv"
    conda:
        ENVIRONMENT
    params:
        preset=S.preset,
        override=plan.override_flag,
        seeds=plan.seed_list("main"),
        kept=lambda w: plan.kept(plan.figure_inputs(w.figure)),
        setting=lambda w: plan.setting("main", w.figure),
    shell:
        "python -m prefix_rft figure {wildcards.figure:q} --preset {params.preset:q} {params.override:q} --seeds {params.seeds:q} > {log:q} 2>&1"


rule draw_study:
    """Draw Figure 4 of one study: do its prefixed rollouts stay ahead of the plain ones?"""
    input:
        lambda w: by_record(plan.study_inputs(w.study)),
        identity=lambda w: plan.records.preset(),
        preset=ancient(PRESET),
    output:
        pdf=f"{RESULTS}/figures/{{study}}.pdf",
        png=report(
            f"{RESULTS}/figures/{{study}}.png",
            caption="../report/study.rst",
            category="Studies",
            labels={"comparison": "{study}", "table": "figure"},
        ),
        csv=f"{RESULTS}/figures/{{study}}.csv",
    log:
        f"{RESULTS}/logs/figure.{{study}}.log",
    benchmark:
        f"{RESULTS}/timings/figure.{{study}}.tsv"
    conda:
        ENVIRONMENT
    params:
        preset=S.preset,
        override=plan.override_flag,
        seeds=lambda w: plan.seed_list(w.study),
        kept=lambda w: plan.kept(plan.study_inputs(w.study)),
        setting=lambda w: plan.setting(w.study),
    shell:
        "python -m prefix_rft figure figure_4 --preset {params.preset:q} {params.override:q} --study {wildcards.study:q} --seeds {params.seeds:q} --out {output.pdf:q} > {log:q} 2>&1"


rule draw_ablation:
    """Draw the figure of one ablation."""
    input:
        lambda w: by_record(plan.study_inputs(w.ablation)),
        ablations=lambda w: plan.records.ablations(),
        identity=lambda w: plan.records.preset(),
        preset=ancient(PRESET),
    output:
        pdf=f"{RESULTS}/figures/{{ablation}}.pdf",
        png=report(
            f"{RESULTS}/figures/{{ablation}}.png",
            caption="../report/ablation.rst",
            category="Ablations",
            labels={"comparison": "{ablation}", "table": "figure"},
        ),
        csv=f"{RESULTS}/figures/{{ablation}}.csv",
    log:
        f"{RESULTS}/logs/figure.{{ablation}}.log",
    benchmark:
        f"{RESULTS}/timings/figure.{{ablation}}.tsv"
    conda:
        ENVIRONMENT
    params:
        preset=S.preset,
        override=plan.override_flag,
        seeds=lambda w: plan.seed_list(w.ablation),
        kept=lambda w: plan.kept(plan.study_inputs(w.ablation)),
        setting=lambda w: plan.setting(w.ablation),
    shell:
        "python -m prefix_rft figure ablation --preset {params.preset:q} {params.override:q} --study {wildcards.ablation:q} --seeds {params.seeds:q} > {log:q} 2>&1"
