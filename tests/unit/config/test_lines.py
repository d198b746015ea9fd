"""Where keys stand in a document."""

from __future__ import annotations

from agentrt.config.lines import line_numbers

DOCUMENT = '''\
# comment with [a.table] and key = 1
title = """
[not.a.table]
"""  # after it
[a.b]
"quoted \\u0065" . 'x.y' = { in = 1, line = [2, { deep = 3 }] }
list = [
    "]",  # ]
    [4,
     5],
]
[[fruit]]
name = 1979-05-27 07:32:00
[[fruit.kind]]
[[fruit.kind]]
[[fruit]]
[fruit.size]
[a]
'''


def test_every_kind_of_key_has_its_line():
    """Also quoted and dotted ones, those in inline tables, and elements; a header of its own beats a mention."""
    assert line_numbers(DOCUMENT) == {
        ("title",): 2,
        ("a",): 18,
        ("a", "b"): 5,
        ("a", "b", "quoted e"): 6,
        ("a", "b", "quoted e", "x.y"): 6,
        ("a", "b", "quoted e", "x.y", "in"): 6,
        ("a", "b", "quoted e", "x.y", "line"): 6,
        ("a", "b", "quoted e", "x.y", "line", 0): 6,
        ("a", "b", "quoted e", "x.y", "line", 1): 6,
        ("a", "b", "quoted e", "x.y", "line", 1, "deep"): 6,
        ("a", "b", "list"): 7,
        ("a", "b", "list", 0): 8,
        ("a", "b", "list", 1): 9,
        ("a", "b", "list", 1, 0): 9,
        ("a", "b", "list", 1, 1): 10,
        ("fruit",): 12,
        ("fruit", 0): 12,
        ("fruit", 0, "name"): 13,
        ("fruit", 0, "kind"): 14,
        ("fruit", 0, "kind", 0): 14,
        ("fruit", 0, "kind", 1): 15,
        ("fruit", 1): 16,
        ("fruit", 1, "size"): 17,
    }


def test_an_empty_document_has_no_keys():
    """Nor has one of comments."""
    assert line_numbers("") == {}
    assert line_numbers("# only\n\n") == {}
