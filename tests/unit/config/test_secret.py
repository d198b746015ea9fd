"""Reading secrets by reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentrt.config import Secret, SecretError, resolve_secret


def test_a_secret_is_read_from_the_environment():
    """As it is, with all its newlines."""
    assert resolve_secret(Secret("env:TOKEN"), {"TOKEN": "hunter2\n"}, Path()) == "hunter2\n"


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b"a\n\n", "a\n"),
        (b"a\r", "a\r"),
    ],
)
def test_a_secret_is_read_from_a_file_without_its_last_newline(tmp_path, content, secret):
    """One newline, which editors add; a relative path begins in the configuration's folder."""
    (tmp_path / "token").write_bytes(content)
    assert resolve_secret(Secret("file:token"), {}, tmp_path) == secret
    assert resolve_secret(Secret(f"file:{tmp_path}/token"), {}, Path("/nowhere")) == secret


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("env:TOKEN", "env:TOKEN: the environment variable TOKEN is not set"),
        ("env:EMPTY", "env:EMPTY: the secret is empty"),
        ("file:none", "file:{folder}/none: no such file or directory"),
        ("file:.", "file:{folder}: is a directory"),
        ("file:newline", "file:newline: the secret is empty"),
        ("file:binary", "file:{folder}/binary: not UTF-8"),
    ],
)
def test_a_secret_that_cannot_be_read_is_told_by_its_reference(tmp_path, reference, said):
    """The error names the reference, and never holds what was read."""
    (tmp_path / "newline").write_bytes(b"\n")
    (tmp_path / "binary").write_bytes(b"hunter2\xff")
    with pytest.raises(SecretError) as caught:
        resolve_secret(Secret(reference), {"EMPTY": ""}, tmp_path)
    assert str(caught.value) == said.format(folder=tmp_path)
    assert "hunter2" not in repr(caught.value.__cause__)
