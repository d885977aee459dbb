"""Task math: from the hub's rows to problems and demonstrations, planted contamination found, filters with counts, subsets."""

import json

import pytest
import yaml

from prefix_rft.__main__ import main
from prefix_rft.common.errors import UserError
from prefix_rft.common.files import read_json, read_parquet, write_json, write_parquet
from prefix_rft.data.demonstration_filters import foreign
from prefix_rft.data.overlap import Index, words
from prefix_rft.data.subsets import SubsetConfig, choose
from scripts.local_hub_samples import (
    PLANTED,
    ROBBED,
    benchmark_rows,
    complement_rows,
    jsonl,
    tiny_model,
    training_row,
    training_rows,
)
from tests.conftest import ROOT

TEMPLATE = str(ROOT / "config/templates/qwen_math.txt")


def run(*arguments):
    return main([str(a) for a in arguments])


@pytest.fixture
def world(tmp_path):
    """Benchmarks as local files (one of them missing), the training set as another, a tokenizer."""
    table = {}
    for name, rows in benchmark_rows(None).items():
        if name in ("math500", "olympiad"):
            (tmp_path / f"{name}.jsonl").write_bytes(jsonl(rows))
            column = {"math500": "problem", "olympiad": "question"}[name]
            source = {"path": str(tmp_path / f"{name}.jsonl")}
            answer = {"math500": "answer", "olympiad": "final_answer"}[name]
            table[name] = {"source": source, "question": column, "answer": answer, "problems": 3}
    table["gone"] = table["math500"] | {"source": table["math500"]["source"] | {"path": str(tmp_path / "gone.jsonl")}}
    (tmp_path / "table.yaml").write_text(yaml.safe_dump(table))
    choice = str(ROOT / "config/templates/choice.txt")
    settings = {
        "table": str(tmp_path / "table.yaml"),
        "names": ["math500"],
        "clear_of": [*table],
        "template": TEMPLATE,
        "choice_template": choice,
    }
    (tmp_path / "benchmarks.yaml").write_text(yaml.safe_dump(settings))
    (tmp_path / "train.jsonl").write_bytes(jsonl(training_rows()))
    (tmp_path / "model").mkdir()
    for name, data in tiny_model().items():
        (tmp_path / "model" / name).write_bytes(data)
    return tmp_path


def make(world, rows=None, **changes):
    if rows is not None:
        (world / "train.jsonl").write_bytes(jsonl(rows))
    values = {"task": "math", "validation": 5, "max_broken": 0.1, "template": TEMPLATE}
    values |= {"source": {"path": str(world / "train.jsonl")}}
    (world / "data.yaml").write_text(yaml.safe_dump(values | changes))
    out = world / "data"
    if not (out / "contamination.parquet").exists():
        assert run("contamination", "--config", world / "benchmarks.yaml", "--out", out / "contamination.parquet") == 0
    return run("data", "--config", world / "data.yaml", "--out", out), out


def demos(world, **config):
    (world / "r1.yaml").write_text(yaml.safe_dump({"source": "r1", **config}))
    out = world / "data/demos.r1.parquet"
    assert (
        run(
            "demos",
            "--config",
            world / "r1.yaml",
            "--data",
            world / "data",
            "--tokenizer",
            world / "model",
            "--out",
            out,
        )
        == 0
    )
    return read_parquet(out), read_json(out.with_suffix(".report.json"))


def counts(steps):
    return {s["step"]: (s["in"], s["out"]) for s in steps}


def test_problems_with_counts_of_every_step_and_planted_contamination_found(world, capsys):
    code, out = make(world)
    assert code == 0
    report = read_json(out / "data.json")
    assert counts(report["steps"]) == {
        "parse": (48, 47),  # one row without an answer
        "answer can be compared": (47, 47),
        "deduplicate": (47, 46),
        "decontaminate": (46, 44),
    }
    found = {c["benchmark"]: c for c in report["contaminated"]}
    assert found["math500"]["kind"] == "13-gram" and "seventeen rows of tulips" in found["math500"]["shared"]
    assert found["olympiad"]["kind"] == "exact"
    # a benchmark that could not be had is named, and stopped nothing
    assert [m.partition(":")[0] for m in report["not_compared_with"]] == ["gone"]
    assert "warning" in capsys.readouterr().err
    train, validation = (read_parquet(out / f"problems.{s}.parquet") for s in ("train", "validation"))
    assert len(train) == 39 and len(validation) == 5
    assert not any(PLANTED in p["prompt"] or p["prompt"] == ROBBED for p in train + validation)
    assert report["prompt_template_sha256"] and report["task"] == "math"


