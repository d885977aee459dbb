"""Command `base`: make a base model, as an ordinary Hugging Face folder with base.json beside the weights.

The same record also stands beside the folder, as <folder>.json: the workflow compares it by content, which it cannot do with a folder.

With `seed: run` every seed of a study has a base model of its own, made with that seed, so that intervals over seeds also cover the draw of
the base model. A model from a package or from the hub has no seed: there is one.

The key `kind` of the configuration chooses the module that makes it: `registers` pretrains a small model from scratch, `gguf`
converts a packaged one, `hub` fetches one. Such a module has a `Section` called `BaseConfig` (with a field `kind`) and
`make(config, data, out) -> dict`, which fills the folder `out` and returns what base.json says.
"""

import difflib
import importlib
from pathlib import Path

from ..common.errors import UserError, shown
from ..common.files import atomic_dir, write_json
from ..config.preset import PER_SEED
from ..config.reading import load, resolve
from ..model.folder import file_hashes

KINDS = {"registers": "pretrain", "gguf": "from_gguf", "hub": "from_hub"}


def load_config(path, override=None):
    """(module, its BaseConfig) from a base's YAML file."""
    values = resolve(path, override, "base")
    if "kind" not in values:
        raise UserError(
            f"{path}: key 'kind' is missing: one of {', '.join(KINDS)}; the file has the keys {', '.join(map(str, values))}"
        )
    kind = values["kind"]
    if kind not in [*KINDS]:  # a list also takes what has no hash
        near = difflib.get_close_matches(str(kind), KINDS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"must be one of {', '.join(KINDS)}"
        raise UserError(f"{path}: key 'kind' = {shown(kind)}: {hint}")
    module = importlib.import_module(f".{KINDS[kind]}", __package__)
    return module, load(module.BaseConfig, path, override, "base")


def with_seed(config, seed, where):
    """The configuration of the base model that a seed of a study starts from.

    Args:
        config: a `BaseConfig`.
        seed: of the study, where the key `seed` is `run`; else None.
        where: start of an error.
    """
    own = getattr(config, "seed", None)
    if own == PER_SEED:
        if seed is None:
            raise UserError(
                f"{where}: key 'seed' = 'run': every seed has a base model of its own; say which with --seed"
            )
        return config.model_copy(update={"seed": seed})
    if seed is not None:
        what = "is missing" if own is None else f"= {shown(own)}"
        raise UserError(f"{where}: key 'seed' {what}: all seeds share this base model; leave out --seed {seed}")
    return config


def make_base(config_file: Path, data: Path, out: Path, override=None, seed=None):
    """Write the model folder `out`, which replaces an earlier one. seed: of the study, for a base model with `seed: run`."""
    module, config = load_config(config_file, override)
    config = with_seed(config, seed, config_file)
    with atomic_dir(out) as folder:
        report = module.make(config, data, folder)
        record = {"config": config.model_dump(), **report, "files": file_hashes(folder)}
        write_json(folder / "base.json", record)
    write_json(out.with_name(f"{out.name}.json"), record)
