"""Write the summary of a results folder that git keeps: an index page, one page a study, the main tables, figures and a manifest.

    python -m scripts.publish results/tiny docs/results/tiny                      # the summary
    python -m scripts.publish results/tiny docs/results/tiny --archive dist       # and the archive with everything else
    python -m scripts.publish results/tiny docs/results/tiny --study budget far   # add these studies, trained elsewhere, to the summary;
                                                                                  # `paper`: the paper's tables and figures

Models and samples are in neither. What the results mean is written by hand in docs/findings.md. How an archive is unpacked and checked:
scripts/results_archive.py.
"""

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from prefix_rft.common.errors import UserError
from prefix_rft.common.files import atomic_dir, read_mapping, write_json, write_json_in_lines, write_text
from prefix_rft.config.reading import read_yaml
from prefix_rft.report.claims import NOT_TESTED, RULE
from prefix_rft.report.figures import PAPER
from prefix_rft.report.formats import markdown, percent, read_csv
from prefix_rft.report.paper_tables import Source
from prefix_rft.report.published import beside_figure, count
from prefix_rft.report.study import MAIN
from prefix_rft.runs.ablations import PREFIX, read_ablations
from scripts.results_archive import manifest_of, pack

ROOT = Path(__file__).resolve().parents[1]
RUN_KEYS = "config_hash model_sha256 data init budget git_revision versions hardware command".split()
INDEX_FIGURES = ("figure_4", "pass_at_k", "lr_sensitivity", "regimes")
PAPER_TABLES = (
    "table_2",
    "table_4",
    "table_5",
    "table_7",
)  # tables 1 and 8 are the pages of studies `methods` and `controls`
PAPER_PAGE, PAPER_TITLE = "paper", "The paper's tables and figures, from our runs"
COPIED = ("main", "claims", "paper_claims", "paired", "variance", "lr_grid")
# The index's claims: text, pattern of the text in claims.csv or paper_claims.csv, family of the metric.
HEADLINES = (
    ("Prefix-RFT beats RFT", r"Prefix-RFT beats RFT\b.* in domain", "avg"),
    ("Prefix-RFT solves more problems than RFT in k tries", r"Prefix-RFT beats RFT\b.* in domain", "pass"),
    ("Prefix-RFT beats SFT", "Prefix-RFT beats SFT in domain", "avg"),
    ("Prefix-RFT beats SFT then RFT", "Prefix-RFT beats SFT then RFT in domain", "avg"),
    ("Prefix-RFT beats LUFFY", "Prefix-RFT beats LUFFY in domain", "avg"),
    ("Training the prefix helps: it beats a frozen prefix", "Prefix-RFT beats a frozen prefix", "avg"),
    (
        "The entropy clip helps: it beats training all prefix tokens",
        "Prefix-RFT beats training all prefix tokens",
        "avg",
    ),
    ("The reward gap between prefixed and plain rollouts narrows", "The gap between the rewards", "reward"),
)


# ------------------------------------------------------------------------------------------------------------- collect


def refuse_mixed(results: Path):
    """Refuse tables that were made from other models than those in runs/: their numbers would be of two trainings."""
    for path in sorted((results / "tables").glob("*.runs.json")):
        for run, seeds in (read_mapping(path).get("runs") or {}).items():
            for seed, noted in seeds.items():
                record = results / "runs" / run / f"seed{seed}" / "run.json"
                if not record.exists():  # a base model, or a run that is not kept here
                    continue
                found = read_mapping(record).get("model_sha256")
                if noted.get("model_sha256") != found:
                    raise UserError(
                        f"{path}: key 'runs.{run}.{seed}.model_sha256' = {noted.get('model_sha256')!r}: {record} has {found!r}; the"
                        " table was made from another training of this run, make it again with snakemake"
                    )


