"""JSON for files that git keeps: a record is a line."""

import hypothesis.strategies as st
from hypothesis import given

from prefix_rft.common.files import read_json, write_json_in_lines

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_what_fits_into_a_line_stands_on_one(tmp_path):
    path = tmp_path / "a.json"
    write_json_in_lines(path, {"rows": [{"a": 1}, {"a": 22}], "note": "x", "none": []}, width=20)
    assert path.read_text() == ('{\n  "rows": [\n    {"a": 1},\n    {"a": 22}\n  ],\n  "note": "x",\n  "none": []\n}\n')
    write_json_in_lines(path, {"a": [1, 2]}, width=20)
    assert path.read_text() == '{"a": [1, 2]}\n'


@given(ANY, st.integers(1, 60))
def test_no_layout_changes_what_is_read(tmp_path_factory, value, width):
    path = tmp_path_factory.mktemp("json") / "a.json"
    write_json_in_lines(path, value, width)
    assert read_json(path) == value
