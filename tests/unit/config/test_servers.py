"""Which configuration of a tool server counts for an agent."""

from __future__ import annotations

import pytest

from agentrt.config import servers_of


def test_the_most_specific_configuration_wins_whole(load_text):
    """Nothing is merged: what the winner leaves out has the product's default, not another scope's value."""
    config = load_text(
        """\
        schema = 1
        [fleet]
        name = "newsroom"
        [agents]
        editor = { class = "n:E", role = "manager", mcp = ["search", "archive"] }
        chief = { class = "n:C", role = "manager", mcp = ["archive"] }
        writer = { class = "n:W", mcp = ["archive"] }
        [mcp.global]
        archive = { command = ["global"], call_timeout = "5s" }
        search = { command = ["search"] }
        [mcp.roles.manager]
        archive = { command = ["role"], start_timeout = "7s" }
        [mcp.agents.editor]
        archive = { command = ["own"] }
        """
    ).config
    resolved = {name: servers_of(config, name) for name in config.agents}
    assert list(resolved["editor"]) == ["search", "archive"]
    own, role, common = (resolved[name]["archive"] for name in ("editor", "chief", "writer"))
    assert (own.scope, own.value.command, own.hidden) == ("agents.editor", ("own",), ("roles.manager", "global"))
    assert (own.value.call_timeout, own.value.start_timeout) == (60.0, 30.0)
    assert (role.scope, role.value.command, role.hidden) == ("roles.manager", ("role",), ("global",))
    assert (common.scope, common.value.command, common.hidden) == ("global", ("global",), ())


def test_an_agent_that_is_not_there_has_no_servers(load_more):
    """A slip of the caller's."""
    with pytest.raises(KeyError):
        servers_of(load_more().config, "nobody")
