"""docs/first_figure.md and docs/adding_an_ablation.md: their commands in a copy of the repository. A block that begins with
`# not run by the tests` is not run, and says why."""

import re

import pytest
import yaml

from tests.conftest import ROOT, run
from workflow.settings import load_settings

NOT_RUN = "# not run by the tests: "


def blocks(page, kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.DOTALL | re.MULTILINE)


def commands(page):
    """The command lines of a page that are run, in order."""
    return [line for block in blocks(page, "bash") if not block.startswith(NOT_RUN) for line in block.splitlines()]


def add_half(folder):
    (folder / "config/tiny/half.yaml").write_text(blocks("first_figure.md", "yaml")[0])


def add_share(folder):
    file = folder / "config/tiny/ablations.yaml"
    file.write_text(file.read_text() + blocks("adding_an_ablation.md", "yaml")[0])


@pytest.mark.parametrize("page", ["first_figure.md", "adding_an_ablation.md"])
def test_blocks_that_are_not_run_say_why(page):
    assert all(re.match(rf"{NOT_RUN}\w", b) for b in blocks(page, "bash") if "not run" in b)
    assert len(commands(page)) >= 3


def test_the_run_and_the_ablation_of_the_pages_are_read(copy, monkeypatch):
    add_half(copy)
    add_share(copy)
    monkeypatch.chdir(copy)
    settings = load_settings({"preset": "tiny", "smoke": True})
    assert {"half", "share_10", "share_40"} <= set(settings.known_runs) and "ablation_share" in settings.ablations
    assert not settings.broken


def test_the_plans_of_the_pages(copy):
    add_share(copy)
    for page, expected in (("first_figure.md", "draw_figure"), ("adding_an_ablation.md", "train")):
        plan = next(c for c in commands(page) if " -n " in c)
        assert re.search(rf"^{expected} +\d+", run(plan, copy), re.MULTILINE)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "add", "made"),
    [
        ("first_figure.md", add_half, "figures/figure_4.png"),
        ("adding_an_ablation.md", add_share, "figures/ablation_share.png"),
    ],
)
def test_the_pages(finished_copy, page, add, made):
    add(finished_copy)
    said = {line: run(line, finished_copy) for line in commands(page)}
    assert (finished_copy / "results/tiny-smoke" / made).stat().st_size > 10_000
    last = list(said.values())[-1]
    if page == "first_figure.md":
        assert "--- prefix of the demonstration" in "".join(said.values()) and '"grad_norm"' in "".join(said.values())
        assert '"avg@' in last
    else:
        entry = yaml.safe_load(blocks(page, "yaml")[0])["share"]
        assert entry["label"] and all(f"| {run['at']}" in last for run in entry["runs"].values()), last
