r"""What the local hub serves: hand-made rows in the layouts and columns of the real data sets, and a tiny random Qwen2 model.

The problems are made up here. Among the training rows are the cases that a filter must find: a wrong demonstration, a repeated problem,
a text in another language, a broken row, an answer that is no expression, and the question of a benchmark (`PLANTED`).
"""

import csv
import io
import json
import random
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SYSTEM = "Your task is to reason step by step."
PLANTED = (
    "A gardener plants seventeen rows of tulips with twenty three bulbs in every row and then removes forty bulbs that did not sprout."
    " How many bulbs are left in the garden?"
)
ROBBED = "Let $a$ be the least positive integer with $7a \\equiv 3 \\pmod{11}$. Find $a^2 + 1$ for this smallest such value of the number."


def parquet(rows) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out)
    return out.getvalue()


def jsonl(rows) -> bytes:
    return "".join(json.dumps(r) + "\n" for r in rows).encode()


def table(rows) -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def readme(configs) -> bytes:
    """A data set card; configs: {name: {split: path}}."""
    lines = ["---", "configs:"]
    for name, splits in configs.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split, path in splits.items():
            lines += [f"  - split: {split}", f"    path: {path}"]
    return "\n".join([*lines, "---", ""]).encode()


def solution(text, answer) -> str:
    return f"<think>\n{text}\n</think>\n\nSo the final answer is $\\boxed{{{answer}}}$."


def training_row(question, answer, response, index=0):
    return {
        "data_source": "made_up",
        "prompt": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}],
        "target": [{"role": "assistant", "content": response}],
        "ability": "math",
        "reward_model": {"ground_truth": answer, "style": "rule"},
        "extra_info": {"index": index, "split": "default"},
    }


def training_rows(count=40) -> list[dict]:
    rng, rows = random.Random(0), []
    for i in range(count):
        a, b, c = rng.randint(2, 60), rng.randint(2, 60), rng.randint(2, 9)
        question = f"A box holds ${a}$ red and ${b}$ blue balls, and {c} such boxes stand in room number {i + 1}. How many balls are there?"
        total = (a + b) * c
        text = f"One box has {a} + {b} = {a + b} balls, and {c} boxes have {c} times as many, which is {total} balls in all."
        rows.append(training_row(question, str(total), solution(text, total), i))
    half = "Find the value of $x$ in the equation $2x = 7$, as a fraction in lowest terms, please."
    rows += [
        training_row(
            half,
            "\\frac{7}{2}",
            solution("Both sides are divided by two, so the number that we look for is 3.5.", "3.5"),
        ),
        training_row(
            "Add $1$ and $2$ and say what you get, in one number.",
            "3",
            solution("One and two make four, I think.", "4"),
        ),
        training_row(
            half.replace("$2x = 7$", "$2 x=7$"),
            "\\frac{7}{2}",
            solution("The same problem again, in another spelling.", "3.5"),
        ),
        training_row(
            "What is the sum of the first three odd numbers that are greater than ten?",
            "39",
            solution(
                "Nous cherchons la somme des trois premiers nombres impairs qui sont plus grands que dix, donc trente-neuf.",
                "39",
            ),
        ),
        training_row(
            "What is the product of the two smallest prime numbers above twenty?",
            "667",
            solution(
                "我们需要找到大于二十的两个最小的质数，它们是二十三和二十九，因此乘积是六百六十七。我们再检查一次这个结果，确实没有错误。",
                "667",
            ),
        ),
        training_row(
            f"Problem 12. {PLANTED} Explain.", "351", solution("There are 391 bulbs, and 351 when 40 are gone.", "351")
        ),
        training_row(
            ROBBED, "5", solution("The inverse of seven modulo eleven is eight, and 24 leaves 2; so it is five.", "5")
        ),
        training_row(
            "This row has no answer that could be compared with anything, does it?", "", solution("No.", "none")
        ),
    ]
    return rows


def complement_rows(count=12) -> list[dict]:
    """Further problems; the last of them is a training problem."""
    rows = []
    for i in range(count):
        a, b = 31 + 7 * i, 3 + i
        asked = f"A train of ${a}$ wagons leaves ${b}$ of them at station {i + 1}. How many wagons does it have then?"
        rows.append(training_row(asked, str(a - b), solution(f"{a} less {b} is {a - b}.", str(a - b)), i))
    return [*rows, training_rows(1)[0]]


