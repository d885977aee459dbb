r"""Verifiers: is the final answer of a response right? Also the command `score`, which judges a JSON-lines file again.

`exact` compares strings in process (task `registers`). `math` compares by math-verify, behind a fast path for plain numbers and
equal strings that never contradicts it. math-verify (and sympy under it) can run for ever or eat all memory on what a model
writes, and a thread cannot be stopped: so it runs in worker *processes* (`rewards_worker.py`), each answer under a limit of
CPU time that the kernel enforces, and under a wall clock that the parent enforces. A worker over either is killed and replaced;
its answer is judged None, which callers count apart from wrong. The CPU limit is the tighter one: how long a machine takes that
is busy with other things must not decide a reward.

Only the final answer counts, the last one a response gives: `\boxed{...}` or `#### ...`, else "answer is ...".
Left out: multiple choice, symbolic equality of whole responses.
"""

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

from .errors import UserError
from .io import read_jsonl, write_jsonl

LONGEST = 2000  # characters of a final answer; a longer one is no final answer
CACHE = 200_000  # judged answers kept in memory
START_LIMIT = 300  # seconds a worker may take to import math-verify on a busy machine
WALL = 12  # the wall clock of an answer, in CPU limits: it stops what waits instead of computing


@dataclass(frozen=True)
class Verdict:
    """correct: None = not judged (timed out, or the worker died). extracted: the final answer found in the response."""

    correct: bool | None
    extracted: str | None
    reason: str


# ------------------------------------------------------------------------------------------------- the final answer


