"""Base models of kind `registers`: a small Llama-style model pretrained from scratch on a mixture of register texts.

It stands in for a downloaded pretrained model: it knows the single facts (`8+3=1`), answers in several styles (directly, tersely, with
careful steps), and has seen long problems only rarely and only with mistakes, so it is good at short problems and poor at
long ones. That gap is what fine-tuning has to close. The mixture (`parts`) and the number of updates set its size.

Every text is fresh, none of its problems is in any split of the data (by canonical form), and the loss is on what follows
the prompt: a prompt is random digits. The forward pass is that of the learner (`model/forward.py`).
Left out: validation loss (no text is seen twice), dropout, checkpoints (it takes a minute).
"""

import math
import random
import sys
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from torch.nn import functional as F
from tqdm import tqdm
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from ..common.errors import UserError
from ..common.files import read_json
from ..config.preset import PER_SEED
from ..config.reading import Section, opt
from ..data.files import read_problems
from ..data.tasks import registers, task_of
from ..model.forward import make_forward
from ..rollout import Sampling, make_engine
from .half_knowledge import HalfKnowledge, Knowledge
from .tokenizer import char_tokenizer


def _seed(value):
    if value != PER_SEED and (type(value) is not int or value < 0):
        raise PydanticCustomError("seed", "a whole number >= 0, or run")
    return value


class Part(Section):
    """One kind of text of the mixture."""

    share: float = opt(..., "relative frequency, in texts", gt=0)
    style: str = opt(
        ..., "facts: single facts; others: problems", choices=("facts", "direct", "terse", "careful", "long")
    )
    length: list[int] = opt([1, 1], "[fewest, most] instructions of a problem")
    errors: float = opt(0.0, "probability a step of an error that is carried to the end", ge=0, le=1)
    attempts: float = opt(0.0, "probability a step of a corrected wrong attempt", ge=0, le=1)

    def check(self):
        if len(self.length) != 2 or not 1 <= self.length[0] <= self.length[1]:
            raise ValueError(f"length = {self.length}: must be [fewest, most] with 1 <= fewest <= most")

    def longest(self, numbered=False) -> int:
        """Most tokens of a text: prompt, steps with a corrected attempt in each, answer and end mark."""
        step, attempt = (21, 11) if self.style == "long" else (12, 9 + numbered)
        step += 4 + 2 * numbered + (attempt if self.attempts else 0)  # 4: the instruction in the prompt
        return self.length[1] * step + 4 + 5


class Shape(Section):
    hidden_size: int = opt(96, "width", ge=8)
    layers: int = opt(3, "transformer layers", ge=1)
    heads: int = opt(4, "attention heads", ge=1)
    kv_heads: int = opt(2, "key and value heads (grouped-query attention)", ge=1)
    intermediate_size: int = opt(256, "width of the gated MLP", ge=8)
    positions: int = opt(512, "longest sequence", ge=64)
    rope_theta: float = opt(10000.0, "base of the rotary positions", gt=0)


class BaseConfig(Section):
    kind: str = opt(..., "registers", choices=("registers",))
    seed: Annotated[int | Literal["run"], BeforeValidator(_seed)] = opt(
        ..., "of weights and texts; run: seed k of a study starts from a base model of its own, pretrained with seed k"
    )
    shape: Shape = opt(Shape(), "model")
    parts: dict[str, Part] = opt(..., "the mixture: name -> kind of text")
    half_knowledge: HalfKnowledge | None = opt(None, "facts that it gets wrong again and again; unset: it knows all")
    updates: int = opt(..., "optimizer steps", ge=1)
    rows: int = opt(32, "rows of a batch", ge=1)
    row_tokens: int = opt(160, "tokens of a row; no text may be longer", ge=32)
    lr: float = opt(2e-3, "peak learning rate of AdamW, after a warm-up of 5 % decaying to 0 by a cosine", gt=0)
    weight_decay: float = opt(0.01, "AdamW decoupled weight decay", ge=0)
    samples: int = opt(8, "responses sampled per validation problem to measure the model at T = 1", ge=1)

    def check(self):
        self.check_longest()
        shape = self.shape
        if shape.hidden_size % shape.heads or shape.heads % shape.kv_heads:
            raise ValueError(
                f"shape: heads = {shape.heads} must divide hidden_size = {shape.hidden_size}"
                f" and be a multiple of kv_heads = {shape.kv_heads}"
            )

    def check_longest(self, numbered=False):
        """numbered: the data's instructions are."""
        longest = max((p.longest(numbered) for p in self.parts.values()), default=0)
        if not 0 < longest <= self.row_tokens:
            raise ValueError(f"row_tokens = {self.row_tokens}: texts of these parts have up to {longest} tokens")


