"""Publishing results: the summary that git keeps, the archive of the rest, and the check of an archive against its manifest."""

import re
import shutil
import tarfile

import pytest

from prefix_rft.common.errors import UserError
from prefix_rft.common.files import read_json, sha256, write_json, write_text
from scripts import publish, results_archive
from scripts.results_archive import check, files_of, manifest_of, pack, unpack
from tests.conftest import ROOT, run

COMMITTED = ROOT / "docs/results/tiny"


@pytest.fixture
def collected(tmp_path):
    """A small collected folder: one table, one figure, the records of two trainings."""
    folder = tmp_path / "collected"
    write_text(folder / "tables/main.csv", "method\nrft\n")
    write_json(folder / "tables/main.runs.json", {"study": "main", "seeds": [0, 1], "labels": {"rft": "RFT"}})
    write_text(folder / "figures/figure_4.csv", "step\n1\n")
    record = {"git_revision": "abc", "hardware": {"machine": "x86_64", "cpus": 2, "threads": 1}}
    write_json(folder / "runs.json", {"rft/seed0": record, "rft/seed1": record | {"git_revision": "def"}})
    return folder


@pytest.fixture
def manifest(collected, tmp_path):
    write_json(tmp_path / "manifest.json", manifest_of(collected, "tiny"))
    return tmp_path / "manifest.json"


def test_manifest_says_what_is_there_and_where_it_comes_from(collected, manifest):
    values = read_json(manifest)
    assert list(values["files"]) == ["figures/figure_4.csv", "runs.json", "tables/main.csv", "tables/main.runs.json"]
    assert values["files"]["tables/main.csv"] == sha256(collected / "tables/main.csv")
    assert values["seeds"] == {"main": "0 1"} and values["labels"] == {"rft": "RFT"}
    assert values["revisions"] == [{"revision": "abc", "trainings": 1}, {"revision": "def", "trainings": 1}]
    assert values["hardware"] == [{"cpu": "not recorded", "machine": "x86_64", "cpus": 2, "threads": 1, "trainings": 2}]


