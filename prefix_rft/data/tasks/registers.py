"""Task `registers`: arithmetic modulo 10 on three digit registers, easy enough for a model trained from scratch on a CPU.

A problem is T instructions and a start state. The answer is the final state.

    prompt    a-7;c+b|069          a := a - 7, then c := c + b (all modulo 10), starting from a = 0, b = 6, c = 9
    response  a-70-7=3369;c+b9+6=5365;#365

A step of a response repeats the instruction (`c+b`), writes its operands (`9+6`), the result after `=`, and the new state.
The answer follows `#`. A wrong attempt that the writer noticed ends in `!`, and the step starts again.

In another style a step is long: state, instruction, operands and result, a check of the result by the inverse operation, new state.
With numbered instructions (`numbered`), prompt and steps say which instruction comes next, so that facts decide and not pointers:

    prompt    1a-7;2c+b|069
    careful   1a-70-7=3369;2c+b9+6=5365;#365
    long      069|1a-70-7=33+7=0369;369|2c+b9+6=55-6=9365;#365

Every instruction is a bijection of the 1000 states: the operand is another register or a digit, and only 3, 7 and 9, which
have an inverse modulo 10, multiply. Instructions such as x * 0, x - x and x * 5 do not exist. So over uniform start states every
answer is equally frequent, and a constant answer scores 1 in 1000. `answer_limit` bounds this score in small splits.
The difficulty is the number of instructions.
"""

import random
from collections import Counter
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

from pydantic import PositiveInt
from tqdm import tqdm

from ...common.errors import UserError
from ...common.files import write_parquet
from ...config.reading import Section, opt
from ..templates import Template
from . import Task

REGISTERS = "abc"
OPERATORS = "+-*"
MULTIPLIERS = "379"
DIGITS = "0123456789"
CHARACTERS = DIGITS + REGISTERS + OPERATORS + "=|;>#!"
INVERSE = {"3": "7", "7": "3", "9": "9"}  # modulo 10
FACTS = [f"{x}{op}{y}" for op in OPERATORS for x in range(10) for y in range(10) if op != "*" or str(y) in MULTIPLIERS]

Instruction = tuple[str, str, str]  # target register, operator, operand (a register or a digit)


# ----------------------------------------------------------------------------------------------------------- problems


def render(state, program, numbered=False) -> str:
    instructions = (f"{number}{''.join(i)}" for number, i in zip(numbers(program, numbered), program, strict=True))
    return ";".join(instructions) + "|" + "".join(map(str, state))


def numbers(program, numbered) -> list[str]:
    """What stands before each instruction."""
    return [str(n) if numbered else "" for n in range(1, len(program) + 1)]


def parse(prompt: str) -> tuple[tuple[int, ...], list[Instruction]]:
    """State and program of a prompt, with or without numbers."""
    program, _, state = prompt.partition("|")
    return tuple(map(int, state)), [tuple(i.lstrip(DIGITS)) for i in program.split(";")]


def compute(x: int, op: str, y: int) -> int:
    return (x + y if op == "+" else x - y if op == "-" else x * y) % 10


def value(state, operand: str) -> int:
    return state[REGISTERS.index(operand)] if operand in REGISTERS else int(operand)


def assign(state, register: str, digit: int) -> tuple[int, ...]:
    at = REGISTERS.index(register)
    return (*state[:at], digit, *state[at + 1 :])


def final_state(state, program) -> str:
    for target, op, operand in program:
        state = assign(state, target, compute(value(state, target), op, value(state, operand)))
    return "".join(map(str, state))


def random_problem(rng: random.Random, shortest: int, longest: int, operators: str = OPERATORS):
    """(state, program) with T uniform in shortest..longest; each of `operators` and each kind of operand equally often."""
    state = tuple(rng.randrange(10) for _ in REGISTERS)
    program = []
    for _ in range(rng.randint(shortest, longest)):
        target, op = rng.choice(REGISTERS), rng.choice(operators)
        if op == "*":
            operand = rng.choice(MULTIPLIERS)
        elif rng.random() < 0.5:
            operand = rng.choice([r for r in REGISTERS if r != target])
        else:
            operand = rng.choice("123456789")
        program.append((target, op, operand))
    return state, program


def _commute(i: Instruction, j: Instruction) -> bool:
    """Whether two neighbouring instructions can be exchanged in every state."""
    if i[2] == j[0] or j[2] == i[0]:  # one reads the register that the other writes
        return False
    return i[0] != j[0] or (i[1] == "*") == (j[1] == "*")  # on one register: sums commute, products commute


