"""Files: atomic writes, hashes and readable errors. Every file that holds a result is written through this module."""

import errno
import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .errors import UserError


def check_out_folder(path):
    """Refuse an output folder that cannot be created or written in. Commands call it before their work; it creates nothing."""
    path = Path(path)
    if path.is_file():
        raise UserError(f"{path}: is a file: must be a folder, or a path that does not exist")
    _refuse_unwritable(path, path.absolute())


def check_out_file(path):
    """Refuse an output file that cannot be created or written. Commands call it before their work; it creates nothing."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path}: is a folder: must be the name of a file")
    _refuse_unwritable(path, path.absolute().parent)


def _refuse_unwritable(path, folder):
    there = next(p for p in (folder, *folder.parents) if p.exists())
    if not there.is_dir():
        raise UserError(f"{path}: cannot be written: {there} is a file, not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{path}: cannot be written: no permission to write in {there}")


@contextmanager
def atomic_path(path, size=None):
    """Yield a temporary path beside `path`; when the block ends well it is renamed onto `path`.

    A crash, of the machine too, leaves the old file or none, never half of a new one. What a killed write has left is removed by the
    next write of the same path.

    size: bytes that will be written, for the error of a full disk.
    """
    path = Path(path)
    check_out_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    with writing(path, size), _temporary(path) as temporary:
        yield temporary
        os.chmod(temporary, 0o644)  # temporary files are private; results are for everybody on the cluster
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)


@contextmanager
def atomic_dir(path, size=None):
    """Like `atomic_path` for a folder. An existing folder at `path` is replaced."""
    path = Path(path)
    check_out_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    with writing(path, size), _temporary(path, folder=True) as temporary:
        os.chmod(temporary, 0o755)
        yield temporary
        for inner in [*temporary.rglob("*"), temporary]:
            if inner.is_file():
                os.chmod(inner, 0o644)  # safetensors writes private files
            _flush(inner)
        if path.exists():
            remove_folder(path)
        os.replace(temporary, path)
        _flush(path.parent)


def remove_folder(path):
    """Remove a folder by one rename, so that a kill never leaves a part of it under its name. A folder that is not there is fine."""
    path = Path(path)
    if not path.exists():
        return
    with _temporary(path, folder=True) as trash:
        os.replace(path, trash)  # onto an empty folder
        _flush(path.parent)


def sweep(path):
    """Remove what killed writes and removals of `path` have left beside it; what a living process writes is left alone."""
    path = Path(path)
    for left in path.parent.glob(f".{glob.escape(path.name)}.????????.tmp"):
        try:
            handle = os.open(left, os.O_RDONLY)
        except FileNotFoundError:  # another process has just ended with it
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel gives a dead process's locks back
            _remove(left)
        except OSError:  # in use, or a file system without locks
            pass
        finally:
            os.close(handle)


@contextmanager
def _temporary(path, folder=False):
    """A new file or folder beside `path`, locked as long as this process uses it, and gone afterwards unless it was renamed."""
    names = dict(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    if folder:
        temporary = Path(tempfile.mkdtemp(**names))
        handle = os.open(temporary, os.O_RDONLY)
    else:
        handle, name = tempfile.mkstemp(**names)
        temporary = Path(name)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield temporary
    finally:
        _remove(temporary)
        os.close(handle)


def _remove(path):
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _flush(path):
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def writing(path, size=None):
    """Turn a failed write into a `UserError` that names the file, and the space where there was none.

    Libraries in other languages raise errors of their own. Those of torch come while the system's error is handled, those of Rust
    libraries have its number in their text.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as e:
        number, cause = _system_error(e)
        if number is None:
            raise
        text = f"{path}: cannot be written: {cause}"
        if number in FULL:
            free = shutil.disk_usage(path.parent).free
            needed = f"about {size / 2**20:.1f} MiB are needed, " if size else ""
            text += f"; {needed}{free / 2**20:.1f} MiB are free in {path.parent}: free some and start again, nothing before it is lost"
        raise UserError(text) from e


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _system_error(e):
    """(number, text) of the system's error behind an exception of a write; (None, None) where there is none."""
    if isinstance(e, OSError):
        return e.errno or errno.EIO, os.strerror(e.errno) if e.errno in FULL else e.strerror or str(e)
    if found := re.search(r"\(os error (\d+)\)", str(e)):
        return int(found[1]), os.strerror(int(found[1]))
    behind = e.__cause__ or e.__context__
    if isinstance(behind, OSError) and behind.errno in (*FULL, errno.EIO):
        return behind.errno, behind.strerror
    return None, None


def write_text(path, text):
    data = text.encode()
    with atomic_path(path, len(data)) as p:
        p.write_bytes(data)


def write_json(path, value):
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n")


