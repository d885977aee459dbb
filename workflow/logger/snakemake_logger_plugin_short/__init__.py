"""Snakemake logger plugin `short`: one line a finished job, with its score and the time left for the whole.

    PYTHONPATH=workflow/logger snakemake --cores all --logger short

Snakemake finds a logger plugin by the name of its package, so the package is not part of `workflow`. Errors are shown as Snakemake shows
them. Everything else of Snakemake's own log is left out; the complete log is in .snakemake/log.
"""

import json
import logging
import sys
import time
from collections import Counter
from pathlib import Path
from textwrap import shorten

from snakemake.logging import DefaultFormatter
from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

LAST = 10  # steps whose mean is a training's reward
FREQUENT = 5  # a kind of job is frequent if every fifth job or more is of this kind
WIDTH = 120  # of a line of the plan, about
NOTHING = "Nothing to be done"
ERRORS = (LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR, LogEvent.ERROR)


class Progress:
    """What is known of the jobs of a graph: how many are left, how long each kind took, which run."""

    def __init__(self, counts: dict[str, int], now: float):
        self.left, self.began = Counter(counts), now
        self.total, self.done = sum(counts.values()), 0
        self.running: dict[int, tuple[dict, float]] = {}
        self.seconds: dict[str, list[float]] = {}

    def start(self, job: dict, now: float):
        self.running[job["jobid"]] = (job, now)

    def finish(self, jobid: int, now: float) -> tuple[dict, float]:
        """(the job, its seconds)"""
        job, began = self.running.pop(jobid)
        rule, spent = job["rule_name"], now - began
        self.done += 1
        self.left[rule] -= 1
        self.seconds.setdefault(rule, []).append(spent)
        return job, spent

    def time_left(self, now: float) -> float | None:
        """Seconds; None until a job of every frequent kind has finished. Any other kind counts as the mean of those that have.

        As many jobs are taken to run at once from now on as have so far.
        """
        spent = [s for kind in self.seconds.values() for s in kind]
        frequent = {rule for rule, n in self.left.items() if n * FREQUENT >= self.total}
        if not spent or now <= self.began or frequent - self.seconds.keys():
            return None
        mean = sum(spent) / len(spent)
        work = sum(n * _mean(self.seconds.get(rule), mean) for rule, n in self.left.items())
        work -= sum(
            min(now - began, _mean(self.seconds.get(job["rule_name"]), mean)) for job, began in self.running.values()
        )
        at_once = max(1.0, (sum(spent) + sum(now - began for _, began in self.running.values())) / (now - self.began))
        return max(0.0, work) / at_once


def _mean(values, otherwise):
    return sum(values) / len(values) if values else otherwise


def duration(seconds: float) -> str:
    """4 s, 1 min 05 s, 2 h 03 min"""
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    return f"{s // 60} min {s % 60:02d} s" if s < 3600 else f"{s // 3600} h {s % 3600 // 60:02d} min"


def title(job: dict) -> str:
    """train luffy, seed 1"""
    wildcards = {k: v for k, v in (job.get("wildcards") or {}).items() if v}
    seed = wildcards.pop("seed", None)
    return " ".join([job["rule_name"].replace("_", " "), *wildcards.values()]) + (f", seed {seed}" if seed else "")


