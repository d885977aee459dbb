"""Write docs/configuration.md from the classes that read the configuration, docs/metrics.md from the columns of metrics.jsonl, and JSON
schemas for an editor.

    python scripts/configuration_docs.py [OUT]
    python scripts/configuration_docs.py --schemas FOLDER

The schemas let an editor complete and check a file: in VS Code by a first line `# yaml-language-server: $schema=FOLDER/run.rft.json`.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "workflow"))

from settings import Configuration

from prefix_rft.bases import from_hub as base_hub
from prefix_rft.common.files import write_text
from prefix_rft.config.preset import Preset
from prefix_rft.config.reading import describe
from prefix_rft.config.run import Run
from prefix_rft.data.demonstration_filters import MathDemosConfig
from prefix_rft.data.subsets import SubsetConfig
from prefix_rft.data.tasks import gym, math, own, registers
from prefix_rft.evaluation.benchmarks import Benchmark, Benchmarks
from prefix_rft.evaluation.evaluate import Evaluation
from prefix_rft.evaluation.probe import Probe
from prefix_rft.evaluation.teach import TeacherConfig
from prefix_rft.methods import method_class, names
from prefix_rft.planning.cost import Expected
from prefix_rft.planning.roofline import Hardware
from prefix_rft.runs.load import run_class
from prefix_rft.training import metrics

HEAD = """# Configuration

Made from the code by `python scripts/configuration_docs.py`. A key that is not here is refused, with the nearest known one named.

`python scripts/configuration_docs.py --schemas FOLDER` writes the same as JSON schemas, for an editor.

* `config/config.yaml`: preset, seeds, smoke, code (`--config preset=… seeds=[0,1] smoke=true code=keep` on the command line).
* `config/<preset>/preset.yaml`: runs, studies, labels. `extends: PRESET` inherits every file of that preset that this preset does not
  have, except `preset.yaml` and the patterns of `without`. `inherited` overrides keys of inherited runs ([how](../workflow/README.md)).
* `config/<preset>/<run>.yaml`: one training run (below). `extends: FILE` takes over its keys; a name with `_` in front is no run.
* `config/ablations.yaml`, `config/<preset>/ablations.yaml`: runs that differ from one of those in a few keys
  ([how](../workflow/README.md)).
* `config/<preset>/setup/`: data, base models, demonstration sets, evaluation; benchmarks, teachers and subsets of the paper presets.
* `config/hardware.yaml`: what `python -m prefix_rft cost` reckons with; sizes in `expected`, GPUs in `parallel`, main memory and time in
  `resources` of `preset.yaml`.
* `config/benchmarks.yaml`: the table of benchmarks, an entry each. `config/templates/`: prompt templates.
* `config/<preset>/smoke.yaml`: sections that win with `smoke=true`: `run`, `run_<method>`, `data`, `base`, `demos`, `evaluation`,
  `probe`, `benchmarks`, `teachers`, `subsets`, `ablations`, `preset`.

Values that the paper leaves open have the word *unknown* in their description; ours is the default.
"""
METHODS = """
The keys above are those of every method. A method's own keys are one section, which only its runs may have (and they are no part of
another run's hash):
"""
SECTIONS = [
    ("The workflow: `config/config.yaml`, or `--config key=value`", Configuration),
    ("A preset: `config/<preset>/preset.yaml`", Preset),
    ("Evaluation: `setup/evaluation.yaml`, `setup/validation.yaml`, `setup/pass_at_k.yaml`", Evaluation),
    ("Snapshots: `setup/probe.yaml`", Probe),
    ("Data of task `registers`: `setup/data.yaml` of preset tiny", registers.DataConfig),
    ("Data of task `gym`: `setup/data.yaml` of preset smollm2-two-cores", gym.DataConfig),
    ("Your own data, task `own`: `setup/data.yaml` ([own_data.md](own_data.md))", own.DataConfig),
    ("Data of task `math`: `setup/data.yaml` of the paper presets", math.DataConfig),
    (
        "Demonstration sets: `setup/demos/<name>.yaml` (task `math`; other tasks have the keys down to `max_broken`)",
        MathDemosConfig,
    ),
    ("Problems chosen from others: `setup/subsets/<name>.yaml`", SubsetConfig),
    ("Demonstrations from a model: `setup/teachers/<name>.yaml`", TeacherConfig),
    ("Base models from the hub: `setup/bases/<name>.yaml`", base_hub.BaseConfig),
    ("An entry of `config/benchmarks.yaml`", Benchmark),
    ("How benchmarks are sampled: `setup/benchmarks.yaml`, and `setup/pass_at_k.yaml` beside it", Benchmarks),
    ("Assumed sizes: `expected` in `preset.yaml` of the paper presets", Expected),
    ("An entry of `config/hardware.yaml`", Hardware),
]


def table(cls, prefix=""):
    out = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, kind, default, help in describe(cls, prefix):
        shown = "required" if default == "required" else f"`{default}`"
        out.append(f"| `{key}` | {kind.replace('|', 'or')} | {shown} | {help.replace('|', '/').replace('<', '&lt;')} |")
    return out


def text():
    out = [HEAD, "\n## A run: `config/<preset>/<run>.yaml`\n", *table(Run), METHODS]
    for name in names():
        method = method_class(name)
        if method.section is None:
            out.append(f"### Method `{name}`: no keys of its own\n")
        else:
            out += [f"### Method `{name}`\n", *table(method.Options, f"{method.section}."), ""]
    for title, cls in SECTIONS:
        out += [f"\n## {title}\n", *table(cls)]
    return "\n".join(out) + "\n"


METRICS = """# The columns of a run's records

Made from the code by `python scripts/configuration_docs.py`. `null`: the figure does not apply to the step. Trackers (key `report_to`) get
the same figures, those of the clock with the prefix `timing/`.
"""


def metrics_text():
    out = [METRICS]
    for name, about, columns in (
        (
            "metrics.jsonl",
            "A row a step. Two runs of one configuration and seed write the same bytes.",
            metrics.COLUMNS,
        ),
        ("timing.jsonl", "A row a step: figures of the clock.", metrics.TIMING),
    ):
        out += [f"## {name}\n\n{about}\n", "| column | meaning |", "|---|---|"]
        out += [f"| `{column}` | {help.replace('|', chr(92) + '|')} |" for column, help in columns.items()]
        out.append("")
    return "\n".join(out)


def write_schemas(folder):
    """One JSON schema for each kind of file: a run of each method, preset.yaml, config.yaml."""
    classes = {"config": Configuration, "preset": Preset} | {f"run.{name}": run_class(name) for name in names()}
    for name, cls in classes.items():
        schema = cls.model_json_schema()
        if name.startswith("run."):  # a run may inherit required keys from the file that it extends
            schema["properties"]["extends"] = {"type": "string", "description": "file whose keys the run inherits"}
            del schema["required"]
        write_text(Path(folder) / f"{name}.json", json.dumps(schema, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--schemas"]:
        write_schemas(sys.argv[2])
    else:
        out = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/configuration.md")
        write_text(out, text())
        write_text(out.with_name("metrics.md"), metrics_text())
