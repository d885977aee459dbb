"""Docstrings of the reference: the lines `name: meaning` of a class's attributes or a function's arguments become a list.

An extension of griffe, which reads the source text for mkdocstrings (mkdocs.yml). Markdown would join such lines to one paragraph.
"""

import re

from griffe import Extension

FIELD = re.compile(r"^(\w+(?:, \w+)*): ")


class Fields(Extension):
    def on_class(self, *, cls, **_):
        listed(cls, cls.members)

    def on_function(self, *, func, **_):
        listed(func, [parameter.name for parameter in func.parameters])


def listed(thing, names):
    """Rewrite the docstring of a class or function, whose fields have these names."""
    if thing.docstring:
        thing.docstring.value = with_list(thing.docstring.value, set(names))


def with_list(text, names):
    """Example, of a class with attributes a and b: "a: one\\nb: two" -> "* `a`: one\\n* `b`: two"."""
    lines, within = [], False
    for line in text.splitlines():
        found = FIELD.match(line)
        if found and set(found[1].split(", ")) & names:
            if lines and lines[-1] and not within:
                lines.append("")
            line, within = f"* `{found[1]}`: {line[found.end() :]}", True
        elif within and line and not line.startswith(" "):  # the list has ended
            if lines[-1]:
                lines.append("")
            within = False
        lines.append(line)
    return "\n".join(lines)