def questions(count, start):
    """(question, answer) of made-up problems."""
    rng = random.Random(start)
    for i in range(count):
        a, b = rng.randint(10, 99), rng.randint(2, 9)
        yield (
            f"Compute ${a} \\cdot {b} - {i}$ and give the result as an integer between 0 and 999 (number {start + i}).",
            a * b - i,
        )


CAPITALS = [
    ("Which of these is a mammal that lives in the sea?", ["whale", "shark", "squid", "crab"]),
    ("Which gas do plants take up from the air?", ["carbon dioxide", "oxygen", "helium", "neon"]),
    ("What does a thermometer measure?", ["temperature", "mass", "length", "charge"]),
]


def benchmark_rows(data: Path | None) -> dict:
    """{entry of the table: rows in the columns of its data set}; real problems where `data` has them."""
    real = {"AIME24": "aime24", "AMC23": "amc", "MATH-500": "math500", "Olympiad-Bench": "olympiad"}
    pairs = {
        name: list(questions(3, 100 * k))
        for k, name in enumerate(("aime24", "aime25", "amc", "math500", "minerva", "olympiad"))
    }
    pairs["math500"][0] = (PLANTED, 351)
    pairs["olympiad"][0] = (ROBBED, "$5$")
    for stem, name in real.items():
        if data and (data / "benchmarks" / f"{stem}.json").exists():
            rows = json.loads((data / "benchmarks" / f"{stem}.json").read_text(encoding="utf-8"))
            pairs[name] = [*pairs[name][:1], *((r["prompt"], r["answer"]) for r in rows)]
    rows = {
        "aime24": [
            {"id": 60 + i, "problem": q, "solution": "", "answer": str(a), "url": "", "year": "2024"}
            for i, (q, a) in enumerate(pairs["aime24"])
        ],
        "aime25": [{"problem": q, "answer": str(a), "id": str(i)} for i, (q, a) in enumerate(pairs["aime25"])],
        "amc": [
            {"id": i, "problem": q, "answer": float(a) if isinstance(a, int) else str(a), "url": ""}
            for i, (q, a) in enumerate(pairs["amc"])
        ],
        "math500": [
            {
                "problem": q,
                "solution": "",
                "answer": str(a),
                "subject": "Algebra",
                "level": 1 + i % 5,
                "unique_id": f"test/{i}.json",
            }
            for i, (q, a) in enumerate(pairs["math500"])
        ],
        "minerva": [{"question": q, "answer": str(a)} for q, a in pairs["minerva"]],
        "olympiad": [
            {"id": i, "question": q, "final_answer": [str(a)], "language": "English"}
            for i, (q, a) in enumerate(pairs["olympiad"])
        ],
        "arc_c": [
            {
                "id": f"Q{i}",
                "question": q,
                "choices": {"text": texts, "label": list("ABCD") if i else list("1234")},
                "answerKey": "A" if i else "1",
            }
            for i, (q, texts) in enumerate(CAPITALS)
        ],
        "gpqa_diamond": [
            {"Record ID": f"rec{i}", "Question": q, "Correct Answer": texts[0]}
            | {f"Incorrect Answer {k}": texts[k] for k in (1, 2, 3)}
            for i, (q, texts) in enumerate(CAPITALS)
        ],
        "mmlu_pro": [
            {
                "question_id": i,
                "question": q,
                "options": [*texts, "none of them"],
                "answer": "A",
                "answer_index": 0,
                "category": "biology",
            }
            for i, (q, texts) in enumerate(CAPITALS)
        ],
    }
    return rows


