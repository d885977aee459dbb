"""The worked examples of docs/adding_a_method.md: their files, configurations, tests and commands do what the page says."""

import re
import shutil
import sys

import pytest
import yaml

from prefix_rft import methods
from prefix_rft.common.errors import UserError
from prefix_rft.common.files import read_json, read_jsonl
from prefix_rft.config.reading import config_hash
from prefix_rft.runs.load import load_run
from prefix_rft.training import train
from tests.conftest import run
from tests.helpers import synthetic
from tests.helpers.commands import call
from tests.helpers.small import make_world, train_job
from tests.report.test_tables import rows

EXAMPLES = ("prefix_threshold", "cispo_dft")
SMALL = [
    "prompts=null",
    "steps=3",
    "batch_prompts=4",
    "minibatch_prompts=2",
    "rollout.group_size=4",
    "rollout.max_response=60",
]


def page(root):
    return (root / "docs" / "adding_a_method.md").read_text()


def files_of(root, name):
    """{path: text} of an example's three blocks, whose headings name the paths."""
    found = re.findall(r"^### [^\n]*`([\w/.]+)`\n.*?```\w+\n(.*?)```", page(root), re.DOTALL | re.MULTILINE)
    return {path: text for path, text in found if name in path}


def commands_of(root, name):
    blocks = re.findall(r"```bash\n(.*?)```", page(root), re.DOTALL)
    return next(b.splitlines() for b in blocks if name in b)


@pytest.fixture(params=EXAMPLES)
def example(root, tmp_path, monkeypatch, request):
    """(name, configuration, test): a method where methods are looked for, its configuration beside those of preset tiny."""
    name = request.param
    method, config, test = files_of(root, name).values()
    folder = tmp_path / "methods"
    folder.mkdir()
    (folder / f"{name}.py").write_text(method)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(folder)])
    for file in (root / "config" / "tiny").glob("*.yaml"):
        shutil.copy(file, tmp_path)
    (tmp_path / f"{name}.yaml").write_text(config)
    yield name, tmp_path / f"{name}.yaml", test
    sys.modules.pop(f"prefix_rft.methods.{name}", None)


def test_the_page_has_one_file_one_configuration_and_one_test(root):
    for name in EXAMPLES:
        paths = [f"prefix_rft/methods/{name}.py", f"config/tiny/{name}.yaml", f"tests/methods/test_{name}.py"]
        assert list(files_of(root, name)) == paths and not (root / paths[0]).exists()
        assert len(commands_of(root, name)) == 2


def test_the_page_s_own_test(example):
    space = {}
    exec(compile(example[2], "docs/adding_a_method.md", "exec"), space)
    tests = [value for key, value in space.items() if key.startswith("test_")]
    assert len(tests) == 1
    tests[0]()


def test_its_configuration_is_read_and_leaves_other_runs_alone(root, example):
    name, config, _ = example
    assert name in methods.names() and load_run(config).method == name
    section, key, wrong = {
        "prefix_threshold": ("prefix", "least_entropy", -1),
        "cispo_dft": ("cispo_dft", "coefficient", -1),
    }[name]
    with pytest.raises(UserError, match=f"key '{section}.{key}' = {wrong}: must be >= 0"):
        load_run(config, sets=[f"{section}.{key}={wrong}"])
    with pytest.raises(UserError, match=rf"key '{section}(\.{key})?' = "):
        load_run(root / "config" / "tiny" / "luffy.yaml", sets=[f"{section}.{key}=1"])


def test_the_identity_of_another_run_does_not_change(root, example, monkeypatch):
    hashes = []
    for path in (methods.__path__, methods.__path__[:-1]):
        monkeypatch.setattr(methods, "__path__", path)
        hashes.append((len(methods.names()), config_hash(load_run(root / "config" / "tiny" / "prefix_rft.yaml"))))
    (with_it, one), (without, other) = hashes
    assert one == other and with_it == without + 1


