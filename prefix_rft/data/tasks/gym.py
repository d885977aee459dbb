"""Task `gym`: short arithmetic problems in English of reasoning-gym's generators, with worked solutions, for a small pretrained model.

A level is a generator with its settings, so the levels are as hard as one makes them. The problems that no level of training has are the
out-of-domain test. Two problems with the same question are the same problem, and no question is in two splits.

The demonstrations are written here (`WORKED`): one calculation a line, and the answer on a last line that starts with ####. Each line's
calculations are read and checked again (`arithmetic.steps`), like those of task `gsm`.
"""

import random
import re
from collections.abc import Callable
from pathlib import Path

from pydantic import PositiveInt
from tqdm import tqdm

from ...common.errors import UserError
from ...common.files import write_parquet
from ...config.reading import Section, opt
from ..templates import Template, read_template
from . import Task, gsm
from .arithmetic import steps

SPLITS = ("train", "validation", "test", "ood")
DRAWS = 200  # draws of a generator for each problem wanted, before an error
PROMPT = Path(__file__).with_name("gym_prompt.txt")


# ------------------------------------------------------------------------------------------------------ worked solutions


def chain_sum(about: dict) -> list[str]:
    """98 + 93 - 77 -> 98 + 93 = 191, 191 - 77 = 114"""
    first, *rest = re.findall(r"(?:^|[+-] )-?\d+", about["expression"])
    total, lines = int(first), []
    for term in rest:
        sign, number = term.split(" ")
        result = total + int(number) if sign == "+" else total - int(number)
        lines.append(f"{total} {sign} {number} = {result}")
        total = result
    return lines


def leg_counting(about: dict) -> list[str]:
    """3 woodlouses, 1 leech -> woodlouse: 3 * 14 = 42, leech: 1 * 0 = 0, 42 + 0 = 42"""
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    counts = about["animals"]
    lines = [f"{name}: {n} * {ANIMALS[name]} = {n * ANIMALS[name]}" for name, n in counts.items()]
    return lines + _sums([n * ANIMALS[name] for name, n in counts.items()])


def products(about: dict) -> list[str]:
    """45 * 7 -> 40 * 7 = 280, 5 * 7 = 35, 280 + 35 = 315"""
    a, b = sorted(map(int, about["expression"].split(" * ")), reverse=True)
    parts = [int(digit) * 10**place for place, digit in enumerate(reversed(str(a))) if digit != "0"][::-1] or [0]
    return [f"{part} * {b} = {part * b}" for part in parts] + _sums([part * b for part in parts])


def simple_equations(about: dict) -> list[str] | None:
    """9 - 15*e = -186 -> 15*e = 9 + 186 = 195, e = 195 / 15 = 13; None where it is not a*x + b = c"""
    left, _, right = about["equation"].partition(" = ")
    term = re.fullmatch(r"(?:(\d+) ([+-]) )?(?:(\d+)\*)?([a-z])(?: ([+-]) (\d+))?", left)
    if not term or (term[1] is None) == (term[6] is None):
        return None
    before, sign, factor, name, later, after = term.groups()
    number, result = int(before or after), int(right)
    if sign == "-":  # number - factor x = result
        total, lines = number - result, f"{number} {_minus(result)}"
    else:
        subtract = sign == "+" or later == "+"
        total = result - number if subtract else result + number
        lines = f"{result} {'-' if subtract else '+'} {number}"
    if factor is None:
        return [f"{name} = {lines} = {total}"]
    return [f"{factor}*{name} = {lines} = {total}", f"{name} = {total} / {factor} = {total // int(factor)}"]


def _minus(number: int) -> str:
    return f"+ {-number}" if number < 0 else f"- {number}"


def _sums(parts: list[int]) -> list[str]:
    total, lines = parts[0], []
    for part in parts[1:]:
        lines.append(f"{total} + {part} = {total + part}")
        total += part
    return lines


WORKED: dict[str, Callable[[dict], list[str] | None]] = {
    f.__name__: f for f in (chain_sum, leg_counting, products, simple_equations)
}


