r"""Limits on the form of a final answer, because math-verify's cost on some short texts is exponential.

Its grammar takes seconds for ten nested braces, and sympy expands whatever number it is given. A text over one of these limits
never reaches math-verify. The limits are far above the answers of public benchmarks: their deepest answer has five levels of brackets.
"""

import math
import re

LONGEST = 1000  # characters
DEEPEST = 12  # levels of brackets, environments and arguments
TOWER = 3  # levels of exponents or indices
ELEMENTS = 200  # of a list, a set or a matrix
PREFIXES = 5  # signs, factorials or functions in a row

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\S", re.DOTALL)
_OPEN = {"(", "[", "{", "\\{", "\\langle", "\\lfloor", "\\lceil", "\\begin", "\\left"}
_CLOSE = {")", "]", "}", "\\}", "\\rangle", "\\rfloor", "\\rceil", "\\end", "\\right"}
_PAIRS = {"(": ")", "{": "}", "\\{": "\\}", "[": "]"}
_FUNCTION = r"\\(?:a(?:rc)?)?(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|frac|dfrac|lim|sum|prod|int)(?![A-Za-z])"
_REFUSED = [  # (pattern, reason)
    (rf"(?:{_FUNCTION}\s*){{{PREFIXES + 1}}}", f"more than {PREFIXES} functions in a row"),
    (rf"(?:[-+]\s*){{{PREFIXES + 1}}}|(?:!\s*){{{PREFIXES - 1}}}", f"more than {PREFIXES} signs in a row"),
    (rf"(?:\^\s*\{{?\s*(?:\d+|[A-Za-z])\s*){{{TOWER + 1}}}", f"exponents nested more than {TOWER} deep"),
    (r"(?:\|[^|]*){25}", "more than 24 bars"),
    (r"\^\s*\{?\s*[-+]?\s*\(?\d{7,}", "an exponent of more than 6 digits"),
    (
        r"(?<!\d)\d{6,}[\s)}\]]*!|\\Gamma\s*(?:\\left\s*)?[\s({]*\d{6,}|\d\s*\^\s*\{?\s*\d+[\s})]*!|!\s*\)\s*!",
        "the factorial of a number of more than 5 digits",
    ),
    (r"\\[dt]?binom\s*\{[^{}]*(?:\d{5}|\^)", "a binomial coefficient of a number of more than 4 digits"),
    (r"\\(?:sum|prod)[^&]{0,60}?\^\s*\{?[^{}]{0,30}?(?:\d{5}|\d\s*\^|!)", "a sum of more than 9,999 terms"),
]
_EXPONENT = re.compile(r"\^\s*\{\s*[-+]?\s*(?=(\d+)\s*\^\s*\{?\s*(\d+)\s*(\^)?)")  # a power as an exponent, or a tower
_REFUSED = [(re.compile(pattern), reason) for pattern, reason in _REFUSED]


def over_limit(text: str) -> str | None:
    r"""Why a final answer must not reach math-verify; None if it may.

    >>> over_limit("(" * 13 + "1" + ")" * 13), over_limit(r"\frac{1}{2}")
    ('nested more than 12 deep', None)
    """
    if len(text) > LONGEST:
        return f"longer than {LONGEST} characters"
    if text.count(",") + text.count("&") + text.count(";") + text.count("\\\\") >= ELEMENTS:
        return f"more than {ELEMENTS} elements"
    groups, before, skip = [], "", False  # groups: is each open group an exponent or an index?
    for token in _TOKEN.findall(text):
        if skip:  # the delimiter of \left or \right
            skip = False
        elif token in _OPEN:
            groups.append(before in ("^", "_"))
            if len(groups) > DEEPEST:
                return f"nested more than {DEEPEST} deep"
            if sum(groups) > TOWER:
                return f"exponents nested more than {TOWER} deep"
        elif token in _CLOSE and groups:
            groups.pop()
        skip = skip or token in ("\\left", "\\right")
        before = token
    for base, power, tower in _EXPONENT.findall(text):
        if tower or len(power) > 3 or int(power) * math.log10(max(1, int(base))) > 6:
            return "an exponent of more than 6 digits"
    return next((reason for pattern, reason in _REFUSED if pattern.search(text)), None)


def without_doubled_brackets(text: str) -> str:
    """The same text with one pair of brackets where there are several around the same thing, because each costs math-verify time.

    Brackets of sets are left alone: {{1}} is a set of a set.

    >>> without_doubled_brackets("{{{1}}}+((2))")
    '{1}+(2)'
    """
    if not re.search(r"\(\s*\(|(?<!\\)\{\s*\{", text):
        return text
    tokens = re.findall(r"\\[A-Za-z]+|\\.|.", text, re.DOTALL)
    stack, partner = [], {}
    for i, token in enumerate(tokens):
        if token in ("(", "{"):
            stack.append(i)
        elif token in (")", "}"):
            if not stack or _PAIRS[tokens[stack[-1]]] != token:
                return text
            partner[stack.pop()] = i
    dropped = set()
    for i, end in partner.items():
        if i + 1 in partner and tokens[i] == tokens[i + 1] and partner[i + 1] == end - 1:
            dropped |= {i + 1, end - 1}
    return "".join(token for i, token in enumerate(tokens) if i not in dropped)
