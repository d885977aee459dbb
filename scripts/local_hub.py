"""A small server that speaks the hub's protocol on the loopback, for tests and for trying presets without a network.

    python -m scripts.local_hub [--data DIR] -- COMMAND ...      # runs COMMAND with HF_ENDPOINT set

serves the repositories of `scripts/local_hub_samples.py`: a few hand-made rows in the layouts and columns of the real data sets, and
a tiny random Qwen2 model. With --data DIR, DIR/benchmarks/*.json (real problems) take the place of the rows that they have.

What is spoken: dataset_info and model_info, tree, paths-info, and resolve with HEAD, ETag, Range. Files of data and weights are LFS
files (their ETag is their SHA-256), others plain git files. Faults can be planted for each path: see `Fault`.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

LFS = (".parquet", ".safetensors", ".bin")


@dataclass
class Fault:
    """What goes wrong with a path, `times` times. cut: the connection ends after half of the bytes; wrong: bytes of the same length
    that are not the file's; status: an HTTP error instead of an answer."""

    kind: str
    times: int = 1
    status: int = 503


@dataclass
class Repository:
    kind: str  # dataset or model
    name: str
    revisions: dict = field(default_factory=dict)  # commit -> {path: bytes}
    head: str = ""
    gated: bool = False

    def files(self, revision, any_commit=False):
        """The files of a revision; with `any_commit` every commit that is asked for is the head."""
        if revision == "main" or (any_commit and len(revision) == 40 and revision not in self.revisions):
            revision = self.head
        return self.revisions.get(revision)


class LocalHub:
    """A context manager: `with LocalHub() as hub: hub.add(...)`; `hub.url` is its address, `hub.log` what was asked."""

    def __init__(self):
        self.repositories, self.faults, self.log, self.lock = {}, {}, [], threading.Lock()
        self.any_commit = False
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def add(self, kind, name, files, revision=None, gated=False) -> str:
        """A commit of a repository, which becomes its head; returns its name (`revision`, or a hash of the contents)."""
        repository = self.repositories.setdefault((kind, name), Repository(kind, name))
        commit = revision or hashlib.sha1(b"".join(p.encode() + d for p, d in sorted(files.items()))).hexdigest()
        repository.revisions[commit] = files
        repository.head, repository.gated = commit, gated
        return commit

    def fault(self, path):
        """The fault that this request meets, used up by it."""
        with self.lock:
            fault = self.faults.get(path)
            if fault is None or fault.times == 0:
                return None
            fault.times -= 1
            return fault


def entry(path, data):
    """(git hash, LFS entry or None) of a file."""
    git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    if not path.endswith(LFS):
        return git, None
    return git, {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}