def canonical(prompt: str) -> str:
    """The same text for problems that are the same up to (1) `x-d` = `x+(10-d)`, (2) the order of neighbouring
    instructions that commute, (3) the names of the registers. The lexicographic normal form of (2), least over (3)."""
    state, program = parse(prompt)
    program = [(t, "+", str(10 - int(y))) if op == "-" and y.isdigit() else (t, op, y) for t, op, y in program]
    forms = []
    for names in permutations(REGISTERS):
        rename = dict(zip(REGISTERS, names, strict=True))
        left = [(rename[t], op, rename.get(y, y)) for t, op, y in program]
        ordered = []
        while left:  # the least instruction that can be moved to the front
            free = [k for k, i in enumerate(left) if all(_commute(i, j) for j in left[:k])]
            ordered.append(left.pop(min(free, key=lambda k: left[k])))
        renamed = [0] * len(REGISTERS)
        for name, digit in zip(names, state, strict=True):
            renamed[REGISTERS.index(name)] = digit
        forms.append(render(renamed, ordered))
    return min(forms)


# ---------------------------------------------------------------------------------------------------------- responses


def respond(
    rng: random.Random,
    state,
    program,
    *,
    style: str = "careful",
    attempts: float = 0.0,
    errors: float = 0.0,
    numbered: bool = False,
    know: Callable[[int, str, int], int] = compute,
) -> str:
    """A response to a problem, without the end mark.

    style: careful, long: as in the module's docstring. terse: register and result only. direct: only the answer
    attempts: probability, for each step, of a wrong attempt that is noticed and corrected (careful, long)
    errors: probability, for each step, of an error that is not noticed
    numbered: steps begin with the number of their instruction
    know: the result of x op y as the writer knows it

    Both kinds of error are equally often a misread operand (with its result) or a wrong result. In the long style a wrong attempt is a
    wrong result, which its check finds; every other check confirms what the writer knows.
    """
    out = []
    for number, (target, op, operand) in zip(numbers(program, numbered), program, strict=True):
        name = f"{number}{target}{op}{operand}"
        x, y = value(state, target), value(state, operand)
        if style == "long":
            out.append(f"{_text(state)}|{name}")
        if style in ("careful", "long") and rng.random() < attempts:
            if style == "careful":
                wrong = _slip(rng, x, op, y, operand)
                out.append(f"{name}{wrong[0]}{op}{wrong[1]}={wrong[2]}!")
            else:
                wrong, undo = (compute(x, op, y) + rng.randint(1, 9)) % 10, _undo(op, y)
                out.append(f"{x}{op}{y}={wrong}{wrong}{undo}={compute(wrong, undo[0], int(undo[1]))}!")
        result = know(x, op, y)
        if rng.random() < errors:
            x, y, result = _slip(rng, x, op, y, operand)
        state = assign(state, target, result)
        if style == "careful":
            out.append(f"{name}{x}{op}{y}={result}{_text(state)};")
        elif style == "long":
            out.append(f"{x}{op}{y}={result}{result}{_undo(op, y)}={x}{_text(state)};")
        elif style == "terse":
            out.append(f"{target}{result};")
    return "".join(out) + "#" + _text(state)


def _text(state) -> str:
    return "".join(map(str, state))


def _undo(op: str, y: int) -> str:
    """What takes the result of an operation back to its first operand: -7 for +7, *3 for *7."""
    return f"*{INVERSE[str(y)]}" if op == "*" else f"{'-' if op == '+' else '+'}{y}"


def _slip(rng, x, op, y, operand):
    """Operands and result with one error. The result is always wrong, because every operation is a bijection."""
    wrong = (compute(x, op, y) + rng.randint(1, 9)) % 10
    if rng.random() < 0.5:
        return x, y, wrong
    if operand in REGISTERS and rng.random() < 0.5:
        misread = (y + rng.randint(1, 9)) % 10
        return x, misread, compute(x, op, misread)
    misread = (x + rng.randint(1, 9)) % 10
    return misread, y, compute(misread, op, y)


# --------------------------------------------------------------------------------------------------------------- data


class Teacher(Section):
    style: str = opt(
        "careful", "careful: the short steps; long: each step with its state and a check", choices=("careful", "long")
    )
    attempts: float = opt(
        0.0, "probability, for each step, of a wrong attempt that is noticed and corrected", ge=0, le=1
    )
    errors: float = opt(0.0, "probability, for each step, of an error that is not noticed", ge=0, le=1)