def test_the_complement_has_other_problems_and_no_demonstrations(world, capsys):
    """13 rows, of which one is a training problem and one a benchmark's; its problems are in no other file."""
    rows = [*complement_rows(), training_row(ROBBED, "5", "no demonstration is read")]
    (world / "complement.jsonl").write_bytes(jsonl(rows))
    code, out = make(world, complement={"path": str(world / "complement.jsonl")})
    assert code == 0
    report = read_json(out / "data.json")
    assert counts(report["complement"]["steps"]) == {
        "parse": (14, 14),
        "answer can be compared": (14, 14),
        "deduplicate": (14, 14),
        "decontaminate": (14, 13),
        "not in source": (13, 12),
    }
    other = read_parquet(out / "problems.complement.parquet")
    train = [r for s in ("train", "validation") for r in read_parquet(out / f"problems.{s}.parquet")]
    assert len(other) == 12 and not {r["canonical"] for r in other} & {r["canonical"] for r in train}
    assert other[0]["id"] == "math-complement-000000" and set(other[0]) == set(train[0])
    assert not {r["problem_id"] for r in read_parquet(out / "raw.r1.parquet")} & {r["id"] for r in other}
    assert "problems.complement.parquet" in report["files"] and report["problems"]["complement"] == {"all": 12}
    (world / "complement.jsonl").write_bytes(jsonl(rows[-2:-1]))
    assert make(world, complement={"path": str(world / "complement.jsonl")})[0] == 2
    assert "data.yaml: key 'complement': no problem is left" in capsys.readouterr().err


def test_demonstrations_lose_what_they_should_step_by_step(world):
    make(world)
    rows, report = demos(world, max_tokens=300, language="en", max_broken=0.2)
    steps = counts(report["steps"])
    assert [s["step"] for s in report["steps"]] == [
        "parse",
        "decontaminate",
        "verify",
        "length",
        "deduplicate",
        "language",
    ]
    assert steps["decontaminate"][0] - steps["decontaminate"][1] == 2
    dropped = {s["step"]: s["dropped"] for s in report["steps"]}
    assert {d["reason"].split(" of ")[1].split(" ")[0] for d in dropped["decontaminate"]} == {"math500", "olympiad"}
    assert steps["verify"][0] - steps["verify"][1] == 1 and "'4'" in dropped["verify"][0]["reason"]
    reasons = " ".join(d["reason"] for d in dropped["language"])
    assert "language fr" in reasons and "Latin" in reasons and steps["language"][0] - steps["language"][1] == 2
    assert len(rows) == steps["language"][1] and all(r["n_tokens"] <= 300 for r in rows)


def test_quantity_teacher_and_subset_of_demonstrations(world):
    make(world)
    rows, report = demos(world, prompts=10, max_broken=0.2)
    assert len(rows) == 10 and counts(report["steps"])["prompts"][1] == 10
    assert {r["problem_id"] for r in demos(world, prompts=10, seed=1)[0]} != {r["problem_id"] for r in rows}
    ids = {r["problem_id"] for r in rows}
    problems = read_parquet(world / "data/problems.train.parquet")
    write_parquet(world / "data/problems.few.parquet", [p for p in problems if p["id"] in ids])
    assert {r["problem_id"] for r in demos(world, subset="few")[0]} == ids
    raw = read_parquet(world / "data/raw.r1.parquet")
    again = [{**r, "demo_id": r["demo_id"] + "b", "response": "Again. " + r["response"]} for r in raw]
    write_parquet(world / "data/raw.r1.parquet", raw + again)
    twice, _ = demos(world, subset="few")
    once, report = demos(world, subset="few", per_prompt=1)
    assert len(twice) == 20 and len(once) == 10 and not any(r["response"].startswith("Again.") for r in once)
    assert counts(report["steps"])["per prompt"] == (20, 10)


def test_decontamination_can_be_required_or_left_out(world, capsys):
    assert make(world, decontaminate={"n": 13, "required": True})[0] == 2
    assert "training data could not be compared with gone" in capsys.readouterr().err
    code, out = make(world, decontaminate=None)
    assert code == 0 and len(read_parquet(out / "problems.train.parquet")) == 41
    assert read_json(out / "data.json")["not_compared_with"] == ["all: key 'decontaminate' is null"]


@pytest.mark.parametrize(
    ("rows", "changes", "message"),
    [
        ([], {}, r"key 'source': \S+train.jsonl holds no row"),
        (
            training_rows()[:6],
            {"template": "nowhere.txt"},
            "key 'template' = 'nowhere.txt': the template is not readable",
        ),
        ([{"prompt": "x"}] * 3, {}, "column 'reward_model.ground_truth' is missing; the data have prompt"),
        (
            [training_row("x", "1", "y"), {"prompt": 3}, training_row("z", "1", "y")],
            {},
            r"1 of 3 rows are broken, more than max_broken = 0.1: row 2: no text of user",
        ),
        (training_rows()[:6], {"validation": 6}, "key 'validation' = 6: only 6 problems are left"),
        (training_rows()[:6], {"validation": 1, "question": "problem"}, "key 'question': column 'problem' is missing"),
    ],
)
def test_bad_training_data_end_in_one_line_with_the_file(world, capsys, rows, changes, message):
    import re

    assert make(world, rows, **changes)[0] == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.search(message, error) and error.startswith(f"error: {world / 'data.yaml'}"), error


