"""Properties of the configuration: units that come back, and lines for every key."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st

from agentrt.config import format_duration, format_size, parse_duration, parse_size
from agentrt.config.lines import line_numbers


@given(st.floats(min_value=0, max_value=1e15, allow_nan=False))
def test_a_duration_that_was_written_is_read_as_the_same_number(seconds):
    """Formatting loses nothing, whatever the fraction."""
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(0, 400), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_a_duration_is_the_sum_of_its_parts(days, hours, minutes, seconds, milliseconds):
    """Each unit counts for what it is."""
    whole = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    assert (
        parse_duration(f"{days}d{hours}h{minutes}m{seconds}s{milliseconds}ms") == (whole * 1000 + milliseconds) / 1000
    )


@given(
    st.one_of(
        st.integers(0, 2**63 - 1),
        st.integers(0, 10**5).map(lambda n: n * 1024**2),
        st.integers(0, 10**5).map(lambda n: n * 1000**2),
    )
)
def test_a_size_that_was_written_is_read_as_the_same_number(size):
    """Formatting loses nothing."""
    assert parse_size(format_size(size)) == size


BARE = st.text("ab1_-", min_size=1, max_size=3)
TEXT = st.text("a\"'\\#[]{}=,.\n\té ", max_size=6)


@attrs.frozen
class Key:
    """A key as it is (*value*) and as it is written (*text*), on one line."""

    value: str
    text: str


def basic(value: str) -> str:
    """Write a basic string on one line."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def is_literal(value: str) -> bool:
    return not set(value) & set("'\n")


KEYS = st.one_of(
    BARE.map(lambda text: Key(text, text)),
    TEXT.map(lambda value: Key(value, basic(value))),
    TEXT.filter(is_literal).map(lambda value: Key(value, f"'{value}'")),
)
MULTILINE = st.sampled_from(
    [
        '"""\n[not.a.table]\nkey = 1\n"""',
        '"""two quotes ""\\""" at the end"""""',
        "'''\n# no comment\na = '' '''",
        "''''one quote'''",
        '"""\\\n   folded \\\n  """',
    ]
)
SCALARS = st.one_of(
    st.sampled_from(["1", "-1.5e3", "true", "inf", "0xff", "1979-05-27 07:32:00Z", "07:32:00", '""', "''"]),
    TEXT.map(basic),
    TEXT.filter(is_literal).map(lambda value: f"'{value}'"),
)
SPACE = st.sampled_from(["", " ", "\t"])
BREAK = st.sampled_from(["", " ", "\n", " # ]},\n  ", "\n\n# 'x\n"])


@st.composite
def arrays(draw, elements) -> str:
    parts = [f"{draw(BREAK)}{draw(elements)}{draw(BREAK)}" for _ in range(draw(st.integers(0, 3)))]
    trailing = "," if parts and draw(st.booleans()) else ""
    return f"[{','.join(parts)}{trailing}{draw(BREAK)}]"


@st.composite
def inline_tables(draw, elements) -> str:
    keys = draw(st.lists(KEYS, max_size=3, unique_by=lambda key: key.value))
    return "{" + ", ".join(f"{key.text}{draw(SPACE)}={draw(SPACE)}{draw(elements)}" for key in keys) + "}"


VALUES = st.recursive(
    st.one_of(SCALARS, MULTILINE), lambda inner: st.one_of(arrays(inner), inline_tables(inner)), max_leaves=5
)


@st.composite
def documents(draw) -> str:
    """Emit statements at random; one that the document cannot take is left out again."""
    text = ""
    for _ in range(draw(st.integers(1, 8))):
        dots = f"{draw(SPACE)}.{draw(SPACE)}"
        name = dots.join(key.text for key in draw(st.lists(KEYS, min_size=1, max_size=3)))
        statement = draw(
            st.one_of(
                st.just(f"[{name}]"),
                st.just(f"[[ {name} ]]"),
                VALUES.map(lambda value, name=name: f"{name} = {value}"),
                st.sampled_from(["", "# a = 1", '# """']),
            )
        )
        grown = f"{text}{draw(SPACE)}{statement}{draw(SPACE)}{draw(st.sampled_from(['', '# x']))}\n"
        try:
            tomllib.loads(grown)
        except tomllib.TOMLDecodeError:
            continue
        text = grown
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Walk everything that tomllib found."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, (*path, index))


@given(documents())
def test_every_key_that_tomllib_finds_has_a_line_and_stands_on_it(text):
    """A key's line has its last part on it, and there is no line for what is not there."""
    found = set(paths(tomllib.loads(text)))
    lines = line_numbers(text)
    assert set(lines) == found
    rows = text.split("\n")
    for path in found:
        row = rows[lines[path] - 1]
        if isinstance(path[-1], str):
            assert path[-1] in row or basic(path[-1]) in row


@given(st.lists(st.tuples(BARE, BREAK, VALUES), min_size=1, max_size=6, unique_by=lambda entry: entry[0]))
def test_a_key_has_exactly_the_line_that_it_was_written_on(entries):
    """Whatever stands before it: values over many lines are passed right."""
    text = ""
    expected = {}
    for key, gap, value in entries:
        text += gap.strip(" ")
        expected[key,] = text.count("\n") + 1
        text += f"{key} = {value}\n"
    assert len(tomllib.loads(text)) == len(entries)
    lines = line_numbers(text)
    assert {path: line for path, line in lines.items() if len(path) == 1} == expected
