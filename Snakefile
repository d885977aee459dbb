# Entry point: `snakemake -n --cores all` shows the plan. The rules are in workflow/rules/, one file a stage.
include: "workflow/Snakefile"


rule all:
    default_target: True
    input:
        rules.data.input,
        rules.demos.input,
        comparison(),
