"""Every method through the command `train` on the small world: it runs, moves the weights, and goes on exactly."""

from pathlib import Path

import pytest
import torch
import yaml

from prefix_rft.common.files import read_json, read_jsonl, read_parquet, sha256, write_parquet
from prefix_rft.data.problems import Order
from prefix_rft.methods import method_class, names
from prefix_rft.runs.ablations import run_names
from prefix_rft.runs.load import load_run
from prefix_rft.training import train
from tests.helpers.small import RUN
from tests.training.test_train import once, stop_after, world  # noqa: F401 (a fixture)

CONFIGS = Path(__file__).parents[2] / "config" / "tiny"
NEW = [
    "rl_with_sft",
    "drpo",
    "uft",
    "relift",
    "hpt",
    "srft",
    "chord_mu",
    "chord_phi",
    "trapo",
    "prefix_shown",
    "g2rpo_a",
]
CONTROLS = ["prefix_rft_frozen", "prefix_rft_all", "prefix_rft_static", "rft_entropy"]
PAIRS = {"rollout": {"group_size": 2, "max_response": 60}}
ABLATIONS = {
    "bottom": {"keep": "bottom"},
    "random": {"keep": "random"},
    "matched": {"keep": "matched"},
    "fixed": {"keep": "all", "fixed": 0.001},
    "to_zero": {"schedule": "to_zero", "min_length": 0},
    "reverse": {"schedule": "reverse"},
    "sequence": {"rank_over": "sequence"},
}


def changes_of(name):
    """The method's own keys of config/tiny/<name>.yaml, on the small world's run."""
    run = load_run(CONFIGS / f"{name}.yaml")
    values = {"method": run.method, "steps": 3}
    text = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    section = method_class(run.method).section
    return values | ({"demos": run.demos} if run.demos else {}) | {k: v for k, v in text.items() if k == section}


def test_every_method_has_a_config():
    configured = {load_run(CONFIGS / f"{name}.yaml").method for name in run_names(CONFIGS)}
    assert configured == set(names())


@pytest.mark.parametrize("name", NEW + CONTROLS)
def test_three_steps(world, tmp_path, name):  # noqa: F811
    # groups so small that some fail altogether, and a batch of SFT so small that they fill it
    own = {"relift": PAIRS | {"relift": {"batch": 2, "per_step": None}}, "hpt": PAIRS, "uft": {"uft": {"kl": 0.1}}}.get(
        name, {}
    )
    out = once(world, tmp_path, **changes_of(name) | own)
    record, rows = read_json(out / "run.json"), read_jsonl(out / "metrics.jsonl")
    assert record["status"] == "complete" and len(rows) == 3
    assert any(r["grad_norm"] > 0 for r in rows)
    assert sha256(out / "model" / "model.safetensors") != sha256(world / "base" / "model.safetensors")
    shown = record["budget"]["demonstrations_seen"]
    hybrids = {"drpo": 48, "prefix_rft_frozen": 12, "prefix_rft_all": 12, "prefix_rft_static": 12, "rl_with_sft": 12}
    hybrids |= {"rft_entropy": 0, "srft": 12, "chord_mu": 12, "chord_phi": 12, "g2rpo_a": 12, "trapo": 36}
    assert shown == hybrids.get(name, shown)
    assert record["budget"]["rollouts"] == 3 * 4 * {"rl_with_sft": 3, "trapo": 3, "relift": 2, "hpt": 2}.get(name, 4)
    if name == "relift":
        failed = sum(round(4 * r["groups_all_wrong"]) for r in rows)
        assert failed >= 2 and sum(r["further_updates"] for r in rows) == failed // 2 and shown == failed // 2 * 2
    if name == "hpt":  # demonstrations are trained on where every rollout fails, and there alone
        assert shown == sum(round(4 * r["groups_all_wrong"]) for r in rows) > 0
    if name == "uft":
        assert rows[-1]["prefix_token_share"] == 0 < rows[0]["prefix_token_share"]  # hints end at 0.6 of the run


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_of_prefix_rft(world, tmp_path, name):  # noqa: F811
    out = once(world, tmp_path, **changes_of("prefix_rft") | {"prefix": ABLATIONS[name]})
    rows = read_jsonl(out / "metrics.jsonl")
    assert any(r["grad_norm"] > 0 for r in rows)
    if name == "to_zero":
        assert [r["window_low"] for r in rows] == pytest.approx([0.95, 0.475, 0])
        assert [r["window_high"] for r in rows] == pytest.approx([0.95, 0.475, 0]) and rows[-1]["prefix_ratio"] is None
    if name == "matched":
        assert any(r["prefix_scale"] is not None and 0 < r["prefix_scale"] < 1.5 for r in rows)


