"""The command `speed-trl` for real, at the smallest size: both sides run, and the ratio is the quotient of what was measured."""

import pytest

from prefix_rft.__main__ import main
from prefix_rft.common.files import read_json
from tests.helpers.small import make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speed")
    make_world(folder)
    return folder


def command(world, out, *more):
    small = ("--prompts", "2", "--group-size", "2", "--new-tokens", "4", "--rounds", "2")
    return [
        "speed-trl",
        "--model",
        str(world / "base"),
        "--data",
        str(world / "data"),
        *small,
        "--out",
        str(out),
        *more,
    ]


@pytest.mark.parametrize("more", [(), ("--skip-trl",)])
def test_both_sides_are_measured(world, tmp_path, more):
    assert main(command(world, tmp_path / "speed.json", *more)) == 0
    found = read_json(tmp_path / "speed.json")
    parts = ("rollout",) if more else ("rollout", "step")
    assert set(found) & {"rollout", "step"} == set(parts) and found["shape"]["rows"] == 4
    for part in (found[name] for name in parts):
        low, high = part["ratio_min_max"]
        assert 0 < low <= part["ratio"] <= high and part["ours_seconds"] > 0 and part["their_seconds"] > 0


@pytest.mark.parametrize("prompts", ["1", "3"])  # an odd number: half of it is not the rest
def test_any_number_of_prompts(world, tmp_path, prompts):
    assert main([*command(world, tmp_path / "speed.json", "--skip-trl"), "--prompts", prompts]) == 0
    assert read_json(tmp_path / "speed.json")["shape"]["rows"] == 2 * int(prompts)
