"""What a tool server is given: its environment, or its headers, with the secrets that they refer to."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from agentrt.config import Secret, resolve_secret

#: What a server inherits; everything else in the environment of the fleet may be a secret of somebody else's.
_INHERITED = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER")


def server_environment(configured: Mapping[str, str]) -> dict[str, str]:
    """Return what a server finds in its environment: the few variables that are safe to inherit, and its own.

    A configured value that is a reference (``env:NAME``, ``file:PATH``) is read now.

    The folder of this Python comes first on its ``PATH``: ``python -m some_server`` is then the one that the server is
    installed beside, also where the virtual environment is not activated.
    """
    inherited = {
        name: os.environ[name]
        for name in _INHERITED
        # A shell function that was exported is code, and not a value.
        if name in os.environ and not os.environ[name].startswith("()")
    }
    inherited["PATH"] = os.pathsep.join(filter(None, (str(Path(sys.executable).parent), inherited.get("PATH"))))
    return inherited | {name: resolved(value) for name, value in configured.items()}


def server_headers(configured: Mapping[str, str], token: str | None, folder: Path = Path()) -> dict[str, str]:
    """Return what goes with each request to a server: its configured headers, and its bearer token.

    Args:
        configured: The headers; a value may be a reference.
        token: A reference to the token.
        folder: Where the relative path of a reference begins.

    Raises:
        SecretError: What one of them refers to is not there.
    """
    headers = {name: resolved(value, folder) for name, value in configured.items()}
    return headers | ({} if token is None else {"Authorization": f"Bearer {resolved(token, folder)}"})


def resolved(value: str, folder: Path = Path()) -> str:
    """Read what a configured value refers to; any other stands for itself.

    Raises:
        SecretError: What it refers to is not there.
    """
    is_reference = value.startswith(("env:", "file:"))
    return resolve_secret(Secret(value), os.environ, folder) if is_reference else value