def repositories(data: Path | None = None) -> dict:
    """{(kind, name): {path: bytes}} of everything but the model."""
    b = benchmark_rows(data)
    gsm = [
        {
            "question": f"Tom has {n} apples and eats 2 of them. How many are left?",
            "answer": f"{n}-2=<<{n}-2={n - 2}>>{n - 2}\n#### {n - 2}",
        }
        for n in range(5, 9)
    ]
    return {
        ("dataset", "Elliott/Openr1-Math-46k-8192"): {
            "data/train-00000-of-00001.parquet": parquet(training_rows()),
            "README.md": b"---\n---\n",
        },
        ("dataset", "Elliott/Openr1-Math-48k-Complement"): {
            "data/train-00000-of-00001.parquet": parquet(complement_rows()),
            "README.md": b"---\n---\n",
        },
        ("dataset", "openai/gsm8k"): {
            "main/train-00000-of-00001.parquet": parquet(gsm),
            "main/test-00000-of-00001.parquet": parquet(gsm),
            "README.md": readme({"main": {"train": "main/train-*", "test": "main/test-*"}}),
        },
        ("dataset", "HuggingFaceH4/aime_2024"): {"data/train-00000-of-00001.parquet": parquet(b["aime24"])},
        ("dataset", "math-ai/aime25"): {"test.jsonl": jsonl(b["aime25"])},
        ("dataset", "AI-MO/aimo-validation-amc"): {"data/train-00000-of-00001.parquet": parquet(b["amc"])},
        ("dataset", "HuggingFaceH4/MATH-500"): {"test.jsonl": jsonl(b["math500"])},
        ("dataset", "math-ai/minervamath"): {"test.jsonl": jsonl(b["minerva"])},
        ("dataset", "zwhe99/simplerl-OlympiadBench"): {"test.parquet": parquet(b["olympiad"])},
        ("dataset", "allenai/ai2_arc"): {
            "ARC-Challenge/test-00000-of-00001.parquet": parquet(b["arc_c"]),
            "ARC-Easy/test-00000-of-00001.parquet": parquet(b["arc_c"][:1]),
            "README.md": readme({n: {"test": f"{n}/test-*"} for n in ("ARC-Challenge", "ARC-Easy")}),
        },
        ("dataset", "Idavidrein/gpqa"): {
            "gpqa_diamond.csv": table(b["gpqa_diamond"]),
            "gpqa_main.csv": table(b["gpqa_diamond"]),
            "README.md": readme({n: {"train": f"{n}.csv"} for n in ("gpqa_main", "gpqa_diamond")}),
        },
        ("dataset", "TIGER-Lab/MMLU-Pro"): {
            "data/test-00000-of-00001.parquet": parquet(b["mmlu_pro"]),
            "data/validation-00000-of-00001.parquet": parquet(b["mmlu_pro"][:1]),
        },
    }


def tiny_model(specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>"), family="qwen2", **changes) -> dict:
    """{path: bytes} of a random Qwen2 or Llama 3.1 model of 40,000 parameters with a byte-level tokenizer learned on the sample rows;
    `changes` of its configuration."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=list(specials), initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator([r["target"][0]["content"] + r["prompt"][1]["content"] for r in training_rows()], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=specials[0],
        pad_token=specials[0],
        additional_special_tokens=list(specials[1:]),
    )
    torch.manual_seed(0)
    own = dict(rope_theta=10000.0, sliding_window=512, use_sliding_window=False)
    if family == "llama":  # the scaled rotary embedding of Llama 3.1
        scaled = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, rope_theta=500000.0)
        own = dict(rope_parameters=scaled | dict(original_max_position_embeddings=256))
    shape = dict(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
        initializer_range=0.2,
    )
    with tempfile.TemporaryDirectory() as folder:
        shape = AutoConfig.for_model(family, **(shape | own | changes))
        AutoModelForCausalLM.from_config(shape).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return {p.name: p.read_bytes() for p in Path(folder).iterdir() if p.is_file()}


QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
DEEPSEEK = ("<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")
MODELS = {  # arguments of tiny_model
    "Qwen/Qwen2.5-Math-7B": dict(specials=QWEN),
    "Qwen/Qwen2.5-Math-1.5B": dict(specials=QWEN, tie_word_embeddings=True),
    "meta-llama/Llama-3.1-8B": dict(specials=("<|end_of_text|>", "<|begin_of_text|>"), family="llama"),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": dict(specials=DEEPSEEK),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B": dict(specials=DEEPSEEK),
}


def fill(hub, data: Path | None = None, models=True):
    """Put everything into a `LocalHub`, under every revision that the configurations pin."""
    for (kind, name), files in repositories(data).items():
        hub.add(kind, name, files)
    if models:
        for name, arguments in MODELS.items():
            hub.add("model", name, tiny_model(**arguments))
    hub.any_commit = True
