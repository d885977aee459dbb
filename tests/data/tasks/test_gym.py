"""Task `gym`: worked solutions by hand, splits that share no question, and clear errors."""

import pytest

from prefix_rft.common.errors import UserError
from prefix_rft.common.files import read_parquet
from prefix_rft.config.reading import build
from prefix_rft.data.tasks.arithmetic import steps
from prefix_rft.data.tasks.gym import TASK, WORKED, DataConfig

CONFIG = {
    "task": "gym",
    "seed": 3,
    "levels": {
        "sums": {
            "generator": "chain_sum",
            "settings": {"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 2},
        },
        "legs": {"generator": "leg_counting", "settings": {"min_animals": 2, "max_animals": 3}},
        "equations": {"generator": "simple_equations", "settings": {"min_terms": 2, "max_terms": 2}},
    },
    "ood": {"products": {"generator": "products", "settings": {"min_digits": 1, "max_digits": 2}}},
    "counts": {"train": 60, "validation": 10, "test": 10, "ood": 10},
}


@pytest.mark.parametrize(
    "generator, about, lines",
    [
        ("chain_sum", {"expression": "98 + 93 - 77"}, ["98 + 93 = 191", "191 - 77 = 114"]),
        ("chain_sum", {"expression": "5 - 9 + 1"}, ["5 - 9 = -4", "-4 + 1 = -3"]),
        (
            "leg_counting",
            {"animals": {"butterfly": 4, "crab": 2, "sea slug": 1}},
            ["butterfly: 4 * 6 = 24", "crab: 2 * 10 = 20", "sea slug: 1 * 0 = 0", "24 + 20 = 44", "44 + 0 = 44"],
        ),
        ("products", {"expression": "7 * 45"}, ["40 * 7 = 280", "5 * 7 = 35", "280 + 35 = 315"]),
        ("products", {"expression": "60 * 23"}, ["60 * 23 = 1380"]),
        ("simple_equations", {"equation": "9 - 15*e = -186"}, ["15*e = 9 + 186 = 195", "e = 195 / 15 = 13"]),
        ("simple_equations", {"equation": "5*b + 6 = 26"}, ["5*b = 26 - 6 = 20", "b = 20 / 5 = 4"]),
        ("simple_equations", {"equation": "8*t - 9 = 23"}, ["8*t = 23 + 9 = 32", "t = 32 / 8 = 4"]),
        ("simple_equations", {"equation": "z + 5 = 15"}, ["z = 15 - 5 = 10"]),
        ("simple_equations", {"equation": "4 + 3*z = 10"}, ["3*z = 10 - 4 = 6", "z = 6 / 3 = 2"]),
    ],
)
def test_worked_solutions(generator, about, lines):
    assert WORKED[generator](about) == lines
    assert all(s.right for line in lines for s in steps(line))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gym")
    TASK.make(build(DataConfig, CONFIG, "data.yaml"), folder)
    return folder


def test_no_question_is_in_two_splits(made):
    rows = {split: read_parquet(made / f"problems.{split}.parquet") for split in CONFIG["counts"]}
    assert {split: len(r) for split, r in rows.items()} == {"train": 180, "validation": 30, "test": 30, "ood": 10}
    questions = [r["prompt"] for part in rows.values() for r in part]
    assert len(questions) == len(set(questions))


def test_every_demonstration_ends_in_the_right_answer_and_has_right_calculations(made):
    answers = {r["id"]: r["answer"] for r in read_parquet(made / "problems.train.parquet")}
    demonstrations = read_parquet(made / "raw.worked.parquet")
    assert {d["problem_id"] for d in demonstrations} == set(answers)
    for d in demonstrations:
        answer = answers[d["problem_id"]]
        assert d["response"].endswith(f"\n#### {answer}") and TASK.extract(d["response"]) == answer
        # the last calculation arrives at the answer, which the generator computed, not the solution
        assert d["response"].splitlines()[-2].endswith(f"= {answer}"), d
        assert TASK.check_demonstration(d["response"], answer) is None
    wrong = "98 + 93 = 192\n192 - 77 = 115\n#### 115"
    assert TASK.check_demonstration(wrong, "115") == "wrong calculation: 98+93 = 192"


@pytest.mark.parametrize(
    "change, error",
    [
        ({"levels": {"x": {"generator": "sudoku"}}}, "levels.x.generator"),
        ({"levels": {"x": {"generator": "chain_sum", "settings": {"terms": 2}}}}, "chain_sum refuses them"),
        (
            {
                "levels": {
                    "x": {
                        "generator": "chain_sum",
                        "settings": {"min_digits": 1, "max_digits": 1, "min_terms": 2, "max_terms": 2},
                    }
                }
            },
            "lower it",
        ),
        ({"counts": {"train": 5}}, "must name train, validation, test, ood"),
    ],
)
def test_what_cannot_be_made_is_refused(tmp_path, change, error):
    with pytest.raises(UserError, match=error):
        TASK.make(
            build(DataConfig, {**CONFIG, "counts": {**CONFIG["counts"], "train": 400}} | change, "data.yaml"), tmp_path
        )