def test_archive_is_equal_for_equal_files_and_unpacks_to_them(collected, manifest, tmp_path):
    first, second = (pack(collected, tmp_path / name, read_json(manifest)) for name in "ab")
    assert first.read_bytes() == second.read_bytes() and first.name == second.name
    for source in (str(first), first.as_uri()):
        assert unpack(source, "tiny", manifest, tmp_path / "out") == 4
        assert files_of(tmp_path / "out") == files_of(collected)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: write_text(f / "tables/main.csv", "method\nsft\n"), "'files.tables/main.csv': has other bytes"),
        (lambda f: (f / "runs.json").unlink(), "'files.runs.json': is missing"),
        (lambda f: write_text(f / "tables/x.csv", "x"), "'files.tables/x.csv': is not in the manifest"),
    ],
)
def test_archive_with_another_file_is_refused_and_leaves_nothing(collected, manifest, tmp_path, change, expected):
    change(collected)
    archive = pack(collected, tmp_path, {"preset": "tiny", "files": files_of(collected)})
    with pytest.raises(UserError, match=re.escape(expected)):
        unpack(str(archive), "tiny", manifest, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_cannot_write_outside_its_folder(collected, manifest, tmp_path):
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as tar:
        tar.add(collected / "runs.json", arcname="../escaped.json")
    with pytest.raises(UserError, match="bad.tar.gz: is no readable"):
        unpack(str(tmp_path / "bad.tar.gz"), "tiny", manifest, tmp_path / "in/out")
    assert not list(tmp_path.rglob("escaped.json"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("nothing.tar.gz", "nothing.tar.gz: no such archive"),
        ("file:///nothing.tar.gz", "file:///nothing.tar.gz: cannot be fetched"),
        ("git:no-such-revision", "git:no-such-revision: git has no results of preset tiny there"),
        (str(ROOT / "README.md"), "README.md: is no readable .tar.gz archive"),
    ],
)
def test_bad_sources_end_in_one_line(source, expected, manifest, tmp_path):
    with pytest.raises(UserError) as e:
        unpack(source, "tiny", manifest, tmp_path / "out")
    assert expected in str(e.value) and "\n" not in str(e.value)


def test_results_of_a_revision_are_those_of_the_manifest(manifest, collected, tmp_path, monkeypatch):
    """`git:REVISION` takes the files that were committed there, without the page."""
    repository = tmp_path / "repository"
    shutil.copytree(collected, repository / "docs/results/extension")
    write_text(repository / "docs/results/extension/README.md", "a page")
    for command in ("git init -q", "git add -A", "git commit -q -m results"):
        run(command, repository)
    monkeypatch.setattr(results_archive, "ROOT", repository)
    assert unpack("git:HEAD", "extension", manifest, tmp_path / "out") == 4
    check(tmp_path / "out", manifest)


# ------------------------------------------------------------------------------------------------------ a smoke run


def form(folder):
    """What a summary looks like, without its numbers: columns of the CSVs, keys of the manifest, the index's headings, the head and the
    first cells of its tables."""
    columns = [(folder / name).read_text().splitlines()[0] for name in ("main.csv", "claims.csv")]
    page = re.sub(r"@\d+", "@k", (folder / "README.md").read_text())
    headings = [
        h for h in re.findall(r"^## .*", page, re.MULTILINE) if h != "## Studies"
    ]  # a smoke run of the main comparison has none
    heads = [re.sub(r" +", " ", line) for line in re.findall(r"^(\|.*)\n\|:-", page, re.MULTILINE)]
    return (
        columns,
        [key for key in read_json(folder / "manifest.json") if key != "added"],  # studies that were published later
        headings,
        heads,
        re.findall(r"^\| (.*?) *\|", page, re.MULTILINE),
    )


def test_committed_summary_has_the_form_of_a_fresh_one(finished, tmp_path):
    results = finished / "results/tiny-smoke"
    publish.publish(results, tmp_path / "summary", tmp_path)
    assert form(tmp_path / "summary") == form(COMMITTED)
    (archive,) = tmp_path.glob("results-tiny-*.tar.gz")
    assert unpack(str(archive), "tiny", tmp_path / "summary/manifest.json", tmp_path / "tiny-published") > 20
    assert sha256(tmp_path / "tiny-published/tables/main.csv") == sha256(results / "tables/main.csv")


def test_a_study_that_was_trained_elsewhere_is_added_and_the_rest_stays(finished, tmp_path):
    """Its page, its line of the index, and its provenance beside that of the others; adding it twice is adding it once."""
    results = shutil.copytree(finished / "results/tiny-smoke", tmp_path / "elsewhere/tiny-smoke", symlinks=True)
    tables = results / "tables"
    for name, of in (("main.csv", "few.csv"), ("paired.csv", "few.paired.csv"), ("budgets.csv", "few.budgets.csv")):
        shutil.copy(tables / name, tables / of)
    write_json(tables / "few.runs.json", read_json(tables / "main.runs.json") | {"study": "few"})
    shutil.copy(results / "figures/figure_4.png", results / "figures/few.png")
    shutil.copy(results / "figures/figure_4.csv", results / "figures/few.csv")
    out = shutil.copytree(COMMITTED, tmp_path / "summary")
    line = "* [few](few.md): Demonstrations for a tenth of the problems\n"
    write_text(out / "README.md", (out / "README.md").read_text().replace(line, ""))
    (out / "few.md").unlink()
    for _ in range(2):
        publish.publish(results, out, studies=["few"])
        index = (out / "README.md").read_text()
        write_text(out / "README.md", index.replace(line, "* [few](few.md): A title that has changed\n"))
    publish.publish(results, out, studies=["few"])
    index, committed = ((folder / "README.md").read_text().splitlines() for folder in (out, COMMITTED))
    assert sorted(index) == sorted(committed)
    page = (out / "few.md").read_text()
    assert page.startswith(
        "# Demonstrations for a tenth of the problems\n\nTrained apart from the [main comparison](README.md)"
    )
    assert f"Seeds {' '.join(map(str, read_json(tables / 'main.runs.json')['seeds']))}; " in page
    added, before = (read_json(folder / "manifest.json") for folder in (out, COMMITTED))
    assert {k: v for k, v in added.items() if k != "added"} == {k: v for k, v in before.items() if k != "added"}
    assert (
        "tables/few.csv" in added["added"]["few"]["files"] and "tables/main.csv" not in added["added"]["few"]["files"]
    )
    assert (out / "own.md").read_bytes() == (COMMITTED / "own.md").read_bytes()
    for name, target in (("weak", "study_weak"), ("ablation_lr", "ablation_lr"), ("paper", "paper_figures")):
        with pytest.raises(
            UserError, match=f"--study {name}: .*is missing; make (it|them) with snakemake .* {target}$"
        ):
            publish.publish(results, out, studies=[name])
    # the paper's tables and figures
    write_text(tables / "table_2.md", "## Table 2: quantity and quality\n")
    write_text(tables / "table_2.csv", "method\nrft\n")
    for suffix in ("png", "csv"):
        shutil.copy(results / f"figures/figure_4.{suffix}", results / f"figures/figure_2.{suffix}")
    publish.publish(results, out, studies=["paper"])
    page = (out / "paper.md").read_text()
    assert "Trained apart from the [main comparison](README.md)" in page and "## Table 2: quantity and quality" in page
    assert (
        "![figure_2](figures/figure_2.png)" in page
        and "figure_4" not in page
        and (out / "figures/figure_2.png").exists()
    )
    assert list(read_json(out / "manifest.json")["added"]["paper"]["files"]) == [
        "figures/figure_2.png",
        "tables/table_2.csv",
    ]
    assert "* [paper](paper.md): The paper's tables and figures" in (out / "README.md").read_text()
    # a summary that has no study yet
    out = shutil.copytree(ROOT / "docs/results/smollm2-two-cores", tmp_path / "alone")
    publish.publish(results, out, studies=["few"])
    assert f"\n## Studies\n\n{line}\n## Figures\n" in (out / "README.md").read_text()
