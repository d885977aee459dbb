r"""A verifier process: reads [given, right] a line, writes [correct, reason] a line. Started and killed by `rewards.py`.

    python -m prefix_rft.rewards_worker CPU_SECONDS

math-verify's own time limits are off: they are alarms that a long computation in C ignores. The kernel ends this process when
an answer takes more than CPU_SECONDS of CPU time, and the parent when it takes too long by the clock. Memory is capped, so
that an exponent tower ends in a MemoryError here and not in the machine's swap.
"""

import json
import logging
import math
import os
import resource
import sys
import time

MEMORY = 2 << 30  # bytes of address space; math-verify and sympy need about 0.3 GiB


def judge(parse, verify, given: str, right: str) -> tuple[bool, str]:
    gold, answer = (parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (right, given))
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
    from math_verify import parse, verify

    judge(parse, verify, r"\frac{x}{2}+1", "(x+2)/2")  # what is loaded on first use is not the first answer's time
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        given, right = json.loads(line)
        # over the soft limit the kernel sends SIGXCPU, which no code in between can hold up; the limit is of the whole process
        resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + cpu_seconds, resource.RLIM_INFINITY))
        try:
            result = judge(parse, verify, given, right)
        except MemoryError:
            result = None, "out of memory"
        except RecursionError:
            result = False, "nested too deeply"
        except Exception as e:  # anything a parser raises on a model's text: the text is no answer
            result = False, f"{type(e).__name__} while comparing"
        answers.write(json.dumps(result) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
