"""Precedence against one flat list of all configurations."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrt.policy import NotConfigured, Resolved, resolve

names = st.sampled_from("abc")
servers = st.dictionaries(names, st.integers(), max_size=3)


@attrs.frozen
class Scoped:
    """Configurations in three scopes; agents, roles and servers share their names, so that a mix-up shows."""

    agents: dict[str, dict[str, int]]
    roles: dict[str, dict[str, int]]
    global_: dict[str, int]


scoped = st.builds(
    Scoped,
    agents=st.dictionaries(names, servers, max_size=3),
    roles=st.dictionaries(names, servers, max_size=3),
    global_=servers,
)


@given(names, names, st.none() | names, scoped)
def test_the_first_scope_that_has_it_wins_whole(server, agent, role, scopes):
    """All scopes that apply, the most specific first: the first is the answer, the rest is hidden."""
    flat = [("agents", owner, name, value) for owner, own in scopes.agents.items() for name, value in own.items()]
    flat += [("roles", owner, name, value) for owner, own in scopes.roles.items() for name, value in own.items()]
    flat += [("global", None, name, value) for name, value in scopes.global_.items()]
    applies = {("agents", agent): f"agents.{agent}", ("roles", role): f"roles.{role}", ("global", None): "global"}
    found = [
        (applies[kind, owner], value)
        for kind, owner, name, value in flat
        if name == server and (kind, owner) in applies
    ]
    if found:
        hidden = tuple(scope for scope, _ in found[1:])
        assert Resolved(*found[0], hidden) == resolve(server, agent, role, scopes)
    else:
        with pytest.raises(NotConfigured) as caught:
            resolve(server, agent, role, scopes)
        assert tuple(scope for scope in applies.values() if scope != "roles.None") == caught.value.searched