STATEFUL = {
    "relift": PAIRS | {"method": "relift", "demos": "strong", "relift": {"batch": 4}},
    "difficulty": {"method": "prefix_rft", "demos": "strong", "prefix": {"schedule": "difficulty"}},
    "trapo": {"method": "trapo", "demos": "strong"},
    "g2rpo_a": {"method": "g2rpo_a", "demos": "strong"},
    "random": {"method": "prefix_rft", "demos": "strong", "prefix": {"keep": "random"}, "reward_noise": 0.2},
    "uft": {"method": "uft", "demos": "strong", "uft": {"kl": 0.1}},
}


@pytest.mark.parametrize("name", STATEFUL)
def test_what_a_method_keeps_survives_a_stop(world, tmp_path, name):  # noqa: F811
    """Buffer and second optimizer, success rates, random choices, the reference model: the same bits after a resume."""
    changes = STATEFUL[name] | {"steps": 10}
    expected = once(world, tmp_path, "whole", **changes)
    args = stop_after(world, tmp_path, 6, **changes)
    state = torch.load(sorted(Path(args.checkpoints).glob("step-*"))[-1] / "state.pt", weights_only=True)
    if name == "relift":
        assert state["method"]["buffer"] and state["learner"]["further"]["state"]  # there is something to lose
    if name in ("difficulty", "trapo"):
        assert state["method"]["solved"] and state["method"]["solved_overall"] > 0
    assert train.train(args) == 0
    assert (Path(args.out) / "metrics.jsonl").read_bytes() == (expected / "metrics.jsonl").read_bytes()
    assert sha256(Path(args.out) / "model") == sha256(expected / "model")


def test_reward_noise_turns_verdicts_round(world, tmp_path):  # noqa: F811
    def rows(name, noise):
        return read_jsonl(once(world, tmp_path, name, steps=6, reward_noise=noise) / "metrics.jsonl")

    plain, always, some, again = rows("a", None), rows("b", 1.0), rows("c", 0.2), rows("d", 0.2)
    assert always[0]["reward"] == pytest.approx(1 - plain[0]["reward"]) and always[0]["flipped"] == 16
    assert all(r["flipped"] == 0 for r in plain) and some == again
    flipped = [r["flipped"] for r in some]
    assert 4 <= sum(flipped) <= 40 and len(set(flipped)) > 1  # of 96 verdicts, mean 19, anew in each step


def test_prompts_without_demonstrations_train_as_rft_bit_for_bit(world, tmp_path):  # noqa: F811
    """The one demonstration of the set belongs to a problem that three steps do not meet."""
    met = {i for t in range(3) for i in Order(24, RUN["batch_prompts"], 0).indices(t)}
    problems = read_parquet(world / "data" / "problems.train.parquet")
    absent = next(p["id"] for i, p in enumerate(problems) if i not in met)
    demos = read_parquet(world / "data" / "demos.strong.parquet")
    write_parquet(world / "data" / "demos.one.parquet", [d for d in demos if d["problem_id"] == absent])
    weights = "model/model.safetensors"
    expected = sha256(once(world, tmp_path, "rft", steps=3) / weights)
    for method, keys in {"prefix_rft": {}, "drpo": {}, "rl_with_sft": {"rl_with_sft": {"clip": True}}}.items():
        out = once(world, tmp_path, method, steps=3, method=method, demos="one", **keys)
        assert sha256(out / weights) == expected
