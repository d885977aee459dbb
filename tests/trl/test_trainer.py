"""`prefix_rft.trl` with the real TRL: what it adds is exact, and what it does not touch stays TRL's bit for bit."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from datasets import IterableDataset
from trl import GRPOConfig, GRPOTrainer

from prefix_rft.common.errors import UserError
from prefix_rft.methods.parts.schedules import Window, window
from prefix_rft.model.forward_cpu import FlatForward
from prefix_rft.model.forward_transformers import TransformersForward
from prefix_rft.trl import PrefixGRPOConfig, PrefixGRPOTrainer
from tests.helpers.small import make_world
from tests.helpers.small_trl import (
    GROUP,
    HALF,
    LIMIT,
    Record,
    expected_advantages,
    gentle_model,
    odd,
    own_gradients,
    relative,
    rows,
    same,
    settings,
    trained,
    trainer,
    unpadded,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trl")
    make_world(folder)
    return folder


# ---------------------------------------------------------------------------------------------------- what TRL keeps


def test_without_prefixes_it_is_grpo_bit_for_bit(world, tmp_path):
    plain, log = trained(trainer(world, tmp_path, GRPOTrainer, GRPOConfig, max_steps=5))
    off, _ = trained(trainer(world, tmp_path, prefix_per_group=0, max_steps=5))
    on, _ = trained(trainer(world, tmp_path, max_steps=5))
    assert [r["grad_norm"] > 0 for r in log if "grad_norm" in r] == [True] * 5
    assert same(plain, off) and not same(plain, on)


def test_an_evaluation_shows_no_prefix(world, tmp_path):
    """Plain GRPO evaluates to the same number from the same weights and random state."""
    found = []
    for cls, config in ((GRPOTrainer, GRPOConfig), (PrefixGRPOTrainer, PrefixGRPOConfig)):
        t = trainer(world, tmp_path, cls, config, per_device_eval_batch_size=2 * GROUP)
        t.model.eval()
        torch.manual_seed(0)
        found.append(t.evaluate(t.train_dataset.select(range(4)))["eval_reward"])
    assert found[0] == found[1]


def test_save_and_resume(world, tmp_path):
    changes = dict(max_steps=4, save_strategy="steps", save_steps=2, gradient_accumulation_steps=2)
    straight, _ = trained(trainer(world, tmp_path / "a", **changes))
    resumed, _ = trained(trainer(world, tmp_path / "a", **changes), resume_from_checkpoint=f"{tmp_path}/a/checkpoint-2")
    assert same(straight, resumed)


# ------------------------------------------------------------------------------------------------------- the prefixes


@pytest.mark.parametrize("form", ["ids", "text", "messages"])
def test_prefix_ids_are_the_demonstration(world, tmp_path, form):
    """With every share 1/2 the last rollout of a group begins with the first half of the demonstration, whatever its form."""
    t = trainer(world, tmp_path, data=rows(world, form), max_steps=1, shuffle_dataset=False, **HALF)
    seen, record = [], Record(t)
    generate = t._generate_and_score_completions
    t._generate_and_score_completions = lambda inputs: seen.append(generate(inputs)) or seen[0]
    t.train()
    demos = [r["demonstration"] for r in rows(world)]
    for i, (_, completion, length) in enumerate(unpadded(record.batches[0][0] | seen[0])):
        expected = demos[i // GROUP][: len(demos[i // GROUP]) // 2] if i % GROUP == GROUP - 1 else []
        assert length == len(expected) and completion[:length] == expected and length < len(completion) <= LIMIT


def test_the_window_falls_from_the_first_generation_to_the_last(world, tmp_path):
    """6 updates, 2 of them from each generation: 3 generations at progress 0, 1/2 and 1."""
    t = trainer(world, tmp_path, max_steps=6, steps_per_generation=2)
    record, (_, log) = Record(t), trained(t)
    lows = [window(Window(), progress)[0] for progress in (0, 0.5, 1)]
    assert [r["prefix/low"] for r in log if "prefix/low" in r] == pytest.approx(lows)
    for number, batch in enumerate(record.batches):
        for prompt, completion, length in unpadded(batch[0]):
            demo = next(r["demonstration"] for r in rows(world) if ids_of(t, r["prompt"]) == prompt)
            if length:
                assert completion[:length] == demo[:length]
                assert int(lows[number // 2] * len(demo)) <= length <= 0.95 * len(demo)


def ids_of(t, prompt):
    return t.processing_class(prompt)["input_ids"]


def test_rows_without_a_demonstration_or_with_one_too_long_train_plainly(world, tmp_path):
    data = rows(world)[:2]
    data[0]["demonstration"], data[1]["demonstration"] = None, [2] * (LIMIT + 1)
    t = trainer(world, tmp_path, data=data, max_steps=1)
    record, (_, log) = Record(t), trained(t)
    assert not record.batches[0][0]["prefix_mask"].any() and log[0]["prefix/too_long"] == 1
    assert log[0]["prefix/rollout_reward"] == pytest.approx(log[0]["reward"])


def test_metrics_tell_hybrids_from_plain_rollouts(world, tmp_path):
    t = trainer(world, tmp_path, max_steps=1)
    record, (_, log) = Record(t), trained(t)
    found = unpadded(record.batches[0][0])
    for name, chosen in (("reward", [r for r in found if r[2]]), ("rollout_reward", [r for r in found if not r[2]])):
        assert log[0][f"prefix/{name}"] == pytest.approx(np.mean([odd(ids) for _, ids, _ in chosen]))
    assert log[0]["prefix/length"] == pytest.approx(np.mean([n for *_, n in found if n]))


# ------------------------------------------------------------------------------------------------------ what is kept


def test_kept_prefix_tokens_over_the_optimizer_batch(world, tmp_path):
    """Two optimizer batches of two micro-batches from each generation, used twice: a fifth of all prefix tokens of an optimizer batch,
    those of highest entropy, keep the row's advantage; every other prefix token has 0; every sampled token has the row's."""
    t = trainer(world, tmp_path, max_steps=4, gradient_accumulation_steps=2, steps_per_generation=4, num_iterations=2)
    record = Record(t)
    trained(t)
    assert len(record.batches) == 2  # one generation in 4 updates, ranked once
    for batch in record.batches:
        assert len(batch) == 2
        for b, expected in zip(batch, expected_advantages(batch), strict=True):
            assert torch.equal(b["weighed"], expected)


@pytest.mark.parametrize("forward", [FlatForward, TransformersForward])
def test_the_gradient_is_that_of_our_own_learner(world, tmp_path, forward):
    """One batch through TRL's loss, with gradient accumulation, and through our own method and learner; first where pi is pi_old, then
    where ratios differ from 1 and some are clipped."""
    changes = dict(gradient_accumulation_steps=2, num_iterations=2, max_grad_norm=0, learning_rate=0.02, max_steps=2)
    t = trainer(world, tmp_path, model=gentle_model(world), **changes)
    record, (_, log) = Record(t), trained(t)
    assert log[1]["clip_ratio/region_mean"] > 0 and len(record.updates) == 2
    own = own_gradients(gentle_model(world), record.batches[0], record.updates, forward)
    differences = [relative(a, g) for a, (_, g) in zip(own, record.updates, strict=True)]
    print(f"relative difference of the gradients: {differences}")
    assert max(differences) < 1e-6


def test_prefixes_of_negative_advantage_can_be_left_untrained(world, tmp_path):
    """Some rows that continue a prefix are below their group: these keep 0 on all prefix tokens, and the gradient is
    that of our learner with the same key."""
    changes = dict(gradient_accumulation_steps=2, max_grad_norm=0, learning_rate=0.02, max_steps=1)
    t = trainer(world, tmp_path, model=gentle_model(world), prefix_negative=False, **HALF, **changes)
    record, _ = Record(t), trained(t)
    (batch,) = record.batches
    below = [(b["advantages"] < 0) & b["prefix_mask"].any(1) for b in batch]
    assert sum(int(chosen.sum()) for chosen in below)
    for b, chosen, expected in zip(batch, below, expected_advantages(batch), strict=True):
        dropped = chosen[:, None] & b["prefix_mask"]
        assert torch.equal(b["weighed"], expected.masked_fill(dropped, 0.0))
    (own,) = own_gradients(gentle_model(world), batch, record.updates, TransformersForward, negative=False)
    (other,) = own_gradients(gentle_model(world), batch, record.updates, TransformersForward)
    gradient = record.updates[0][1]
    assert relative(own, gradient) < 1e-6 < 1e-3 < relative(other, gradient)


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "changes, named",
    [
        (dict(importance_sampling_level="sequence"), "importance_sampling_level = 'sequence': must be token"),
        (dict(loss_type="vespo"), "loss_type = 'vespo'"),
        (dict(off_policy_mask_threshold=0.5), "off_policy_mask_threshold = 0.5: must be None"),
        (dict(top_entropy_quantile=0.2), "top_entropy_quantile = 0.2: must be 1.0"),
        (dict(gradient_accumulation_steps=2, steps_per_generation=1), "must be a multiple of gradient_accumulation_steps = 2"),
        (dict(remove_unused_columns=True), "remove_unused_columns = True"),
        (dict(prefix_per_group=5), "prefix_per_group = 5: must be at most num_generations = 4"),
        (dict(prefix_keep_share=2.0), "'keep_share' = 2.0: must be <= 1"),
        (dict(prefix_schedule="difficulty"), "'schedule' = 'difficulty': must be one of cosine"),
        (dict(prefix_high=0.5), "high: 0.5 is below low_start = 0.95"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work(tmp_path, changes, named):
    with pytest.raises(UserError, match="PrefixGRPOConfig") as e:
        PrefixGRPOConfig(**settings(tmp_path, **changes))
    assert named in str(e.value) and "\n" not in str(e.value)


def tool(a: int) -> int:
    """A tool.

    Args:
        a: a number.

    Returns:
        the number.
    """
    return a


@pytest.mark.parametrize("name", ["tools", "environment_factory", "rollout_func"])
def test_arguments_that_cannot_work(world, tmp_path, name):
    with pytest.raises(UserError, match=name):
        trainer(world, tmp_path, more={name: [tool] if name == "tools" else lambda *_: None})


def test_other_bad_input(world, tmp_path):
    with pytest.raises(UserError, match="args = GRPOConfig: must be a PrefixGRPOConfig"):
        trainer(world, tmp_path, config=GRPOConfig)
    with pytest.raises(UserError, match=r"'demonstration' is missing from train_dataset, which has \['prompt'\]"):
        trainer(world, tmp_path, data=[{"prompt": "a"}])
    assert trainer(world, tmp_path, data=[{"prompt": "a"}], prefix_per_group=0)
    streamed = IterableDataset.from_generator(lambda: iter([{"prompt": "a"}]))  # has no names of columns
    with pytest.raises(UserError, match="'demonstration' is missing"):
        trainer(world, tmp_path, data=streamed)
    several = rows(world, "messages")
    for row in several:
        row["demonstration"] = [*row["demonstration"], {"role": "user", "content": "a"}]
    with pytest.raises(UserError, match="found .'assistant', 'user'"):
        trainer(world, tmp_path, data=several).train()


def test_without_trl_one_line_says_what_to_install():
    code = "import sys; sys.modules['trl'] = None; import prefix_rft.trl"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install prefix-rft[trl]" in done.stderr.strip().splitlines()[-1] and done.returncode == 1
