"""What a server's form is sent back with where nobody is there to fill it in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def filled_with_defaults(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Fill in a form with the values that it proposes itself.

    None where that would say more than it proposes: a field that must be filled in has no default, or none has one,
    for to send back such a form is to agree to its message.

    Args:
        schema: The form, as the restricted JSON Schema of the protocol: an object of plain values.
    """
    fields = schema.get("properties") or {}
    content = {name: field["default"] for name, field in fields.items() if _has_default(field)}
    return content if content and set(schema.get("required") or ()) <= set(content) else None


def _has_default(field: object) -> bool:
    if not isinstance(field, Mapping) or "default" not in field:
        return False
    default = field["default"]
    # A choice of several is a list of strings; other lists, and objects, are no values of the protocol.
    return isinstance(default, str | int | float) or (
        isinstance(default, list) and all(isinstance(one, str) for one in default)
    )
