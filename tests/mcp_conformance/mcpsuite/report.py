"""The document that tells what the suite found, and what of it is a failure."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence

import attrs
from mcpsuite.suite import ERAS, PACKAGES, Result

_TEXT = """\
# MCP conformance

What the official conformance suite of the Model Context Protocol finds. This file is generated: `make mcp-conformance`
installs the suite ({suite}) with a Node of its own, and plays it anew; it fails where a
session fails what it offers, or where the guard changes the result of any check.

## Sessions

Each scenario is played with a session as an agent has it, by the actor that keeps it; the suite is the server. It ends
well where all checks are good and the session's calls were answered, but where the suite wants the client to give up. A
cell is the number of checks that passed; **failed** names those that did not, and *nothing to check* is what the suite
says where a scenario never began. In `auth/*` a person logs in first, as with `agentrt mcp login`, and again where the
session asks for that; but `auth/client-credentials-*` and `auth/wif-jwt-bearer` need nobody.

{sessions}

{not_offered}

Of what a server may ask of its client, forms are answered as `elicitation` says in the
[configuration](configuration.md). A model's answer (`sampling`) and the client's folders (`roots`) are not offered: a
session has neither, the protocol has deprecated both, and a server that needs one is told so. Nor are prompts and
resources: a session calls tools.

## `agentrt mcp guard`

The suite is the client. Each scenario is played twice, with a server over stdio and with the guard before the same
server; both times the same bridge stands between HTTP and stdio. A cell says how many checks of the scenario passed,
and whether each of them had the same result with the guard.
*fixture* is a small server with all that the suite asks for but extensions (`tasks-*`, `sep-2640-*`) and headers that
stand for arguments, which only a server over HTTP can have. *everything* is the protocol's own reference server
({everything}), which has other tools than the suite asks for; what it
fails, it fails without the guard as well.

{servers}
"""


@attrs.frozen
class Guarded:
    """One scenario with one server: without the guard, and with it."""

    bare: Result
    guarded: Result

    @property
    def differences(self) -> list[str]:
        """Each check that has another result behind the guard."""
        bare, guarded = (
            sorted((check.name, check.status) for check in result.checks) for result in (self.bare, self.guarded)
        )
        return [f"{name}: {status}" for name, status in _beyond(bare, guarded)] + [
            f"{name}: {status} with the guard" for name, status in _beyond(guarded, bare)
        ]


def _beyond(some: Sequence[tuple[str, str]], others: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    left = list(others)
    for one in some:
        if one in left:
            left.remove(one)
        else:
            yield one


@attrs.define
class Table:
    """All that was played: sessions by scenario and version, servers by scenario, server and version."""

    sessions: dict[tuple[str, str], Result] = attrs.field(factory=dict)
    servers: dict[tuple[str, str, str], Guarded] = attrs.field(factory=dict)


#: What sessions do not offer, as patterns, and why.
NOT_OFFERED = {
    "auth/dpop*": "tokens that are bound to a key (DPoP), an extension that the SDK does not have",
    "auth/enterprise-managed-authorization": "an identity provider that speaks for a person, an extension",
    "sep-2640-*": "skills, an extension of which sessions know nothing",
}


def document(table: Table) -> str:
    """Write the document."""
    patterns = {
        reason: [f"`{pattern}`" for pattern, one in NOT_OFFERED.items() if one == reason]
        for reason in NOT_OFFERED.values()
    }
    reasons = "\n".join(f"- {reason}: {', '.join(names)}" for reason, names in patterns.items())
    return _TEXT.format(
        suite=PACKAGES[0],
        everything=PACKAGES[1],
        sessions=_sessions(table),
        not_offered=f"Not offered:\n\n{reasons}",
        servers=_servers(table),
    )


def reason_of(table: Table) -> str | None:
    """Say what a run fails for; None where all is well."""
    failed = [
        f"{scenario} at {era} {'is offered now' if result.is_passed else 'failed'}"
        for (scenario, era), result in table.sessions.items()
        if result.is_passed == _is_not_offered(scenario) and result.judged
    ]
    differing = [f"{' '.join(key)} differs behind the guard" for key, one in table.servers.items() if one.differences]
    return "\n".join(failed + differing) or None


def _is_not_offered(scenario: str) -> bool:
    return any(fnmatch.fnmatch(scenario, pattern) for pattern in NOT_OFFERED)


def _sessions(table: Table) -> str:
    eras = sorted({*ERAS, *(era for _, era in table.sessions)})
    rows = [
        [f"`{name}`", *(_cell(name, table.sessions.get((name, era))) for era in eras)]
        for name in dict.fromkeys(name for name, _ in sorted(table.sessions))
    ]
    return _table(["scenario", *eras], rows)


def _cell(name: str, result: Result | None) -> str:
    if result is None:
        return "–"
    if not result.judged:
        return "nothing to check"
    if result.is_passed:
        return str(result.passed)
    if _is_not_offered(name):
        return "not offered"
    failed = [check.name for check in result.judged if check.status != "SUCCESS"]
    return f"**failed**: {', '.join(failed) or 'the client'}"


def _servers(table: Table) -> str:
    columns = [("fixture", ERAS[0]), ("fixture", ERAS[1]), ("everything", ERAS[0])]
    rows = [
        [f"`{name}`", *(_pair(table.servers.get((name, *column))) for column in columns)]
        for name in dict.fromkeys(name for name, _, _ in sorted(table.servers))
    ]
    return _table(["scenario", *(f"{server}, {era}" for server, era in columns)], rows)


def _pair(found: Guarded | None) -> str:
    if found is None:
        return "–"
    if found.differences:
        return f"**differs**: {', '.join(found.differences)}"
    if not found.bare.judged:
        return "nothing to check, the same"
    return f"{found.bare.passed} of {len(found.bare.judged)}, the same"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