def test_words_and_index():
    assert words(r"Let $\dfrac{1}{2}\left(x\right)$ be\, 12.5!") == ["let", "frac", "1", "2", "x", "be", "12", "5"]
    text = "the quick brown fox jumps over the lazy dog and then it sleeps for eight hours in the sun"
    index = Index(
        [{"benchmark": "b", "id": "1", "text": text}, {"benchmark": "b", "id": "2", "text": "What is one and one?"}],
        n=13,
    )
    assert index.find(f"Before. {text.upper()} After.").kind == "13-gram"
    assert index.find(text).kind == "exact" and index.find("what is ONE and one").id == "2"
    assert index.find(" ".join(text.split()[:12])) is None  # shorter than the run
    assert index.find("so what is one and one then") is None  # a short question counts as the same text only
    assert index.find(text.replace("eight", "nine").replace("fox", "cat")) is None
    with pytest.raises(UserError, match="at least 8 words"):
        Index([], n=3)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("We compute the sum of all numbers and then divide by the number of terms, which gives $x=\\frac12$.", None),
        (
            "Wir berechnen die Summe aller Zahlen und teilen dann durch die Anzahl der Glieder, das ergibt den Mittelwert.",
            "de",
        ),
        (
            "First we compute the sum. 然后我们把总和除以项数，得到平均值，这就是我们要找的答案，因此结果是十二。",
            "Latin",
        ),
        ("$x = 3$, so 4.", None),  # too little prose to tell
    ],
)
def test_language(text, wrong):
    found = foreign(text, "en", 0.95)
    assert (found is None) if wrong is None else wrong in found


# ----------------------------------------------------------------------------------------------------------- subsets


@pytest.fixture
def levels(tmp_path):
    """90 problems whose level by a teacher is their number modulo 9."""
    rows = [
        {"id": f"p{i:02d}", "prompt": f"q{i}", "answer": "1", "level": "all", "canonical": f"q{i}"} for i in range(90)
    ]
    write_parquet(tmp_path / "problems.train.parquet", rows)
    write_parquet(
        tmp_path / "levels.t.parquet",
        [{"problem_id": r["id"], "tried": 8, "right": i % 9, "timed_out": 0} for i, r in enumerate(rows)],
    )
    write_parquet(
        tmp_path / "demos.easy.parquet", [{"problem_id": f"p{i:02d}", "demo_id": f"d{i}"} for i in range(0, 90, 3)]
    )
    write_json(tmp_path / "data.json", {"task": "math", "prompt_template": "{question}"})
    return tmp_path


def test_analysis_set_has_so_many_of_each_level_and_train_2k_the_first_of_them(levels):
    config = SubsetConfig(teacher="t", levels=[*range(1, 9)], per_level=5)
    rows, report = choose(config, levels)
    assert report["levels"] == {str(n): 5 for n in range(1, 9)} and len(rows) == 40
    assert (
        rows == choose(config, levels)[0]
        and rows != choose(SubsetConfig(teacher="t", levels=[*range(1, 9)], per_level=5, seed=1), levels)[0]
    )
    write_parquet(levels / "problems.analysis.parquet", rows)
    first, _ = choose(SubsetConfig(source="analysis", teacher="t", first_per_level=2), levels)
    assert len(first) == 16
    for level in range(1, 9):
        of_level = [r["id"] for r in rows if r["level"] == str(level)]
        assert [r["id"] for r in first if r["level"] == str(level)] == of_level[:2]


def test_easy_subset_has_the_problems_with_a_demonstration(levels):
    rows, report = choose(SubsetConfig(with_demos="easy"), levels)
    assert [r["id"] for r in rows] == [f"p{i:02d}" for i in range(0, 90, 3)]
    assert [s["out"] for s in report["steps"]] == [90, 30]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"teacher": "t", "per_level": 11}, "key 'per_level' = 11: level '0' has only 10 problems"),
        ({"teacher": "t", "levels": [1, 12], "per_level": 1}, "level '12' has no problem"),
        ({"source": "none"}, "problems.none.parquet: no such file"),
        ({"levels": [1]}, "needs `teacher`"),
    ],
)
def test_subsets_that_cannot_be_made_end_in_one_line(levels, capsys, values, message):
    (levels / "s.yaml").write_text(yaml.safe_dump(values))
    assert run("subset", "--config", levels / "s.yaml", "--data", levels, "--out", levels / "problems.s.parquet") == 2
    assert message in capsys.readouterr().err and not (levels / "problems.s.parquet").exists()


def test_the_presets_subsets_are_those_of_the_paper():
    folder = ROOT / "config/paper-7b/setup"
    analysis = yaml.safe_load((folder / "subsets/analysis.yaml").read_text())
    assert analysis["per_level"] == 2048 and analysis["levels"] == [*range(1, 9)]
    assert yaml.safe_load((folder / "subsets/train_2k.yaml").read_text())["first_per_level"] == 256
    assert yaml.safe_load((folder / "teachers/r1_distill.yaml").read_text())["samples"] == 8
    assert yaml.safe_load((folder / "demos/easy.yaml").read_text())["max_tokens"] == 2048
    json.dumps(analysis)
