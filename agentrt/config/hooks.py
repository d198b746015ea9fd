"""How each type of the configuration is read from TOML's types: the hooks of a cattrs converter."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Callable
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

import attrs
from cattrs import BaseConverter, ClassValidationError, Converter, IterableValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, override

from agentrt.config.problems import Invalid, did_you_mean, shown
from agentrt.config.scalars import Duration, Name, Secret, Size
from agentrt.config.secret import parse_secret
from agentrt.config.units import parse_duration, parse_size

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
# With the sign these are 64, TOML's own limit, which tomllib does not hold anybody to.
_INTEGER_BITS = 63
_TOML_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (int, "an integer"),
    (float, "a float"),
    (str, "a string"),
    (list, "an array"),
    (dict, "a table"),
    (datetime, "a date and time"),
    (date, "a date"),
    (time, "a time"),
)


def make_converter() -> Converter:
    """Make a converter that takes TOML's types strictly and refuses unknown keys.

    It raises cattrs' groups of errors, in which each value that is not valid is an :class:`Invalid`.
    """
    converter = Converter(detailed_validation=True)
    converter.register_structure_hook(str, _scalar(str, "a string"))
    converter.register_structure_hook(int, _integer)
    converter.register_structure_hook(bool, _scalar(bool, "true or false"))
    converter.register_structure_hook(float, _float)
    converter.register_structure_hook(Path, _path)
    converter.register_structure_hook(Duration, _duration)
    converter.register_structure_hook(Size, _size)
    converter.register_structure_hook(Secret, _secret)
    converter.register_structure_hook(Name, _name)
    converter.register_structure_hook_func(_is(Literal), _literal)
    converter.register_structure_hook_factory(_is(dict), _table)
    converter.register_structure_hook_factory(_is(tuple), _array)
    converter.register_structure_hook_factory(attrs.has, _class)
    return converter


def key_of(attribute: attrs.Attribute[Any]) -> str:
    """Name the key in TOML that an attribute is read from."""
    return str(attribute.metadata.get("key", attribute.name))


def _is(origin: object) -> Callable[[Any], bool]:
    def matches(cls: Any) -> bool:
        return get_origin(cls) is origin

    return matches


def _expect(kind: type | types.UnionType, what: str, raw: object, hint: str = "") -> None:
    # In Python a boolean is an integer, in TOML it is not.
    if not isinstance(raw, kind) or (isinstance(raw, bool) and kind is not bool):
        got = next((name for known, name in _TOML_TYPES if isinstance(raw, known)), type(raw).__name__)
        # The value itself is not repeated: a secret may have been put in the wrong place.
        raise Invalid(f"expected {what}, got {got}", hint)


def _scalar(kind: type, what: str) -> Callable[[Any, Any], Any]:
    def structure_scalar(raw: Any, _: Any) -> Any:
        _expect(kind, what, raw)
        return raw

    return structure_scalar


def _integer(raw: Any, _: Any) -> int:
    _expect(int, "an integer", raw)
    if raw.bit_length() > _INTEGER_BITS:
        raise Invalid(f"expected an integer that 64 bits hold, got {shown(raw)}")
    return int(raw)


def _float(raw: Any, _: Any) -> float:
    if isinstance(raw, int) and not isinstance(raw, bool):
        raw = float(_integer(raw, int))
    _expect(float, "a number", raw)
    if not math.isfinite(raw):
        raise Invalid(f"expected a finite number, got {shown(raw)}")
    return float(raw)


def _path(raw: Any, _: Any) -> Path:
    _expect(str, "a path as a string", raw)
    if not raw or "\0" in raw:
        raise Invalid(f"not a path: {shown(raw)}")
    return Path(raw)


def _duration(raw: Any, _: Any) -> Duration:
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        raise Invalid(f"a duration needs a unit, got {shown(raw)}", f"write {shown(f'{raw}s')} for seconds")
    _expect(str, "a duration", raw, 'write a string like "30s"')
    return parse_duration(raw)


def _size(raw: Any, _: Any) -> Size:
    _expect(int | str, "a size", raw, 'write a string like "64MiB" or a number of bytes')
    return parse_size(raw if isinstance(raw, str) else str(_integer(raw, int)))


def _secret(raw: Any, _: Any) -> Secret:
    _expect(str, "a reference to a secret", raw, 'write "env:NAME" or "file:PATH"')
    return parse_secret(raw)


def _name(raw: Any, _: Any) -> Name:
    _expect(str, "a name as a string", raw)
    if not _NAME.fullmatch(raw):
        hint = "a name has up to 63 lower-case letters, digits and hyphens, and begins with a letter"
        raise Invalid(f"not a name: {shown(raw)}", hint)
    return Name(raw)


def _literal(raw: Any, cls: Any) -> Any:
    choices = get_args(cls)
    if not any(raw == choice and type(raw) is type(choice) for choice in choices):
        got = shown(raw) if isinstance(raw, str | int | float) else "something else"
        near = did_you_mean(raw, choices) if isinstance(raw, str) and len(choices) > 1 else ""
        allowed = ", ".join(map(shown, choices))
        raise Invalid(f"must be {'one of ' if len(choices) > 1 else ''}{allowed}, got {got}", near)
    return raw


def _table(cls: Any, converter: BaseConverter) -> Callable[[Any, Any], Any]:
    """Structure tables with free keys; unlike cattrs' own hook it judges a key also where the value is wrong."""
    types_ = get_args(cls)

    def structure_table(raw: Any, _: Any) -> dict[Any, Any]:
        _expect(dict, "a table", raw)
        done: dict[Any, Any] = {}
        errors: list[Exception] = []
        for key, value in raw.items():
            both: list[Any] = []
            for part, type_ in zip((key, value), types_, strict=True):
                try:
                    both.append(converter.structure(part, type_))
                except (Invalid, ClassValidationError, IterableValidationError) as error:
                    error.add_note(IterableValidationNote(f"at key {key!r}", key, type_))
                    errors.append(error)
            if len(both) == len(types_):
                done[both[0]] = both[1]
        if errors:
            raise IterableValidationError("in a table", errors, dict)
        return done

    return structure_table


