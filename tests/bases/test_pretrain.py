"""Pretraining of the base model: the mixture, the packing, what it must not have seen, and that it repeats exactly."""

import copy
import random
from itertools import islice

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from prefix_rft.bases.make import make_base
from prefix_rft.bases.pretrain import (
    BaseConfig,
    Texts,
    batches,
    fact_accuracy,
    new_model,
    pretrain,
)
from prefix_rft.bases.tokenizer import char_tokenizer
from prefix_rft.common.errors import UserError
from prefix_rft.common.files import read_json, sha256
from prefix_rft.config.reading import build
from prefix_rft.data.files import read_problems
from prefix_rft.data.make import make_data
from prefix_rft.data.tasks.registers import CHARACTERS, SPLITS, canonical, final_state, parse, render

PARTS = {
    "facts": {"share": 1, "style": "facts"},
    "direct": {"share": 1, "style": "direct", "length": [1, 3]},
    "terse": {"share": 1, "style": "terse", "length": [1, 3]},
    "careful": {"share": 1, "style": "careful", "length": [1, 3]},
}
SMALL = {"hidden_size": 16, "layers": 1, "heads": 2, "kv_heads": 1, "intermediate_size": 32}
CONFIG = {"kind": "registers", "seed": 0, "parts": PARTS, "updates": 3, "rows": 2, "row_tokens": 64, "samples": 2}


def config(**changes):
    return build(BaseConfig, {**CONFIG, **changes}, "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("registers")
    (path / "data.yaml").write_text(
        yaml.safe_dump(
            {
                "task": "registers",
                "seed": 0,
                "levels": {"easy": [1, 2]},
                "ood": {"longer": [3, 3]},
                "counts": {"train": 300, "validation": 20, "test": 100, "ood": 20},
                "teachers": {"strong": {}},
            }
        )
    )
    make_data(path / "data.yaml", path / "data")
    return path


def test_no_text_is_a_problem_of_any_split(folder):
    taken = {p["canonical"] for s in SPLITS for p in read_problems(folder / "data", s)}
    parts = {
        "careful": {"share": 1, "style": "careful", "length": [1, 2]}
    }  # short, so that chance would hit the splits
    texts = Texts(config(parts=parts).parts, taken, random.Random(0))
    forms = [canonical(texts.draw()[0].removesuffix(">")) for _ in range(3000)]
    assert not set(forms) & taken
    unguarded = Texts(config(parts=parts).parts, set(), random.Random(0))
    assert {canonical(unguarded.draw()[0].removesuffix(">")) for _ in range(3000)} & taken  # the guard did something


def test_texts_are_right_where_no_errors_are_asked_for():
    texts = Texts(config().parts, set(), random.Random(0))
    kinds = {"fact": 0, "problem": 0}
    for prompt, response in (texts.draw() for _ in range(400)):
        if prompt.endswith("="):
            assert eval(prompt[:-1]) % 10 == int(response)
            kinds["fact"] += 1
        else:
            assert response.endswith("#" + final_state(*parse(prompt.removesuffix(">"))))
            kinds["problem"] += 1
    assert 60 < kinds["fact"] < 140


def test_batches_lose_no_text_and_keep_to_their_room():
    tokenizer = char_tokenizer(CHARACTERS)
    parts = config().parts
    found, tokens = [], []
    for prompts, responses in islice(batches(Texts(parts, set(), random.Random(5)), tokenizer, 2, 64), 4):
        assert all(r[-1] == tokenizer.eos_token_id and tokenizer.eos_token_id not in r[:-1] for r in responses)
        found += [(tokenizer.decode(p), tokenizer.decode(r[:-1])) for p, r in zip(prompts, responses, strict=True)]
        tokens.append(sum(map(len, prompts + responses)))
    expected = Texts(parts, set(), random.Random(5))
    assert found == [expected.draw() for _ in found]
    assert max(tokens) <= 2 * 64 and sum(tokens) > 0.75 * 4 * 2 * 64


def test_an_update_is_that_of_the_texts_alone():
    """Against the model's own loss on each text, in transformers' words: labels of -100 on the prompt."""
    tokenizer, tiny = char_tokenizer(CHARACTERS), config(shape=SMALL, updates=1)
    model = new_model(tiny, tokenizer)
    before = copy.deepcopy(model)
    losses = pretrain(model, tiny, Texts(tiny.parts, set(), random.Random(1)), tokenizer)
    total = count = 0
    for prompt, response in zip(
        *next(batches(Texts(tiny.parts, set(), random.Random(1)), tokenizer, 2, 64)), strict=True
    ):
        labels = torch.tensor([[-100] * len(prompt) + response])
        mean = before(input_ids=torch.tensor([prompt + response]), labels=labels).loss
        total, count = total + mean * len(response), count + len(response)
    assert losses == pytest.approx([(total / count).item()], rel=1e-5)
    (total / count).backward()
    torch.nn.utils.clip_grad_norm_(before.parameters(), 1.0)
    torch.optim.AdamW(before.parameters(), lr=tiny.lr, betas=(0.9, 0.98), weight_decay=tiny.weight_decay).step()
    for ours, theirs in zip(model.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.05 * tiny.lr)


def test_no_text_is_longer_than_its_part_says():
    tokenizer = char_tokenizer(CHARACTERS)
    for extra in ({}, {"attempts": 1.0}):
        parts = config(parts={"a": {"share": 1, "style": "careful", "length": [3, 3], **extra}}, row_tokens=128).parts
        texts = Texts(parts, set(), random.Random(0))
        lengths = {len(tokenizer(p + r).input_ids) + 1 for p, r in (texts.draw() for _ in range(20))}
        assert lengths == {parts["a"].longest()}


def test_single_facts_are_learned():
    tokenizer = char_tokenizer(CHARACTERS)
    tiny = config(parts={"facts": {"share": 1, "style": "facts"}}, updates=150, rows=16, row_tokens=32, lr=0.004)
    model = new_model(tiny, tokenizer)
    before = fact_accuracy(model, tokenizer)["all"]
    losses = pretrain(model, tiny, Texts(tiny.parts, set(), random.Random(0)), tokenizer)
    assert len(losses) == 150 and losses[-1] < 0.3 * losses[0]
    assert before < 0.3 and fact_accuracy(model, tokenizer)["all"] > 0.9


def run(folder, name, **changes):
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({**CONFIG, "shape": SMALL, **changes}))
    make_base(folder / f"{name}.yaml", folder / "data", folder / name)
    return folder / name