def test_it_trains(example, tmp_path):
    name, config, _ = example
    make_world(tmp_path)
    # that model knows its demonstrations by heart
    sets = [*SMALL, "prefix.least_entropy=0.01"] if name == "prefix_threshold" else SMALL
    assert train.train(train_job(tmp_path, config, changes=sets)) == 0
    found = read_jsonl(tmp_path / "out" / "metrics.jsonl")
    assert read_json(tmp_path / "out" / "run.json")["config"]["method"] == name
    assert any(r["grad_norm"] > 0 for r in found) and any(r["rl_loss"] for r in found)
    assert any(r["ce_loss"] for r in found) == (name == "cispo_dft")
    assert any(r["kept_prefix_share"] for r in found)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_commands_in_a_copy_of_the_project(root, finished_copy, name):
    """Three new files are all: the commands of the page test and train the method, and no other run is trained again."""
    added = files_of(root, name)
    for path, text in added.items():
        (finished_copy / path).write_text(text)
    results = finished_copy / "results" / "tiny-smoke"
    before = {file: file.read_text() for file in results.glob("runs/*/*/run.json")}
    test, snakemake = commands_of(root, name)
    assert "1 passed" in run(test, finished_copy)
    run(snakemake, finished_copy)
    assert read_json(results / "runs" / name / "seed0" / "run.json")["config"]["method"] == name
    assert before and all(file.read_text() == text for file, text in before.items())
    changed = run("git status --porcelain --untracked-files=all", finished_copy).splitlines()
    assert sorted(line.split()[1] for line in changed if "results/" not in line) == sorted(added)


def test_the_page_s_study(root, finished_copy):
    for path, text in files_of(root, "prefix_threshold").items():
        (finished_copy / path).write_text(text)
    study = next(b for b in re.findall(r"```yaml\n(.*?)```", page(root), re.DOTALL) if b.startswith("studies:"))
    preset = finished_copy / "config/tiny/preset.yaml"
    values = yaml.safe_load(preset.read_text())
    values["studies"] |= yaml.safe_load(study)["studies"]
    preset.write_text(yaml.safe_dump(values, sort_keys=False))
    planned = run("snakemake -n study_threshold --config smoke=true", finished_copy)
    assert "runs/prefix_threshold/seed0/run.json" in planned


@pytest.mark.parametrize("example", ["cispo_dft"], indirect=True)
def test_it_stands_in_tables_and_figures_after_the_kinds_that_they_know(example, tmp_path, monkeypatch):
    values = {"method": "cispo_dft", "cispo_dft": {"coefficient": 0.1}}
    monkeypatch.setitem(synthetic.RUNS, "cispo_dft", synthetic.RUNS["luffy"] | values)
    preset, results = synthetic.build(
        tmp_path / "world", seeds=(0, 1), problems=3, temperatures=(1.0,), runs=("cispo_dft", "sft", "prefix_rft")
    )
    values = yaml.safe_load(preset.read_text())
    values["labels"]["cispo_dft"] = "CISPO and DFT"
    preset.write_text(yaml.safe_dump(values))
    common = ("--preset", preset, "--results", results)
    call("tables", *common, "--out", results / "tables")
    for name in ("table_1", "table_5"):
        call("paper-table", name, *common, "--out", results / f"tables/{name}.csv")
        assert "| CISPO and DFT " in (results / f"tables/{name}.md").read_text()
    lines = (results / "tables/table_1.md").read_text().splitlines()
    shown = [line.split("|")[1].strip() for line in lines if "[" in line]
    assert shown == ["Base model", "SFT", "Prefix-RFT", "CISPO and DFT"]
    for name in ("figure_5", "comparison"):
        call("figure", name, *common, "--out", results / f"figures/{name}.pdf")
        assert "cispo_dft" in {r["method"] for r in rows(results / f"figures/{name}.csv")}
