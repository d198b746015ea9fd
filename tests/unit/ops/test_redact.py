"""Values that are written down are plain, bounded and without secrets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrt.ops.redact import HIDDEN, MAX_TEXT, is_secret, plain, scrub


class Unshowable:
    """Raises wherever somebody wants to see it."""

    def __str__(self) -> str:
        message = "no"
        raise RuntimeError(message)

    __repr__ = __str__


@pytest.mark.parametrize(
    "name",
    ["password", "token", "NATS_TOKEN", "api_key", "apikey", "x-api-key", "passphrase", "Authorization"],
)
def test_a_name_that_ends_in_a_secret_is_secret(name: str) -> None:
    """In any case, with or without a prefix."""
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["tokens", "token_count", "max_tokens", "key", "keys", "path", "passwords_tried", "seed"]
)
def test_what_only_sounds_like_a_secret_is_not(name: str) -> None:
    """A model's tokens are counted, and their number has to be seen."""
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nats://me:hunter2@example.org:4222", "nats://***@example.org:4222"),
        ("nats://me:p@ss@example.org:4222", "nats://***@example.org:4222"),
        ("to nats://s3cr3t@127.0.0.1:4222/x@y", "to nats://***@127.0.0.1:4222/x@y"),
        ("Bearer abcdef0123", "Bearer ***"),
        ("bearer authentication failed", "bearer authentication failed"),
        ("GET /?token=abc123&page=2", "GET /?token=***&page=2"),
        ("{'api_key': 'abc123', 'n': 1}", "{'api_key': '***', 'n': 1}"),
        ('{"password": "abc123"}', '{"password": "***"}'),
        ("Config(user='me', password='abc123')", "Config(user='me', password='***')"),
        ("Authorization: Basic dXNlcjpodW50ZXIy", "Authorization: *** ***"),
        ("{'Authorization': 'Bearer abcdefghijk', 'n': 1}", "{'Authorization': '***', 'n': 1}"),
        ("{'x-api-key': 'hunter2'}", "{'x-api-key': '***'}"),
        ('{"password": "hunter two", "n": 1}', '{"password": "***", "n": 1}'),
        ("pwd=hunter2 at host", "pwd=*** at host"),
        (f"no user has the seed SU{'A2' * 28}", "no user has the seed ***"),
        ("jwt eyJhbGciOiJub25lIn0.eyJzdWIiOiJtZSJ9.c2ln expired", "jwt *** expired"),
        ("used 1500 tokens: fine", "used 1500 tokens: fine"),
        ("https://example.org/a@b", "https://example.org/a@b"),
    ],
)
def test_secrets_in_a_text_are_hidden(text: str, shown: str) -> None:
    """The rest stays readable."""
    assert shown == scrub(text)


def test_secrets_are_hidden_at_any_depth() -> None:
    """By the name they go by; what is not set shows that it is not."""
    value = {"servers": [{"env": {"GIT_TOKEN": "abc", "HOME": "/root"}}], "password": None}
    expected = {"servers": [{"env": {"GIT_TOKEN": HIDDEN, "HOME": "/root"}}], "password": None}
    assert expected == plain(value)


def test_a_long_text_is_cut_and_says_so() -> None:
    """One bad value does not fill the disk."""
    shown = scrub("x" * (MAX_TEXT + 7))
    assert shown.endswith("x ... (7 more)")
    assert len(shown) < MAX_TEXT + 20


def test_what_json_does_not_know_becomes_text() -> None:
    """Paths, exceptions, infinities, and numbers that readers of JSON would spoil."""
    value = {1: Path("/tmp"), "e": ValueError("bad"), "inf": float("inf"), "big": 2**63, "set": {1}, "tuple": (1, 2)}
    expected = {"1": "/tmp", "e": "bad", "inf": "inf", "big": str(2**63), "set": [1], "tuple": [1, 2]}
    assert expected == plain(value)


def test_a_number_that_python_refuses_to_print_is_no_error() -> None:
    """It has more digits than Python converts."""
    assert plain(10**5000) == "<int that cannot be shown: ValueError>"


def test_a_value_that_cannot_be_shown_is_no_error() -> None:
    """Whatever its own methods do."""
    assert plain({"x": Unshowable()}) == {"x": "<Unshowable that cannot be shown: RuntimeError>"}


def test_a_value_that_holds_itself_ends() -> None:
    """At the greatest depth it becomes text."""
    loop: list[object] = []
    loop.append(loop)
    assert json.dumps(plain(loop)).startswith("[[[[")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers()), inner),
    )
)
def test_every_value_fits_into_json(value: object) -> None:
    """Strict JSON: no NaN, no keys but texts."""
    json.loads(json.dumps(plain(value), allow_nan=False))


@pytest.mark.parametrize(
    "text",
    [
        *("a-" * 50_000, "token " * 20_000, "://" * 30_000, "bearer " * 20_000, "token" + " " * 90_000),
        *("eyJa" * 20_000, "authorization " * 20_000, "SU" + "A" * 90_000, "token '" * 20_000),
    ],
)
def test_no_text_is_expensive_to_scrub(text: str) -> None:
    """Patterns that look back over what they cannot match would take minutes here; the text passes unchanged."""
    assert text[:1000] == scrub(text)[:1000]
