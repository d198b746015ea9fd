"""From TOML's tables to the attrs classes, by cattrs, with every fault at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import attrs
from cattrs import ClassValidationError, ForbiddenExtraKeysError, IterableValidationError

from agentrt.config.hooks import key_of, make_converter
from agentrt.config.model import Config
from agentrt.config.problems import Fault, Invalid, KeyPath, did_you_mean, dotted, shown

T = TypeVar("T")

_CONVERTER = make_converter()


@attrs.frozen
class Draft:
    """A configuration for further checks, in which examples stand where the document is wrong.

    Args:
        config: The configuration; it is the document's own only where there are no faults.
        faults: What is wrong with the keys and values, each taken by itself.
        damaged: The paths of the values in *config* that are not the document's.
    """

    config: Config
    faults: tuple[Fault, ...]
    damaged: frozenset[KeyPath]

    def is_damaged(self, path: KeyPath) -> bool:
        """Say whether the value at *path* or a table around it is not the document's own."""
        return any(path[:length] in self.damaged for length in range(1, len(path) + 1))


def structure(document: dict[str, Any]) -> Draft:
    """Structure a document and find every key that is unknown or missing and every value that is not valid.

    Args:
        document: What ``tomllib`` read. It is changed where it is wrong.
    """
    return Draft(*structure_as(document, Config))


def structure_as(document: dict[str, Any], cls: type[T]) -> tuple[T, tuple[Fault, ...], frozenset[KeyPath]]:
    """Structure a document as *cls*, and return what a draft has: it, the faults, and what is not the document's.

    Args:
        document: What ``tomllib`` read. It is changed where it is wrong.
        cls: An attrs class, all of whose keys that have no default have an example.
    """
    faults: tuple[Fault, ...] | None = None
    damaged: set[KeyPath] = set()
    while True:
        try:
            made = _CONVERTER.structure(document, cls)
        except ClassValidationError as error:
            found = list(_flatten(error, ()))
        else:
            return made, faults or (), frozenset(damaged)
        # What later rounds find comes from the mending, not from the person who wrote the document.
        faults = faults or tuple(fault for fault, _ in found)
        for fault, example in found:
            damaged.add(_mend(document, fault.path, example))


def _mend(document: dict[str, Any], path: KeyPath, example: object) -> KeyPath:
    """Put the example of a missing key in place, or take a wrong value out; return what was changed."""
    keys: list[str] = []
    for part in path:
        if isinstance(part, int):
            break  # An array goes whole.
        keys.append(part)
    table = document
    for key in keys[:-1]:
        table = table.get(key, {})
    if example is None:
        table.pop(keys[-1], None)
    else:
        table[keys[-1]] = example
    return tuple(keys)


def _flatten(error: Exception, path: KeyPath) -> Iterator[tuple[Fault, object]]:
    """Turn cattrs' nested groups into faults, each with the example of a key that is missing."""
    if isinstance(error, ClassValidationError):
        fields = attrs.fields_dict(error.cl)
        with_notes, others = error.group_exceptions()
        for cause, note in with_notes:
            attribute = fields[note.name]
            where = (*path, key_of(attribute))
            if isinstance(cause, KeyError):
                yield _missing(where, attribute)
            else:
                yield from _flatten(cause, where)
        for cause in others:
            yield from _flatten(cause, path)
    elif isinstance(error, IterableValidationError):
        for cause, place in error.group_exceptions()[0]:
            yield from _flatten(cause, (*path, place.index))
    elif isinstance(error, ForbiddenExtraKeysError):
        known = [key_of(attribute) for attribute in attrs.fields(error.cl)]
        for key in error.extra_fields:
            hint = did_you_mean(key, known) or f"the keys here are {', '.join(known)}"
            yield Fault((*path, key), "unknown key", hint), None
    elif isinstance(error, Invalid):
        yield Fault(path, str(error), error.hint), None
    else:
        raise error


def _missing(path: KeyPath, attribute: attrs.Attribute[Any]) -> tuple[Fault, object]:
    example = attribute.metadata["example"]
    hint = f"add {path[-1]} = {_inline(example)}"
    if isinstance(example, dict):
        header = path
        for key, value in example.items():
            header = (*header, key) if isinstance(value, dict) else header
        hint = f"add a table [{dotted(header)}]"
    return Fault(path, "missing", hint), example


def _inline(value: object) -> str:
    return f"[{', '.join(map(_inline, value))}]" if isinstance(value, list) else shown(value)
