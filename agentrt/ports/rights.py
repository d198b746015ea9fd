"""What one connection does on a bus, and what a server has to allow it for that."""

from __future__ import annotations

import attrs

from agentrt.ports.topology import Topology


@attrs.frozen(kw_only=True)
class BusUse:
    """All that one connection does on the bus.

    Args:
        inbox: What each subject begins with on which it is answered; nobody else needs to hear those.
        declares: What has to exist for it.
        makes: Whether it makes what is declared and asks what JetStream has; else it only looks whether it is there.
        publishes: Subjects, also those of streams, with ``*`` and a last ``>`` as in subscriptions.
        subscribes: Subjects that it listens to.
        consumes: Consumers that it takes messages from and acknowledges, each with its stream's name before it.
        reads: Buckets whose keys it reads.
        writes: Buckets whose keys it writes, each with the keys.
    """

    inbox: str
    declares: Topology
    makes: bool = False
    publishes: tuple[str, ...] = ()
    subscribes: tuple[str, ...] = ()
    consumes: tuple[tuple[str, str], ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[tuple[str, str], ...] = ()


@attrs.frozen
class Permissions:
    """The subjects that a server has to allow one user, and no others."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


@attrs.frozen
class Share:
    """A subject of one account of a server that other accounts are let in to.

    Args:
        subject: What who publishes and who listens call it.
        local: Its name in the account of the agent.
        answers: Whether more than one answer may come to what is asked there.
    """

    subject: str
    local: str
    answers: bool = False


@attrs.frozen
class Account:
    """What one user has to have where it has an account to itself, and what that shares with others.

    A server checks to what a user publishes, and not where it has the answer sent to. So within one account, whoever
    may ask anything has the server itself publish to any subject. An account of its own has no subjects but these.

    Args:
        permissions: Of its user, by the names in its own account.
        asks: What it asks and tells the fleet's account.
        says: What it tells whoever listens, in all accounts.
        hears: What it listens to, whoever says it.
    """

    permissions: Permissions
    asks: tuple[Share, ...]
    says: tuple[Share, ...]
    hears: tuple[str, ...]
