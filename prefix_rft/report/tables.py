"""Command `tables`: the tables of a study, each as .csv (numbers) and .md (for reading).

For the study `main`, in the folder of `--out`:
    main      scores: method, split, metric, temperature, mean, ci_low, ci_high, n_seeds, n_problems
    paired    Prefix-RFT minus every other method, on the same problems and seeds
    variance  standard deviations between seeds, between problems and of the rest
    budgets   steps, rollouts, tokens, compute and time of each method, earlier stages included
    claims    the paper's claims with verdicts (prefix_rft/report/claims.py)
    main.runs.json   hashes of the runs and models that the numbers come from
Another study writes <study>, <study>.paired and so on; an ablation has no claims.

Shares are fractions in .csv and percentages in .md. How intervals are made: docs/statistics.md.
"""

import logging
from pathlib import Path

import numpy as np

from ..common.files import write_json, write_text
from ..common.version import __version__
from ..evaluation.statistics import LEVEL, paired_difference, score_interval
from .claims import FIELDS as CLAIM_FIELDS
from .claims import NOT_TESTED, RULE, claims, further, not_tested
from .code import below, code_note, other_code, symptom_note
from .formats import markdown, p_value, percent, seeds_text, si, split_name, write_csv
from .outcome import DESCRIPTIVE, correct, outcome_md
from .study import BUDGET_KEYS, MAIN, known, load_study, paired_scores
from .variance import FIELDS as VARIANCE_FIELDS
from .variance import variance_md, variance_rows

log = logging.getLogger(__name__)

SCORE_FIELDS = ["method", "split", "metric", "temperature", "mean", "ci_low", "ci_high", "n_seeds", "n_problems"]
BUDGET_FIELDS = ["method", "rl_steps", "sft_steps", *BUDGET_KEYS, "n_seeds"]
PAIRED_FIELDS = [
    *("method", "rival", "rival_kind", "split", "metric", "temperature"),
    *("difference", "ci_low", "ci_high", "p", "p_holm", "n_seeds", "n_problems"),
]


# ------------------------------------------------------------------------------------------------------------- numbers


def metrics_of(study):
    return [f"avg@{study.samples}", f"pass@{study.samples}"]


def score_rows(study):
    rows = []
    for member in study.members:
        for split, level, temperature in study.cells():
            counts = member.counts[split, temperature].at(level)
            for metric in metrics_of(study):
                i = score_interval(*known(counts.levels, counts.scores(metric)))
                values = (
                    member.run,
                    split_name(split, level),
                    metric,
                    temperature,
                    i.mean,
                    i.low,
                    i.high,
                    i.n_seeds,
                    i.n_problems,
                )
                rows.append(dict(zip(SCORE_FIELDS, values, strict=True)))
    return rows


def paired_rows(study):
    rows = []
    for ours, rival in study.pairs():
        for split, level, temperature in study.cells():
            for metric in metrics_of(study):
                i = paired_difference(*paired_scores(ours, rival, split, level, temperature, metric))
                values = (
                    *(ours.run, rival.run, rival.kind, split_name(split, level), metric, temperature),
                    *(i.mean, i.low, i.high, i.p, None, i.n_seeds, i.n_problems),
                )
                rows.append(dict(zip(PAIRED_FIELDS, values, strict=True)))
    if study.ablation is None:
        correct(rows)
    return rows


def budget_rows(study):
    return [{"method": m.run, **study.budget(m), "n_seeds": len(m.seeds)} for m in study.trained()]


def provenance(study):
    """Hashes and revisions of the runs behind the tables."""
    others = other_code(study)
    return {
        "preset": study.preset,
        "study": study.name,
        "seeds": study.seeds,
        "package_version": __version__,
        "code_note": code_note([study]),
        "symptom_note": symptom_note([study]),
        "intervals": {"level": LEVEL},
        "labels": {m.run: m.label for m in study.members},
        "runs": {
            member.run: {
                str(seed): {
                    "config_hash": meta["scores"].get("config_hash"),
                    "model_sha256": meta["scores"].get("model_sha256"),
                    "evaluation_hash": meta["scores"].get("evaluation_hash"),
                    "git_revision": (meta["run"] or {}).get("git_revision"),
                    "code": ((meta["run"] or {}).get("code") or {}).get("sha256"),
                    "other_code": others.get(member.run, {}).get(seed, []),  # files that are not the present ones
                }
                for seed, meta in member.meta.items()
            }
            for member in study.members
        },
    }


# ------------------------------------------------------------------------------------------------------------- writing


def grid(rows, labels, key, value, columns):
    """One Markdown table for each metric and temperature, with a row for each method (column `key`) and a column for each split."""
    text = []
    for metric in dict.fromkeys(r["metric"] for r in rows):
        for temperature in dict.fromkeys(r["temperature"] for r in rows):
            lines = []
            for method in dict.fromkeys(r[key] for r in rows):
                cells = {
                    r["split"]: value(r)
                    for r in rows
                    if r[key] == method and r["metric"] == metric and r["temperature"] == temperature
                }
                lines.append([labels.get(method, method), *(cells.get(c, "") for c in columns)])
            text.append(f"### {metric}, temperature {temperature:g}\n\n{markdown(['Method', *columns], lines)}")
    return "\n".join(text)


def scores_md(study, rows):
    labels = {m.run: m.label for m in study.members}
    columns = list(dict.fromkeys(r["split"] for r in rows))
    sizes = {r["split"]: r["n_problems"] for r in rows}
    body = grid(rows, labels, "method", lambda r: percent(r["mean"], r["ci_low"], r["ci_high"]), columns)
    problems = ", ".join(f"{c} {sizes[c]}" for c in columns)
    return f"## {study.label}: correct answers in %\n\nMean of {seeds_text(study)}. Problems: {problems}.\n\n{body}"


