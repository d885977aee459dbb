"""Tables of the main comparison and of every study, and the figures. One target a figure: `snakemake --cores all figure_4`."""

for study in STUDIES:

    rule:
        name:
            f"tables_{study}"
        input:
            study_inputs(study),
            override=OVERRIDE,
            preset=f"{S.folder}/preset.yaml",
        output:
            tables(study, "csv"),
            md=tables(study, "md"),
            hashes=f"{RESULTS}/tables/{study}.runs.json",
        log:
            f"{RESULTS}/logs/tables.{study}.log",
        benchmark:
            f"{RESULTS}/benchmarks/tables.{study}.tsv"
        conda:
            ENVIRONMENT
        params:
            study=study,
            override=OVERRIDE_FLAG,
            results=subpath(output.hashes, ancestor=2),
            seeds=seed_list(study),
        shell:
            "python -m prefix_rft tables --preset-config {input.preset} {params.override} --results {params.results}"
            " --study {params.study} --seeds {params.seeds} --out {output} > {log} 2>&1"

    rule:
        name:
            f"html_{study}"
        input:
            tables(study, "md"),
        output:
            [
                report(
                    table(study, kind, "html"),
                    caption=f"../report/{'main' if kind == 'scores' else kind}.rst",
                    category=study_category(study),
                    labels={"comparison": study, "table": TABLE_NAMES[kind]},
                )
                for kind in table_kinds(study)
            ],
        log:
            f"{RESULTS}/logs/html.{study}.log",
        benchmark:
            f"{RESULTS}/benchmarks/html.{study}.tsv"
        conda:
            ENVIRONMENT
        shell:
            "python -m scripts.html_tables {input} > {log} 2>&1"


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
                category=figure_category(name),
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
            seeds=seed_list("main"),
            setting=caption_setting("main", name),
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
        study_tables("main"),
        rules.dvc_metrics.output,


rule figures:
    """Target: the figures that need nothing but the main comparison."""
    input:
        expand(f"{RESULTS}/figures/{{name}}.{{kind}}", name=MAIN_FIGURES, kind=["pdf", "png", "csv"]),