def test_command_writes_an_ordinary_model_folder_and_repeats_bit_for_bit(folder):
    out = run(folder, "one")
    report = read_json(out / "base.json")
    assert set(report["validation_accuracy_at_temperature_1"]) == {"easy"}
    assert report["parameters"] == AutoModelForCausalLM.from_pretrained(out).num_parameters()
    assert AutoTokenizer.from_pretrained(out).eos_token == "<eos>"
    assert sha256(run(folder, "two")) == sha256(out)
    assert sha256(run(folder, "three", seed=1) / "model.safetensors") != sha256(out / "model.safetensors")


def test_every_seed_of_a_study_has_its_own_model_with_seed_run(folder):
    (folder / "own.yaml").write_text(yaml.safe_dump({**CONFIG, "shape": SMALL, "seed": "run"}))
    for seed in (0, 1):
        make_base(folder / "own.yaml", folder / "data", folder / f"own/seed{seed}", seed=seed)
        fixed = run(folder, f"fixed{seed}", seed=seed)
        for file in ("model.safetensors", "base.json"):  # the model that seed: 0 and seed: 1 name
            assert sha256(folder / f"own/seed{seed}" / file) == sha256(fixed / file)
        assert read_json(folder / f"own/seed{seed}.json")["config"]["seed"] == seed
    with pytest.raises(
        UserError, match="own.yaml: key 'seed' = 'run': every seed has a base model of its own; say which"
    ):
        make_base(folder / "own.yaml", folder / "data", folder / "none")
    with pytest.raises(
        UserError, match="fixed1.yaml: key 'seed' = 1: all seeds share this base model; leave out --seed 3"
    ):
        make_base(folder / "fixed1.yaml", folder / "data", folder / "none", seed=3)
    assert not (folder / "none").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"seed": "runs"}, r"key 'seed' = 'runs': must be a whole number >= 0, or run \("),
        ({"seed": -1}, "key 'seed' = -1: must be a whole number >= 0, or run"),
        ({"seed": True}, "key 'seed' = True: must be a whole number >= 0, or run"),
        ({"kind": "register"}, "key 'kind' = 'register': did you mean 'registers'"),
        ({"parts": {"a": {"share": 1, "style": "loose"}}}, "'parts.a.style' = 'loose': must be one of"),
        ({"parts": {"a": {"share": 1, "style": "direct", "length": [3, 1]}}}, r"bad.yaml: parts.a.length = \[3, 1\]"),
        ({"update": 3}, "unknown key 'update'"),
        ({"row_tokens": 48}, "row_tokens = 48: texts of these parts have up to 57 tokens"),
        ({"shape": {**SMALL, "heads": 3}}, "heads = 3 must divide hidden_size = 16"),
    ],
)
def test_bad_configuration(folder, changes, message):
    with pytest.raises(UserError, match=message):
        run(folder, "bad", **changes)
    assert not (folder / "bad").exists()


def test_render_is_what_the_prompt_shows():
    assert render((0, 6, 9), [("a", "-", "7"), ("c", "+", "b")]) == "a-7;c+b|069"
