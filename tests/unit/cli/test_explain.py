"""``agentrt config explain``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentrt.cli.exits import ExitCode
from agentrt.cli.main import app

CONFIG = """
schema = 1
[fleet]
name = "newsroom"
[agents.editor]
class = "newsroom:Editor"
role = "manager"
mcp = ["archive", "web"]
[agents.writer]
class = "newsroom:Writer"
[mcp.agents.editor.archive]
command = ["archive", "--own"]
env = { KEY = "env:ARCHIVE_KEY", MODE = "hush" }
[mcp.roles.manager.archive]
command = ["archive"]
[mcp.global.archive]
command = ["archive"]
[mcp.global.web]
url = "http://web/mcp"
token = "env:WEB_TOKEN"
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)


def call(*args: str) -> Result:
    return CliRunner().invoke(app, ["config", "explain", *args])


def test_each_server_has_its_scope_its_line_and_what_it_hides() -> None:
    """In the order in which the agent names them."""
    assert call("editor").output.splitlines() == [
        "agent editor, role manager",
        "  archive: [mcp.agents.editor.archive] config.toml:11",
        "    archive --own",
        "    hides [mcp.roles.manager.archive] config.toml:14",
        "    hides [mcp.global.archive] config.toml:16",
        "  web: [mcp.global.web] config.toml:18",
        "    http://web/mcp",
    ]


def test_what_is_from_the_environment_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that a variable configures, and any other key that one gives."""
    monkeypatch.setenv("AGENTRT_MCP__AGENTS__EDITOR__WEB", '{ url = "http://other/mcp" }')
    monkeypatch.setenv("MCP_RSS_WARN_MB", "50")
    lines = call("editor").output.splitlines()
    assert "  web: [mcp.agents.editor.web] AGENTRT_MCP__AGENTS__EDITOR__WEB" in lines
    assert "    hides [mcp.global.web] config.toml:18" in lines
    assert "memory.server_warn is from the environment" in lines


def test_as_json_it_has_every_setting_and_no_secret() -> None:
    """With the defaults of what the winner leaves out; of values that may be secret only references are shown."""
    data = json.loads(call("editor", "--json").output)
    archive, web = data["servers"]
    assert ("editor", "manager") == (data["agent"], data["role"])
    assert ("agents.editor", "config.toml", 11) == (archive["scope"], archive["file"], archive["line"])
    assert [("roles.manager", 14), ("global", 16)] == [(one["scope"], one["line"]) for one in archive["hides"]]
    assert {"KEY": "env:ARCHIVE_KEY", "MODE": "***"} == archive["settings"]["env"]
    assert (60.0, "env:WEB_TOKEN") == (web["settings"]["call_timeout"], web["settings"]["token"])


def test_as_json_a_login_is_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its references and paths, as they are written."""
    login = '{ url = "http://other/mcp", oauth = { login_file = "a/b", client_id = "me", client_secret = "env:A" } }'
    monkeypatch.setenv("AGENTRT_MCP__AGENTS__EDITOR__WEB", login)
    _, web = json.loads(call("editor", "--json").output)["servers"]
    expected = {"login_file": "a/b", "client_id": "me", "client_secret": "env:A", "issuer": None}
    assert expected.items() <= web["settings"]["oauth"].items()


def test_an_agent_without_servers_says_so() -> None:
    """And one that is not there is named, with those that are."""
    assert "agent writer\n  no tool servers\n" == call("writer").output
    result = call("reader")
    assert ExitCode.NO_SUCH_AGENT == result.exit_code
    assert "no agent 'reader' in config.toml (there are: editor, writer)" in result.output


def test_a_server_that_is_not_configured_fails_by_name() -> None:
    """As at a start."""
    config = Path("config.toml")
    config.write_text(config.read_text().replace("[mcp.global.web]", "[mcp.global.wep]"))
    result = call("editor")
    assert ExitCode.CONFIG == result.exit_code
    assert 'the tool server "web" is not configured at any scope; searched mcp.agents.editor' in result.output
