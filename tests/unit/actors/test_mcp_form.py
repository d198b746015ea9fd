"""What a server's form is sent back with where nobody is there."""

from __future__ import annotations

import pytest

from actors._mcp_form import filled_with_defaults

NAME = {"type": "string", "default": "Ada"}
SEVERAL = {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "default": ["a"]}
BARE = {"type": "string"}


@pytest.mark.parametrize(
    ("fields", "required", "filled"),
    [
        ({"name": NAME}, [], {"name": "Ada"}),
        ({"name": NAME}, ["name"], {"name": "Ada"}),
        ({"name": NAME, "note": BARE}, ["name"], {"name": "Ada"}),
        ({"no": {"type": "boolean", "default": False}}, ["no"], {"no": False}),
        ({"none": {"type": "integer", "default": 0}}, [], {"none": 0}),
        ({"several": SEVERAL}, [], {"several": ["a"]}),
        ({"name": NAME, "note": BARE}, ["note"], None),
        ({"odd": {"default": {"a": 1}}, "name": NAME}, ["odd"], None),
        ({"odd": {"default": [1]}}, [], None),
    ],
)
def test_a_form_is_sent_back_with_what_it_proposes(fields, required, filled):
    """And not at all where a field that must be filled in has no value that can be sent."""
    schema = {"type": "object", "properties": fields, "required": required}
    assert filled == filled_with_defaults(schema)


@pytest.mark.parametrize("schema", [{"type": "object", "properties": {}}, {"properties": {"sure": BARE}}, {}])
def test_a_form_that_only_wants_a_yes_does_not_get_it(schema):
    """To send it back empty would be to agree to its message, which nobody did."""
    assert filled_with_defaults(schema) is None
