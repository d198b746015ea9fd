"""``agentrt mcp guard``: what its server is called."""

from __future__ import annotations

import pytest

from agentrt.cli.mcp import _name_of


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/local/bin/archive --fast", "archive"),
        ("python -m archive_server --root /", "archive_server"),
        ("/usr/bin/python3.12 -u /srv/archive.py", "archive.py"),
        ("npx -y @scope/server-archive /data", "@scope/server-archive"),
        ("uvx archive", "archive"),
        ("uv run archive", "archive"),
        ("node", "node"),
        ("docker run -e A=b archive", "docker"),
    ],
)
def test_a_server_is_called_as_its_program_is(command: str, name: str) -> None:
    """Not as what launches it, which may be the same for all servers of a client."""
    assert name == _name_of(command.split())
