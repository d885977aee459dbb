"""The archive of a preset's results: everything that is too large or too numerous for git, checked against a manifest that is in git.

    python -m scripts.results_archive FROM --preset tiny      # what `make results FROM=...` runs

FROM is the path or URL of an archive, or `git:REVISION` for results that were committed at that revision. Every file is compared with
docs/results/<preset>/manifest.json before the folder results/<preset>-published appears. `scripts/publish.py` makes archive and manifest.
"""

import argparse
import gzip
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from prefix_rft.common.errors import UserError
from prefix_rft.common.files import atomic_dir, atomic_path, hash_of, read_mapping, sha256
from prefix_rft.report.study import MAIN

ROOT = Path(__file__).resolve().parents[1]
SUFFIX = ".tar.gz"


# ------------------------------------------------------------------------------------------------------------ manifest


def files_of(folder: Path) -> dict[str, str]:
    """{name relative to `folder`: sha256} of every file, in the order of the names."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return {name: sha256(folder / name) for name in names}


def counted(values) -> list[dict]:
    """Distinct dicts, each with the number of trainings that have it, the most frequent first."""
    found = Counter(json.dumps(v) for v in values)
    return [json.loads(value) | {"trainings": n} for value, n in found.most_common()]


def manifest_of(folder: Path, preset: str, study: str | None = None) -> dict:
    """What an archive holds and where it comes from.

    Args:
        folder: collected results, as `scripts.publish.collect` leaves them.
        preset: name of the preset.
        study: only what belongs to this study: its trainings, its tables and its figure.

    Returns:
        preset, names of the main comparison's runs as people read them, seeds of every study, revisions of the code and hardware of
        the trainings, and the hash of every file.
    """
    runs = read_mapping(folder / "runs.json")
    notes = [read_mapping(p) for p in sorted((folder / "tables").glob("*.runs.json"))]
    files = files_of(folder)
    if study is not None:
        notes = [note for note in notes if note["study"] == study]
        runs = {name: r for name, r in runs.items() if any(name.split("/")[0] in note["runs"] for note in notes)}
        files = {name: digest for name, digest in files.items() if Path(name).name.split(".")[0] == study}
    runs = runs.values()
    hardware = [{"cpu": "not recorded"} | {k: v for k, v in r["hardware"].items() if k != "gpus"} for r in runs]
    for entry, run in zip(hardware, runs, strict=True):
        if gpus := run["hardware"].get("gpus"):
            entry["gpus"] = ", ".join(gpus)
    return {
        "preset": preset,
        "labels": next((note["labels"] for note in notes if note["study"] == MAIN and "labels" in note), {}),
        "seeds": {note["study"]: " ".join(map(str, note["seeds"])) for note in notes},
        "revisions": counted({"revision": r["git_revision"]} for r in runs),
        "hardware": counted(hardware),
        "files": files,
    }


def check(folder: Path, manifest: Path):
    """Refuse a folder whose files are not those of the manifest."""
    expected, found = read_mapping(manifest)["files"], files_of(folder)
    missing = [name for name in expected if name not in found]
    changed = [name for name in expected if name in found and found[name] != expected[name]]
    extra = [name for name in found if name not in expected]
    for names, what in ((missing, "is missing"), (changed, "has other bytes"), (extra, "is not in the manifest")):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise UserError(
                f"{manifest}: key 'files.{names[0]}'{more}: {what} in the archive; take the archive of this revision, or check out the"
                " revision of the archive"
            )


# ------------------------------------------------------------------------------------------------------- pack, unpack


def pack(folder: Path, out: Path, manifest: dict) -> Path:
    """Write the archive of `folder` into the folder `out`. The name holds the manifest's hash; equal files give an equal archive."""
    path = out / f"results-{manifest['preset']}-{hash_of(manifest['files'])[:12]}{SUFFIX}"
    with atomic_path(path) as part, open(part, "wb") as raw:
        with (
            gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
            tarfile.TarFile("", "w", packed) as tar,
        ):
            for name in manifest["files"]:
                data = (folder / name).read_bytes()
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    return path


def fetch(source: str, preset: str, scratch: Path) -> Path:
    """The archive that `source` names, as a local file."""
    if source.startswith("git:"):
        revision, path = source.removeprefix("git:"), scratch / f"committed{SUFFIX}"
        command = ["git", "archive", "--format=tar.gz", f"--output={path}", f"{revision}:docs/results/{preset}"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise UserError(
                f"{source}: git has no results of preset {preset} there: {done.stderr.strip()}; in a shallow clone run"
                " `git fetch --unshallow` first"
            )
        return path
    if "://" in source:
        path = scratch / f"fetched{SUFFIX}"
        try:
            with urllib.request.urlopen(source) as response, open(path, "wb") as f:
                shutil.copyfileobj(response, f)
        except (urllib.error.URLError, OSError, ValueError) as e:
            raise UserError(f"{source}: cannot be fetched: {e}") from e
        return path
    if not Path(source).is_file():
        raise UserError(f"{source}: no such archive; give the path or URL of a {SUFFIX} file, or git:REVISION")
    return Path(source)


def unpack(source: str, preset: str, manifest: Path, out: Path) -> int:
    """Unpack an archive into the folder `out`, which appears only if every file is the manifest's. Returns the number of files."""
    with tempfile.TemporaryDirectory() as name:
        archive = fetch(source, preset, Path(name))
        with atomic_dir(out) as part:
            try:
                with tarfile.open(archive) as tar:
                    tar.extractall(part, filter="data")
            except (tarfile.TarError, EOFError, OSError) as e:
                raise UserError(f"{source}: is no readable {SUFFIX} archive: {str(e).splitlines()[0]}") from e
            if source.startswith("git:"):
                (part / "README.md").unlink(missing_ok=True)  # the page of that revision is no result
            check(part, manifest)
    return len(read_mapping(manifest)["files"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", metavar="FROM", help="path or URL of an archive, or git:REVISION")
    parser.add_argument("--preset", required=True, help="name of the preset, such as tiny")
    args = parser.parse_args()
    manifest, out = ROOT / f"docs/results/{args.preset}/manifest.json", ROOT / f"results/{args.preset}-published"
    try:
        n = unpack(args.source, args.preset, manifest, out)
    except UserError as e:
        sys.exit(f"error: {e}")
    print(f"{n} files, each with the hash of {manifest.relative_to(ROOT)}: {out.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
