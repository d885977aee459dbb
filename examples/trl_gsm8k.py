"""Prefix-RFT on GSM8K with TRL, on one GPU. Needs, in a clone: pip install ".[trl]"

    python examples/trl_gsm8k.py                                          # Qwen2.5-0.5B, all its weights
    python examples/trl_gsm8k.py --model HuggingFaceTB/SmolLM2-360M --lora
    python examples/trl_gsm8k.py --smoke                                  # seconds on a CPU, nothing is downloaded

Beside GRPO with TRL there are two differences: the names PrefixGRPO..., and the column `demonstration`. GSM8K has a worked solution of
each problem. The settings are the usual ones for a model of this size and have not been run in full.
"""

import argparse
import re

from datasets import Dataset, load_dataset

from prefix_rft.trl import PrefixGRPOConfig, PrefixGRPOTrainer

MARK = "####"  # GSM8K writes the answer behind it


def row(problem):
    """A problem of GSM8K -> prompt, demonstration, answer. The solutions' <<48/2=24>> are notes for a calculator."""
    solution = re.sub("<<[^>]*>>", "", problem["answer"])
    return {
        "prompt": f"Question: {problem['question']}\nAnswer:",
        "demonstration": f" {solution}",
        "answer": solution.rpartition(MARK)[2].strip(),
    }


def correct(completions, answer, **_):
    """Reward: 1 if the number behind the last #### is the right one."""
    found = [
        text.rpartition(MARK)[2].strip().replace(",", "").rstrip(".") if MARK in text else "" for text in completions
    ]
    return [float(a == b.replace(",", "")) for a, b in zip(found, answer, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B")
    parser.add_argument("--out", default="prefix-rft-gsm8k")
    parser.add_argument("--lora", action="store_true", help="train adapters of rank 32 alone")
    parser.add_argument("--vllm", action="store_true", help="sample with vLLM on the same GPU")
    parser.add_argument("--smoke", action="store_true", help="a random model and four problems, two steps on a CPU")
    job = parser.parse_args()
    settings = dict(
        output_dir=job.out,
        learning_rate=1e-5 if job.lora else 1e-6,
        lr_scheduler_type="constant",
        num_generations=8,
        per_device_train_batch_size=16,
        gradient_accumulation_steps=16,  # 256 rollouts an update
        steps_per_generation=32,  # two updates from each batch of rollouts, as in the paper
        max_completion_length=320,
        max_steps=500,
        use_vllm=job.vllm,
        vllm_mode="colocate",
        save_steps=100,
        logging_steps=5,
        seed=0,
    )
    model, more = job.model, {}
    if job.smoke:
        model, tokenizer = random_model()
        more["processing_class"] = tokenizer
        data = Dataset.from_list(EXAMPLES)
        settings |= dict(use_cpu=True, bf16=False, max_steps=2, logging_steps=1, max_completion_length=96)
        settings |= dict(gradient_accumulation_steps=1, steps_per_generation=1, learning_rate=1e-4, report_to=[])
    else:
        data = load_dataset("openai/gsm8k", "main", split="train")
    if job.lora:
        from peft import LoraConfig

        more["peft_config"] = LoraConfig(r=32, lora_alpha=64, target_modules="all-linear")
    trainer = PrefixGRPOTrainer(
        model=model,
        args=PrefixGRPOConfig(**settings),
        reward_funcs=correct,
        train_dataset=data.map(row, remove_columns=data.column_names),
        **more,
    )
    trainer.train()
    trainer.save_model(job.out)


# ----------------------------------------------------------------------------------------------------- only for --smoke

EXAMPLES = [
    {"question": "Ann has 3 apples and buys 4. How many?", "answer": "3 + 4 = <<3+4=7>>7 apples.\n#### 7"},
    {"question": "A box holds 6 eggs. How many do 5 boxes hold?", "answer": "6 x 5 = <<6*5=30>>30 eggs.\n#### 30"},
    {"question": "Tom had 9 pens and lost 2. How many?", "answer": "9 - 2 = <<9-2=7>>7 pens.\n#### 7"},
    {"question": "8 cakes for 4 children. How many each?", "answer": "8 / 4 = <<8/4=2>>2 cakes.\n#### 2"},
]


def random_model():
    """A Llama of 60,000 random parameters and a tokenizer of bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, set_seed

    set_seed(0)
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<eos>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")
    shape = dict(hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4)
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), eos_token_id=1, pad_token_id=0, **shape)), tokenizer


if __name__ == "__main__":
    main()