class DataConfig(Section):
    task: str = opt(..., "registers", choices=("registers",))
    seed: int = opt(..., "seed of problems and demonstrations", ge=0)
    levels: dict[str, list[int]] = opt(..., "level -> [fewest, most] instructions, of train, validation and test")
    ood: dict[str, list[int]] = opt(..., "level -> [fewest, most] instructions, out of domain")
    operators: dict[str, str] = opt(
        {}, "level -> operators of its instructions, each as often as it stands there, such as ***+-; unset: +-*"
    )
    numbered: bool = opt(False, "number the instructions, in the prompt and in the steps")
    counts: dict[str, PositiveInt] = opt(..., "split -> problems a level; splits are train, validation, test, ood")
    answer_limit: float = opt(0.02, "highest score that a constant answer may reach in a level of a split", gt=0, le=1)
    teachers: dict[str, Teacher] = opt(..., "source -> errors in its demonstrations, raw.<source>.parquet")

    def check(self):
        if sorted(self.counts) != sorted(SPLITS):
            raise ValueError(f"counts: must name {', '.join(SPLITS)}, names {', '.join(self.counts)}")
        for name, bounds in [*self.levels.items(), *self.ood.items()]:
            if len(bounds) != 2 or not 1 <= bounds[0] <= bounds[1]:
                raise ValueError(f"levels.{name} = {bounds}: must be [fewest, most] with 1 <= fewest <= most")
        longest = max(b for _, b in self.levels.values())
        for name, (fewest, _) in self.ood.items():
            if fewest <= longest and name not in self.operators:
                raise ValueError(
                    f"ood.{name}: must have more than {longest} instructions, the most in training, or operators of its own"
                )
        for name, operators in self.operators.items():
            if name not in {**self.levels, **self.ood} or not operators or set(operators) - set(OPERATORS):
                raise ValueError(f"operators.{name} = {operators!r}: must be a level and some of {OPERATORS}")
        most = max(b for _, b in [*self.levels.values(), *self.ood.values()])
        if self.numbered and most > 9:
            raise ValueError(f"numbered: a number has one digit; a level has {most} instructions, must be at most 9")


SPLITS = ("train", "validation", "test", "ood")


class Registers(Task):
    name = "registers"
    verifier = "exact"
    DataConfig = DataConfig

    def sources(self, config: DataConfig) -> list[str]:
        return list(config.teachers)

    def make(self, config: DataConfig, out: Path) -> dict:
        taken: set[str] = set()  # canonical forms of every split in one set: disjoint by construction
        problems = {}
        for split in reversed(SPLITS):  # the small splits first: they stay the same when train grows
            problems[split] = []
            for level, bounds in (config.ood if split == "ood" else config.levels).items():
                rng = random.Random(f"{config.seed} {split} {level}")
                problems[split] += _level(rng, config, split, level, bounds, taken)
            write_parquet(out / f"problems.{split}.parquet", problems[split])
        for source, teacher in config.teachers.items():
            rng = random.Random(f"{config.seed} {source}")
            rows = []
            for p in tqdm(problems["train"], desc=f"demonstrations {source}", disable=None):
                text = respond(rng, *parse(p["prompt"]), numbered=config.numbered, **teacher.model_dump())
                demo_id = f"{source}-{p['id']}"
                rows.append({"problem_id": p["id"], "demo_id": demo_id, "response": text, "source": source})
            write_parquet(out / f"raw.{source}.parquet", rows)
        return {"canonical_form": " ".join(canonical.__doc__.split())}

    def template(self) -> Template:
        return Template("{question}>", "task registers")

    def prompt_ids(self, tokenizer, prompt: str) -> list[int]:
        return tokenizer(prompt + ">", add_special_tokens=False).input_ids

    def extract(self, response: str) -> str | None:
        _, mark, answer = response.rpartition("#")
        return answer if mark else None


def _level(rng, config, split, level, bounds, taken):
    rows, answers, count = [], Counter(), config.counts[split]
    most = max(1, int(config.answer_limit * count))
    misses = 0
    while len(rows) < count:
        state, program = random_problem(rng, *bounds, config.operators.get(level, OPERATORS))
        prompt, answer = render(state, program, config.numbered), final_state(state, program)
        form = canonical(prompt)
        if form in taken or answers[answer] >= most:
            misses += 1
            if misses > 1000 + 100 * count:
                raise UserError(f"{split}/{level}: cannot find {count} different problems; lower counts.{split}")
            continue
        taken.add(form)
        answers[answer] += 1
        id = f"{split}-{level}-{len(rows):05d}"
        rows.append({"id": id, "prompt": prompt, "answer": answer, "level": level, "canonical": form})
    return rows


TASK = Registers()
