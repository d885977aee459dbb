"""What short runs compute, bit for bit, so that a change of structure can be shown to change nothing.

    python -m scripts.record_bits --out before.json           # then change the code
    python -m scripts.record_bits --out after.json --against before.json

Every method and the options of Prefix-RFT that take their own path are trained for ten steps on preset tiny, base model, data and
evaluations included; tables and a figure's CSV are made of them. Hashed are weights, metrics, samples, scores and tables, and the
configuration of every run of every preset. Works on a copy of the tracked files in a temporary folder; takes some minutes.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import yaml

ROOT = Path(__file__).resolve().parents[1]
STEPS = 10
METHODS = "sft rft sft_then_rft rl_with_sft uft relift luffy hpt srft chord_mu chord_phi trapo g2rpo_a drpo prefix_shown prefix_rft".split()
VARIANTS = (
    "prefix_rft_frozen prefix_rft_static rft_entropy entropy_matched entropy_bottom20 entropy_random20 schedule_difficulty"
    " estimator_outside estimator_no_clip estimator_group estimator_sequence reward_noise_prefix_20"
).split()
TABLES = ["tables/main.csv", "tables/paired.csv", "tables/claims.csv", "figures/pass_at_k.csv"]


def digest(path):
    """SHA-256 of a file; of a Parquet file the rows alone, since its bytes name the version of the library."""
    path = Path(path)
    data = json.dumps(pq.read_table(path).to_pylist()).encode() if path.suffix == ".parquet" else path.read_bytes()
    return hashlib.sha256(data).hexdigest()


def copy_tracked(target):
    """The tracked files that a run needs, as they are in the working tree."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if not name.startswith(("docs/", "tests/")) and (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)


def configurations(tree):
    """{preset[-smoke]/run: hash} of every run and variant of every preset, as a Python of `tree` reads them."""
    code = """
import json, sys
sys.path[:0] = [".", "workflow"]
from pathlib import Path
from prefix_rft.config.reading import config_hash
from settings import load_settings
out = {}
for preset in sorted(p.parent.name for p in Path("config").glob("*/preset.yaml")):
    for smoke in (False, True):
        s = load_settings({"preset": preset, "smoke": smoke, "seeds": None})
        for name in s.known_runs:
            out[f"{preset}{'-smoke' * smoke}/{name}"] = config_hash(s.run(name))
print(json.dumps(out))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def record(cores):
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        copy_tracked(tree)
        found = {"configurations": configurations(tree)}
        smoke = tree / "config/tiny/smoke.yaml"
        values = yaml.safe_load(smoke.read_text())
        values["run"] = {"steps": STEPS, "batch_prompts": 4, "minibatch_prompts": 2, "checkpoint": {"every": 4}}
        values["base"]["updates"] = 150
        smoke.write_text(yaml.safe_dump(values))
        results = "results/tiny-smoke"
        targets = [f"{results}/runs/{run}/seed0/run.json" for run in METHODS + VARIANTS]
        targets += [f"{results}/{table}" for table in TABLES]
        snakemake = [str(Path(sys.executable).with_name("snakemake")), "--cores", str(cores), "--config", "smoke=true"]
        subprocess.run([*snakemake, "--quiet", "rules", "--", *targets], cwd=tree, check=True)
        folder = tree / results
        files = [*(folder / "models").rglob("model.safetensors"), *(folder / table for table in TABLES)]
        for run in METHODS + VARIANTS:
            seed = folder / f"runs/{run}/seed0"
            files += [seed / "model/model.safetensors", seed / "metrics.jsonl"]
        files += sorted((folder / "eval").rglob("*.parquet")) + sorted((folder / "data").glob("*.parquet"))
        found["files"] = {str(f.relative_to(folder)): digest(f) for f in files}
        found["scores"] = {
            str(f.relative_to(folder)): digest(f.with_name("samples.parquet"))
            for f in sorted((folder / "eval").rglob("scores.json"))
        }
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="JSON file to write")
    parser.add_argument("--against", help="JSON file of an earlier call; exit 1 if anything differs")
    parser.add_argument("--cores", type=int, default=2)
    args = parser.parse_args()
    found = record(args.cores)
    Path(args.out).write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    print(f"{sum(map(len, found.values()))} hashes -> {args.out}")
    if args.against:
        before = json.loads(Path(args.against).read_text())
        differ = [
            f"{part}: {key}"
            for part in sorted(before | found)
            for key in sorted(before.get(part, {}) | found.get(part, {}))
            if before.get(part, {}).get(key) != found.get(part, {}).get(key)
        ]
        print("\n".join(differ) or f"the same as {args.against}, bit for bit")
        return bool(differ)


if __name__ == "__main__":
    sys.exit(main())
