"""Documents that must agree with the code, with the committed results and with each other."""

import csv
import importlib.util
import re

import pytest

from prefix_rft.common.files import read_json, sha256
from prefix_rft.methods import names
from prefix_rft.report.compare import read_results, sentence
from prefix_rft.report.formats import read_csv
from prefix_rft.runs.load import load_run
from tests.conftest import ROOT

PAGES = sorted(
    p.relative_to(ROOT).as_posix()
    for p in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("workflow/*.md"))
)


def test_configuration_page_is_that_of_the_code(root):
    spec = importlib.util.spec_from_file_location("docs", root / "scripts" / "configuration_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shown = (root / "docs" / "configuration.md").read_text()
    assert shown == module.text(), "run: python scripts/configuration_docs.py"
    assert (root / "docs" / "metrics.md").read_text() == module.metrics_text(), (
        "run: python scripts/configuration_docs.py"
    )


def test_every_method_has_a_row(root):
    page = (root / "docs" / "methods.md").read_text()
    for name in names():
        assert re.search(rf"^\| [^|]*, `{name}` \|", page, re.MULTILINE), name


def test_every_package_has_a_line(root):
    page = (root / "docs/code.md").read_text()
    packages = sorted(p.parent.name for p in (root / "prefix_rft").glob("*/__init__.py"))
    assert len(packages) >= 14 and not [p for p in packages if f"`{p}/`" not in page]


def test_learning_rates_are_those_that_validation_chose(root):
    """config/extension says what the committed table of the grid says; both are made by `snakemake lr_grid`."""
    with open(root / "docs" / "results" / "extension" / "lr_grid.csv") as file:
        rows = list(csv.DictReader(file))
    methods = {r["method"] for r in rows}
    assert methods == {"sft", "rft", "sft_then_rft", "luffy", "prefix_rft"}
    tried = {m: {float(r["lr"]) for r in rows if r["method"] == m} for m in methods}
    assert all(rates >= {0.00025, 0.0005, 0.001, 0.002} for rates in tried.values()), "one grid for all"
    for method in methods:
        best = max((r for r in rows if r["method"] == method), key=lambda r: (float(r["score"]), -float(r["lr"])))
        assert load_run(root / "config" / "extension" / f"{method}.yaml").optimizer.lr == pytest.approx(
            float(best["lr"])
        )


COMMITTED = ("tiny", "smollm2-two-cores", "extension")  # presets with results in docs/results


def anchors(page):
    """Anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}


def test_learning_rates_of_tiny_are_those_of_the_plan(root):
    """The best mean over seeds of the committed grid; the lowest rate in case of a tie (docs/analysis_plan.md)."""
    scores = {}
    for r in read_csv(root / "docs/results/tiny/lr_grid.csv"):
        scores.setdefault(r["method"], {}).setdefault(float(r["lr"]), []).append(float(r["score"]))
    assert set(scores) == {"sft", "rft", "sft_then_rft", "luffy", "prefix_rft"}
    for method, rates in scores.items():
        assert rates.keys() >= {0.00025, 0.0005, 0.001} and {len(s) for s in rates.values()} == {3}
        best = max(sorted(rates), key=lambda rate: sum(rates[rate]))
        assert load_run(root / f"config/tiny/{method}.yaml").optimizer.lr == pytest.approx(best), method


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(root, page):
    text = (root / page).read_text()
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", text):
        to = (root / page).parent / target if target else root / page
        assert to.exists(), target
        assert not anchor or anchor in anchors(to), f"{target}#{anchor}"
    assert not re.search(r"@@\w+@@", text), "a placeholder was left"


def test_the_readme_is_short(root):
    assert len((root / "README.md").read_text().splitlines()) <= 130


def numbers(row):
    return [c.strip(" *") for c in row.split("|")[2:-1]]


def test_numbers_of_the_readme_are_those_of_the_tables(root):
    """The table of the README beside main.csv of two presets, and beside the page of study `own`."""
    page = (root / "README.md").read_text()
    rows = {row.split("|")[1].strip(" *"): numbers(row) for row in re.findall(r"^\|.*$", page, re.MULTILINE)}
    main, pretrained = (
        {
            (r["method"], r["split"], r["temperature"]): f"{100 * float(r['mean']):.1f}"
            for r in read_csv(root / "docs/results" / preset / "main.csv")
            if r["metric"] == "avg@8"
        }
        for preset in ("tiny", "smollm2-two-cores")
    )
    tables = re.findall(
        r"on `(test|ood/longer)` \(.*?\n\n(.*?)\n\n", (root / "docs/results/tiny/own.md").read_text(), re.DOTALL
    )
    own = {  # split -> method -> avg@8 at T = 1, pass@8, avg@8 at T = 0.6, pass@8
        split: {row.split("|")[1].strip(): [c.split()[0] for c in numbers(row) if c] for row in table.splitlines()[2:]}
        for split, table in reversed(tables)  # the first table of a split has the scores
    }
    labels = {"Base": "base", "SFT": "sft", "RFT (Dr.GRPO)": "rft", "LUFFY": "luffy", "Prefix-RFT": "prefix_rft"}
    for label, run in {**labels, "SFT then RFT": "sft_then_rft"}.items():
        shown = next(values for name, values in rows.items() if name.split(",")[0] == label)
        scores = own["test"][label], own["ood/longer"][label]
        expected = [main[run, "test", "0.6"], main[run, "test", "1"], main[run, "ood/longer", "0.6"]]
        expected += [scores[0][2], scores[0][0], scores[1][2]]
        expected += [
            pretrained[run, "test", "0.6"],
            pretrained[run, "test", "1"],
            pretrained[run, "ood/product", "0.6"],
        ]
        assert shown == expected, label


# ------------------------------------------------------------------------------------------------- committed results


def test_the_page_of_two_machines_counts_the_verdicts_as_compare_does(root):
    said = sentence(*(read_results(root / "docs/results" / name) for name in ("tiny", "tiny_seeds_5_to_9")))
    numbers = re.search(r"of (\d+) .* same: (\d+), other .*: (\d+), contradicting: (\d+)", said).groups()
    page = (root / "docs/two_machines.md").read_text("utf-8")
    counted = (
        r"All (\d+) verdicts that both have: (\d+) the same, (\d+) others with overlapping intervals, (\d+) contradict"
    )
    assert re.search(counted, page).groups() == numbers


def test_the_count_of_verdicts_of_ten_new_seeds_is_compares(root):
    said = sentence(*(read_results(root / "docs/results" / name) for name in ("tiny", "tiny_seeds_20_to_29")))
    numbers = re.search(r"same: (\d+), other with overlapping intervals: (\d+), contradicting: (\d+)", said).groups()
    page = (root / "docs/two_machines.md").read_text()
    counted = r"counts (\d+) verdicts the same, (\d+) others with overlapping intervals, (\d+) contradicting"
    assert re.search(counted, page).groups() == numbers


def test_committed_results_are_small(root):
    files = [p for p in (root / "docs/results").rglob("*") if p.is_file()]
    lines = sum(len(p.read_bytes().splitlines()) for p in files if p.suffix != ".png")
    assert lines <= 5000 and sum(p.stat().st_size for p in files) <= 2.5 * 2**20
    for preset in COMMITTED:
        assert len((root / f"docs/results/{preset}/README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("preset", COMMITTED)
def test_committed_tables_are_those_of_the_manifest(root, preset):
    folder = root / "docs/results" / preset
    manifest = read_json(folder / "manifest.json")
    files = manifest["files"]
    for study in manifest.get("added", {}).values():  # published after the rest
        files |= study["files"]
    for path in folder.glob("*.csv"):
        assert sha256(path) == files[f"tables/{path.name}"], path.name
    for path in folder.glob("figures/*.png"):
        assert f"figures/{path.name}" in files, path.name


@pytest.mark.parametrize("preset", COMMITTED)
def test_no_table_is_committed_twice(root, preset):
    seen = {}
    for path in sorted((root / "docs/results" / preset).glob("*.md")):
        for table in re.findall(r"(?:^\|.*\n)+", path.read_text(), re.MULTILINE):
            assert table not in seen, f"{path.name} and {seen[table]}"
            seen[table] = path.name