def collect(results: Path, out: Path):
    """Copy what a reader of the results can use to the folder `out`: tables, figures, report, records of runs, bases and data.

    `results` is the folder of a preset, or an unpacked archive, which is copied as it is.
    """
    tables = sorted(p for p in (results / "tables").glob("*") if p.suffix in (".csv", ".md", ".json"))
    if not tables:
        raise UserError(f"{results}/tables: holds no table; make it with snakemake --cores all")
    if (results / "runs.json").exists():
        shutil.copytree(results, out, dirs_exist_ok=True)
        return
    refuse_mixed(results)
    figures = sorted(p for p in (results / "figures").glob("*") if p.suffix in (".png", ".csv"))
    for folder, files in (("tables", tables), ("figures", figures)):
        (out / folder).mkdir(parents=True)
        for file in files:
            shutil.copy(file, out / folder / file.name)
    records = [read_mapping(path) for path in sorted((results / "runs").glob("*/seed*/run.json"))]
    write_json(out / "runs.json", {f"{r['run']}/seed{r['seed']}": {k: r[k] for k in RUN_KEYS} for r in records})
    for name in ("data/data.json", "data/demos.report.json", "report.html", "audit.html"):
        if (results / name).exists():
            shutil.copy(results / name, out / Path(name).name)
    models = results / "models"
    for path in sorted(
        [*models.glob("*/base.json"), *models.glob("*/seed*/base.json")]
    ):  # base.json, or base.seed0.json
        shutil.copy(path, out / f"{'.'.join(path.parent.relative_to(models).parts)}.json")


# --------------------------------------------------------------------------------------------------------------- pages


def caption(name: str, numbers: Path, preset: str, source: str | None = None) -> str:
    """A figure's caption in the report (workflow/report/*.rst) as one paragraph of Markdown.

    Args:
        name: of the figure.
        numbers: the CSV beside the figure; it says how many seeds and base models were drawn.
        preset: name of the preset.
        source: whose caption it is; unset: that of `name`. A study's figure is its Figure 4.
    """
    ablation, source = name.startswith(PREFIX), source or name
    path = ROOT / "workflow" / "report" / f"{'ablation' if ablation else source}.rst"
    text = path.read_text(encoding="utf-8").replace("|preset|", preset)
    setting = ""
    if ablation or (source in PAPER and name != "figure_1"):  # as `Plan.setting` of the workflow
        rows = read_csv(numbers, ["n_seeds"])
        bases = len({r["base"] for r in rows}) if name == "figure_5" else None
        about = read_yaml(ROOT / "config" / preset / "preset.yaml")
        setting = beside_figure(about, {int(r["n_seeds"]) for r in rows if r["n_seeds"]}, bases)
    text = text.replace("{{ snakemake.params.setting }}", "") + "\n" + setting
    return " ".join(text.replace("``", "`").replace("\\@", "@").split())


def figure(folder: Path, name: str, preset: str, source: str | None = None) -> list[str]:
    """A figure of the folder with its caption; nothing where it was not drawn."""
    if not (folder / "figures" / f"{name}.png").exists():
        return []
    return [f"![{name}](figures/{name}.png)", caption(name, folder / "figures" / f"{name}.csv", preset, source)]


def by_metric(rows: list[dict], names: list[str], cell) -> list[list[str]]:
    """Lines of a table: `names`, then a column for every metric and temperature.

    Args:
        rows: of a table of scores or differences.
        names: columns that name a line.
        cell: text of a row's number.
    """
    columns = list(dict.fromkeys((r["metric"], r["temperature"]) for r in rows))
    lines = {}
    for r in rows:
        lines.setdefault(tuple(r[n] for n in names), {})[r["metric"], r["temperature"]] = cell(r)
    return [
        [*(f"{m}, T = {t}" for m, t in columns)],
        *([*key, *(v.get(c, "") for c in columns)] for key, v in lines.items()),
    ]


def score(row):
    return percent(*(float(row[k]) for k in ("mean", "ci_low", "ci_high")))


def difference(row):
    return percent(*(float(row[k]) for k in ("difference", "ci_low", "ci_high")), "+")


def compute(folder: Path, dot: str, reference: str | None) -> dict[str, str]:
    """{run: its FLOPs over those of the reference}."""
    flops = {r["method"]: float(r["total_flops"]) for r in read_csv(folder / f"tables/{dot}budgets.csv")}
    return {run: f"{x / flops[reference]:.2f}" for run, x in flops.items()} if flops.get(reference) else {}


