"""Every command that README or a page shows is planned or run here, is run by the page's own tests, or says `not run`.

`snakemake` and `make` lines are planned (-n) in a copy of the repository, other commands are run. Those in a block or with a comment that
says `not run` are left.
"""

import re
import shlex
import shutil

import pytest

from tests.conftest import ROOT, run

OWN = {  # pages whose commands have tests of their own
    "docs/adding_a_method.md": "tests/methods/test_adding_a_method.py",
    "docs/adding_an_ablation.md": "tests/docs/test_tutorials.py",
    "docs/first_figure.md": "tests/docs/test_tutorials.py",
    "docs/own_data.md": "tests/docs/test_own_data.py",
    "docs/troubleshooting.md": "tests/docs/test_troubleshooting.py",
}
PAGES = [p for p in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("workflow/*.md"))]
COMMAND = re.compile(
    r"(?:[A-Z_]+=\S+ )*(?:snakemake|make|python|prefix-rft|pytest|pip|torchrun|dvc|git|docker|apptainer|source)\b"
)


def commands():
    """(page, command) of every line that is neither marked nor of a page with tests of its own."""
    for page in sorted(PAGES):
        name = page.relative_to(ROOT).as_posix()
        if name in OWN:
            continue
        for kind, block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            shown = kind in ("", "bash") and not block.startswith("# not run")
            for line in block.splitlines() if shown else ():
                command, _, comment = line.partition("  #")
                if COMMAND.match(command) and not comment.strip().startswith("not run"):
                    yield name, command.strip()


COMMANDS = list(commands())
PLANNED = [(page, c) for page, c in COMMANDS if c.startswith("snakemake ")]
MADE = [(page, c) for page, c in COMMANDS if c.split()[0] == "make" and len(c.split()) > 1]
RUN = [(page, c) for page, c in COMMANDS if (page, c) not in PLANNED + MADE]


def plans():
    """The planned commands that differ in nothing but their targets, as one: options -> pages and targets."""
    groups = {}
    for page, command in PLANNED:
        words = [w for w in shlex.split(command)[1:] if w not in ("-n", "--", "--quiet", "rules")]
        options, targets = [], []
        while words:
            word = words.pop(0)
            if word == "--config":
                settings = [w for w in words if "=" in w]
                options += [word, *settings]
                words = [w for w in words if "=" not in w]
            elif word.startswith("--"):
                options += [word, words.pop(0)]
            else:
                targets.append(word)
        groups.setdefault((tuple(options), not targets), set()).update((page, t) for t in targets)
    return [(" ".join(options), sorted(pages)) for (options, _), pages in sorted(groups.items())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_stand_in_fences(page):
    """An indented block would be a command that no test sees."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert not [line for line in prose.splitlines() if line.startswith("    ") and COMMAND.match(line.strip())]


def test_pages_with_tests_of_their_own_are_named_by_these():
    for page, test in OWN.items():
        assert page.rpartition("/")[2] in (ROOT / test).read_text()


def test_the_commands_are_found():
    assert {"README.md", "CONTRIBUTING.md", "docs/paper_presets.md"} <= {page for page, _ in COMMANDS}
    assert len(PLANNED) >= 10 and len(MADE) >= 5 and len(RUN) >= 3


@pytest.mark.parametrize(("options", "targets"), plans(), ids=lambda x: x if isinstance(x, str) else len(x))
def test_snakemake(copy, options, targets):
    said = run(f"snakemake -n --quiet rules {options} -- {' '.join(t for _, t in targets)}", copy)
    assert re.search(r"^total +\d+", said, re.MULTILINE)


@pytest.mark.parametrize(("page", "command"), MADE)
def test_make(page, command):
    said = run(f"make -n {command.removeprefix('make ')}", ROOT)
    assert re.search(r"(?:pytest|mkdocs|snakemake|python -m) ", said)


@pytest.mark.parametrize(("page", "command"), RUN)
def test_run(page, command, copy):
    if "results/tiny " in command:
        shutil.copytree(copy / "docs/results/tiny", copy / "results/tiny")
    assert run(command, copy).strip()