class Texts:
    """An endless stream of (prompt, response) drawn from the mixture; never a problem in `taken`."""

    def __init__(
        self, parts: dict[str, Part], taken: set[str], rng: random.Random, know=registers.compute, numbered=False
    ):
        self.names, self.parts, self.taken, self.rng = list(parts), parts, taken, rng
        self.know, self.numbered = know, numbered
        self.weights = [p.share for p in parts.values()]

    def draw(self) -> tuple[str, str]:
        rng = self.rng
        part = self.parts[rng.choices(self.names, self.weights)[0]]
        if part.style == "facts":
            fact = rng.choice(registers.FACTS)
            return fact + "=", str(self.know(int(fact[0]), fact[1], int(fact[2])))
        while True:
            state, program = registers.random_problem(rng, *part.length)
            prompt = registers.render(state, program, self.numbered)
            if registers.canonical(prompt) not in self.taken:
                break
        style = dict(
            style=part.style, attempts=part.attempts, errors=part.errors, numbered=self.numbered, know=self.know
        )
        return prompt + ">", registers.respond(rng, state, program, **style)


def batches(texts: Texts, tokenizer, rows: int, row_tokens: int):
    """Endless batches: (prompts, responses), lists of token ids, a response with its end mark.

    A batch holds as many texts as fit into `rows` rows of `row_tokens`, each put into the first row with room; the text that finds
    none opens the next batch. No text may be longer than `row_tokens` (`BaseConfig` sees to that).
    """
    index, eos = tokenizer.get_vocab(), tokenizer.eos_token_id
    held = None
    while True:
        room, prompts, responses = [row_tokens] * rows, [], []
        while True:
            prompt, response = held or texts.draw()
            length = len(prompt) + len(response) + 1
            row = next((r for r, left in enumerate(room) if left >= length), None)
            if row is None:
                held = (prompt, response)
                break
            held = None
            room[row] -= length
            prompts.append([index[c] for c in prompt])
            responses.append([*(index[c] for c in response), eos])
        yield prompts, responses


