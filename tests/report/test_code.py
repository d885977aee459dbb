"""Tables and figures mark runs that other code trained than the present one."""

import json
from types import SimpleNamespace

import pytest

from prefix_rft.__main__ import main
from prefix_rft.common.files import write_json
from prefix_rft.report.code import code_note, note_of, other_code, symptom_note
from prefix_rft.report.study import load_study
from prefix_rft.runs.record import UNKNOWN
from tests.helpers import synthetic


@pytest.fixture
def made(tmp_path):
    """(preset.yaml, results) of five methods; the present code trained every run."""
    return synthetic.build(tmp_path, problems=6, temperatures=(1.0,), steps=4)


def edit_record(results, run, seed, **values):
    path = results / f"runs/{run}/seed{seed}/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def age(results, run, seed, file):
    """Let run.json say that another version of `file` trained this run."""
    path = results / f"runs/{run}/seed{seed}/run.json"
    files = json.loads(path.read_text())["code"]["files"] | {file: "0" * 16}
    edit_record(results, run, seed, code={"sha256": "0" * 16, "files": files})


def command(preset, results, *arguments):
    assert main([*arguments[:-1], "--preset", str(preset), "--results", str(results), "--out", str(arguments[-1])]) == 0


def test_present_code_has_no_note(made):
    study = load_study(*made)
    assert other_code(study) == {} and code_note([study]) == ""


def test_note_names_run_seeds_and_files(made):
    preset, results = made
    age(results, "luffy", 1, "methods/luffy.py")
    study = load_study(preset, results)
    assert other_code(study) == {"luffy": {1: ["methods/luffy.py"]}}
    assert code_note([study]) == "Trained by other code than the present: LUFFY (seed 1: methods/luffy.py)."


def test_run_that_started_from_an_older_run_is_marked(made):
    preset, results = made
    age(results, "sft", 0, "methods/sft.py")
    assert set(other_code(load_study(preset, results))) == {"sft", "sft_then_rft"}


def test_record_without_code_is_marked(made):
    preset, results = made
    edit_record(results, "rft", 0, code=None)
    assert other_code(load_study(preset, results)) == {"rft": {0: [UNKNOWN]}}


def test_tables_of_a_study_and_of_the_paper_say_so(made):
    preset, results = made
    age(results, "luffy", 0, "methods/luffy.py")
    tables = results / "tables"
    command(preset, results, "tables", tables)
    command(preset, results, "paper-table", "table_1", tables / "table_1.csv")
    for name in ("main", "paired", "budgets", "claims", "table_1"):
        text = (tables / f"{name}.md").read_text()
        assert text.endswith("Trained by other code than the present: LUFFY (seed 0: methods/luffy.py).\n"), name
    record = json.loads((tables / "main.runs.json").read_text())["runs"]["luffy"]
    assert record["0"]["other_code"] == ["methods/luffy.py"] and record["1"]["other_code"] == []


def test_figure_says_so_below(made):
    preset, results = made
    command(preset, results, "figure", "pass_at_k", results / "figures/clean.pdf")
    age(results, "luffy", 0, "methods/luffy.py")
    command(preset, results, "figure", "pass_at_k", results / "figures/marked.pdf")
    clean, marked = ((results / f"figures/{name}.png").read_bytes() for name in ("clean", "marked"))
    assert clean != marked


def test_tables_name_the_warnings_of_a_training(made):
    preset, results = made
    assert symptom_note([load_study(preset, results)]) == ""
    warning = {"symptom": "responses cut off", "steps": [[0, 2], [5, 9]], "advice": "raise rollout.max_response"}
    for seed in (0, 1):
        edit_record(results, "luffy", seed, warnings=[warning])
    command(preset, results, "tables", results / "tables")
    command(preset, results, "paper-table", "table_1", results / "tables/table_1.csv")
    for name in ("main", "table_1"):
        assert (
            (results / f"tables/{name}.md")
            .read_text()
            .endswith(
                "Warnings of trainings (run.json says when, and what to change): LUFFY (seeds 0, 1): responses cut off.\n"
            )
        )


def test_many_warnings_are_counted(made):
    preset, results = made
    many = [{"symptom": f"symptom {n}", "steps": [[0, 2]], "advice": ""} for n in range(7)]
    edit_record(results, "luffy", 0, warnings=many)
    edit_record(results, "luffy", 1, warnings=many[2:3])
    study = load_study(preset, results)
    trainings = sum(len(member.seeds) for member in study.trained())
    note = symptom_note([study])
    assert note.startswith(
        f"Warnings of {trainings} trainings, and how many had each (run.json says when, and what to change): "
    )
    assert note.endswith(": symptom 2 (2), " + ", ".join(f"symptom {n} (1)" for n in (0, 1, 3, 4, 5, 6)) + ".")


def test_a_note_says_what_several_tables_share_once(tmp_path):
    heading = "Warnings of trainings (run.json says when, and what to change)"
    for name, body in (
        ("few", "RFT (seed 0): no gradient"),
        ("weak", "RFT (seed 0): no gradient; LUFFY (seed 1): no signal"),
    ):
        write_json(tmp_path / f"tables/{name}.runs.json", {"symptom_note": f"{heading}: {body}."})
    note = note_of(SimpleNamespace(results=tmp_path, tables=["few", "weak"], loaded=[]))
    assert note == f"{heading}: RFT (seed 0): no gradient; LUFFY (seed 1): no signal."
