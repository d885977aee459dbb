"""The documentation site: every page is in its navigation, nothing comes from elsewhere. `make docs` builds it and fails at a dead link."""

import shutil

import pytest
import yaml

from tests.conftest import ROOT, run


class Loader(yaml.SafeLoader):
    """Python objects of mkdocs.yml are of no interest here."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, tag, node: None)


def site():
    return yaml.load((ROOT / "mkdocs.yml").read_text(), Loader)


def pages(nav):
    for entry in nav:
        for value in entry.values():
            yield from pages(value) if isinstance(value, list) else [value]


def test_every_page_is_in_the_navigation():
    named = list(pages(site()["nav"]))
    assert len(named) == len(set(named))
    there = {p.relative_to(ROOT / "docs").as_posix() for p in ROOT.glob("docs/*.md")}
    assert there <= set(named), f"not in mkdocs.yml: {there - set(named)}"


@pytest.mark.skipif(shutil.which("mkdocs") is None, reason="requirements/docs.txt; `make docs` builds the site")
def test_a_dead_link_and_a_dead_anchor_end_the_build(copy):
    page = copy / "docs/library.md"
    good = page.read_text()
    dead = ["(nowhere.md)", "(../nowhere.py)", "(metrics.md#nowhere)", "(../README.md#nowhere)"]
    page.write_text(good + "\n".join(f"[x]{link}" for link in dead))
    said = run("mkdocs build --strict", copy, fails=True)
    assert all(link in said for link in ("'nowhere.md'", "nowhere.py'", "metrics.md#nowhere'", "index.md#nowhere'")), (
        said
    )
    page.write_text(good)
    run("mkdocs build --strict", copy)
    assert "unpkg" not in (copy / "site/index.html").read_text()
    assert "Train a model" in (copy / "site/reference/library.html").read_text()  # from the docstring
