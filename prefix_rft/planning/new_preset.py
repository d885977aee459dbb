"""Command `init`: a preset for your own data and model, as a folder of small commented files.

The data and the model are looked at first, so that what does not fit is told before the files are written: columns are found, answers
decide the verifier, demonstrations are counted in tokens and decide the response limit.
"""

import difflib
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import UserError
from ..common.files import atomic_dir, read_mapping
from ..data.hub import answer_text, column, read_table
from ..data.tasks.own import Own, as_stored, without_reply
from ..model.folder import check_folder, load_tokenizer
from ..verifier.answers import choice, reference
from ..verifier.rewards import load_function

# names that columns often have, the likeliest first
PROMPTS = ("prompt", "question", "problem", "messages", "instruction", "input")
ANSWERS = ("answer", "final_answer", "reference", "ground_truth", "label", "target")
DEMONSTRATIONS = ("demonstration", "solution", "response", "completion", "output", "target", "messages")
NUMBER = re.compile(r"[-+$\\{}()\[\]\d.,/^ %]+|.*\\.*")


@dataclass(frozen=True)
class Found:
    """What was found in the data and the model."""

    prompt: str
    answer: str
    demonstration: str | None
    verifier: str
    rows: int
    demonstrated: int
    longest_prompt: int
    longest_demonstration: int | None
    window: int | None
    stop: list[str]


LABELS = {"base": "Base", "sft": "SFT", "rft": "RFT", "sft_then_rft": "SFT then RFT", "prefix_rft": "Prefix-RFT"}


def make_preset(folder: Path, data: Path, model: str, columns: dict, verifier=None, reward=None, steps=100):
    """Write the preset `folder`.

    Args:
        folder: config/<name>, which must not exist.
        data: .jsonl, .parquet, .json or .csv file.
        model: folder of a transformers model, or its name on the hub.
        columns: {prompt, answer, demonstration} -> name of the column; None: found by its name.
        verifier: math, choice or exact; None: as the answers look.
        reward: (file, function) of a reward function; None: the verifier.
        steps: training steps of every run.

    Raises:
        UserError: in one line, before anything is written.
    """
    if folder.exists():
        raise UserError(f"{folder}: is there already; choose another name, or remove it")
    if reward is not None:
        load_function(*reward)
    found = look(data, model, columns, verifier)
    with atomic_dir(folder) as temporary:
        for name, text in files(folder.name, data, model, found, reward, steps).items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    demos = (
        f"{found.demonstrated} demonstrations, the longest of {found.longest_demonstration} tokens"
        if found.demonstrated
        else "no demonstration"
    )
    print(f"{folder}: {found.rows} problems, {demos}; verifier {found.verifier}", file=sys.stderr)
    print(f"try it:  snakemake --cores all --config preset={folder.name} smoke=true", file=sys.stderr)
    print(f"run it:  snakemake --cores all --config preset={folder.name}", file=sys.stderr)


# ------------------------------------------------------------------------------------------------------ data and model


def look(data, model, columns, verifier) -> Found:
    """Read the data and the model's tokenizer. Raises `UserError` for a file, a column or a row that cannot be used."""
    data = Path(data)
    if not data.is_file():
        raise UserError(f"--data {data}: no such file; a .jsonl, .parquet, .json or .csv file is needed")
    rows, broken = read_table(data)
    if broken or not rows:
        number, reason = broken[0] if broken else (1, "the file holds no row")
        raise UserError(f"--data {data}: row {number}: {reason}")
    known = sorted({key for _, row in rows for key in row})
    prompt = _column("prompt", columns, PROMPTS, known, data)
    answer = _column("answer", columns, ANSWERS, known, data)
    demonstration = _column(
        "demonstration", columns, [n for n in DEMONSTRATIONS if n != answer], known, data, needed=False
    )
    folder, window, stop = _model(model)
    tokenizer, own = load_tokenizer(folder), Own()
    answers, prompts, demonstrations = [], [], []
    for number, row in rows:
        try:
            stored = as_stored(without_reply(column(row, prompt)) if prompt == demonstration else column(row, prompt))
            answers.append(answer_text(column(row, answer)))
            prompts.append(len(own.prompt_ids(tokenizer, stored)))
            response = own.demonstration_of(row, demonstration) if demonstration else None
            if response is not None:
                demonstrations.append(len(tokenizer(response, add_special_tokens=False).input_ids) + 1)
        except KeyError as e:
            raise UserError(f"--data {data}: row {number}: column {e} is missing") from e
        except UserError as e:
            raise UserError(f"--data {data}: row {number}: {e}") from e
        except Exception as e:  # the tokenizers library raises bare Exception for a character it does not know
            raise UserError(f"--data {data}: row {number}: {' '.join(str(e).split())[:200]}") from e
    if len(rows) < 10:
        raise UserError(
            f"--data {data}: {len(rows)} problems are too few: some are kept for validation and test; at least 10 are needed"
        )
    longest = max(demonstrations, default=None)
    if window and max(prompts) + (longest or 1) > window:
        raise UserError(
            f"--data {data}: the longest prompt ({max(prompts)} tokens) and demonstration ({longest or 0}) exceed the model's window of"
            f" {window}; drop the longest rows, or take another model"
        )
    return Found(
        prompt, answer, demonstration if demonstrations else None, verifier or verifier_for(answers), len(rows), len(demonstrations),
        max(prompts), longest, window, stop,
    )  # fmt: skip


def verifier_for(answers) -> str:
    """choice for letters, math for numbers and formulas, exact for anything else."""
    if all(choice(reference(a)) for a in answers):
        return "choice"
    return "math" if all(NUMBER.fullmatch(a) for a in answers) else "exact"