def paired_md(study, rows):
    if not rows:
        return f"## {study.label}: no Prefix-RFT run in this study to compare with\n"
    labels = {m.run: m.label for m in study.members}
    columns = list(dict.fromkeys(r["split"] for r in rows))
    parts = []
    for ours in dict.fromkeys(r["method"] for r in rows):
        own = [r for r in rows if r["method"] == ours]
        body = grid(own, labels, "rival", lambda r: percent(r["difference"], r["ci_low"], r["ci_high"], "+"), columns)
        parts.append(
            f"## {study.label}: {labels[ours]} minus each {'run' if study.ablation else 'method'}, in percentage points\n\n"
            f"Same problems, seeds paired; {seeds_text(study)}.\n\n{outcome_md(own, labels)}{DESCRIPTIVE}\n\n{body}"
        )
    return "\n".join(parts)


def budgets_md(study, rows):
    labels = {m.run: m.label for m in study.members}
    reference = next((r["total_flops"] for r in rows if study.reference and r["method"] == study.reference.run), 0)
    header = [
        *("Method", "RL steps", "SFT steps", "Rollouts", "Sampled tokens", "Trained tokens"),
        *("Demonstrations seen", "FLOPs", "relative", "CPU s"),
    ]
    lines = [
        [
            labels[r["method"]],
            *(f"{r[k]:.0f}" for k in ("rl_steps", "sft_steps")),
            *(si(r[k]) for k in ("rollouts", "sampled_tokens", "trained_tokens", "demonstrations_seen")),
            si(r["total_flops"]),
            f"{r['total_flops'] / reference:.2f}" if reference else "",
            f"{r['cpu_seconds']:.0f}",
        ]
        for r in rows
    ]
    return (
        f"## {study.label}: what each method used (mean over seeds)\n\nFLOPs: forward and backward passes, sampling included."
        " A method that starts from another run's model counts that run too.\n\n" + markdown(header, lines)
    )


def claims_md(study, rows):
    if not rows:
        return f"## {study.label}: no Prefix-RFT run in this study to test claims with\n"
    header = ["Claim", "Said in", "Metric", "T", "Paper", "Measured", "p", "Seeds", "Verdict"]
    tested = [r for r in rows if r["verdict"] != NOT_TESTED]
    lines = [
        [
            r["claim"],
            r["source"],
            r["metric"],
            "" if r["temperature"] is None else f"{r['temperature']:g}",
            published(r["paper"]),
            measured(r),
            p_value(r["p"]),
            r["n_seeds"],
            r["verdict"],
        ]
        for r in tested
    ]
    text = (
        f"## {study.label}: the claims of the paper and of its critics, tested\n\n"
        "Measured: paired difference, in percentage points unless a unit is given, with 95 % intervals over seeds and problems (one seed:"
        f" over problems only). {RULE}. {len(tested)} intervals, descriptive: not corrected for"
        " their number (the corrected outcome is in table `paired`). Paper: the claimant's own difference, on"
        " other models and problems; the paper's scores are at T = 0.6.\n\n"
        f"{markdown(header, lines)}"
    )
    rest = [[r["claim"], r["source"], r["target"]] for r in rows if r["verdict"] == NOT_TESTED]
    if rest:
        text += "\nNot tested by these runs:\n\n" + markdown(["Claim", "Said in", "Target, or why not"], rest)
    return text


def published(value):
    """The claimant's number; text if there are several."""
    return "" if value is None else value if isinstance(value, str) else f"{value:+.1f}"


def measured(row):
    """A difference with its interval, in percentage points or in the row's own unit."""
    values = [row[k] for k in ("difference", "ci_low", "ci_high")]
    if row["unit"] == "points":
        if np.isfinite(values).all():
            return percent(*values, "+")
        return f"{100 * values[0]:+.1f} [no interval]"
    if np.isfinite(values).all():
        return f"{values[0]:+.3g} [{values[1]:+.3g}, {values[2]:+.3g}] {row['unit']}"
    return f"{values[0]:+.3g} {row['unit']} [no interval]"


def make_tables(preset_config: Path, results: Path, out: Path, study=MAIN, seeds=None, override=None):
    """Write every table of a study into the folder `out`, as .csv and .md."""
    study = load_study(preset_config, results, study, seeds, override)
    dot = "" if study.name == MAIN else f"{study.name}."
    tables = [
        (study.name, SCORE_FIELDS, score_rows(study), scores_md),
        (f"{dot}paired", PAIRED_FIELDS, paired_rows(study), paired_md),
        (f"{dot}variance", VARIANCE_FIELDS, variance_rows(study, metrics_of(study)), variance_md),
        (f"{dot}budgets", BUDGET_FIELDS, budget_rows(study), budgets_md),
    ]
    if study.ablation is None:  # claims about ablations are in paper_claims.csv
        rows = claims(study)
        if study.name != MAIN:  # those that name this study
            rows += [r for r in further(study, study.name) if r["verdict"] != NOT_TESTED]
        elif rows:  # claims that need more runs, with the target that makes them
            rows += further(study) + not_tested(skip=(MAIN,))
        tables.append((f"{dot}claims", CLAIM_FIELDS, rows, claims_md))
    note = below(code_note([study])) + below(symptom_note([study]))
    for name, fields, rows, text in tables:
        write_csv(out / f"{name}.csv", fields, rows)
        write_text(out / f"{name}.md", text(study, rows) + note)
    write_json(out / f"{study.name}.runs.json", provenance(study))
