"""A nursery that an actor opens when it starts and closes when it stops, as a client of an async library has one."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.lowlevel
from kernel_kit import AT_ONCE, Boom, hello, open_runtime, probe, quiet, tree

from agentrt.kernel import Actor, CallTimeout, ChildSpec, ExitKind, TerminateChild
from agentrt.kernel.leash import PIERCE_GRACE, ZOMBIE_AFTER


class Client:
    """Keeps something going in the background, in a nursery of its own.

    Args:
        log: What its task did.
    """

    def __init__(self, log: list[str]) -> None:
        self._log = log
        self._manager = trio.open_nursery()

    async def open(self) -> None:
        self.nursery = await self._manager.__aenter__()
        self.nursery.start_soon(self._beat)

    async def close(self) -> None:
        self.nursery.cancel_scope.cancel()
        await self._manager.__aexit__(None, None, None)

    async def _beat(self) -> None:
        self._log.append("up")
        try:
            await trio.sleep_forever()
        finally:
            self._log.append("down")


class Holder(Actor):
    """Opens a client when it starts, and closes it when it stops.

    Args:
        log: What the client's task did.
        closes: Whether it closes it.
    """

    def __init__(self, log: list[str], *, closes: bool = True) -> None:
        self.client = Client(log)
        self._closes = closes

    async def on_start(self) -> None:
        await self.client.open()

    async def handle(self, message: Any) -> object:
        return await message(self)

    async def on_stop(self) -> None:
        if self._closes:
            await self.client.close()


async def fall(_: Holder) -> None:
    """Message: crash."""
    raise Boom("told to")


async def fail_beside(holder: Holder) -> None:
    """Message: let a task of the client fail."""

    async def boom() -> None:
        raise Boom("in the client")

    holder.client.nursery.start_soon(boom)


async def sleep(_: Holder) -> None:
    """Message: take long."""
    await trio.sleep(100)


def holder(log: list[str], *, closes: bool = True, **spec: Any) -> ChildSpec:
    return ChildSpec(id="a", factory=lambda: Holder(log, closes=closes), backoff=AT_ONCE, **spec)


@pytest.mark.parametrize(("message", "says"), [(fall, "Boom: told to"), (fail_beside, "Boom: in the client")])
async def test_what_fails_while_it_is_open_is_a_crash_of_that_actor(autojump_clock, message, says) -> None:
    """The client is closed, a new one is opened, and nobody else is touched."""
    log: list[str] = []
    async with open_runtime(tree(probe("beside"), holder(log))) as runtime:
        ref, beside = runtime.ref("top/a"), runtime.ref("top/beside")
        await ref.cast(message)
        await quiet()
        assert log == ["up", "down", "up"]
        assert await beside.call(hello) == "beside 1"
        assert ref.incarnation.generation == 2
        exit_ = ref._cell.last_exit
        assert (exit_.kind, str(exit_.cause)) == (ExitKind.CRASHED, says)
    assert log == ["up", "down", "up", "down"]
    assert ref._cell.last_exit.kind is ExitKind.STOPPED


async def test_a_handler_that_is_cancelled_does_not_take_it_along(autojump_clock) -> None:
    """A caller gave up on one message, and on nothing else."""
    log: list[str] = []
    async with open_runtime(tree(holder(log))) as runtime:
        ref = runtime.ref("top/a")
        for _ in range(2):
            with pytest.raises(CallTimeout):
                await ref.call(sleep, timeout=1)
            await quiet()
            assert (ref.incarnation.generation, log) == (1, ["up"])
    assert log == ["up", "down"]


async def test_who_stops_without_closing_it_is_told_so(autojump_clock) -> None:
    """It is closed all the same, and the next life has its own."""
    log: list[str] = []
    async with open_runtime(tree(probe("beside"), holder(log, closes=False))) as runtime:
        await runtime.ref("top").call(TerminateChild("a"))
        exit_ = runtime.ref("top/a")._cell.last_exit
        assert exit_.kind is ExitKind.CRASHED_DURING_STOP
        assert "close in on_stop what on_start opens" in str(exit_.cause)
        assert log == ["up", "down"]
        assert await runtime.ref("top/beside").call(hello) == "beside 1"


async def test_what_does_not_end_in_it_is_pierced(autojump_clock) -> None:
    """Behind a shield, after its actor crashed: the restart does not wait for ever."""
    log: list[str] = []

    async def hide_and_fall(actor: Holder) -> None:
        async def hide() -> None:
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()

        actor.client.nursery.start_soon(hide)
        await trio.lowlevel.checkpoint()
        raise Boom("told to")

    async with open_runtime(tree(holder(log))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(hide_and_fall)
        await trio.sleep(ZOMBIE_AFTER + PIERCE_GRACE)
        assert ref.incarnation.generation == 2
        exit_ = ref._cell.last_exit
        assert (exit_.kind, str(exit_.cause)) == (ExitKind.CRASHED, "Boom: told to")
