"""Limits on the form of an answer: what would cost math-verify seconds is decided in microseconds, what benchmarks hold passes."""

import random
import time

import pytest

from prefix_rft.common.files import read_rows
from prefix_rft.verifier.answers import clean, final_answer, plain, reference
from prefix_rft.verifier.equivalence import prepare
from prefix_rft.verifier.limits import over_limit, without_doubled_brackets
from prefix_rft.verifier.verifier import Verifier
from tests.conftest import benchmark_files


@pytest.fixture(scope="module")
def math():
    with Verifier("math", workers=1) as verifier:
        verifier.pool.wait()
        yield verifier


DEEP = {
    "braces": "{1+" * 21 + "1" + "}" * 21,
    "brackets": "(x+" * 50 + "1+x" + ")" * 50,
    "left and right": r"\left( " * 50 + "x" + r"\right)" * 50,
    "sets": r"\{1," * 20 + "1" + r"\}" * 20,
    "fractions": r"\frac{1}{" * 20 + "2" + "}" * 20,
    "roots": r"\sqrt{" * 200 + "2" + "}" * 200,
    "exponents": "2^{" * 8 + "2" + "}" * 8,
    "a tower without braces": "2^3^4^5^6^7",
    "indices": "x_{" * 12 + "2" + "}" * 12,
    "functions": r"\sin " * 14 + "x",
    "signs": "-" * 30 + "1",
    "factorials": "3" + "!" * 8,
    "bars": "|" * 40 + "x" + "|" * 40,
    "environments": r"\begin{pmatrix}" * 14 + "1" + r"\end{pmatrix}" * 14,
    "a long exponent": "2^{100000000}",
    "a tower of numbers": "9^{9^{9^{9}}}",
    "a large factorial": "(10^9)!",
    "a larger factorial": "1000000!",
    "a large factorial in brackets": "(100000000000)!!!",
    "a large gamma function": r"\Gamma\left(1000000000000\right)",
    "a binomial coefficient": r"\binom{1000000}{500000}",
    "a long sum": r"\sum_{k=1}^{10^9} \frac{1}{k^2+1}",
    "a long product": r"\prod_{k=1}^{100000} k",
    "a set": r"\{" + ",".join(map(str, range(400))) + r"\}",
    "a matrix": r"\begin{pmatrix}" + r"\\".join("1&2&3" for _ in range(100)) + r"\end{pmatrix}",
}


@pytest.mark.parametrize("name", DEEP)
def test_an_answer_over_a_limit_is_wrong_in_no_time_and_says_why(math, name):
    started = time.process_time()
    (verdict,) = math.score([rf"so \boxed{{{DEEP[name]}}}"], ["12345"])
    assert time.process_time() - started < 0.05
    assert verdict.correct is False, verdict
    assert over_limit(clean(DEEP[name])) and ("too large" in verdict.reason or "different" in verdict.reason), verdict


def test_an_answer_over_a_limit_is_right_where_the_reference_is_the_same_text(math):
    verdicts = math.score([rf"\boxed{{{text}}}" for text in DEEP.values()], list(DEEP.values()))
    assert [name for name, v in zip(DEEP, verdicts, strict=True) if v.correct is not True] == []


PIECES = r"""- + ! ^ _ \ { } ( ) $ % = , | / \sin \frac \sqrt 1 x x^2 \, \text{ \text{a} and or 12 345 . e E 1E+ \pm \ldots ... : \! ~ \circ
    \cup (1,2) {,} \left( pi per cm cm^2 x= p=1,q=2; \quad ' 00 1/ \frac{1}{2} \Gamma( \sum \sum_{k}^ \prod \binom{ \log_ ° ² ½ ** sqrt(
    \boxed{ \% degrees \label{ \begin{pmatrix} & ; [ ] < ≤ exp(""".split()
REPEATED = [(one, "") for one in PIECES] + [random.Random(i).sample(PIECES, 2) for i in range(300)] + [("^", r"\sum")]


@pytest.mark.parametrize("length", [190, 990, 1990])
def test_no_repeated_text_costs_the_parent_time(length):
    """The patterns of the steps before math-verify: each is read in time that does not explode with the length."""
    slow = []
    for i, pieces in enumerate(REPEATED):
        piece = random.Random(i).choice(["", " "]).join(pieces)
        text = piece * (length // len(piece)) + random.Random(i).choice(["", "1", "x", "}", "!", ")", "%"])
        started = time.process_time()
        for answer in (final_answer(rf"\boxed{{{text}}}"), final_answer(f"answer is {text}"), text):
            for one in prepare(answer or "", "86423")[1:]:
                over_limit(one), plain(one)
        if time.process_time() - started > 0.05:
            slow.append((piece, time.process_time() - started))
    assert slow == []


def test_no_answer_of_a_benchmark_is_over_a_limit():
    answers = {clean(reference(r["answer"])) for path in benchmark_files() for r in read_rows(path, ("answer",))}
    assert {a: why for a in answers if (why := over_limit(a))} == {}


@pytest.mark.parametrize(
    "text",
    [
        r"\frac{1+\sqrt{2+\sqrt{3+\sqrt{5}}}}{2}",
        r"\left\{\left(\frac{1}{2},\frac{1}{3}\right),\left(2,3\right)\right\}",
        "2^{2^{10}}",
        "2^{2006}",
        "2006!",
        r"\binom{2006}{1003}",
        r"\sum_{k=1}^{100} k^2",
        r"x^2y^2z^2w^2v^2",
        r"\alpha\beta\gamma\delta\epsilon\zeta\eta",
        r"|x-1|+|x-2|+|x-3|=5",
        "(0,1,1),(0,-1,-1),(1,0,1),(-1,0,-1),(1,1,0),(-1,-1,0)",
        "--1",
        r"10^{100}",
        r"e^{-x^{2}}",
        r"3^{n^{2}+1}",
        "5!!",
    ],
)
def test_ordinary_answers_pass(text):
    assert over_limit(text) is None


@pytest.mark.parametrize(
    ("text", "less"),
    [
        ("((((x+1))))", "(x+1)"),
        ("{{{1}}}+((2))", "{1}+(2)"),
        ("((x)(y))", "((x)(y))"),
        (r"\{\{1\}\}", r"\{\{1\}\}"),
        (r"\frac{{1}}{((2))}", r"\frac{1}{(2)}"),
        ("((x)", "((x)"),
        ("((1,2))", "(1,2)"),
        ("({1})", "({1})"),
    ],
)
def test_doubled_brackets_are_taken_off(text, less):
    assert without_doubled_brackets(text) == less


def test_nested_brackets_within_the_limit_cost_what_an_answer_costs(math):
    """Twelve nested braces took math-verify 2.2 seconds of CPU time."""
    before = math.pool.workers[0].cpu_time()
    texts = ["{" * 50 + "x+1" + "}" * 50, "(" * 50 + "1+x" + ")" * 50]
    assert [v.correct for v in math.score([rf"\boxed{{{t}}}" for t in texts], [r"1+x", r"x+1"])] == [True, True]
    assert math.pool.workers[0].cpu_time() - before < 0.5