def _column(kind, given, likely, known, data, needed=True):
    name = given.get(kind)
    if name is not None:
        if name.partition(".")[0] not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise UserError(
                f"--{kind} {name}: {data} has the columns {', '.join(known)}"
                + (f"; did you mean {near[0]}?" if near else "")
            )
        return name
    found = next((n for n in likely if n in known), None)
    if found is None and needed:
        raise UserError(
            f"--data {data}: which column is the {kind}? Name it with --{kind}; there are {', '.join(known)}"
        )
    return found


def _model(model):
    """(folder with tokenizer and config.json, window, names of the stop tokens)."""
    folder = Path(model)
    if not folder.is_dir():
        from ..data.hub import fetch_model

        if str(model).count("/") != 1 or folder.parent.is_dir():  # a name on the hub is owner/name
            raise UserError(f"--model {model}: no such folder")
        try:
            folder, _ = fetch_model(str(model), "main", f"--model {model}")
        except UserError as e:
            raise UserError(
                f"--model {model}: no such folder (one with config.json, safetensors and a tokenizer), and as a name on the hub: {e}"
            ) from e
    values = check_folder(folder) if (folder / "model.safetensors").is_file() else read_mapping(folder / "config.json")
    tokenizer = load_tokenizer(folder)
    settings = folder / "generation_config.json"
    ids = read_mapping(settings).get("eos_token_id") if settings.is_file() else values.get("eos_token_id")
    ids = ids if isinstance(ids, list) else [] if ids is None else [ids]
    stops = [tokenizer.eos_token, *tokenizer.convert_ids_to_tokens(ids)]
    stops = [token for token in dict.fromkeys(stops) if token]
    if not stops:
        raise UserError(f"--model {model}: its tokenizer and generation_config.json name no end mark (eos_token)")
    text = values.get("text_config") or values
    return folder, text.get("max_position_embeddings"), stops


# ------------------------------------------------------------------------------------------------------- the files


def files(name, data, model, found, reward, steps) -> dict[str, str]:
    """{path inside the preset: text}."""
    demos = found.demonstration is not None
    test, validation = max(1, min(256, found.rows // 5)), max(1, min(64, found.rows // 10))
    limit = math.ceil(1.25 * (found.longest_demonstration or 400) / 16) * 16
    if found.window:
        limit = min(limit, found.window - found.longest_prompt)
    train = found.rows - test - validation
    batch = max(1, min(16, train // 2))
    runs = ["sft", "rft", "sft_then_rft", "prefix_rft"] if demos else ["rft"]
    rewarded = (
        f"reward: {{path: {reward[0]}, name: {reward[1]}}}  # in training; evaluations ask the verifier\n"
        if reward
        else ""
    )
    hub = not Path(model).is_dir()
    out = {
        "preset.yaml": f"""# Your own data and model (docs/own_data.md). Every key: docs/configuration.md.
label: {name}
seeds: [0]  # more seeds for intervals: [0, 1, 2]
runs: {_list(runs)}
labels: {{{", ".join(f"{run}: {LABELS[run]}" for run in ("base", *runs))}}}
""",
        "_rl.yaml": f"""# What the reinforcement runs share.
base: base
steps: {steps}
batch_prompts: {batch}  # prompts a step
rollout:
  group_size: 8  # rollouts a prompt
  max_response: {limit}  # tokens{"; the longest demonstration has " + str(found.longest_demonstration) if demos else ""}
micro_tokens: 8192  # tokens of one forward pass: less if memory is short
optimizer: {{lr: 1.0e-5}}  # a guess: 1e-6 for billions of parameters, 1e-3 for a toy; lr_grid in preset.yaml compares rates
checkpoint: {{every: 25}}
{rewarded}""",
        "rft.yaml": "extends: _rl.yaml\nmethod: rft\n",
        "setup/data.yaml": f"""task: own
source: {{path: {data}}}
question: {found.prompt}  # column of the prompt
answer: {found.answer}
demonstration: {found.demonstration or "null"}
verifier: {found.verifier}  # math, choice (a letter) or exact
validation: {validation}  # of {found.rows} problems
test: {test}
seed: 0
""",
        "setup/bases/base.yaml": f"""kind: hub
{"name" if hub else "path"}: {model}
stop: {_list(found.stop, quoted=True)}  # tokens that end a response; the first one ends a demonstration
dtype: float32
""",
        "setup/evaluation.yaml": f"""splits: [test]
samples: 8  # a problem
temperatures: [1.0, 0.6]
max_response: {limit}
""",
        "smoke.yaml": """# With --config smoke=true: the whole graph in a few steps, to see that everything fits together.
run: {steps: 2, batch_prompts: 2, rollout: {group_size: 4}, checkpoint: {every: 1}, device: cpu}
run_sft: {steps: 2, epochs: null, rollout: null}
evaluation: {samples: 2, temperatures: [1.0]}
""",
    }
    if demos:
        out |= {
            "prefix_rft.yaml": "extends: _rl.yaml\nmethod: prefix_rft\ndemos: own\n",
            "sft.yaml": f"""method: sft
base: base
demos: own
epochs: 3  # passes over the demonstrations
batch_prompts: {max(1, min(16, found.demonstrated // 2))}  # demonstrations an update
micro_tokens: 8192
optimizer: {{lr: 5.0e-5, schedule: cosine, warmup: 0.1, final: 0.1}}
""",
            "sft_then_rft.yaml": "# RFT from the model of run sft.\nextends: _rl.yaml\nmethod: rft\ninit_from: sft\n",
            "setup/demos/own.yaml": """source: own
verify: true  # drop demonstrations whose final answer is wrong
""",
        }
    return out


def _list(names, quoted=False):
    return f"[{', '.join(repr(n) if quoted else n for n in names)}]"
