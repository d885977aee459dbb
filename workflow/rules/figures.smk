"""Tables and figures of the main comparison. One target a figure: `snakemake --cores all figure_4`."""


rule main_tables:
    """Scores with intervals, paired differences, budgets and the paper's claims with their verdicts."""
    input:
        study_inputs(S.runs, SEEDS),
        override=OVERRIDE,
        preset=f"{S.folder}/preset.yaml",
    output:
        report(
            f"{RESULTS}/tables/main.csv",
            caption="../report/main.rst",
            category="Results",
            labels={"study": "main comparison", "what": "scores"},
        ),
        report(
            f"{RESULTS}/tables/paired.csv",
            caption="../report/paired.rst",
            category="Results",
            labels={"study": "main comparison", "what": "paired differences"},
        ),
        report(
            f"{RESULTS}/tables/claims.csv",
            caption="../report/claims.rst",
            category="Results",
            labels={"study": "main comparison", "what": "claims and verdicts"},
        ),
        report(
            f"{RESULTS}/tables/budgets.csv",
            caption="../report/budgets.rst",
            category="Results",
            labels={"study": "main comparison", "what": "budgets"},
        ),
        expand(f"{RESULTS}/tables/{{table}}.md", table=["main", "paired", "claims", "budgets"]),
        hashes=f"{RESULTS}/tables/main.runs.json",
    log:
        f"{RESULTS}/logs/tables.main.log",
    benchmark:
        f"{RESULTS}/benchmarks/tables.main.tsv"
    conda:
        ENVIRONMENT
    params:
        override=OVERRIDE_FLAG,
        results=subpath(output.hashes, ancestor=2),
        seeds=SEED_LIST,
    shell:
        "python -m prefix_rft tables --preset-config {input.preset} {params.override} --results {params.results}"
        " --study main --seeds {params.seeds} --out {output} > {log} 2>&1"


rule dvc_metrics:
    """The scores of the main table in the form that `dvc metrics` reads."""
    input:
        f"{RESULTS}/tables/main.csv",
    output:
        f"{RESULTS}/tables/metrics.json",
    log:
        f"{RESULTS}/logs/dvc_metrics.log",
    benchmark:
        f"{RESULTS}/benchmarks/dvc_metrics.tsv"
    conda:
        ENVIRONMENT
    shell:
        "python -m scripts.dvc_metrics {input} --out {output} > {log} 2>&1"


for name in FIGURES:

    rule:
        name:
            f"draw_{name}"
        input:
            figure_inputs(name),
            override=OVERRIDE,
            preset=f"{S.folder}/preset.yaml",
        output:
            pdf=f"{RESULTS}/figures/{name}.pdf",
            png=report(
                f"{RESULTS}/figures/{name}.png",
                caption=f"../report/{name}.rst",
                category="Figures",
                labels={"figure": figure_label(name)},
            ),
            csv=f"{RESULTS}/figures/{name}.csv",
        log:
            f"{RESULTS}/logs/figure.{name}.log",
        benchmark:
            f"{RESULTS}/benchmarks/figure.{name}.tsv"
        conda:
            ENVIRONMENT
        params:
            name=name,
            override=OVERRIDE_FLAG,
            results=subpath(output.pdf, ancestor=2),
            seeds=SEED_LIST,
        shell:
            "python -m prefix_rft figure {params.name} --preset-config {input.preset} {params.override}"
            " --results {params.results} --study main --seeds {params.seeds} --out {output.pdf} > {log} 2>&1"

    rule:
        name:
            figure_target(name)
        input:
            expand(f"{RESULTS}/figures/{name}.{{kind}}", kind=["pdf", "png", "csv"]),


rule tables:
    """Target: the tables of the main comparison."""
    input:
        rules.main_tables.output,
        rules.dvc_metrics.output,


rule figures:
    """Target: the figures that need nothing but the main comparison."""
    input:
        expand(f"{RESULTS}/figures/{{name}}.{{kind}}", name=MAIN_FIGURES, kind=["pdf", "png", "csv"]),