def new_model(config: BaseConfig, tokenizer) -> LlamaForCausalLM:
    shape = config.shape
    torch.manual_seed(config.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            max_position_embeddings=shape.positions,
            rope_parameters={"rope_type": "default", "rope_theta": shape.rope_theta},
            # 1/sqrt(width): with the usual 0.02, made for widths in the thousands, the facts are hardly learned at all
            initializer_range=shape.hidden_size**-0.5,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def pretrain(model, config: BaseConfig, texts: Texts, tokenizer) -> list[float]:
    """Train `model` in place; the loss of every update (mean over the response tokens of its batch)."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.lr, betas=(0.9, 0.98), weight_decay=config.weight_decay, fused=True
    )
    warmup = max(1, config.updates // 20)

    def factor(step):
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, config.updates - warmup)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    losses = []
    stream, forward = batches(texts, tokenizer, config.rows, config.row_tokens), make_forward(model, "cpu", "float32")
    model.train()
    bar = tqdm(range(config.updates), desc="pretraining", disable=None)
    for step in bar:
        prompts, responses = next(stream)
        count, parts = sum(map(len, responses)), []
        for micro in forward.micro_batches(prompts, responses, config.rows * config.row_tokens):
            logits = model.lm_head(forward.hidden(micro))
            loss = F.cross_entropy(logits, micro.targets, reduction="sum") / count
            loss.backward()
            parts.append(loss.item())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(sum(parts))
        if step % 50 == 0 or step == config.updates - 1:
            bar.set_postfix(loss=f"{losses[-1]:.3f}")
            if bar.disable:
                print(f"update {step}: loss {losses[-1]:.4f}", file=sys.stderr, flush=True)
    model.eval()
    return losses


@torch.no_grad()
def fact_accuracy(model, tokenizer) -> dict[str, float]:
    """Share of all single facts answered rightly, greedily, by operator and in all."""
    prompts = torch.tensor([tokenizer(f + "=", add_special_tokens=False).input_ids for f in registers.FACTS])
    said = tokenizer.convert_ids_to_tokens(model(input_ids=prompts).logits[:, -1].argmax(-1).tolist())
    right = [
        s == str(registers.compute(int(f[0]), f[1], int(f[2]))) for f, s in zip(registers.FACTS, said, strict=True)
    ]
    by = {op: [r for f, r in zip(registers.FACTS, right, strict=True) if f[1] == op] for op in registers.OPERATORS}
    return {"all": sum(right) / len(right), **{op: sum(r) / len(r) for op, r in by.items()}}


def level_accuracy(model, tokenizer, task, problems, samples: int, max_new_tokens: int, seed: int) -> dict:
    """avg@k and pass@k (k = `samples`) by level at T = 1, on `problems`; a response without an end mark is wrong."""
    engine = make_engine("native", model, [tokenizer.eos_token_id])
    levels = {}
    for level in dict.fromkeys(p["level"] for p in problems):
        rows = [p for p in problems if p["level"] == level for _ in range(samples)]
        prompts = [task.prompt_ids(tokenizer, p["prompt"]) for p in rows]
        done = engine.generate(prompts, [max_new_tokens] * len(prompts), Sampling(temperature=1.0, seed=seed))
        texts = [tokenizer.decode(c.ids, skip_special_tokens=True) for c in done]
        right = [c.finished and task.extract(text) == p["answer"] for p, c, text in zip(rows, done, texts, strict=True)]
        groups = [right[i : i + samples] for i in range(0, len(right), samples)]
        levels[level] = {
            f"avg@{samples}": sum(right) / len(right),
            f"pass@{samples}": sum(map(any, groups)) / len(groups),
            "finished": sum(c.finished for c in done) / len(done),
            "mean_tokens": sum(len(c.ids) for c in done) / len(done),
        }
    return levels


def make(config: BaseConfig, data: Path, out: Path) -> dict:
    """Pretrain a model for the data in folder `data`, save it with its tokenizer in `out`; what base.json says."""
    task = task_of(data)
    if task.name != "registers":
        raise UserError(f"{data}/data.json: task {task.name!r}: a base of kind registers needs task 'registers'")
    taken = {p["canonical"] for split in registers.SPLITS for p in read_problems(data, split)}
    tokenizer = char_tokenizer(registers.CHARACTERS)
    model = new_model(config, tokenizer)
    numbered = bool(read_json(data / "data.json")["config"].get("numbered"))
    try:
        config.check_longest(numbered)
    except ValueError as e:
        raise UserError(f"{e}, as the instructions of {data}/data.json are numbered") from e
    know = Knowledge(config.half_knowledge, config.seed)
    texts = Texts(config.parts, taken, random.Random(f"pretraining {config.seed}"), know, numbered)
    losses = pretrain(model, config, texts, tokenizer)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    facts = fact_accuracy(model, tokenizer)
    problems = read_problems(data, "validation")
    levels = level_accuracy(model, tokenizer, task, problems, config.samples, 128, config.seed)
    print(f"facts {facts}", *(f"{level} {values}" for level, values in levels.items()), sep="\n", file=sys.stderr)
    return {
        "parameters": model.num_parameters(),
        "final_loss": sum(losses[-50:]) / len(losses[-50:]),
        "fact_accuracy": facts,
        "validation_accuracy_at_temperature_1": levels,
    }
