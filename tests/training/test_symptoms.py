"""A run that learns nothing says so: each symptom by hand, and the commonest of them in a real run."""

import logging

import pytest
import yaml

from prefix_rft.common.files import read_json, read_jsonl, read_parquet, write_parquet
from prefix_rft.training import train
from prefix_rft.training.symptoms import Watch, symptoms
from tests.helpers.small import RUN, make_world, run_config, train_job

GOOD = {
    "finished_share": 0.9,
    "groups_all_wrong": 0.4,
    "groups_all_right": 0.1,
    "grad_norm": 0.05,
    "entropy": 0.3,
    "reward_prefixed": 0.5,
    "reward_plain": 0.4,
    "clip_fraction_prefix": 0.0,
    "timed_out": 0,
}
SIGNS = {
    "responses cut off": {"finished_share": 0.0},
    "no group with a signal": {"groups_all_wrong": 1.0, "groups_all_right": 0.0},
    "everything right already": {"groups_all_right": 1.0, "groups_all_wrong": 0.0},
    "no gradient": {"grad_norm": 0.0},
    "most updates without a signal": {"groups_all_wrong": 0.7, "groups_all_right": 0.25},
    "entropy collapsed": {"entropy": 1e-6},
    "prefixed rollouts never right": {"reward_prefixed": 0.0},
    "prefixed rollouts behind plain ones": {"reward_prefixed": 0.3},
    "the verifier times out": {"timed_out": 3},  # of 2 prompts x 4
}


def rows(count, first=0, **changes):
    return [GOOD | changes | {"step": first + i} for i in range(count)]


@pytest.mark.parametrize("name", SIGNS)
def test_each_symptom_is_said_once_when_it_has_lasted(name):
    run = run_config(method="prefix_rft", demos="d", batch_prompts=2, rollout={"group_size": 4, "max_response": 60})
    lasts = next(s.steps for s in symptoms(run) if s.name == name)
    watch, said = Watch(run, rows(5)), []
    for row in rows(lasts - 1, 5, **SIGNS[name]):
        assert not [w for w in watch.follow(row) if f": {name}: " in w]
    said = [w for row in rows(2, 4 + lasts, **SIGNS[name]) for w in watch.follow(row) if f": {name}: " in w]
    assert len(said) == 1 and said[0].startswith(f"steps 5 to {4 + lasts}: {name}: ") and len(said[0]) > 100
    for row in rows(3, 6 + lasts) + rows(lasts, 9 + lasts, **SIGNS[name]):
        assert not [w for w in watch.follow(row) if f": {name}: " in w]  # said before
    (found,) = [w for w in watch.warnings() if w["symptom"] == name]
    assert found["steps"] == [[5, 5 + lasts], [9 + lasts, 8 + 2 * lasts]]


def test_prefixes_that_are_not_trained_when_negative_are_not_unlearned():
    """The warning about prefixed rollouts behind plain ones names a remedy; with it in place there is nothing to warn of."""
    for negative in (True, False):
        watch = Watch(run_config(method="prefix_rft", demos="d", prefix={"negative": negative}), rows(5))
        said = [w for row in rows(12, 5, reward_prefixed=0.3) for w in watch.follow(row)]
        assert len(said) == negative and all("prefix.negative: false" in w for w in said)


def test_a_step_in_between_starts_the_count_anew():
    watch = Watch(run_config(), rows(2, 0, finished_share=0.0) + rows(1, 2) + rows(2, 3, finished_share=0.0))
    assert watch.warnings() == []


def test_a_good_run_has_no_warning():
    assert Watch(run_config(method="prefix_rft", demos="d"), rows(500)).warnings() == []
    plain = [row | {"reward_prefixed": None} for row in rows(100)]
    assert Watch(run_config(), plain).warnings() == []
    shown = [
        row | {"reward_prefixed": 0.1, "clip_fraction_prefix": None} for row in rows(100)
    ]  # no advantage on a prefix
    assert Watch(run_config(method="prefix_shown", demos="d"), shown).warnings() == []
    prefixed = [
        row | {"reward_plain": None} for row in rows(100)
    ]  # no plain rollout: the whole group shares one prefix
    assert Watch(run_config(method="uft", demos="d"), prefixed).warnings() == []
    sft = [{"grad_norm": 0.5, "step": i} | dict.fromkeys(GOOD.keys() - {"grad_norm"}) for i in range(50)]
    assert Watch(run_config(method="sft", demos="d"), sft).warnings() == []


def test_a_run_whose_responses_are_cut_off_says_so(tmp_path, caplog):
    make_world(tmp_path)
    config = tmp_path / "short.yaml"
    config.write_text(yaml.safe_dump(RUN | {"steps": 6, "rollout": {"group_size": 4, "max_response": 1}}))
    with caplog.at_level(logging.WARNING):
        assert train.train(train_job(tmp_path, config, out=tmp_path / "out", checkpoints=tmp_path / "ck")) == 0
    (said,) = [r.getMessage() for r in caplog.records if "cut off" in r.getMessage()]
    assert "r seed 0: steps " in said and "rollout.max_response = 1" in said
    found = read_json(tmp_path / "out/run.json")["warnings"]
    shares = [row["finished_share"] for row in read_jsonl(tmp_path / "out/metrics.jsonl")]
    ((first, last),) = next(w["steps"] for w in found if w["symptom"] == "responses cut off")
    assert last - first >= 2 and max(shares[first : last + 1]) < 0.1


def test_a_limit_below_the_demonstrations_is_said_before_the_first_step(tmp_path, caplog):
    make_world(tmp_path)
    rows = read_parquet(tmp_path / "data/demos.strong.parquet")
    longest = max(len(r["response_ids"]) for r in rows)
    write_parquet(tmp_path / "data/demos.strong.parquet", [*rows, rows[0] | {"problem_id": "none", "demo_id": "x"}])
    config, prefix = tmp_path / "short.yaml", {"method": "prefix_rft", "demos": "strong", "steps": 1}
    for limit, longer in ((longest, 0), (longest - 1, sum(len(r["response_ids"]) == longest for r in rows))):
        config.write_text(yaml.safe_dump(RUN | prefix | {"rollout": {"group_size": 4, "max_response": limit}}))
        caplog.clear()
        with caplog.at_level(logging.INFO):
            train.read_inputs(train_job(tmp_path, config))
        said = [r.getMessage() for r in caplog.records if "max_response" in r.getMessage()]
        assert len(said) == bool(longer) and all(
            f"{longer} of {len(rows)} demonstrations are longer" in s for s in said
        )
        assert "1 demonstrations belong to no problem" in caplog.text and "'none'" in caplog.text