# --------------------------------------------------------------------------------------------------------------- data


class Level(Section):
    generator: str = opt(..., "generator of reasoning-gym", choices=tuple(WORKED))
    settings: dict = opt({}, "its settings, such as min_terms: 2")


class DataConfig(Section):
    task: str = opt(..., "gym", choices=("gym",))
    seed: int = opt(..., "of problems", ge=0)
    levels: dict[str, Level] = opt(..., "level -> generator and settings, of train, validation and test")
    ood: dict[str, Level] = opt(..., "level -> generator and settings, out of domain")
    counts: dict[str, PositiveInt] = opt(..., "split -> problems a level; splits are train, validation, test, ood")

    def check(self):
        if sorted(self.counts) != sorted(SPLITS):
            raise ValueError(f"counts: must name {', '.join(SPLITS)}; names {', '.join(self.counts)}")


class Gym(Task):
    name = "gym"
    verifier = "math"
    DataConfig = DataConfig
    golden = gsm.Gsm.golden

    def sources(self, config: DataConfig) -> list[str]:
        return ["worked"]

    def make(self, config: DataConfig, out: Path) -> dict:
        taken: set[str] = set()
        demonstrations = []
        for split in reversed(SPLITS):  # the small splits first: they stay the same when train grows
            rows = []
            for name, level in (config.ood if split == "ood" else config.levels).items():
                for row, lines in _level(config, split, name, level, taken):
                    rows.append(row)
                    if split == "train":
                        response = "\n".join([*lines, f"#### {row['answer']}"])
                        about = {"problem_id": row["id"], "demo_id": f"worked-{row['id']}", "source": "worked"}
                        demonstrations.append({**about, "response": response})
            write_parquet(out / f"problems.{split}.parquet", rows)
        write_parquet(out / "raw.worked.parquet", demonstrations)
        return {"canonical_form": "the question", "prompt_template": self.template().text}

    def template(self) -> Template:
        return read_template(PROMPT)

    def prompt_ids(self, tokenizer, prompt: str) -> list[int]:
        return self.template().ids(tokenizer, prompt)

    def extract(self, response: str) -> str | None:
        return gsm.TASK.extract(response)

    def check_demonstration(self, response: str, answer: str) -> str | None:
        wrong = next((s for s in steps(response.rpartition("\n")[0]) if not s.right), None)
        return f"wrong calculation: {wrong.left} = {wrong.result}" if wrong else None


def _level(config: DataConfig, split: str, name: str, level: Level, taken: set[str]):
    """Yield (row, lines of the worked solution) of the problems of one level of one split."""
    try:
        import reasoning_gym
    except ImportError as e:
        raise UserError(
            f"task gym needs the package reasoning_gym ({e}): pip install -r requirements/smollm2.txt"
        ) from e
    count, found = config.counts[split], 0
    seed = random.Random(f"{config.seed} {split} {name}").randrange(2**31)
    try:
        problems = reasoning_gym.create_dataset(level.generator, seed=seed, size=DRAWS * count, **level.settings)
    except (TypeError, AssertionError, ValueError) as e:
        raise UserError(f"key 'levels.{name}.settings' = {level.settings}: {level.generator} refuses them: {e}") from e
    with tqdm(total=count, desc=f"problems {split} {name}", disable=None) as bar:
        for problem in problems:
            question, lines = " ".join(problem["question"].split()), WORKED[level.generator](problem["metadata"])
            if question in taken or lines is None:
                continue
            taken.add(question)
            row = {
                "id": f"{split}-{name}-{found:05d}",
                "prompt": question,
                "answer": gsm.plain_number(str(problem["answer"])),
            }
            yield {**row, "level": name, "canonical": question}, lines
            found += 1
            bar.update()
            if found == count:
                return
    raise UserError(
        f"key 'counts.{split}' = {count}: level {name!r} has only {found} different problems with a worked solution in"
        f" {DRAWS * count} draws; lower it"
    )


TASK = Gym()