def _handler(hub: LocalHub):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_GET(self):
            self.answer()

        def do_HEAD(self):
            self.answer()

        def do_POST(self):
            self.answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

        def answer(self, body=b""):
            url = urlsplit(self.path)
            parts = [unquote(p) for p in url.path.strip("/").split("/")]
            with hub.lock:
                hub.log.append((self.command, unquote(url.path)))
            if parts[0] == "api" and len(parts) >= 4:
                kind, name, rest = parts[1].removesuffix("s"), "/".join(parts[2:4]), parts[4:]
                return self.api(hub.repositories.get((kind, name)), rest, parse_qs(url.query), body)
            kind = "dataset" if parts[0] == "datasets" else "model"
            parts = parts[1:] if kind == "dataset" else parts
            repository = hub.repositories.get((kind, "/".join(parts[:2])))
            if repository and len(parts) > 4 and parts[2] == "resolve":
                return self.file(repository, parts[3], "/".join(parts[4:]))
            self.error(404, "RepoNotFound" if repository is None else "EntryNotFound")

        def error(self, status, code):
            self.reply(json.dumps({"error": code}).encode(), status, {"X-Error-Code": code, "X-Error-Message": code})

        def reply(self, data, status=200, headers=(), send=None):
            self.send_response(status)
            headers = {"Content-Length": str(len(data)), "Content-Type": "application/json", **dict(headers)}
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data if send is None else data[:send])

        def allowed(self, repository):
            """Gated repositories want a token, whichever."""
            if repository.gated and not self.headers.get("Authorization"):
                self.error(401, "GatedRepo")
                return False
            return True

        def api(self, repository, rest, query, body):
            if repository is None:
                return self.error(404, "RepoNotFound")
            revision = rest[1] if len(rest) > 1 else "main"
            files = repository.files(revision, hub.any_commit)
            if files is None:
                return self.error(404, "RevisionNotFound")
            commit = repository.head if revision == "main" else revision
            if not rest or rest[0] == "revision":
                siblings = []
                for path, data in files.items():
                    git, lfs = entry(path, data)
                    siblings.append(
                        {"rfilename": path, "size": len(data), "blobId": git, **({"lfs": lfs} if lfs else {})}
                    )
                about = {"id": repository.name, "sha": commit, "siblings": siblings, "private": False, "tags": []}
                return self.reply(json.dumps(about | {"gated": "auto" if repository.gated else False}).encode())
            if rest[0] == "tree":
                folder = "/".join(rest[2:])
                return self.reply(json.dumps(self.tree(files, folder, "recursive" in query)).encode())
            if rest[0] == "paths-info":
                wanted = parse_qs(body.decode()).get("paths", []) or json.loads(body or b"{}").get("paths", [])
                every = {e["path"]: e for e in self.tree(files, "", True)}
                return self.reply(json.dumps([every[p] for p in wanted if p in every]).encode())
            self.error(404, "EntryNotFound")

        def tree(self, files, folder, recursive):
            found, folders = [], {}
            start = f"{folder}/" if folder else ""
            for path, data in files.items():
                if not path.startswith(start):
                    continue
                inner = path[len(start) :].split("/")
                for depth in range(1, len(inner) if recursive else min(len(inner), 2)):
                    folders[start + "/".join(inner[:depth])] = None
                if recursive or len(inner) == 1:
                    git, lfs = entry(path, data)
                    lfs = {"lfs": {"oid": lfs["sha256"], "size": lfs["size"], "pointerSize": 130}} if lfs else {}
                    found.append({"type": "file", "path": path, "size": len(data), "oid": git, **lfs})
            return found + [{"type": "directory", "path": f, "size": 0, "oid": "0" * 40} for f in folders]

        def file(self, repository, revision, path):
            files = repository.files(revision, hub.any_commit)
            if files is None:
                return self.error(404, "RevisionNotFound")
            if not self.allowed(repository):
                return None
            if path not in files:
                return self.error(404, "EntryNotFound")
            data = files[path]
            git, lfs = entry(path, data)
            headers = {
                "ETag": f'"{lfs["sha256"] if lfs else git}"',
                "Accept-Ranges": "bytes",
                "X-Repo-Commit": revision,
            }
            headers |= {"X-Repo-Commit": repository.head} if revision == "main" else {}
            headers["Content-Type"] = "application/octet-stream"
            fault = hub.fault(path) if self.command == "GET" else None
            if fault and fault.kind == "status":
                return self.error(fault.status, "Fault")
            if fault and fault.kind == "wrong":
                data = bytes(b ^ 1 for b in data)
            status = 200
            if start := (self.headers.get("Range") or "").removeprefix("bytes=").partition("-")[0]:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                data, status = data[int(start) :], 206
            if fault and fault.kind == "cut":
                self.reply(data, status, headers, send=len(data) // 2)
                self.wfile.flush()
                self.connection.close()  # in the middle of what Content-Length promised
                self.close_connection = True
                return None
            return self.reply(data, status, headers)

    return Handler


def environment(hub, home) -> dict:
    """Variables that send every client of the hub to this server, with caches of its own."""
    return {"HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}


def main():
    from .local_hub_samples import fill

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="folder with benchmarks/*.json: real problems instead of the hand-made ones"
    )
    parser.add_argument("--gone", action="append", default=[], help="a repository that this hub does not have")
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, LocalHub() as hub:
        fill(hub, args.data)
        hub.repositories = {key: r for key, r in hub.repositories.items() if r.name not in args.gone}
        print(f"hub at {hub.url}: {', '.join(sorted(name for _, name in hub.repositories))}", file=sys.stderr)
        return subprocess.run(args.command, env=os.environ | environment(hub, home)).returncode


if __name__ == "__main__":
    sys.exit(main())