def study_tables(source: Source, folder: Path, study: str, others=lambda split: False) -> list[str]:
    """Scores with compute, then paired differences, on the whole test split.

    Args:
        others: of which other splits the scores are given too; a level is named as `test/easy`.
    """
    dot = "" if study == MAIN else f"{study}."
    rows, paired = source.scores(study), read_csv(folder / f"tables/{dot}paired.csv")
    label = {r["method"]: r["label"] for r in rows}
    reference = paired[0]["method"] if paired else None
    cost = compute(folder, dot, reference)
    seeds = max(int(r["n_seeds"]) for r in rows)
    first, *rest = dict.fromkeys(r["split"] for r in rows)
    text = []
    for split in (first, *filter(others, rest)):
        own = [r for r in rows if r["split"] == split]
        header, *lines = by_metric(own, ["method"], score)
        note = f"Correct answers in % on `{split}` ({own[0]['n_problems']} problems), mean [95 % interval], {count({seeds}, 'seed')}."
        if split == first and cost:
            header.append("compute")
            lines = [[run, *cells, cost.get(run, "")] for run, *cells in lines]
            note += f" Compute: FLOPs, sampling included, relative to {label[reference]}."
        text += [note, markdown(["Run", *header], [[label[run], *cells] for run, *cells in lines])]
    if own := [r for r in paired if r["split"] == first]:
        header, *lines = by_metric(own, ["method", "rival"], difference)
        lines = [[label[ours], label[rival], *cells] for ours, rival, *cells in lines]
        names = ["Run", "minus"]
        if len({ours for ours, *_ in lines}) == 1:
            names, lines = [f"{label[reference]} minus"], [line[1:] for line in lines]
        text += [
            f"Paired differences in percentage points on `{first}`. Each interval stands for itself and is not corrected for their number.",
            markdown([*names, *header], lines),
        ]
    return text


def claim_table(folder: Path, studies=()) -> str:
    """The headline claims: a row each, from the main comparison where it tests the claim, else from the first study that does."""
    sources = {"": "claims", **{study: f"{study}.claims" for study in studies}, "paper": "paper_claims"}
    tested = {
        name: [r for r in read_csv(path) if r["verdict"] != NOT_TESTED]
        for name, file in sources.items()
        if (path := folder / f"tables/{file}.csv").exists()
    }
    rows = [r for found in tested.values() for r in found]
    temperatures = sorted({r["temperature"] for r in rows if r["temperature"]}, key=float, reverse=True)
    lines = []
    for text, pattern, family in HEADLINES:
        name, found = _first(tested, pattern, family)
        cells = {}
        for r in found:
            cells.setdefault(r["temperature"], f"{difference(r)} {r['verdict']}")
        metric = found[0]["metric"] if found else family
        where = f"[{name}]({name}.md)" if name else ""
        lines.append([text, metric, *(cells.get(t, "" if found else NOT_TESTED) for t in temperatures), where])
    return markdown(["Claim", "Metric", *(f"T = {t}" for t in temperatures), "Study"], lines)


def _first(tested: dict[str, list], pattern: str, family: str) -> tuple[str, list]:
    """The first comparison that tests a claim, and the claim's rows there; ("", []) if none does."""
    for name, rows in tested.items():
        found = [r for r in rows if re.match(pattern, r["claim"]) and r["metric"].split("@")[0] == family]
        if found:
            return name, found
    return "", []


def index_page(source: Source, folder: Path, preset: str, pages: dict[str, str]) -> str:
    claims = [f"[{name}.csv]({name}.csv)" for name in COPIED[1:3] if (folder / f"tables/{name}.csv").exists()]
    own = (f"findings_{preset}.md", f"{preset.replace('-', '_')}.md")  # a preset's findings may stand on its own page
    findings = next((name for name in own if (ROOT / "docs" / name).exists()), "findings.md")
    page = [
        f"# Results of preset `{preset}`",
        f"{source.preset.get('label', preset)}. What the results mean: [findings](../../{findings}).",
        "This folder is the summary that git keeps, written by `python -m scripts.publish`. All tables, figures and records of the"
        " runs are in an archive ([how to get it](../../status.md#results)). [manifest.json](manifest.json) has the hash of each of its"
        " files, and the seeds, code revisions and hardware of the trainings.",
        "## Main comparison",
        *study_tables(source, folder, MAIN),
        "By level: [main.csv](main.csv).",
        "## Claims of the paper",
        f"Paired differences in percentage points. {RULE[0].upper()}{RULE[1:]}.",
        claim_table(folder, pages),
        f"All claims, the critics' too: {', '.join(claims)}. A claim that the main comparison cannot test is called *{NOT_TESTED}*"
        " there, with the target that tests it.",
    ]
    if pages:
        page += ["## Studies", "\n".join(f"* [{name}]({name}.md): {title}" for name, title in pages.items())]
    page.append("## Figures")
    for name in INDEX_FIGURES:
        page += figure(folder, name, preset)
    if (folder / "tables/lr_grid.csv").exists():
        page.append("The scores behind the learning rates, by seed: [lr_grid.csv](lr_grid.csv).")
    return "\n\n".join(part.strip() for part in page) + "\n"


