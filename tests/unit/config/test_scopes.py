"""Tool servers from a folder and from the environment: the scope decides, wherever it stands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agentrt.config import servers_of

USES = "mcp = ['archive']\n[mcp]\nfolder = 'servers'\n"


def put(name: str, text: str) -> None:
    Path("servers").mkdir(exist_ok=True)
    Path("servers", name).write_text(text)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("own", ["file", "folder", "environment"])
@pytest.mark.parametrize("common", ["file", "folder", "environment"])
def test_the_most_specific_scope_wins_from_wherever_it_is(load_more, own, common):
    """A variable at the agent's own scope hides a global one in the file, and the other way round."""
    text, environ = USES, {}
    put("..data", "not read")
    for source, scope, command in ((own, ("agents", "editor"), "own"), (common, ("global",), "common")):
        if source == "file":
            text += f"[mcp.{'.'.join(scope)}.archive]\ncommand = ['{command}']\n"
        elif source == "folder":
            put(f"{'.'.join(scope)}.archive.toml", f"command = ['{command}']\n")
        else:
            words = "__".join(scope).upper()
            environ[f"AGENTRT_MCP__{words}__ARCHIVE"] = f"{{ command = ['{command}'] }}"
    loaded = load_more(text, environ)
    found = servers_of(loaded.config, "editor")["archive"]
    assert (("own",), "agents.editor", ("global",)) == (found.value.command, found.scope, found.hidden)
    places = {
        "file": ("config.toml", 9),
        "folder": ("servers/agents.editor.archive.toml", 1),
        "environment": ("AGENTRT_MCP__AGENTS__EDITOR__ARCHIVE", None),
    }
    file, line = loaded.places.place(("mcp", "agents", "editor", "archive"))
    assert places[own] == (os.path.relpath(file) if line else file, line)


def test_at_one_scope_a_file_wins_over_a_variable(load_more):
    """As for any other key."""
    environ = {"AGENTRT_MCP__GLOBAL__ARCHIVE": "{ command = ['variable'] }"}
    loaded = load_more("mcp = ['archive']\n[mcp.global.archive]\ncommand = ['file']", environ)
    assert ("file",) == servers_of(loaded.config, "editor")["archive"].value.command


def test_one_scope_in_two_files_is_a_mistake(mistakes_in):
    """Neither is more specific than the other."""
    put("global.archive.toml", "command = ['a']")
    (found,) = mistakes_in(USES + "[mcp.global.archive]\ncommand = ['b']")
    assert found.endswith(
        "servers/global.archive.toml: mcp.global.archive: [mcp.global.archive] stands in another file, too; "
        "leave one of them out"
    )


def test_a_mistake_in_another_file_has_its_line_there(mistakes_in):
    """And one in a variable its name, without its value."""
    put("global.archive.toml", "# the archive\ncommand = ['a']\ncall_timeout = 5\n")
    environ = {"AGENTRT_MCP__ROLES__MANAGER__ARCHIVE": "{ command = ['secret'], cal_timeout = '5s' }"}
    found = mistakes_in("role = 'manager'\n" + USES, environ)
    assert any(
        "servers/global.archive.toml:3: mcp.global.archive.call_timeout: a duration needs a unit" in one
        for one in found
    )
    assert any(one.startswith("environment: AGENTRT_MCP__ROLES__MANAGER__ARCHIVE: unknown key") for one in found)
    assert "secret" not in "".join(found)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("archive.toml", "command = ['a']", "its name says no scope and server; name it global.SERVER.toml"),
        ("global.archive.json", "{}", "its name says no scope and server; name it global.SERVER.toml"),
        ("agents.archive.toml", "command = ['a']", "its name says no scope and server; name it global.SERVER.toml"),
        ("global.archive.toml", "command = [", "mcp.global.archive: not usable: "),
    ],
)
def test_a_file_that_cannot_be_used_is_named(mistakes_in, name, text, said):
    """It would be left out in silence otherwise."""
    put(name, text)
    assert any(f"servers/{name}: {said}" in one for one in mistakes_in(USES))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AGENTRT_MCP__ARCHIVE", "{}", "its name says no scope and server; name it AGENTRT_MCP__GLOBAL__SERVER"),
        ("AGENTRT_MCP__GLOBAL__ARCHIVE", "secret", "not a table in TOML; write { command"),
        ("AGENTRT_MCP__GLOBAL__ARCHIVE", "7", "expected a table, got an integer"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(mistakes_in, name, value, said):
    """Without its value."""
    found = mistakes_in("mcp = ['archive']", {name: value})
    assert any(one.startswith(f"environment: {name}: {said}") for one in found)
    assert "secret" not in "".join(found)


def test_a_folder_that_is_not_there_is_named(mistakes_in):
    """A ConfigMap that was not mounted must not mean no servers."""
    assert any(
        "servers: mcp.folder: cannot be read: No such file or directory; make it" in one for one in mistakes_in(USES)
    )
