"""Precedence: the agent's own, else its role's, else the global configuration, whole."""

from __future__ import annotations

import attrs
import pytest

from agentrt.config import model
from agentrt.policy import NotConfigured, Resolved, resolve


@attrs.frozen
class Scoped:
    """Configurations in three scopes."""

    agents: dict[str, dict[str, str]] = attrs.field(factory=dict)
    roles: dict[str, dict[str, str]] = attrs.field(factory=dict)
    global_: dict[str, str] = attrs.field(factory=dict)


AGENTS = {"editor": {"archive": "the editor's"}}
ROLES = {"manager": {"archive": "the managers'"}}
GLOBAL = {"archive": "everybody's"}


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        (Scoped(AGENTS, ROLES, GLOBAL), Resolved("agents.editor", "the editor's", ("roles.manager", "global"))),
        (Scoped(AGENTS, {}, GLOBAL), Resolved("agents.editor", "the editor's", ("global",))),
        (Scoped(AGENTS, ROLES), Resolved("agents.editor", "the editor's", ("roles.manager",))),
        (Scoped(AGENTS), Resolved("agents.editor", "the editor's", ())),
        (Scoped({}, ROLES, GLOBAL), Resolved("roles.manager", "the managers'", ("global",))),
        (Scoped({}, ROLES), Resolved("roles.manager", "the managers'", ())),
        (Scoped({}, {}, GLOBAL), Resolved("global", "everybody's", ())),
    ],
)
def test_the_most_specific_scope_wins(scopes, expected):
    """And says where it stands and what it hides."""
    assert expected == resolve("archive", "editor", "manager", scopes)


def test_other_agents_and_other_roles_do_not_count():
    """What the writer or its role has is not the editor's."""
    scopes = Scoped({"writer": {"archive": "a"}}, {"author": {"archive": "b"}}, GLOBAL)
    assert Resolved("global", "everybody's", ()) == resolve("archive", "editor", "manager", scopes)


def test_other_servers_in_a_scope_do_not_count():
    """A scope that configures another server is not the most specific for this one."""
    scopes = Scoped({"editor": {"git": "a"}}, ROLES)
    assert resolve("archive", "editor", "manager", scopes).scope == "roles.manager"


def test_an_agent_without_a_role_has_two_scopes():
    """Roles are not looked at."""
    assert Resolved("global", "everybody's", ()) == resolve("archive", "editor", None, Scoped({}, ROLES, GLOBAL))


def test_no_configuration_names_all_scopes_that_were_searched():
    """So that whoever reads it knows where to add one."""
    with pytest.raises(NotConfigured, match=r"'archive' in any of agents\.editor, roles\.manager, global") as caught:
        resolve("archive", "editor", "manager", Scoped())
    assert (caught.value.server, caught.value.searched) == ("archive", ("agents.editor", "roles.manager", "global"))
    assert isinstance(caught.value, LookupError)


def test_a_role_that_was_not_searched_is_not_named():
    """An agent without a role has two places to add one."""
    with pytest.raises(NotConfigured) as caught:
        resolve("archive", "editor", None, Scoped())
    assert caught.value.searched == ("agents.editor", "global")


def test_nothing_is_merged():
    """A field that the winner leaves out takes the product's default, never another scope's."""
    own = model.McpServerConfig(command=("archive",))
    everybodys = model.McpServerConfig(command=("archive",), cwd="/srv", env={"LEVEL": "debug"})
    servers = model.McpConfig(global_={"archive": everybodys}, agents={"editor": {"archive": own}})
    assert own is resolve("archive", "editor", None, servers).value
