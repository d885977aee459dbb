"""Where every file of a preset lies, so that a command needs a name in place of its paths.

    config/<preset>/<run>.yaml, config/<preset>/setup/...    configuration, own or inherited
    results/<preset>/data                                    problems, demonstrations
                     benchmark_data                          problems of benchmarks
                     models/<base>                           base models; of one with `seed: run` models/<base>/seed<k>
                     runs/<run>/seed<k>                      run.json, metrics, model
                     checkpoints/<run>/seed<k>               what a killed run resumes from
                     replay/<run>/seed<k>                    the run again, with snapshots
                     eval/<model>/seed<k>                    scores and samples; of a benchmark in benchmarks/<name>
                     pass_at_k/<model>/seed<k>               the same with many samples
                     probes/<run>/seed<k>                    likelihoods of demonstrations
                     tables, figures

Results of an override such as smoke.yaml lie in results/<preset>-smoke.
"""

import difflib
from functools import cached_property
from pathlib import Path

from ..common.errors import UserError
from ..config.preset import PER_SEED, preset_values
from ..config.reading import resolve
from .ablations import Runs, base_names, run_names

RESULTS = Path("results")
KINDS = {"eval": "evaluation", "pass_at_k": "pass_at_k"}  # folder of results -> file of setup/


class Layout:
    """The files of one preset.

    Args:
        preset: folder of the preset, such as config/tiny.
        results: folder of its results; None: results/<preset>, with an override results/<preset>-<name of the override>.
        override: file that overrides the configuration.
    """

    def __init__(self, preset, results=None, override=None):
        self.preset, self.override = Path(preset), override
        suffix = f"-{Path(override).stem}" if override else ""
        self.results = Path(results) if results else RESULTS / f"{self.preset.name}{suffix}"
        self.data, self.benchmark_data = self.results / "data", self.results / "benchmark_data"
        self.tables, self.figures = self.results / "tables", self.results / "figures"

    @cached_property
    def finder(self) -> Runs:
        return Runs(self.preset, self.override)

    def setup(self, name: str) -> Path:
        """A file of setup/, such as data or demos/strong."""
        file = self.finder.files.find(f"setup/{name}.yaml")
        if not file.exists():
            folder, _, last = name.rpartition("/")
            raise UserError(
                f"{file}: no such file; {_near(last, self.finder.files.listed(f'setup/{folder}'.rstrip('/')))}"
            )
        return file

    def run(self, name: str) -> tuple[Path, list[str]]:
        """(file, changed keys as assignments) of a run: a file of the preset, an inherited one, or a variant of an ablation."""
        file, changes = self.finder.locate(name)
        if not file.exists():
            known = [*run_names(self.preset), *self.finder.variants]
            raise UserError(f"--run {name}: {self.preset} has no such run; {_near(name, known)}")
        return file, changes

    def is_base(self, name: str) -> bool:
        return name in base_names(self.preset)

    # ------------------------------------------------------------------------------------------------------- models

    @cached_property
    def bases_per_seed(self) -> list[str]:
        """The base models with `seed: run`, of which every seed has its own."""
        files = self.finder.files.listed("setup/bases")
        return [name for name, file in files.items() if resolve(file, self.override, "base").get("seed") == PER_SEED]

    def base(self, name: str, seed: int | str | None = None) -> Path:
        """The folder of a base model.

        Args:
            name: file in setup/bases.
            seed: of the run that starts from it; None: the first seed of preset.yaml, for a tokenizer or a teacher, which the runs of
                all seeds share. A base model that all seeds share takes no notice.
        """
        folder = self.results / "models" / name
        if name not in self.bases_per_seed:
            return folder
        seed = preset_values(self.preset / "preset.yaml", self.override)["seeds"][0] if seed is None else seed
        return folder / f"seed{seed}"

    def tokenizer(self) -> Path:
        """The folder of the base model whose tokenizer counts demonstrations: the first base of the preset."""
        return self.base(base_names(self.preset)[0])

    def teacher(self, name: str) -> Path:
        """The model folder of a teacher."""
        values = resolve(self.setup(f"teachers/{name}"), self.override, "teachers")
        if "model" not in values:
            raise UserError(f"{self.setup(f'teachers/{name}')}: key 'model' is missing")
        return self.base(values["model"])

    def initial(self, name: str, seed: int) -> Path:
        """The folder of the model that a run starts from: a base model, or the model of another run with the same seed."""
        run = self.finder.load(name)
        return self.base(run.base, seed) if run.init_from is None else self.model(run.init_from, seed)

    def model(self, name: str, seed: int) -> Path:
        """The folder of a base model, or of a run's model."""
        return self.base(name, seed) if self.is_base(name) else self.of_run(name, seed) / "model"

    # --------------------------------------------------------------------------------------------------------- runs

    def of_run(self, run: str, seed: int, folder="runs") -> Path:
        """Folder of a run's results, or of what was made from them."""
        return self.results / folder / run / f"seed{seed}"

    def checkpoints(self, out: Path) -> Path:
        """Folder for the checkpoints of the run whose results go to the folder `out`."""
        out = Path(out)
        if not out.is_relative_to(self.results):
            return out.with_name(f"{out.name}.checkpoints")
        return self.results / "checkpoints" / str(out.relative_to(self.results)).removeprefix("runs/")

    def snapshots(self, run: str, seed: int) -> Path:
        """Folder of the training that kept snapshots: the run itself, or its replay."""
        own = self.of_run(run, seed)
        return own if (own / "snapshots").is_dir() else self.of_run(run, seed, "replay")

    # -------------------------------------------------------------------------------------------------- evaluations

    def sampling(self, kind: str, benchmark: str | None = None) -> Path:
        """The configuration of an evaluation. kind: a key of `KINDS`."""
        return self.setup("benchmarks" if benchmark and kind == "eval" else KINDS[kind])

    def evaluation(self, kind: str, model: str, seed: int, benchmark: str | None = None) -> Path:
        folder = self.of_run(model, seed, kind)
        return folder / "benchmarks" / benchmark if benchmark else folder


def _near(word, known) -> str:
    close = difflib.get_close_matches(word, known, 1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