def paper_page(folder: Path, preset: str, *notes: str) -> str:
    page = [
        "# The paper's tables and figures, from our runs",
        *notes,
        "Table 1 is the page [methods](methods.md), Table 8 is [controls](controls.md), both at T = 0.6.",
    ]
    for name in PAPER_TABLES:
        if (path := folder / f"tables/{name}.md").exists():
            page.append(path.read_text(encoding="utf-8"))
    page.append("## Figures")
    for name in paper_figures(folder):
        page += [f"### {name}", *figure(folder, name, preset)]
    return "\n\n".join(part.strip() for part in page) + "\n"


def paper_figures(folder: Path) -> list[str]:
    """Names of the paper's figures that were drawn and that neither README nor index shows."""
    names = sorted(p.stem for p in (folder / "figures").glob("*.png"))
    return [n for n in names if n in PAPER and n not in ("figure_1", *INDEX_FIGURES)]


def has_paper_page(folder: Path) -> bool:
    return bool(paper_figures(folder)) or any((folder / f"tables/{name}.md").exists() for name in PAPER_TABLES)


def study_page(source: Source, folder: Path, name: str, title: str, preset: str, *notes: str) -> str:
    ablation = name.startswith(PREFIX)
    body = study_tables(source, folder, name, lambda split: not (ablation and "/" in split))
    if ablation:
        body.append(f"Scores by level: `tables/{name}.csv` of a results folder.")
    shown = figure(folder, name, preset, None if ablation else "figure_4")
    return "\n\n".join(part.strip() for part in [f"# {title}", *notes, *body, *shown]) + "\n"


def picture(path: Path, out: Path):
    """128 colours are enough for a drawing, at a third of the bytes; the archive has the original."""
    Image.open(path).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(out, optimize=True)


def titled(folder: Path, preset: str, override: str | None) -> tuple[Source, dict[str, str]]:
    """What tables come from, and the title of each study and ablation that has some."""
    config = ROOT / "config" / preset / "preset.yaml"
    source = Source(config, folder, MAIN, None, override)
    titles = {name: (s or {}).get("label") or name for name, s in (source.preset.get("studies") or {}).items()}
    titles |= {PREFIX + name: a.label for name, a in read_ablations(config.parent, override).items()}
    return source, {name: title for name, title in titles.items() if (folder / f"tables/{name}.csv").exists()}


