"""A cast lies in the mailbox as it is, whatever it is; nobody can tell that from one in an envelope."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import pytest
import trio
from kernel_kit import Boom, hang, open_runtime, probe, quiet, tree
from mailbox_kit import Target, cast

from agentrt.kernel import Actor, ActorDied, ChildSpec, ExitKind, MailboxSpec, TerminateChild, handles
from agentrt.kernel.mailbox import Mailbox
from agentrt.kernel.messages import Cast
from agentrt.kernel.owner import StopRequested


class Same:
    """Says that it equals anything, as a mock does."""

    __hash__: ClassVar[None] = None

    def __eq__(self, _: object) -> bool:
        return True


class Taker(Actor):
    """Takes down what it handles and what it has in hand then."""

    def __init__(self, taken: list[Any]) -> None:
        self.taken = taken

    async def handle(self, message: Any) -> None:
        self.taken.append(message)
        if isinstance(message, Boom):
            raise message


class Parent:
    """A message."""


class Child(Parent):
    """A message that its parent's handler takes."""


class Choosy(Actor):
    """Has a handler for one class, and refuses all else."""

    def __init__(self, taken: list[Any]) -> None:
        self.taken = taken

    @handles(Parent)
    async def take(self, message: Parent) -> str:
        self.taken.append(message)
        return "taken"


@pytest.mark.parametrize("message", [None, 0, (), "text", Same(), int, Ellipsis], ids=lambda one: type(one).__name__)
async def test_anything_is_a_message(autojump_clock, message) -> None:
    """Also what is false, what is nothing, and what equals everything."""
    taken: list[Any] = []
    async with open_runtime(tree(ChildSpec(id="a", factory=lambda: Taker(taken)))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(message)
        ref.cast_nowait(message)
        await quiet()
        assert ref.statistics().counts.answered == 2
    assert [one is message for one in taken] == [True, True]


async def test_a_message_whose_handler_is_not_known_yet_is_looked_for_by_its_class(autojump_clock) -> None:
    """As a cast and as a call, in either order, and a subclass by what handles its base."""
    taken: list[Any] = []
    async with open_runtime(tree(ChildSpec(id="a", factory=lambda: Choosy(taken)))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(Child())
        assert await ref.call(Child()) == "taken"
        assert await ref.call(Parent()) == "taken"
        await ref.cast(Parent())
        for _ in range(2):
            await ref.cast("what nobody handles")
        await quiet()
        assert (ref.statistics().counts.answered, ref.statistics().counts.refused) == (4, 2)
    assert [type(one) for one in taken] == [Child, Child, Parent, Parent]


async def test_a_cast_that_is_handled_is_shown_in_an_envelope(autojump_clock) -> None:
    """The same one for as long as it is handled, so that what is asked from there has one origin."""
    seen: list[Any] = []

    async def look(actor: Actor) -> None:
        serving = actor.context.incarnation.serving
        seen.extend([serving.in_hand, serving.in_hand, serving.is_idle])
        await trio.sleep(1)
        seen.append(serving.in_hand)

    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(look)
        await quiet()
        await trio.sleep(2)
        assert ref.incarnation.serving.in_hand is None
        assert ref.incarnation.serving.is_idle
        assert ref.statistics().counts.answered == 1
    envelope = seen[0]
    assert (type(envelope), envelope.message, envelope.target) == (Cast, look, ref._cell)
    assert [one is envelope for one in seen] == [True, True, False, True]
    assert seen[2] is False


async def test_a_cast_over_which_the_actor_died_is_given_again_or_counted(autojump_clock) -> None:
    """As it was: the object that was sent."""
    for redeliveries, outcome in ((0, "failed"), (1, "quarantined")):
        taken: list[Any] = []
        spec = MailboxSpec(redeliveries=redeliveries)
        async with open_runtime(tree(ChildSpec(id="a", factory=partial(Taker, taken), mailbox=spec))) as runtime:
            ref, boom = runtime.ref("top/a"), Boom("sent")
            await ref.cast(boom)
            await trio.sleep(10)
            assert getattr(ref.statistics().counts, outcome) == 1
            assert [one.message is boom for one in ref.quarantine()] == [True] * redeliveries
        assert [one is boom for one in taken] == [True] * (1 + redeliveries)


class Unhashable(type):
    """The class of classes that no table can have, as of those that compare themselves in a way of their own."""

    __hash__: ClassVar[None] = None


class Odd(metaclass=Unhashable):
    """A message of such a class."""


async def test_a_message_whose_handler_cannot_be_looked_for_is_what_the_actor_dies_over(autojump_clock) -> None:
    """It has its outcome as any other, and who called is told at once."""
    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        with pytest.raises(ActorDied, match="TypeError: unhashable type"):
            await ref.call(Odd())
        await ref.cast(Odd())
        await quiet()
        assert (ref.statistics().counts.failed, ref.statistics().generation, trio.current_time()) == (2, 3, 0.0)


async def test_a_cast_from_another_thread_is_refused_and_harms_nobody() -> None:
    """The actor that waits is woken by the next one all the same."""
    taken: list[Any] = []
    for spec in (MailboxSpec(), MailboxSpec(priorities=(str,))):
        async with open_runtime(tree(ChildSpec(id="a", factory=lambda: Taker(taken), mailbox=spec))) as runtime:
            ref = runtime.ref("top/a")
            await quiet()
            with pytest.raises(RuntimeError, match="async context"):
                await trio.to_thread.run_sync(ref.cast_nowait, "from a thread")
            await trio.to_thread.run_sync(trio.from_thread.run_sync, ref.cast_nowait, "by the way back")
            await quiet()
    assert taken == ["by the way back"] * 2


async def test_what_no_envelope_holds_is_undelivered_when_its_actor_is_gone(autojump_clock) -> None:
    """It waits while somebody hangs, and is counted once."""
    async with open_runtime(tree(probe("a", shutdown=1))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(hang)
        await quiet()
        for _ in range(3):
            await ref.cast(hang)
        await runtime.ref("top").call(TerminateChild("a"))
        counts = ref.statistics().counts
        assert (counts.undelivered, counts.failed, counts.answered) == (3, 1, 0)
        with pytest.raises(ActorDied):
            ref.cast_nowait(hang)
    assert ref._cell.last_exit.kind is ExitKind.KILLED


async def test_a_supervisor_takes_no_order_from_a_stranger_who_has_got_hold_of_one(autojump_clock) -> None:
    """What its runtime tells it comes by another lane; the same object as a message is one that it refuses."""
    async with open_runtime(tree(probe("a"))) as runtime:
        await runtime.ref("top").cast(StopRequested(runtime.ref("top").incarnation, "a stranger", 0.0))
        await quiet()
        assert runtime.ref("top/a").statistics().state == "running"
        assert runtime.ref("top").statistics().counts.refused == 1


def test_a_message_that_equals_everything_is_not_taken_for_another() -> None:
    """An envelope is taken out of its lane by what it is, not by what its neighbours say of themselves."""
    mailbox, envelope = Mailbox(MailboxSpec(), Target()), cast("stashed before")
    for _ in range(2):
        assert mailbox.accept(Same())
    assert mailbox.take_out(envelope) is False
    mailbox.put_back(envelope)
    assert mailbox.accept(Same())
    assert mailbox.take_out(envelope) is True
    assert [type(one) for one in mailbox.messages] == [Same] * 3
