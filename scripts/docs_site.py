"""What the documentation site (mkdocs.yml, `make docs`) shows beside docs/. mkdocs calls the functions whose names begin with on_.

* README.md, which is the front page, and the other pages of PAGES.
* The reference: pages of docstrings, which mkdocstrings reads from the source text. They would be empty on GitHub, so they are no files.
* A page with the text of every file that a page links to. So the site needs no address of a repository, and a dead link is an error.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
PAGES = {  # page of the repository -> page of the site
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "workflow/README.md": "workflow.md",
}
META = {"index.md": {"hide": ["navigation"]}, "glossary.md": {"search": {"boost": 2}}}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)(?=[)#])")  # the target of a relative link, without its anchor
LANGUAGES = {
    ".py": "python",
    ".yaml": "yaml",
    ".json": "json",
    ".ipynb": "json",
    ".def": "bash",
    "": "text",
    ".cff": "yaml",
}
# page -> title, introduction, [(heading, what mkdocstrings shows)]
REFERENCE = {
    "reference/library.md": (
        "The library",
        "What `prefix_rft` has; [The Python library](../library.md) shows how it is used. Classes of methods: [Methods](methods.md).",
        [
            ("prefix_rft.train", "prefix_rft.library.train"),
            ("prefix_rft.Result", "prefix_rft.library.Result"),
            ("prefix_rft.UserError", "prefix_rft.common.errors.UserError"),
        ],
    ),
    "reference/trl.md": (
        "TRL",
        "[Prefix-RFT in TRL](../trl.md) shows how it is used.",
        [(f"prefix_rft.trl.{name}", f"prefix_rft.trl.{name}") for name in ("PrefixGRPOConfig", "PrefixGRPOTrainer")],
    ),
    "reference/groups.md": (
        "Groups and their parts",
        "How a group begins, its advantages, the weights of its tokens. [Adding a method](../adding_a_method.md) uses these.",
        [
            (name, name)
            for name in (
                "prefix_rft.methods.parts.base",
                "prefix_rft.methods.parts.groups",
                "prefix_rft.methods.parts.schedules",
                "prefix_rft.methods.parts.advantages",
                "prefix_rft.methods.parts.tokens",
                "prefix_rft.episodes",
            )
        ],
    ),
    "reference/objectives.md": (
        "Objectives",
        "What a method tells the loss, and the loss. [Methods in one notation](../methods.md) has the formulas.",
        [(name, name) for name in ("prefix_rft.streams", "prefix_rft.training.loss")],
    ),
    "reference/statistics.md": (
        "Statistics",
        "[Statistics](../statistics.md) says which of these the tables use, and how they were checked.",
        [("prefix_rft.evaluation.statistics", "prefix_rft.evaluation.statistics")],
    ),
}
METHODS = (
    "Methods",
    "A class of `prefix_rft` for each method, such as `prefix_rft.PrefixRFT(keep_share=0.2)`, and what its file says of it."
    " [Methods in one notation](../methods.md) has the formulas side by side.",
)


def on_config(config):
    """The results of every preset that has some committed, at the end of the section Results."""
    for section in config.nav:
        if "Results" in section:
            found = sorted(path.parent.name for path in ROOT.glob("docs/results/*/README.md"))
            section["Results"] += [{f"Tables of preset {name}": f"results/{name}/README.md"} for name in found]
    return config


def on_files(files, config):
    for page, name in PAGES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / page)))
    for name, (title, text, objects) in REFERENCE.items():
        shown = [f"::: {what}\n    options:\n      heading: {heading}\n" for heading, what in objects]
        files.append(generated(config, name, f"# {title}\n\n{text}\n\n" + "\n".join(shown)))
    files.append(generated(config, "reference/methods.md", methods_page()))
    for path in sorted({target for file in files.documentation_pages() for target in source_files(file)}):
        files.append(generated(config, source_page(path), source_text(path)))
    return files


def on_page_markdown(markdown, page, **_):
    """Relative links of the repository become those of the site."""
    here = repository_path(page.file.src_uri)
    page.meta |= META.get(page.file.src_uri, {})
    if here is None:
        return markdown

    def moved(match):
        path = posixpath.normpath(posixpath.join(posixpath.dirname(here), match[1]))
        if path.startswith("docs/"):
            to = path.removeprefix("docs/")
        elif path in PAGES:
            to = PAGES[path]
        elif (ROOT / path).is_file():
            to = source_page(path)
        else:
            return match[0]
        return posixpath.relpath(to, posixpath.dirname(page.file.src_uri) or ".")

    markdown = re.sub(
        r"^\[!\[[^\n]*\]\(https:.*\n", "", markdown, flags=re.MULTILINE
    )  # badges: the site fetches nothing
    # a table right below a comment is one for GitHub, but not here
    return re.sub(r"^(<!-- .* -->)\n", r"\1\n\n", LINK.sub(moved, markdown), flags=re.MULTILINE)


def on_page_content(html, **_):
    """A search finds what the reference says of a function, and not its source text."""
    return html.replace(
        '<details class="mkdocstrings-source">', '<details class="mkdocstrings-source" data-search-exclude>'
    )


def repository_path(name):
    """Path in the repository of a page of the site; None: it was made here."""
    for page, made in PAGES.items():
        if made == name:
            return page
    return f"docs/{name}" if (ROOT / "docs" / name).is_file() else None


def source_files(file):
    """Paths in the repository of the files that a page links to and that are no page and not below docs/."""
    here = repository_path(file.src_uri)
    if here is None:
        return []
    links = LINK.findall((ROOT / here).read_text(encoding="utf-8"))
    paths = {posixpath.normpath(posixpath.join(posixpath.dirname(here), link)) for link in links}
    return [path for path in paths if path not in PAGES and not path.startswith("docs/") and (ROOT / path).is_file()]


def source_page(path):
    return f"source/{path}.md"


def source_text(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    language = LANGUAGES.get(Path(path).suffix, "text")
    head = f"---\nsearch: {{exclude: true}}\nhide: [navigation, toc]\n---\n\n# {path}"
    return f'{head}\n\n~~~~~~ {{.{language} linenums="1"}}\n{text}~~~~~~\n'


def methods_page():
    """A heading for each class, and the docstring of its module."""
    title, text = METHODS
    parts = [f"# {title}\n\n{text}\n"]
    for path in sorted(ROOT.glob("prefix_rft/methods/*.py")):
        found = re.search(r"^METHOD = (\w+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            parts.append(
                f"::: prefix_rft.methods.{path.stem}\n    options:\n      heading: prefix_rft.{found[1]}\n      members: []\n\n"
                f"Keys and defaults: [Configuration](../configuration.md#{anchor(path.stem)}).\n"
            )
    return "\n".join(parts)


def anchor(method):
    """That of the method's heading in docs/configuration.md."""
    head = re.search(rf"^### (Method `{method}`.*)$", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE)[1]
    return re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-")


def generated(config, name, text):
    return File.generated(config, name, content=text)
