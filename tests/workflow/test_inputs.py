"""The files that rules read and that targets ask for, without Snakemake."""

import re
import shutil

import pytest

from prefix_rft.common.errors import UserError
from prefix_rft.config.names import is_name
from tests.conftest import ROOT
from workflow.inputs import Plan, check_names, pattern
from workflow.settings import FIGURES, load_settings

PRESETS = sorted(p.parent.name for p in (ROOT / "config").glob("*/preset.yaml"))


@pytest.fixture
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def plan_of(preset="tiny", **config) -> Plan:
    return Plan(load_settings({"preset": preset} | config))


@pytest.fixture
def tiny(in_root) -> Plan:
    return plan_of(seeds=[0, 1])


@pytest.fixture
def paper(in_root) -> Plan:
    return plan_of("paper-1.5b")


def test_a_pattern_matches_its_names_and_nothing_else():
    import re

    assert re.fullmatch(pattern(["lr_sft_0.001", "rft"]), "rft")
    assert not re.fullmatch(pattern(["lr_sft_0.001"]), "lr_sft_0x001")
    assert not re.fullmatch(pattern([]), "") and not re.fullmatch(pattern([]), "none")


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("smoke", [False, True])
def test_every_target_asks_for_files_of_its_preset(in_root, preset, smoke):
    plan = plan_of(preset, smoke=smoke)
    studies = {f"study_{name}" for name in plan.settings.studies}
    assert {"figure_1", "figure_4", "run_rft"} | studies <= set(plan.targets)
    assert preset in ("extension", "smollm2-two-cores") or "study_controls" in studies
    for target in plan.targets:
        files = plan.target_files(target)
        assert files and all(f.startswith(f"{plan.results}/") for f in files), target
        assert len(files) == len(set(files)), target
    for figure in plan.figures:
        assert all(f.startswith(("results/", "config/")) for f in plan.figure_inputs(figure))
    for table in plan.paper_tables:
        assert plan.table_inputs(table)


# ------------------------------------------------------------------------------------------------------------- runs


def test_a_run_starts_from_its_base_or_from_another_run(tiny):
    assert tiny.initial_model("rft", 1) == "results/tiny/models/base/seed1"
    assert tiny.initial_model("sft_then_rft", 1) == "results/tiny/runs/sft/seed1/model"


def test_a_run_reads_demonstrations_if_its_method_does(tiny):
    problems = "results/tiny/data/problems.train.parquet"
    assert tiny.train_sets("rft") == [problems]
    assert tiny.train_sets("prefix_rft") == [problems, "results/tiny/data/demos.strong.parquet"]


def test_a_variant_is_the_file_of_its_parent_and_changed_keys(in_root):
    plan = plan_of(smoke=True)
    assert plan.run_config("entropy_top50") == plan.run_config("prefix_rft") == "config/tiny/prefix_rft.yaml"
    assert plan.override_flag == ["--override", "config/tiny/smoke.yaml"]


def test_the_target_of_a_run_is_its_record_and_its_evaluation_under_every_seed(tiny):
    folders = [f"results/tiny/runs/luffy/seed{s}/run.json" for s in (0, 1)]
    scores = [f"results/tiny/eval/luffy/seed{s}/{f}" for s in (0, 1) for f in ("scores.json", "samples.parquet")]
    assert tiny.target_files("run_luffy") == folders + scores


def test_analysis_runs_keep_snapshots_where_a_preset_has_them(tiny, paper):
    assert tiny.keeping == [] and tiny.probed == "main" and "sft" in tiny.train_runs()
    assert tiny.snapshots_of("sft", 0) == "results/tiny/replay/sft/seed0"
    assert paper.keeping == ["analysis_sft", "analysis_rft", "analysis_prefix_rft"] and paper.probed == "analysis"
    assert paper.snapshots_of("analysis_rft", 2) == "results/paper-1.5b/runs/analysis_rft/seed2"
    assert not set(paper.keeping) & set(paper.train_runs())
    assert set(paper.train_runs()) | set(paper.keeping) == set(paper.settings.known_runs)


# ------------------------------------------------------------------------------------------------ tables and figures


def test_tables_of_the_main_comparison_of_a_study_and_of_an_ablation(tiny):
    def names(study):
        return {f.removeprefix("results/tiny/tables/") for f in tiny.study_tables(study) if not f.endswith("json")}

    def kinds(*stems):
        return {f"{stem}.{kind}" for stem in stems for kind in ("csv", "md", "html")}

    assert names("main") == kinds("main", "paired", "variance", "claims", "budgets")
    assert names("few") == kinds("few", "few.paired", "few.variance", "few.claims", "few.budgets")
    stem = "ablation_group"
    assert names(stem) == kinds(stem, f"{stem}.paired", f"{stem}.variance", f"{stem}.budgets")
    assert "results/tiny/tables/few.runs.json" in tiny.study_tables("few")


def test_a_study_of_a_regime_has_its_own_figure_4(tiny):
    figures = {name: [f for f in tiny.study_files(name) if "/figures/" in f] for name in tiny.settings.studies}
    assert figures["own"] == [f"results/tiny/figures/own.{kind}" for kind in ("pdf", "png", "csv")]
    assert (
        figures["methods"] == figures["controls"] == figures["budget"] == []
    )  # their Prefix-RFT is that of the main comparison


