"""Secrets by reference: what a reference looks like, and how its value is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from agentrt.config.problems import Invalid
from agentrt.config.scalars import Secret

_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:[^\0]+")


class SecretError(Exception):
    """A secret that is referred to cannot be read; the message never holds a secret."""


def parse_secret(text: str) -> Secret:
    """Check that *text* is ``"env:NAME"`` or ``"file:PATH"``, without reading the secret.

    Raises:
        Invalid: It is something else. The message does not repeat it, for it may be the secret itself.
    """
    if not _REFERENCE.fullmatch(text):
        raise Invalid("a secret is given by reference only", 'write "env:NAME" or "file:PATH", never the secret itself')
    return Secret(text)


def resolve_secret(secret: Secret, environ: Mapping[str, str], folder: Path) -> str:
    """Read the secret that a reference means.

    Args:
        secret: The reference.
        environ: The environment for ``env:NAME``.
        folder: Where the path in ``file:PATH`` begins when it is relative: the configuration's folder.

    Returns:
        The secret; that of a file without one newline at its end.

    Raises:
        SecretError: It is not there, not readable, not UTF-8 or empty.
    """
    kind, _, where = secret.partition(":")
    value = _from_environment(where, environ) if kind == "env" else _from_file(folder / where)
    if not value:
        message = f"{secret}: the secret is empty"
        raise SecretError(message)
    return value


def _from_environment(name: str, environ: Mapping[str, str]) -> str:
    if name not in environ:
        message = f"env:{name}: the environment variable {name} is not set"
        raise SecretError(message)
    return environ[name]


def _from_file(path: Path) -> str:
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        message = f"file:{path}: {(error.strerror or str(error)).lower()}"
        raise SecretError(message) from error
    except UnicodeDecodeError:
        # Not chained: the decoder's error holds the content.
        message = f"file:{path}: not UTF-8"
        raise SecretError(message) from None
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text
