"""What a bus raises to its users, or tells of by an event."""

from __future__ import annotations


class BusError(Exception):
    """Base of what a bus raises to its users."""


class BusUnavailable(BusError):
    """The bus could not do it before the deadline, or the buffer for publishing is full.

    The operation may have happened where the bus went away after it was sent; a stored publish is safe to
    repeat with the same ``msg_id``.
    """


class NoResponders(BusUnavailable):
    """Nobody takes this subject: no stream has it, nobody subscribes to it, or JetStream is not enabled."""


class StoreFull(BusUnavailable):
    """The server has no room for it: its limit is reached, or its disk is full. It works again once there is room."""


class BusRefused(BusError):
    """The bus understood the request and said no (permissions, payload too large, wrong stream, ...)."""


class PermissionDenied(BusRefused):
    """The server's permissions do not let this user publish, or subscribe, to the subject."""


class PayloadTooLarge(BusRefused):
    """Headers and body together are more than the server takes in one message."""


class LimitReached(BusRefused):
    """The server grants no more of this to the connection, such as subscriptions."""


class SlowConsumer(BusError):
    """A reader did not keep up, and messages were dropped for it. Told by an event; nobody is there to catch it."""


class MessageDropped(BusError):
    """A published message was given up. Told by an event; who published it went on long ago."""


class KeyExists(BusError):
    """A key that was to be created is there already."""


class WrongRevision(BusError):
    """A key is not at the revision that the caller named: somebody else changed it, or it is gone."""