def result(outputs: list[str]) -> str:
    """The score of a finished job in a few words, from its own files; "" for a job without one."""
    for name in outputs:
        path = Path(name)
        try:
            if path.name == "scores.json":
                return scores(json.loads(path.read_text(encoding="utf-8")))
            if path.name == "metrics.jsonl":
                return training([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
        except (OSError, ValueError, KeyError, TypeError):  # a line of the log is no reason to stop
            return ""
    return ""


def scores(record: dict) -> str:
    """test 61 %, ood 20 % (avg@8, T = 0.6)"""
    rows = [r for r in record["results"] if r["level"] == "all"]
    temperature, metric = min(r["temperature"] for r in rows), rows[0]["metric"]
    values = [
        f"{r['split']} {r['value']:.0%}" for r in rows if (r["temperature"], r["metric"]) == (temperature, metric)
    ]
    return f"{', '.join(values)} ({metric}, T = {temperature:g})".replace("%", " %")


def training(rows: list[dict]) -> str:
    """reward 0.61, or the cross-entropy of a run without rollouts"""
    for key, name in (("reward_plain", "reward"), ("ce_loss", "loss")):
        values = [r[key] for r in rows[-LAST:] if r.get(key) is not None]
        if values:
            return f"{name} {sum(values) / len(values):.2f}"
    return ""


def plan(counts: dict[str, int], jobs: list[dict] = ()) -> str:
    """Jobs of each rule, a line each; of a dry run's `jobs` also what their wildcards stand for."""
    width = max(map(len, counts))
    names: dict[str, dict] = {}
    for job in jobs:
        for wildcard, value in (job.get("wildcards") or {}).items():
            names.setdefault(job["rule_name"], {}).setdefault(wildcard, {})[value] = None
    lines = []
    for rule, n in counts.items():
        about = "; ".join(
            f"{wildcard} {', '.join(sorted(values))}" for wildcard, values in names.get(rule, {}).items() if any(values)
        )
        lines.append(f"  {rule:{width}} {n:5d}  {shorten(about, WIDTH - width, placeholder=' ...')}".rstrip())
    return "\n".join(lines)


class LogHandler(LogHandlerBase):
    """Writes to stderr. Snakemake hands over the records of one thread, one after the other."""

    writes_to_stream, writes_to_file = True, False
    has_filter, has_formatter, needs_rulegraph = True, True, False

    def __post_init__(self):
        self.errors = DefaultFormatter(self.common_settings.quiet, self.common_settings.show_failed_logs)
        self.progress: Progress | None = None
        self.clock = time.monotonic
        self.stream = sys.stderr
        self.shown_logs = False

    def emit(self, record: logging.LogRecord):
        text = self.line(getattr(record, "event", None), record)
        if text:
            print(text, file=self.stream, flush=True)

    def line(self, event, record) -> str | None:
        if event in ERRORS:
            return self.errors.format(record)
        if event == LogEvent.RUN_INFO:
            return self.begin(record.stats)
        if event == LogEvent.JOB_INFO and self.progress:
            self.progress.start(record.__dict__, self.clock())
            if self.common_settings.dryrun:
                return None
            return self.where(record.log)
        if event == LogEvent.JOB_FINISHED and self.progress and record.job_id in self.progress.running:
            return self.end(record.job_id)
        message = record.getMessage() if record.msg else ""
        if event is None and (message.startswith(NOTHING) or record.levelno >= logging.ERROR):
            return message
        return None

    def begin(self, stats: dict) -> str | None:
        counts = {rule: n for rule, n in stats.items() if rule != "total"}
        if self.progress:  # a dry run counts its jobs before it lists them, and after
            return f"{self.progress.total} jobs:\n{plan(counts, [job for job, _ in self.progress.running.values()])}"
        self.progress = Progress(counts, self.clock())
        return None if self.common_settings.dryrun else f"{self.progress.total} jobs:\n{plan(counts)}"

    def where(self, logs) -> str | None:
        if self.shown_logs or not logs:
            return None
        self.shown_logs = True
        return f"What running jobs say: tail -f {Path(logs[0]).parent}/*.log"

    def end(self, jobid: int) -> str:
        p, now = self.progress, self.clock()
        job, spent = p.finish(jobid, now)
        left = p.time_left(now)
        ahead = f"about {duration(left)} left" if left and p.done < p.total else ""
        columns = f"{p.done:4d} of {p.total}  {title(job):42} {duration(spent):>12}  {result(job['output']):44} {ahead}"
        return columns.rstrip()