def add_studies(folder: Path, out: Path, preset: str, override: str | None, studies: list[str]):
    """Add studies to the summary `out` whose other pages come from other trainings: their pages, figures and lines of the index.

    Why: a preset's studies are hours of work, and base models differ between machines; so a page that was made elsewhere says so.
    Key `added` of the manifest has the provenance of each. `paper` is the page of the paper's tables and figures. Raises `UserError` for
    a study without tables.
    """
    source, titles = titled(folder, preset, override)
    if has_paper_page(folder):
        titles[PAPER_PAGE] = PAPER_TITLE
    for name in studies:
        if name == PAPER_PAGE and name not in titles:
            raise UserError(
                f"--study {name}: {folder}: every table and figure of the paper is missing; make them with snakemake"
                " --cores all paper_figures"
            )
        if name not in titles:
            target = name if name.startswith(PREFIX) else f"study_{name}"
            raise UserError(
                f"--study {name}: {folder / f'tables/{name}.csv'} is missing; make it with snakemake --cores all {target}"
            )
    manifest = read_mapping(out / "manifest.json")
    with atomic_dir(out) as part:
        shutil.copytree(out, part, dirs_exist_ok=True)
        index = (part / "README.md").read_text(encoding="utf-8")
        if "## Studies\n" not in index:  # none was published with the main comparison
            index = index.replace("## Figures\n", "## Studies\n\n## Figures\n")
        for name in studies:
            paper = name == PAPER_PAGE
            found = manifest_of(folder, preset, None if paper else name)
            where = "; ".join(
                f"{h['cpu']}, {h.get('instruction_set', 'instruction set not recorded')}" for h in found["hardware"]
            )
            note = (
                "Trained apart from the [main comparison](README.md), with base models of its own machine; compare within this page."
                f" Seeds {found['seeds'][MAIN if paper else name]}; {where}."
            )
            figures, tables = (paper_figures(folder), PAPER_TABLES) if paper else ([name], [name])
            page = (
                paper_page(folder, preset, note)
                if paper
                else study_page(source, folder, name, titles[name], preset, note)
            )
            write_text(part / f"{name}.md", page)
            for shown in figures:
                if (path := folder / f"figures/{shown}.png").exists():
                    picture(path, part / "figures" / path.name)
            line = f"* [{name}]({name}.md): {titles[name]}"
            index, found_before = re.subn(
                rf"^\* \[{name}\]\({name}\.md\): .*$", lambda _, line=line: line, index, flags=re.M
            )
            if not found_before:
                before, _, after = index.partition("## Studies\n\n")
                lines, _, rest = after.partition("## Figures\n")
                index = f"{before}## Studies\n\n{lines.strip()}\n{line}\n\n## Figures\n{rest}".replace("\n\n\n", "\n\n")
            kept = {
                file: digest
                for file, digest in found["files"].items()
                if file in {*(f"tables/{t}.csv" for t in tables), *(f"figures/{f}.png" for f in figures)}
            }
            manifest.setdefault("added", {})[name] = {"files": kept, **{k: found[k] for k in ("revisions", "hardware")}}
        write_text(part / "README.md", index)
        write_json_in_lines(part / "manifest.json", manifest)


def summary(folder: Path, out: Path, preset: str, override: str | None):
    """Write the pages, tables, figures and manifest of collected results into the folder `out`."""
    source, titles = titled(folder, preset, override)
    with atomic_dir(out) as part:
        for name in COPIED:
            if (path := folder / f"tables/{name}.csv").exists():
                shutil.copy(path, part / path.name)
        (part / "figures").mkdir()
        for path in sorted((folder / "figures").glob("*.png")):
            picture(path, part / "figures" / path.name)
        pages = dict(titles)
        for name, title in titles.items():
            write_text(part / f"{name}.md", study_page(source, folder, name, title, preset))
        if has_paper_page(folder):
            write_text(part / f"{PAPER_PAGE}.md", paper_page(folder, preset))
            pages[PAPER_PAGE] = PAPER_TITLE
        write_text(part / "README.md", index_page(source, folder, preset, pages))
        named = "".join(page.read_text(encoding="utf-8") for page in part.glob("*.md"))
        for path in part.glob("figures/*.png"):  # the archive has every figure; figure_1 is the README's
            if path.stem != "figure_1" and f"figures/{path.name}" not in named:
                path.unlink()
        write_json_in_lines(part / "manifest.json", manifest_of(folder, preset))


def publish(results: Path, out: Path, archive: Path | None = None, studies: list[str] | None = None):
    """Summary of `results` in `out`; with `archive` also the archive, in that folder; with `studies` only these, added to `out`."""
    preset = results.name.removesuffix("-published").removesuffix("-smoke")
    if not (ROOT / "config" / preset / "preset.yaml").exists():
        raise UserError(f"{results}: the folder's name names no preset in {ROOT / 'config'}")
    override = str(ROOT / "config" / preset / "smoke.yaml") if results.name.endswith("-smoke") else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "collected"
        folder.mkdir()
        collect(results, folder)
        if studies:
            return add_studies(folder, out, preset, override, studies)
        summary(folder, out, preset, override)
        if archive is not None:
            print(pack(folder, archive, read_mapping(out / "manifest.json")))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="results folder, such as results/tiny, or an unpacked archive")
    parser.add_argument("out", type=Path, help="folder of the summary, such as docs/results/tiny")
    parser.add_argument("--archive", type=Path, help="folder for the archive of everything else")
    parser.add_argument(
        "--study", nargs="+", metavar="NAME", help="add these studies to the summary, and leave the rest as it is"
    )
    args = parser.parse_args()
    try:
        publish(args.results, args.out, args.archive, args.study)
    except UserError as e:
        sys.exit(f"error: {e}")
