"""``agentrt mcp login``, as far as it goes without a browser; with one it is among the tests of logins."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from agentrt.cli.exits import ExitCode
from agentrt.cli.login import find
from agentrt.cli.main import app

CONFIG = """
schema = 1
[fleet]
name = "newsroom"
[agents.editor]
class = "newsroom:Editor"
mcp = ["notes", "archive"]
[mcp.global.archive]
command = ["archive"]
[mcp.global.notes]
url = "http://127.0.0.1:1/mcp"
[mcp.global.notes.oauth]
login_file = "secrets/notes.json"
client_id = "newsroom"
client_secret = "file:secrets/notes"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "notes").write_text("s3cret")
    return tmp_path / "config.toml"


@pytest.mark.parametrize(
    ("agent", "server", "code", "said"),
    [
        ("writer", "notes", ExitCode.NO_SUCH_AGENT, "no agent 'writer'"),
        ("editor", "nots", ExitCode.CONFIG, "has no tool server 'nots' (it has: notes, archive)"),
        ("editor", "archive", ExitCode.CONFIG, "add login_file to the oauth of 'archive'"),
        ("editor", "notes", ExitCode.UNAVAILABLE, "not logged in: "),
    ],
)
def test_what_stands_in_the_way_is_said(config, agent, server, code, said):
    """And what to do about it; nothing listens where the last one leads."""
    result = CliRunner().invoke(app, ["mcp", "login", agent, server, "--config", str(config)])
    assert (code, True) == (result.exit_code, said in result.stderr)


def test_paths_begin_at_the_configuration(config, tmp_path):
    """As in a fleet, wherever the command is given."""
    oauth = find(config, "editor", "notes").oauth
    assert oauth is not None
    assert (tmp_path / "secrets" / "notes.json", f"file:{tmp_path / 'secrets' / 'notes'}") == (
        oauth.login_file,
        oauth.client_secret,
    )
