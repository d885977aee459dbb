"""An outside check: the verifier on math-verify's own public test tables. docs/verifier.md gives the reason of every difference.

The tables are read from math-verify's source distribution, which is downloaded once (tests/helpers/peer.py).
"""

from collections import Counter

import pytest

from prefix_rft.verifier.verifier import Verifier
from tests.helpers.peer import inside, response, rows, source

ALL, NUMBERS, MORE = "test_all.py", "test_number_extraction", "test_math_extraction_additional_cases"
DIFFERENCES = {  # reason: (file, test, number of the row from 1)
    "A comma is no decimal point": [(ALL, NUMBERS, 6), (ALL, NUMBERS, 7), (ALL, NUMBERS, 18)],
    "A sentence is no answer": [
        *((ALL, NUMBERS, n) for n in (8, 14, 15, 16, 17)),
        (ALL, "test_latex_notation", 10),
        (ALL, "test_math_extraction_edge_cases", 2),
        (ALL, "test_math_extraction_edge_cases", 7),
        *((ALL, MORE, n) for n in (2, 3, 5, 9)),
    ],
    "A reference that is a whole solution is not read": [(ALL, "test_latex_notation_math", 3)],
    "A box wins over a sentence": [(ALL, MORE, 18)],
    "Boxes with words or nothing between them are attempts": [
        (ALL, MORE, 28),
        ("test_open_thoughts.py", "test_open_thoughts", 15),
        ("test_open_thoughts.py", "test_open_thoughts", 28),
    ],
    "The text of the table is damaged": [
        ("test_boxed.py", "test_boxed", 1),
        ("test_numina_cases.py", "test_numina_cases", 25),
    ],
    "A line break within dollars does not end an answer": [(ALL, "test_latex_notation", n) for n in (6, 7)],
    "The table is wrong": [("test_yujianll.py", "test_string_extraction", 10)],
}


@pytest.fixture(scope="module")
def table(pytestconfig):
    numbers, found = Counter(), {}
    for file, test, row in rows(source(pytestconfig.cache.mkdir("math_verify"))):
        numbers[file, test] += 1
        found[file, test, numbers[file, test]] = row
    return found


def test_the_verifier_differs_from_math_verifys_tables_where_it_is_listed_and_nowhere_else(table):
    assert len(table) > 250
    # the verdicts are compared, not the time: the slowest takes 0.5 s on one processor and over a second on another
    with Verifier("math", timeout=10) as verifier:
        verdicts = verifier.score(
            [response(row["pred"]) for row in table.values()], [inside(row["gold"]) for row in table.values()]
        )
    differs = {
        place: (row, verdict)
        for (place, row), verdict in zip(table.items(), verdicts, strict=True)
        if verdict.correct is not bool(row.get("expected", row.get("result")))
    }
    listed = {place for places in DIFFERENCES.values() for place in places}
    assert {place: differs[place] for place in set(differs) - listed} == {}
    assert listed - set(differs) == set()  # a difference that is gone leaves the list


def test_every_reason_is_in_the_docs_with_its_count(root):
    docs = (root / "docs/verifier.md").read_text("utf-8")
    assert [(reason, len(p)) for reason, p in DIFFERENCES.items() if f"| {reason} | {len(p)} |" not in docs] == []
