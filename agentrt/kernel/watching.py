"""Watching: monitors, which tell one actor of another's end, and links, by which actors share a failure."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import attrs

from agentrt.kernel.errors import ActorDied, LinkBroken
from agentrt.kernel.exits import Exit
from agentrt.kernel.notices import Notice, living, notices_of

if TYPE_CHECKING:
    from agentrt.kernel.actor import Actor
    from agentrt.kernel.incarnation import Incarnation
    from agentrt.kernel.ref import ActorRef


@attrs.frozen
class Down:
    """Message: an actor that was monitored ended.

    Args:
        ref: The actor. It may have been restarted since.
        exit: How it ended; where it was down already, how it ended last, or that it was never started.
    """

    ref: ActorRef
    exit: Exit


class Monitor:
    """One watch on the incarnation of an actor that lived when it was made: it tells of one end, and is done.

    Made by :meth:`Actor.monitor <agentrt.kernel.Actor.monitor>`. Monitors of the same actor do not know of each other.

    Attributes:
        ref: Who is watched.
    """

    __slots__ = ("_leave_watched", "_leave_watcher", "_notice", "_watcher", "ref")

    def __init__(self, watcher: Incarnation, ref: ActorRef) -> None:
        self.ref = ref
        self._watcher = watcher
        self._notice: Notice | None = None
        self._leave_watcher: Callable[[], None] | None = None
        self._leave_watched: Callable[[], None] | None = None
        watched = ref.incarnation
        if watched is None:
            self._tell(Exit.never_started(ref.path))
        elif watched.exit is not None:
            self._tell(watched.exit)
        else:
            self._leave_watcher = watcher.at_end(self._leave)
            self._leave_watched = watched.at_end(self._tell)

    def cancel(self) -> None:
        """Watch no more: after this there is no :class:`Down`, also where it waits to be handled already.

        Done twice, or too late, it does no harm.
        """
        self._leave()
        if self._notice is not None:
            self._notice.take_back()
            self._notice = None

    def _tell(self, exit_: Exit) -> None:
        self._leave()
        self._notice = notices_of(self._watcher).post(Down(self.ref, exit_), is_urgent=True)

    def _leave(self, _: Exit | None = None) -> None:
        """Forget both sides, and be forgotten by them."""
        if self._leave_watcher is not None and self._leave_watched is not None:
            self._leave_watcher()
            self._leave_watched()
            self._leave_watcher = self._leave_watched = None


def link(actor: Actor, ref: ActorRef) -> None:
    """Tie the incarnation of *actor* to the present one behind *ref*; see :meth:`Actor.link`."""
    one, other = living(actor), ref.incarnation
    if other is one:
        raise ValueError(f"{ref.path} cannot be linked to itself")
    if other is None:
        raise ActorDied(ref.path, 0, None)
    if other.state not in {"starting", "running"}:
        # One that fails or stops is as good as down: a link to it could only tear down whoever just started.
        raise ActorDied(ref.path, other.generation, other.exit)
    if other not in _links_of(one):
        _links_of(one)[other] = other.at_end(partial(_broken, other, one))
        _links_of(other)[one] = one.at_end(partial(_broken, one, other))


def unlink(actor: Actor, ref: ActorRef) -> None:
    """Take the link back, from either side; see :meth:`Actor.unlink`."""
    one, other = actor.context.incarnation, ref.incarnation
    if other is not None and other in _links_of(one):
        _cut(one, other)


def _links_of(incarnation: Incarnation) -> dict[Incarnation, Callable[[], None]]:
    if incarnation.links is None:
        incarnation.links = {}
    return incarnation.links


def _cut(one: Incarnation, other: Incarnation) -> None:
    """Forget the link at both ends, and what each waits for from the other."""
    _links_of(one).pop(other)()
    _links_of(other).pop(one)()


def _broken(ended: Incarnation, other: Incarnation, exit_: Exit) -> None:
    _cut(ended, other)
    if exit_.is_abnormal and not (exit_.ends_run or ended.was_asked_to_end):
        other.fail(LinkBroken(exit_.path, exit_))
