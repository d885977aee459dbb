"""The page of a preset's results, and the sentences on top of it."""

import re
import shutil

import pytest

from prefix_rft.common.errors import UserError
from prefix_rft.common.files import read_json, write_json
from prefix_rft.report import headline, page, tables
from prefix_rft.report.figures import make_figure
from tests.conftest import ROOT
from tests.helpers import synthetic


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    preset, results = synthetic.build(tmp_path_factory.mktemp("page"), seeds=(0, 1))
    tables.make_tables(preset, results, results / "tables", "main")
    make_figure("comparison", preset, results, results / "figures/comparison.pdf")
    return preset, results


def sources(preset, results, committed="nothing"):
    return page.Sources(preset.parent, results, ROOT / "workflow/report", results / committed, results / "audit.html")


def row(rival, difference, low, high, p_holm=None, split="test", temperature=0.6):
    return {
        **{"method": "prefix_rft", "rival": rival, "rival_kind": rival, "split": split, "metric": "avg@8"},
        **{"temperature": temperature, "difference": difference, "ci_low": low, "ci_high": high, "p_holm": p_holm},
    }


def test_sentences_by_hand():
    """Corrected where there is a corrected p-value, by the interval elsewhere; equal verdicts stand together."""
    labels = {"prefix_rft": "Prefix-RFT", "sft": "SFT", "rft": "RFT", "luffy": "LUFFY"}
    pairs = [
        row("sft", 0.10, 0.05, 0.15, p_holm=0.01),
        row("rft", 0.02, 0.001, 0.04, p_holm=0.06),
        row("luffy", 0.05, 0.02, 0.08, p_holm=0.02),
        row("sft", -0.10, -0.15, -0.05, temperature=1.0),
        row("rft", 0.001, -0.02, 0.02, split="ood"),
        row("rft", 0.3, 0.2, 0.4, split="ood", temperature=1.0),
    ]
    h = headline.Headline(labels, {("rft", "test", "avg@8", t): (0, 0, 0) for t in (1.0, 0.6)}, pairs, 5)
    assert headline.sentences(h) == [
        "Prefix-RFT is better than SFT (+10.0 [+5.0, +15.0]) and LUFFY (+5.0 [+2.0, +8.0]), and not to be told apart from"
        " RFT (+2.0 [+0.1, +4.0], corrected p = 0.060) (avg@8 at T = 0.6, 5 seeds, corrected for 3 comparisons).",
        "At T = 1 it is worse than SFT (-10.0 [-15.0, -5.0]) (not corrected).",
        "Out of domain it is about equal to RFT (+0.1 [-2.0, +2.0]) (not corrected).",
    ]


def test_page_is_one_file_with_all_parts(made):
    preset, results = made
    text = page.make_page(sources(preset, results)).read_text()
    assert re.findall("<section><h2>(.*)</h2>", text) == [
        "Question",
        "Setting",
        "Result",
        "Figures",
        "Tables",
        "What was run",
    ]
    assert text.count("data:image/png;base64,") == 1 and "95 % intervals over seeds and problems" in text
    assert not re.search(r"(src|href)=[\"']?https?:", text)  # self-contained
    for run in ("SFT", "RFT", "LUFFY", "Prefix-RFT"):
        assert f'<td style="text-align:left">{run}</td>' in text
    assert "audit trail" not in text and "Beside the committed results" not in text


def test_page_says_whether_the_committed_results_agree(made, tmp_path):
    preset, results = made
    shutil.copytree(results / "tables", tmp_path / "committed")
    (results / "audit.html").touch()
    text = page.make_page(sources(preset, results, tmp_path / "committed")).read_text()
    assert "agrees with" in text and '<a href="audit.html">' in text
    (results / "audit.html").unlink()


def test_page_has_the_studies_and_ablations_that_were_run(made, tmp_path):
    """A study that has tables is on the page with its figure; before that the page has no such section."""
    preset, results = made
    tables.make_tables(preset, results, results / "tables", "few")
    text = page.make_page(sources(preset, results)).read_text()
    section = text.split("<h2>Studies and ablations</h2>")[1].split("</section>")[0]
    assert re.findall("<summary>(.*)</summary>", section) == ["10 % of the demonstrations"]
    assert '<td style="text-align:left">Prefix-RFT</td>' in section and "<img" not in section
    shutil.copy(results / "figures/comparison.png", results / "figures/few.png")
    section = page.make_page(sources(preset, results)).read_text().split("<h2>Studies and ablations</h2>")[1]
    assert section.count("data:image/png;base64,") == 1
    (results / "figures/few.png").unlink()
    for file in (results / "tables").glob("few*"):
        file.unlink()


def test_text_of_problems_is_escaped(made, tmp_path):
    preset, results = made
    label = "a & <b>"
    record = read_json(results / "tables/main.runs.json")
    write_json(results / "tables/main.runs.json", record | {"labels": {**record["labels"], "rft": label}})
    text = page.make_page(sources(preset, results)).read_text()
    assert "<b>" not in text.split("</style>")[1]
    write_json(results / "tables/main.runs.json", record)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("main.csv", "", "main.csv: has no rows; make it again with the command `tables`"),
        ("paired.csv", "p_holm", "paired.csv: column 'p_holm' is missing"),
    ],
)
def test_tables_that_cannot_be_summed_up_end_in_one_line(made, tmp_path, name, text, expected):
    """Tables without rows, and those of an earlier version without the corrected p-value."""
    shutil.copytree(made[1] / "tables", tmp_path / "tables")
    file = tmp_path / "tables" / name
    head, *rows = file.read_text().splitlines()
    file.write_text("\n".join([head.replace(text, "old"), *rows] if text else [head]) + "\n")
    with pytest.raises(UserError, match=re.escape(expected)):
        headline.read_headline(tmp_path / "tables")