def write_json_in_lines(path, value, width=500):
    """For files that git keeps: what fits into a line of `width` characters stands on one, so that a record is a line of a diff."""

    def lay_out(value, indent=0):
        text = json.dumps(value, ensure_ascii=False)
        if not isinstance(value, (dict, list)) or indent + len(text) <= width:
            return text
        inner, lines = " " * (indent + 2), []
        for item in value.items() if isinstance(value, dict) else value:
            name, item = (
                (json.dumps(item[0], ensure_ascii=False) + ": ", item[1]) if isinstance(value, dict) else ("", item)
            )
            lines.append(inner + name + lay_out(item, indent + 2))
        opening, closing = "{}" if isinstance(value, dict) else "[]"
        return opening + "\n" + ",\n".join(lines) + "\n" + " " * indent + closing

    write_text(path, lay_out(value) + "\n")


def parse_json(text):
    """The value of a JSON text; `ValueError` for a key that a mapping has twice, of which plain JSON keeps the last."""
    return json.loads(text, object_pairs_hook=_refuse_twice)


def _refuse_twice(pairs):
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(k for k in keys if keys.count(k) > 1)!r} is given twice")
    return found


def read_json(path):
    try:
        return parse_json(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise UserError(f"{path}: no such file") from e
    except (ValueError, OSError, RecursionError) as e:
        raise UserError(f"{path}: not readable as JSON: {e}") from e


def read_mapping(path):
    """A JSON file that holds a mapping, such as run.json."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold a mapping of keys to values, holds a {type(value).__name__}")
    return value


def write_jsonl(path, rows):
    write_text(path, "".join(json.dumps(r) + "\n" for r in rows))


def read_lines(path):
    r"""Yield the lines of a text file, split at "\n" only: in JSON Lines U+2028, U+0085 or a form feed is data of a row."""
    try:
        with open(path, encoding="utf-8", newline="\n") as f:
            for line in f:
                yield line.removesuffix("\n")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: not readable: {e}") from e


def read_jsonl(path):
    """Rows of a JSON Lines file; an error names the line."""
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            try:
                rows.append(parse_json(line))
            except (ValueError, RecursionError) as e:
                raise UserError(f"{path}:{number}: not JSON: {e}") from e
    return rows


def read_rows(path, columns=()):
    """Rows of a .parquet, .jsonl or .json file (a list); refuses one without `columns` in every row."""
    path = Path(path)
    if path.suffix == ".parquet":
        return read_parquet(path, columns)
    rows = read_jsonl(path) if path.suffix == ".jsonl" else read_json(path)
    if not isinstance(rows, list):
        raise UserError(f"{path}: must hold a list of rows, holds {type(rows).__name__}")
    for number, row in enumerate(rows, 1):
        missing = [c for c in columns if not isinstance(row, dict) or c not in row]
        if missing:
            raise UserError(f"{path}: row {number}: key {missing[0]!r} is missing")
    return rows


def write_parquet(path, rows, columns=()):
    """Write a list of dicts (same keys in each) as parquet; an empty list as no rows of the text `columns`."""
    empty = {c: pa.array([], pa.string()) for c in columns}
    table = pa.Table.from_pylist(rows) if rows or not columns else pa.table(empty)
    with atomic_path(path, table.nbytes) as p:
        pq.write_table(table, p, write_page_checksum=True)


def read_table(path, columns=()):
    """A parquet file as an arrow table; refuses a file that lacks one of `columns`, and a page whose checksum is not that of its data."""
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except FileNotFoundError as e:
        raise UserError(f"{path}: no such file") from e
    except (pa.ArrowException, OSError) as e:
        raise UserError(f"{path}: not readable as parquet: {e}") from e
    missing = [c for c in columns if c not in table.column_names]
    if missing:
        raise UserError(f"{path}: column {missing[0]!r} is missing; it has {', '.join(table.column_names)}")
    return table


def read_parquet(path, columns=()):
    """Rows of a parquet file as dicts; refuses a file that lacks one of `columns`."""
    table = read_table(path, columns)
    try:
        return table.to_pylist()
    except (ValueError, pa.ArrowException) as e:  # a flipped byte in a text column
        raise UserError(f"{path}: not readable as parquet: {e}; the file is damaged: make it again") from e


def sha256(path):
    """Hash of a file, or of a folder: relative names and contents, in sorted order.

    Names with a leading dot are left out, because workflow managers keep notes in such files.
    """
    path = Path(path)
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")):
            digest.update(str(file.relative_to(path)).encode() + b"\0" + sha256(file).encode())
    else:
        try:
            with open(path, "rb") as f:
                while block := f.read(1 << 20):
                    digest.update(block)
        except FileNotFoundError as e:
            raise UserError(f"{path}: no such file") from e
    return digest.hexdigest()


def hash_of(value):
    """Hash of plain data (dicts, lists, numbers, strings), independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
