r"""A verifier process: reads [given, right] a line, writes [correct, reason] a line. Started and killed by `rewards.py`.

math-verify's own time limits are off: they are alarms that a long computation in C ignores, while the parent's kill always
works. Memory is capped, so that an exponent tower ends in a MemoryError here and not in the machine's swap.
"""

import json
import logging
import os
import resource
import sys

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
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not reach the parent as an answer
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable(logging.CRITICAL)
    from math_verify import parse, verify

    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        given, right = json.loads(line)
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
