"""A cancellation that was not meant for an actor, and what else no coroutine should raise: that actor alone ends."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio
from kernel_kit import AT_ONCE, Boom, Plan, hello, open_runtime, probe, tree

from agentrt.kernel import Actor, CallTimeout, ChildSpec, ExitKind


async def raise_again(*beside: BaseException) -> None:
    """Raise a cancellation once more whose scope is closed, in a group with others where there are any."""
    kept: list[BaseException] = [*beside]
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        except trio.Cancelled as cancelled:
            kept.append(cancelled)
            raise
    raise kept[0] if len(kept) == 1 else BaseExceptionGroup("both", kept)


async def keeps_a_cancellation(_: Actor) -> None:
    await raise_again()


async def keeps_one_in_a_group(_: Actor) -> None:
    await raise_again(Boom("an ordinary one"))


async def closes_itself(_: Actor) -> None:
    raise GeneratorExit("odd")


async def closes_itself_in_a_group(_: Actor) -> None:
    raise BaseExceptionGroup("both", [Boom("an ordinary one"), GeneratorExit("odd")])


async def scoped() -> AsyncIterator[None]:
    with trio.move_on_after(1):
        yield


generators = []


async def leaves_a_scope_open_that_expires(_: Actor) -> None:
    generators.append(scoped())
    async for _one in generators[-1]:
        break
    await trio.sleep(2)


@pytest.mark.parametrize(
    ("message", "kind", "says"),
    [
        (keeps_a_cancellation, ExitKind.KILLED, "it raised a cancellation that was not meant for it"),
        (keeps_one_in_a_group, ExitKind.CRASHED, "Boom: an ordinary one"),
        (closes_itself, ExitKind.CRASHED, "GeneratorExit: odd"),
        (closes_itself_in_a_group, ExitKind.CRASHED, "Boom: an ordinary one; GeneratorExit: odd"),
        (leaves_a_scope_open_that_expires, ExitKind.CRASHED, "Cancel scope stack corrupted"),
    ],
)
async def test_what_an_actor_raises_that_nobody_should_ends_that_actor_alone(
    autojump_clock, message, kind, says
) -> None:
    """It is restarted, its sibling is not touched, and both stop in order."""
    log = []
    async with open_runtime(tree(probe("before", Plan(log)), probe("a", Plan(log)))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(message)
        await trio.sleep(3)
        last = ref._cell.last_exit
        assert last.kind is kind
        assert says in last.summary()
        assert [await runtime.ref(f"top/{name}").call(hello) for name in ("before", "a")] == ["before 1", "a 2"]
    assert log == ["start before", "start a", "start a", "stop a", "stop before"]
    while generators:
        await generators.pop().aclose()


async def test_a_scope_that_is_open_from_start_to_stop_is_not_cancelled_with_a_handler(autojump_clock) -> None:
    """A caller that gives up takes the scope around the handler with it, which is inside the actor's own."""
    log = []

    class Scoped(Actor):
        async def on_start(self) -> None:
            self.scope = trio.CancelScope()
            self.scope.__enter__()

        async def handle(self, seconds: float) -> int:
            await trio.sleep(seconds)
            return self.generation

        async def on_stop(self) -> None:
            self.scope.__exit__(None, None, None)

    scoped = ChildSpec(id="a", factory=Scoped, backoff=AT_ONCE)
    async with open_runtime(tree(probe("before", Plan(log)), scoped)) as runtime:
        with pytest.raises(CallTimeout):
            await runtime.ref("top/a").call(10, timeout=1)
        assert await runtime.ref("top/a").call(0) == 1
    assert runtime.ref("top/a")._cell.last_exit.kind is ExitKind.STOPPED
    assert log == ["start before", "stop before"]
