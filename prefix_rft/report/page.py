"""Command `report`: one HTML page that a person reads from top to bottom, `results/<preset>/report.html`.

Question, setting with an example, verdicts in sentences, figures, tables, what was run where. The page is one file: figures and styles are
in it. It reads tables and figures and computes nothing.
"""

import base64
import html
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from ..common.files import read_json, read_parquet, write_text
from ..config.preset import preset_values
from ..runs.ablations import read_ablations
from .claims import RULE
from .compare import read_results, sentence
from .headline import read_headline, score_table, seeds_of, sentences

DOTS, CSS_PIXELS = 300, 135  # per inch of a figure: in its file, and on the page
STYLE = Path(__file__).with_name("page.css")
QUESTION = (
    "Prefix-RFT (arXiv 2507.01679) mixes imitation and reinforcement: in each group of rollouts one continues a prefix of a"
    " demonstration. Does it solve more problems than supervised fine-tuning (SFT), reinforcement fine-tuning (RFT), one after the other,"
    " and LUFFY, as the paper says?"
)
FIGURES = {
    "figure_1": "The method (the paper's Figure 1)",
    "comparison": "Scores by method",
    "pass_at_k": "How many problems k samples solve",
    "training": "Training",
    "figure_4": "Prefixed and plain rollouts of Prefix-RFT (the paper's Figure 4)",
}
TABLES = {
    "main": "Scores with intervals, by level",
    "paired": "Differences, and the corrected outcome",
    "claims": "The paper's claims, tested one by one",
    "budgets": "Tokens, operations and time of each method",
    "variance": "What scores vary with",
    "benchmarks": "Scores on the benchmarks",
}


@dataclass
class Sources:
    """What the page is made from.

    preset: folder of the preset
    results: folder of its results
    captions: folder with <figure>.rst
    committed: folder of the same preset's committed results; may be missing
    audit: Snakemake's own report; may be missing
    """

    preset: Path
    results: Path
    captions: Path
    committed: Path
    audit: Path


def make_page(s: Sources) -> Path:
    """Write report.html into the results; returns its path. Raises `UserError` where the tables are missing."""
    values = preset_values(s.preset / "preset.yaml")
    parts = [("Question", f"<p>{html.escape(QUESTION)}</p>"), ("Setting", setting(s, values)), ("Result", result(s))]
    parts += [
        ("Figures", figures(s)),
        ("Tables", tables(s)),
        ("Studies and ablations", further(s, values)),
        ("What was run", provenance(s)),
    ]
    body = "\n".join(f"<section><h2>{title}</h2>\n{text}</section>" for title, text in parts if text)
    name = html.escape(label(s, values))
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Prefix-RFT: {name}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style></head>\n<body>\n"
        f"<header><h1>Prefix-RFT, reproduced</h1><p>{name}</p></header>\n<main>\n{body}\n</main>\n</body></html>\n"
    )
    out = s.results / "report.html"
    write_text(out, page)
    return out


def render(text: str) -> str:
    return MarkdownIt("commonmark", {"html": False}).enable("table").render(text)


def wide(text: str) -> str:
    """A table of Markdown in a box that scrolls by itself on a narrow page."""
    return f'<div class="wide">{render(text)}</div>\n'


def pairs(rows) -> str:
    """A table of (name, value in HTML) whose values are text: they wrap."""
    cells = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows)
    return f'<table class="pairs">{cells}</table>\n'


# ------------------------------------------------------------------------------------------------------------- sections


def label(s: Sources, values: dict) -> str:
    return values.get("label", s.preset.name)


def setting(s: Sources, values: dict) -> str:
    text = f"<p>{html.escape(label(s, values))}."
    if "published" in values:
        text += f" Model of the paper: {html.escape(str(values['published']))}."
    elif "differs" in values:
        text += f" Not the paper's setting: {html.escape(values['differs'])}."
    return text + "</p>\n" + example(s.results / "data")


def example(data: Path) -> str:
    """One problem with its demonstration."""
    demos = sorted(data.glob("demos.*.parquet"))
    if not demos or not (data / "problems.train.parquet").exists():
        return ""
    demo = read_parquet(demos[0])[0]
    problem = next((p for p in read_parquet(data / "problems.train.parquet") if p["id"] == demo["problem_id"]), None)
    if problem is None:
        return ""
    text, half = demo["response"], len(demo["response"]) // 2
    rows = [
        ("problem", html.escape(problem["prompt"])),
        ("demonstration", f"<mark>{html.escape(text[:half])}</mark>{html.escape(text[half:])}"),
        ("answer", html.escape(problem["answer"])),
    ]
    return (
        pairs((name, f"<pre>{value}</pre>") for name, value in rows)
        + '<p class="caption">A training problem. Marked: a prefix of the'
        " demonstration, as one rollout of each group is given; the model has to find the rest.</p>\n"
    )


