"""A seed's own draw of training problems: two halves that have no problem in common."""

import pytest

from prefix_rft.common.errors import UserError
from prefix_rft.config.run import Prompts
from prefix_rft.data.problems import draw
from prefix_rft.episodes import Demonstration, Problem

PROBLEMS = [Problem(f"p{i}", [i], "", [Demonstration(f"d{i}", [i])]) for i in range(21)]


def ids(seed, half, count=None, problems=PROBLEMS):
    return [p.id for p in draw(problems, Prompts(half=half, count=count), seed, "run.yaml")]


def test_the_halves_of_a_seed_are_disjoint_and_together_all():
    first, second = ids(3, "demonstrations"), ids(3, "reinforcement")
    assert len(first) == 10 and len(second) == 11
    assert sorted(first + second) == sorted(p.id for p in PROBLEMS)


def test_a_draw_is_a_function_of_the_seed_and_keeps_the_order_of_the_file():
    assert ids(3, "demonstrations") == ids(3, "demonstrations") != ids(4, "demonstrations")
    places = [int(name[1:]) for name in ids(3, "reinforcement")]
    assert places == sorted(places)


def test_runs_with_and_without_demonstrations_draw_the_same_problems():
    bare = [Problem(p.id, p.prompt, p.answer) for p in PROBLEMS]
    assert ids(0, "reinforcement") == ids(0, "reinforcement", problems=bare)


def test_a_smaller_count_is_a_part_of_a_larger_one():
    assert len(ids(0, "reinforcement", 4)) == 4
    assert set(ids(0, "reinforcement", 4)) < set(ids(0, "reinforcement", 7)) < set(ids(0, "reinforcement"))


def test_without_the_key_a_run_has_all_problems():
    assert draw(PROBLEMS, None, 3, "run.yaml") is PROBLEMS


def test_every_problem_is_in_either_half_of_some_seed():
    for half in ("demonstrations", "reinforcement"):
        assert len(set().union(*(ids(seed, half) for seed in range(20)))) == 21


def test_too_many_problems_and_none_with_a_demonstration_are_refused():
    with pytest.raises(
        UserError, match="run.yaml: key 'prompts.count' = 12: half of the 21 problems is 11; give at most that"
    ):
        ids(0, "reinforcement", 12)
    (taken,) = ids(0, "demonstrations", 1)
    others = [p if p.id != taken else Problem(p.id, p.prompt, p.answer) for p in PROBLEMS]
    with pytest.raises(UserError, match="none of the 1 problems that seed 0 draws has a demonstration"):
        ids(0, "demonstrations", 1, others)
