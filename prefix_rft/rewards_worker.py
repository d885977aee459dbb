r"""A verifier process: reads [given, right] a line, writes [correct, reason] a line. Started and killed by `rewards.py`.

    python -m prefix_rft.rewards_worker CPU_SECONDS

It must not run what it reads: math-verify hands some texts to a parser that evaluates Python. Nothing that it calls may start a
process, open a connection or write a file. math-verify's own time limits are off: they are alarms that a long computation in C
ignores. The kernel ends this process when an answer takes more than CPU_SECONDS of CPU time, and the parent when it takes too long
by the clock. Memory is capped, so that an exponent tower ends in a MemoryError here and not in the machine's swap.
"""

import functools
import json
import logging
import math
import os
import resource
import sys
import time

MEMORY = 2 << 30  # bytes of address space; math-verify and sympy need about 0.3 GiB
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.remove",
    "os.rename",
    "os.kill",
    "subprocess.",
    "socket.",
    "shutil.",
)
# The LaTeX parser learns its grammar's decisions as it meets them, which takes it up to a second a construct: these are met first.
WARM_UP = [
    (r"\frac{x}{2}+1", "(x+2)/2"),
    ("(1,2)", r"\{2,1\}"),
    ("x>1", r"(1,\infty)"),
    (r"(-\infty,2)\cup(3,4]", r"x\le 5"),
    (r"\log_{10}2+\ln 3", r"\frac{\log 2}{\log 3}"),
    (r"\left\lfloor\frac{n}{2}\right\rfloor!", r"\lceil\sqrt{n}\rceil"),
    (r"f(x)=\sin x, f(x)=-x^2", r"f(n)=\cos^2 n"),
    (r"\angle A B C=90^\circ", r"30^{\circ}, 60^{\circ}"),
    (r"\begin{pmatrix} 1 \\ -1/3 \end{pmatrix}", r"\binom{n}{2}"),
    (r"y = 2x + 3", r"5x - 7y + 4 = 0"),
    (r"1 \pm \sqrt{19}", r"\text{Evelyn}"),
    (r"4210_{5}", r"x_1^{n-1}\cdot|a|"),
    (r"8\%", r"137\frac{1}{2}"),
    (r"\overline{A B}\times 2^{-k}", r"\pi r^2\text{ cm}"),
]


def forbid(event, arguments):
    """Audit hook: whatever a parser makes of a model's text, it starts no process, opens no connection and writes no file."""
    if event.startswith(FORBIDDEN) or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
        raise PermissionError(f"{event} in the verifier")


@functools.lru_cache(maxsize=2048)  # a reference answer is compared with every response to its problem
def parse_answer(text: str) -> list:
    from math_verify import parse

    return parse(f"\\boxed{{{text}}}", parsing_timeout=None)


def judge(given: str, right: str) -> tuple[bool, str]:
    """math-verify's verdict on a final answer, time limits left to the caller."""
    from math_verify import verify

    gold, answer = parse_answer(right), parse_answer(given)
    if not gold:
        return False, "the reference answer cannot be parsed"
    if not answer:
        return False, "the answer cannot be parsed"
    same = verify(gold, answer, timeout_seconds=None)
    return bool(same), "math-verify: equal" if same else "math-verify: different"


def main():
    cpu_seconds = math.ceil(float(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not reach the parent as an answer
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    for pair in WARM_UP:  # what is loaded on first use is not the first answer's time
        judge(*pair)
    sys.addaudithook(forbid)
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        given, right = json.loads(line)
        # over the soft limit the kernel sends SIGXCPU, which no code in between can hold up; the limit is of the whole process
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + cpu_seconds, resource.RLIM_INFINITY))
        try:
            result = judge(given, right)
        except MemoryError:
            parse_answer.cache_clear()
            result = None, "out of memory"
        except RecursionError:
            result = False, "nested too deeply"
        except Exception as e:  # anything a parser raises on a model's text: the text is no answer
            result = False, f"{type(e).__name__} while comparing"
        answers.write(json.dumps(result) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