def result(s: Sources) -> str:
    folder = s.results / "tables"
    if (folder / "benchmarks.md").exists():
        return wide((folder / "benchmarks.md").read_text(encoding="utf-8"))
    headline = read_headline(folder)
    said = "".join(f"<li>{html.escape(text)}</li>" for text in sentences(headline))
    text = f"<ul class='verdicts'>{said}</ul>\n" if said else ""
    text += wide(score_table(headline))
    text += f'<p class="caption">Right answers in %, mean of {seeds_of(headline.seeds)}, with 95 % intervals. {html.escape(RULE)}.</p>\n'
    return text + agreement(s)


def agreement(s: Sources) -> str:
    if not (s.committed / "main.csv").exists():
        return ""
    line = sentence(read_results(s.results), read_results(s.committed))
    return f"<p><strong>Beside the committed results:</strong> {html.escape(line)}.</p>\n"


def figures(s: Sources) -> str:
    return "".join(figure(s, name, title, f"{name}.rst") for name, title in FIGURES.items())


def figure(s: Sources, name: str, title: str, words: str = "") -> str:
    """One figure with its caption, the file `words`; nothing where the figure has not been drawn."""
    file = s.results / "figures" / f"{name}.png"
    if not file.exists():
        return ""
    png = file.read_bytes()
    width = round(int.from_bytes(png[16:20], "big") * CSS_PIXELS / DOTS)  # so that all figures have letters of one size
    data = base64.b64encode(png).decode()
    text = f'<figure><h3>{html.escape(title)}</h3><img width="{width}" alt="{html.escape(title)}" src="data:image/png;base64,{data}">'
    if words:
        text += f"<figcaption>{html.escape(caption(s.captions / words))}</figcaption>"
    return text + "</figure>\n"


def caption(file: Path) -> str:
    return (
        " ".join(file.read_text(encoding="utf-8").replace("\\", "").replace("*", "").split()) if file.exists() else ""
    )


def tables(s: Sources) -> str:
    text = ""
    for name, title in TABLES.items():
        file = s.results / "tables" / f"{name}.md"
        if file.exists():
            text += f"<details><summary>{title}</summary>\n{wide(file.read_text(encoding='utf-8'))}</details>\n"
    return text


def further(s: Sources, values: dict) -> str:
    """The map of regimes, and each study and ablation that has been run: its figure and scores, behind its name."""
    names = {name: study["label"] for name, study in values.get("studies", {}).items()}
    names |= {f"ablation_{name}": f"Ablation: {a.label}" for name, a in read_ablations(s.preset).items()}
    text = figure(s, "regimes", "The map of regimes", "regimes.rst")
    for name, title in names.items():
        scores = s.results / "tables" / f"{name}.md"
        if scores.exists():
            inner = figure(s, name, title) + wide(scores.read_text(encoding="utf-8"))
            text += f"<details><summary>{html.escape(title)}</summary>\n{inner}</details>\n"
    return text


def provenance(s: Sources) -> str:
    """Hardware, revisions and price of all runs, as their records say."""
    records = [read_json(f) for f in sorted(s.results.glob("runs/*/seed*/run.json"))]
    if not records:
        return ""
    machines = sorted({_machine(r.get("hardware") or {}) for r in records})
    revisions = sorted({(r.get("git_revision") or "unknown")[:10] for r in records})
    seconds = [float(row["cpu_time"]) for f in sorted(s.results.glob("timings/*.tsv")) for row in _tsv(f)]
    versions = records[-1].get("versions") or {}
    rows = [
        ["trainings", f"{len(records)}, seeds {', '.join(map(str, sorted({r['seed'] for r in records})))}"],
        ["hardware", "; ".join(machines)],
        ["revision of the code", ", ".join(revisions)],
        ["versions", ", ".join(f"{k} {v}" for k, v in versions.items())],
        ["CPU time of all jobs", f"{sum(seconds) / 60:.0f} minutes in {len(seconds)} jobs"],
    ]
    text = pairs((name, html.escape(value)) for name, value in rows)
    if s.audit.exists():
        text += f'<p>Every job, file and parameter: <a href="{html.escape(s.audit.name)}">the audit trail</a>.</p>\n'
    return text


def _machine(hardware: dict) -> str:
    return ", ".join(str(hardware[k]) for k in ("gpu", "cpu", "instruction_set") if hardware.get(k)) or "unknown"


def _tsv(file: Path) -> list[dict]:
    lines = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
    rows = [dict(zip(lines[0], values, strict=False)) for values in lines[1:]]
    return [r for r in rows if r.get("cpu_time", "NA") not in ("NA", "-")]
