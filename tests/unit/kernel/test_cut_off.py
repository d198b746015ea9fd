"""What an actor still does that was cut off, and what it leaves to the next one."""

from __future__ import annotations

import pytest
import trio
from kernel_kit import Boom, hello, open_runtime, probe, quiet, stubborn, tree, wait

from agentrt.kernel import Actor, CallTimeout, ChildSpec, ExitKind, leash
from agentrt.policy.watchdog import Limits


@pytest.fixture
def no_piercing(monkeypatch) -> None:
    """As with a Trio whose shields cannot be taken off."""
    monkeypatch.setattr(leash, "pierce", lambda _: 0)


class Late(Actor):
    """Comes to its mailbox only after *seconds* in which nothing can cancel it; says who handles a message."""

    def __init__(self, handled: list[int], seconds: float) -> None:
        self.handled = handled
        self.seconds = seconds

    async def run(self) -> None:
        with trio.CancelScope(shield=self.generation == 1):
            await trio.sleep(self.seconds if self.generation == 1 else 0)
        await self.context.incarnation.serve()

    async def handle(self, _: object) -> None:
        self.handled.append(self.generation)


async def test_who_was_cancelled_on_the_way_to_its_mailbox_leaves_it_to_the_next(autojump_clock) -> None:
    """It would begin a message that it cannot end, which would be lost."""
    handled: list[int] = []
    late = ChildSpec(id="a", factory=lambda: Late(handled, 8.0), limits=Limits(total=5.0))
    async with open_runtime(tree(late)) as runtime:
        await runtime.ref("top/a").cast("message")
        await trio.sleep(9)
        assert [2] == handled
        assert ExitKind.TIMED_OUT is runtime.ref("top/a")._cell.exits[0].kind


async def test_a_zombie_that_serves_behind_a_shield_takes_no_further_message(autojump_clock, no_piercing) -> None:
    """No cancellation reaches it, so it is told by a message of its own; what waits is its successor's."""
    release = trio.Event()

    class Shielded(Actor):
        async def run(self) -> None:
            with trio.CancelScope(shield=self.generation == 1):
                await self.context.incarnation.serve()

        async def handle(self, message: object) -> object:
            return await message(self)

    async with open_runtime(tree(ChildSpec(id="a", factory=Shielded, limits=Limits(total=1.0)))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(lambda _: stubborn(release))
        await trio.sleep(1 + leash.ZOMBIE_AFTER + 0.5)
        assert ["top/a"] == [zombie.path for zombie in runtime.zombies]
        await ref.cast(wait(0.2))
        await quiet()
        release.set()
        assert "a 2" == await ref.call(hello)
        await quiet()
        assert [] == runtime.zombies


async def test_a_task_that_fails_while_a_handler_is_given_up_crashes_the_actor(autojump_clock) -> None:
    """It goes on after a handler that was cancelled, but not without what it spawned."""
    tidied = trio.Event()

    async def fail_soon() -> None:
        await trio.sleep(2)
        raise Boom("beside")

    async def tidy_up(actor: Actor) -> None:
        actor.spawn(fail_soon)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await tidied.wait()

    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        with pytest.raises(CallTimeout):
            await ref.call(tidy_up, timeout=1)
        await trio.sleep(2)
        tidied.set()
        assert "a 2" == await ref.call(hello)
        last = ref._cell.last_exit
        assert (ExitKind.CRASHED, "Boom: beside") == (last.kind, str(last.cause))


async def test_a_call_that_a_zombie_still_waits_for_is_part_of_no_cycle(autojump_clock, no_piercing) -> None:
    """Who lives in its place now is free to answer whom the zombie asked."""
    go = trio.Event()

    async def ask_back(_: Actor) -> object:
        await go.wait()
        return await runtime.ref("top/b").call(hello)

    async def ask(_: Actor) -> None:
        with trio.CancelScope(shield=True):
            answers.append(await runtime.ref("top/a").call(ask_back, timeout=100))

    answers: list[object] = []
    async with open_runtime(tree(probe("a"), probe("b", limits=Limits(total=1.0)))) as runtime:
        await runtime.ref("top/b").cast(ask)
        await trio.sleep(1 + leash.ZOMBIE_AFTER + 0.5)
        assert ["top/b"] == [zombie.path for zombie in runtime.zombies]
        go.set()
        await quiet()
        assert ["b 2"] == answers