def final_answer(response: str) -> str | None:
    r"""The last `\boxed{...}` or `#### ...` of a response, whichever comes later; else what follows its last "answer is".

    >>> final_answer(r"so \boxed{1}, no: \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    box, mark = response.rfind("\\boxed{"), response.rfind("####")
    if box > mark:
        return _braced(response, box + len("\\boxed"))
    if mark >= 0:
        return response[mark + 4 :].split("\n", 1)[0].strip() or None
    said = list(re.finditer(r"\banswer (?:is|=)[ :]*", response, re.IGNORECASE))
    if not said:
        return None
    return _clean(re.split(r"\n|\.\s", response[said[-1].end() :], maxsplit=1)[0]) or None


def _braced(text: str, start: int) -> str | None:
    """What stands between the brace at `start` and its partner; None if it has none."""
    depth = 0
    for i in range(start, min(len(text), start + LONGEST + 2)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start + 1 : i].strip() or None
    return None


def _clean(text: str) -> str:
    """Without the marks around an answer that carry no meaning: spaces, dollar signs, stars, a full stop at the end."""
    return text.strip(" \t\r\n$*").rstrip(".").strip(" $*")


# --------------------------------------------------------------------------------------------------------- fast path

_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,17}|[1-9]\d{0,2}(?:,\d{3}){1,5})(?:\.\d{1,12})?")


def number(text: str) -> Fraction | None:
    """The value of a plain decimal number such as -1,234.50; None for everything else."""
    return Fraction(text.replace(",", "")) if _NUMBER.fullmatch(text) else None


def compare_fast(given: str, right: str) -> tuple[bool, str] | None:
    """(correct, reason), or None where only math-verify can say. Plain numbers that are close but not equal are left to it:
    it compares rounded values."""
    given, right = _clean(given), _clean(right)
    if given == right:
        return True, "equal strings"
    x, y = number(given), number(right)
    if x is None or y is None:
        return None
    if x == y:
        return True, "equal numbers"
    if abs(x - y) > Fraction(1, 1000):
        return False, "different numbers"
    return None


# ----------------------------------------------------------------------------------------------------------- workers


class _Worker:
    """One process that judges one (given, right) pair at a time."""

    def __init__(self, cpu_seconds):
        env = dict(os.environ, OMP_NUM_THREADS="1", PYTHONHASHSEED="0", TOKENIZERS_PARALLELISM="false")
        root = str(Path(__file__).resolve().parents[1])
        env["PYTHONPATH"] = os.pathsep.join(p for p in (root, env.get("PYTHONPATH")) if p)
        # A new interpreter, not a fork: the parent has threads, a CUDA context and gigabytes of weights.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "prefix_rft.rewards_worker", str(cpu_seconds)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.ready = False
        self.job = None
        self.deadline = time.monotonic() + START_LIMIT

    def submit(self, job, pair, wall_seconds):
        self.job, self.deadline = job, time.monotonic() + wall_seconds
        try:
            self.process.stdin.write(json.dumps(pair).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            pass  # it died: its closed output is seen by the next select

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class _Pool:
    """`count` workers; `judge(pairs)` gives (correct, reason) in order. Workers start when first needed. `seconds` of CPU
    time an answer, `wall_seconds` of a clock."""

    def __init__(self, count, seconds, wall_seconds):
        self.count, self.seconds, self.wall_seconds = count, seconds, wall_seconds
        self.workers = []

    def judge(self, pairs):
        results, todo, failed_starts = [None] * len(pairs), deque(range(len(pairs))), 0
        while len(self.workers) < min(self.count, len(pairs)):
            self.workers.append(_Worker(self.seconds))
        left = len(pairs)
        while left:
            for worker in self.workers:
                if worker.ready and worker.job is None and todo:
                    job = todo.popleft()
                    worker.submit(job, pairs[job], self.wall_seconds)
            with selectors.DefaultSelector() as selector:
                # a ready worker that has nothing to do is watched too: it may have died
                for worker in self.workers:
                    selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
                waiting = [w.deadline for w in self.workers if w.job is not None or not w.ready]
                events = selector.select(max(0.0, min(waiting) - time.monotonic()))
            answered = {key.data for key, _ in events}
            for i, worker in enumerate(self.workers):
                late = time.monotonic() > worker.deadline and (worker.job is not None or not worker.ready)
                line = worker.process.stdout.readline() if worker in answered else b""  # workers write whole lines
                if line and not worker.ready:
                    worker.ready = True
                elif line:
                    results[worker.job] = tuple(json.loads(line))
                    worker.job, left = None, left - 1
                elif worker in answered or late:
                    if not late:
                        worker.process.wait()  # its output is closed: it is ending, and its exit code says why
                    worker.kill()
                    if worker.job is not None:
                        results[worker.job] = (None, self._why(worker, late and worker not in answered))
                        left -= 1
                    elif not worker.ready:
                        failed_starts += 1
                        if failed_starts > 2:
                            raise UserError(
                                "verifier: its workers do not start; try: python -m prefix_rft.rewards_worker"
                            )
                    self.workers[i] = _Worker(self.seconds)
        return results

    def _why(self, worker, late):
        if late:
            return f"timed out after {self.wall_seconds:g} s"
        over = worker.process.returncode == -signal.SIGXCPU
        return f"timed out after {self.seconds:g} s of CPU time" if over else "the verifier died"

    def close(self):
        for worker in self.workers:
            worker.kill()
        self.workers = []


# ---------------------------------------------------------------------------------------------------------- verifier

# (final answer, reference, right?): what must hold before anything is scored
GOLDEN_MATH = [
    ("42", "42", True),
    ("1,234.50", "1234.5", True),
    (r"\frac{1}{2}", "0.5", True),
    (r"$\dfrac{3}{6}$", r"\frac12", True),
    ("x^2+2x+1", "(x+1)^2", True),
    ("{1, 2}", r"\{2,1\}", True),
    ("41", "42", False),
    (r"\frac{1}{3}", "0.5", False),
    ("x^2+1", "(x+1)^2", False),
    ("-7", "7", False),
]


class Verifier:
    """Judges responses against reference answers; a context manager, so that its processes end with it.

    task      a task (its `extract` finds the final answer and its `verifier` says how to compare), a task's name, or the
              name of a verifier, "math" or "exact"
    workers   processes of the math verifier
    timeout   seconds of CPU time an answer may take, rounded up; by the clock it may take 12 times as long

    Entering it runs the self-test: known right answers must be judged right and wrong ones wrong, or `UserError` stops
    the run, because a broken verifier looks like a model that never learns.
    """

    def __init__(self, task, workers: int = 2, timeout: float = 5.0):
        if task in ("math", "exact"):
            self.kind, self.extract, golden = task, final_answer, []
        else:
            if isinstance(task, str):
                from .tasks import get_task

                task = get_task(task)
            self.kind, self.extract, golden = task.verifier, task.extract, getattr(task, "golden", [])
        self.golden = golden
        self.pool = _Pool(workers, timeout, WALL * timeout) if self.kind == "math" else None
        self.cache = {}

    def __enter__(self):
        try:
            self.self_test()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.pool:
            self.pool.close()

    def self_test(self):
        tried = [(r, a, want, v) for (r, a, want), v in zip(self.golden, self._golden_verdicts(), strict=True)]
        if self.kind == "math":
            pairs = [(given, right) for given, right, _ in GOLDEN_MATH]
            for (given, right, want), (correct, reason) in zip(GOLDEN_MATH, self.pool.judge(pairs), strict=True):
                tried.append((given, right, want, Verdict(correct, given, reason)))
                fast = compare_fast(given, right)
                if fast and fast[0] != want:
                    tried.append((given, right, want, Verdict(fast[0], given, fast[1])))
        for given, right, want, verdict in tried:
            if verdict.correct is not want:
                raise UserError(
                    f"verifier self-test failed: {given!r} against {right!r} was judged {verdict.correct} ({verdict.reason}), must"
                    f" be {want}: every reward would be wrong; are math-verify and sympy the pinned versions?"
                )

    def _golden_verdicts(self):
        return self.score([r for r, _, _ in self.golden], [a for _, a, _ in self.golden]) if self.golden else []

    def score(self, responses: list[str], answers: list[str]) -> list[Verdict]:
        """One verdict a response. `responses` without the end mark; `answers`: the reference of each."""
        if len(responses) != len(answers):
            raise ValueError(f"{len(responses)} responses but {len(answers)} answers")
        keys = [(self.extract(r), a) for r, a in zip(responses, answers, strict=True)]
        slow = []
        for key in dict.fromkeys(keys):
            if key not in self.cache:
                verdict = self._fast(*key)
                if verdict is None:
                    slow.append(key)
                else:
                    self.cache[key] = verdict
        if slow:
            for key, (correct, reason) in zip(
                slow, self.pool.judge([(_clean(g), _clean(a)) for g, a in slow]), strict=True
            ):
                self.cache[key] = Verdict(correct, key[0], reason)
        verdicts = [self.cache[key] for key in keys]
        if len(self.cache) > CACHE:
            self.cache.clear()
        return verdicts

    def _fast(self, given, right):
        if given is None:
            return Verdict(False, None, "no final answer")
        if self.kind == "exact":
            return Verdict(given == right, given, "equal strings" if given == right else "different strings")
        if len(given) > LONGEST:
            return Verdict(False, given[:100], f"final answer longer than {LONGEST} characters")
        fast = compare_fast(given, right)
        return fast and Verdict(fast[0], given, fast[1])


# ------------------------------------------------------------------------------------------------- the command `score`


def add_arguments(parser):
    parser.add_argument("file", type=Path, help='JSON lines with "response" and "answer"')
    parser.add_argument("--out", type=Path, help="where the verdicts go, one row a row; without it they are printed")
    parser.add_argument("--task", help="find the final answer as this task does (default: boxed, ####, or 'answer is')")


def main(args):
    rows = read_jsonl(args.file)
    for number_, row in enumerate(rows, 1):
        for key in ("response", "answer"):
            if not isinstance(row, dict) or not isinstance(row.get(key), str):
                raise UserError(f"{args.file}: row {number_}: key {key!r} must be a string")
    with Verifier(args.task or "math") as verifier:
        verdicts = verifier.score([r["response"] for r in rows], [r["answer"] for r in rows])
    judged = [asdict(v) for v in verdicts]
    if args.out:
        write_jsonl(args.out, judged)
    else:
        for row in judged:
            print(json.dumps(row))
    right, lost = sum(v.correct is True for v in verdicts), sum(v.correct is None for v in verdicts)
    print(f"{args.file}: {right} of {len(verdicts)} right, {lost} timed out", file=sys.stderr)