def _array(cls: Any, converter: BaseConverter) -> Callable[[Any, Any], Any]:
    elements: Any = types.GenericAlias(list, get_args(cls)[:1])

    def structure_array(raw: Any, _: Any) -> tuple[Any, ...]:
        _expect(list, "an array", raw, 'write it in brackets, like ["one", "two"]')
        return tuple(converter.structure(raw, elements))

    return structure_array


def _class(cls: Any, converter: BaseConverter) -> Callable[[Any, Any], Any]:
    attrs.resolve_types(cls)
    overrides: dict[str, Any] = {
        attribute.name: override(rename=key_of(attribute), struct_hook=_checked(attribute, converter))
        for attribute in attrs.fields(cls)
    }
    structure_fields = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True, **overrides)

    def structure_class(raw: Any, _: Any) -> Any:
        _expect(dict, "a table", raw)
        return structure_fields(raw, cls)

    return structure_class


def _checked(attribute: attrs.Attribute[Any], converter: BaseConverter) -> Callable[[Any, Any], Any]:
    """Run the attribute's validator with its value: attrs itself would stop at the first wrong attribute."""
    type_: Any = attribute.type

    def structure_checked(raw: Any, _: Any) -> Any:
        value = converter.structure(raw, type_)
        if attribute.validator is not None:
            try:
                attribute.validator(None, attribute, value)
            except Invalid:
                raise
            except ValueError as error:
                _say_bound(str(error), attribute.name, raw)
        return value

    return structure_checked


def _say_bound(message: str, name: str, raw: object) -> NoReturn:
    # attrs says "'max_hops' must be >= 1: 0"; the key and the value as it was written are ours to say.
    bound = message.removeprefix(f"'{name}' ").rpartition(": ")[0]
    raise Invalid(f"{bound}, got {shown(raw)}") from None
