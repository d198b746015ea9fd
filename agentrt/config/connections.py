"""Checks of connections: what each kind needs, and that agents name those that there are."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import attrs

from agentrt.config.connection import ConnectionConfig
from agentrt.config.fields import WEBSOCKET
from agentrt.config.login import half_of
from agentrt.config.problems import Fault, KeyPath, did_you_mean, dotted, shown
from agentrt.config.structure import Draft

#: Keys that mean something for one kind only.
_ONLY_OWN = ("probe_timeout", "options")
_COMMON = ("kind", "connect_timeout", "probe_interval", "probe_limit", "close_timeout")


def connection_faults(draft: Draft, written: Collection[KeyPath]) -> Iterator[Fault]:
    """Find what is wrong with connections and with who uses them.

    Args:
        draft: The configuration.
        written: The key paths that the document gives.
    """
    for name, connection in draft.config.connections.items():
        path: KeyPath = ("connections", name)
        if draft.is_damaged((*path, "kind")):
            continue
        yield from _unfit(draft, written, path, connection)
        if not any(draft.is_damaged((*path, key)) for key in ("tls_cert", "tls_key")):
            yield from half_of(path, connection, "tls_cert", "tls_key")
    yield from _unknown(draft)


def _unfit(draft: Draft, written: Collection[KeyPath], path: KeyPath, connection: ConnectionConfig) -> Iterator[Fault]:
    is_web = connection.kind == WEBSOCKET
    if is_web and connection.url is None and not draft.is_damaged((*path, "url")):
        yield Fault(path, "a websocket needs a url", 'add url = "wss://host/path"')
    for attribute in attrs.fields(ConnectionConfig):
        key = attribute.name
        fits = key in _COMMON or (key in _ONLY_OWN) != is_web
        if fits or (*path, key) not in written or draft.is_damaged((*path, key)):
            continue
        hint = "leave it out" if is_web else "put it into options, which the class gets"
        yield Fault((*path, key), f"means nothing for a connection of kind {shown(connection.kind)}", hint)


def _unknown(draft: Draft) -> Iterator[Fault]:
    known = draft.config.connections
    for agent, config in draft.config.agents.items():
        for index, name in enumerate(config.connections):
            place: KeyPath = ("agents", agent, "connections", index)
            if name in config.connections[:index]:
                yield Fault(place, f"{shown(name)} stands here twice", "leave it out once")
            elif name not in known and not draft.is_damaged(("connections", name)):
                hint = did_you_mean(name, known) or f"add [{dotted(('connections', name))}]"
                yield Fault(place, f"there is no connection {shown(name)}", hint)