def test_figure_4_is_about_one_method(tiny):
    runs = {f.split("/")[3] for f in tiny.figure_inputs("figure_4") if f.startswith("results/tiny/runs")}
    assert runs == {"prefix_rft"}


def test_figures_that_read_tables_only(tiny):
    assert tiny.figure_inputs("figure_1") == []
    assert tiny.figure_inputs("lr_sensitivity") == ["results/tiny/tables/lr_grid.csv"]
    assert tiny.other_bases == ["far"]
    assert tiny.figure_inputs("figure_5") == ["results/tiny/tables/main.csv", "results/tiny/tables/far.csv"]
    assert "results/tiny/tables/weak.paired.csv" in tiny.figure_inputs("regimes")


def test_a_preset_has_the_figures_and_tables_that_it_has_the_runs_for(tiny, in_root):
    assert set(tiny.figures) == set(FIGURES)
    llama = plan_of("paper-llama")  # no probe.yaml, no grid of learning rates
    missing = {"figure_3a", "figure_3a_hard", "figure_3b", "lr_sensitivity"}
    assert set(FIGURES) - set(llama.figures) == missing
    assert not missing & set(llama.targets) and "probes" in tiny.claim_studies and "probes" not in llama.claim_studies


def test_seeds_of_the_command_line_replace_the_seeds_of_a_study(in_root):
    assert plan_of(seeds=[3, 4]).seed_list("ablation_lr") == "3,4"
    own, settings = plan_of(), load_settings({"preset": "tiny"})
    for name, ablation in settings.ablations.items():
        assert own.study_seeds(name) == list(ablation.seeds or settings.seeds)


def test_caption_says_how_far_the_setting_is_the_papers(tiny):
    assert tiny.setting("main", "figure_4").startswith("Drawn from 2 seeds. Not the paper's setting: ")
    assert tiny.setting("main", "figure_5").startswith("Drawn from 2 base models, 2 seeds.")
    assert tiny.setting("main", "figure_1") == tiny.setting("main", "training") == ""


# ------------------------------------------------------------------------------------------------------- benchmarks


def test_evaluation_is_on_benchmarks_where_a_preset_has_some(tiny, paper):
    assert tiny.evaluations() == tiny.scores(["base", *tiny.settings.runs], [0, 1]) and tiny.contamination() == []
    folder = "results/paper-1.5b/eval/base/seed0/benchmarks/aime24"
    assert {f"{folder}/scores.json", f"{folder}/samples.parquet"} <= set(paper.evaluations())
    assert {f.split("/")[2] for f in paper.target_files("benchmark_amc")} == {"eval"}
    assert all("/benchmarks/amc/" in f for f in paper.target_files("benchmark_amc"))
    assert paper.contamination()[0] == "results/paper-1.5b/data/contamination.parquet"


def test_teachers_and_subsets(paper):
    assert paper.teacher_model("r1_distill").startswith("results/paper-1.5b/models/")
    assert "results/paper-1.5b/data/raw.r1_distill.parquet" in paper.raw_demonstrations("r1_distill")
    for subset in paper.settings.subsets:
        assert all(f.startswith("results/paper-1.5b/data/") for f in paper.subset_inputs(subset))


# -------------------------------------------------------------------------------------------------------- bad names


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("study_methodz", "did you mean 'study_methods'?"),
        ("ablation_scedule", "did you mean 'ablation_schedule'?"),
        ("figure_22", "did you mean 'figure_2'?"),
        ("table5", "did you mean 'table_5'?"),
        ("run_prefixrft", "did you mean 'run_prefix_rft'?"),
        ("evaluation", "did you mean 'evaluations'?"),
        ("xyz", "`snakemake --list-target-rules` lists all"),
    ],
)
def test_a_misspelt_target_gets_the_nearest(tiny, target, expected):
    assert tiny.unknown_target(target) == f"no target {target!r} in preset 'tiny'; {expected}"


@pytest.mark.parametrize("name", ["a b", "a;b", "$(x)", "-a", "ä"])
def test_a_name_that_a_shell_or_a_path_would_read_otherwise_is_refused(tmp_path, monkeypatch, name):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    bases = tmp_path / "config/tiny/setup/bases"
    shutil.copy(bases / "base.yaml", bases / f"{name}.yaml")
    with pytest.raises(UserError, match="config/tiny: base model '.*': its name must begin with a letter or digit"):
        Plan(load_settings({"preset": "tiny"}))


def test_every_value_in_a_shell_line_is_quoted():
    """But the launcher, which is made of whole numbers (`workflow/launch.py`)."""
    lines = [line for file in sorted((ROOT / "workflow/rules").glob("*.smk")) for line in shell_lines(file.read_text())]
    assert len(lines) > 25
    found = {
        field for line in lines for field in re.findall(r"(?<!\{)\{([^{}]+)\}(?!\})", line) if not field.endswith(":q")
    }
    assert found == {"params.launcher"}


def shell_lines(text):
    """The strings of every `shell:` of a Snakefile."""
    return re.findall(r"\n    shell:\n((?: {8}.*\n)+)", text)


@pytest.mark.parametrize("name", ["a b", "a;b", "$(id)", "-rf", "..", "a/b", "ä", "a\nb", "'", "x" * 101, ".a", ""])
def test_names_that_a_shell_or_a_file_system_could_misread(name):
    assert not is_name(name) and is_name("a.b-c_1") and not is_name("a.b", dots=False)
    with pytest.raises(UserError, match="its name must begin with a letter or digit"):
        check_names("run", ["rft", name])
