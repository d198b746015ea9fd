"""An actor that waits for its first message: it has no scope yet, and all that reaches any other reaches it too."""

from __future__ import annotations

import pytest
import trio
from kernel_kit import Boom, open_runtime, quiet, tree

from agentrt.kernel import Actor, ChildSpec, ExitKind, StartChild, SupervisorSpec, TerminateChild
from agentrt.policy.watchdog import Limits


class Plain(Actor):
    """Has neither a start hook nor a run of its own, and does what its messages say."""

    async def handle(self, message) -> None:
        """Do it."""
        await message(self)


def plain(**spec) -> ChildSpec:
    """The actor of these tests."""
    return ChildSpec(id="a", factory=Plain, **spec)


def exits(runtime) -> list[ExitKind]:
    """How the incarnations of the actor ended so far."""
    return [exit_.kind for exit_ in runtime.ref("top/a")._cell.exits]


async def test_what_it_spawned_fails_and_that_is_a_crash(autojump_clock) -> None:
    """Whoever holds the actor may have it spawn something before there was any message."""

    async def fail_later() -> None:
        await trio.sleep(1)
        raise Boom("beside")

    async with open_runtime(tree(plain())) as runtime:
        ref = runtime.ref("top/a")
        assert ref.incarnation.scope is None
        ref.actor.spawn(fail_later)
        await trio.sleep(2)
        assert (exits(runtime), ref.statistics().generation) == ([ExitKind.CRASHED], 2)
        assert "Boom: beside" == str(ref._cell.last_exit.cause)


async def test_it_is_killed_without_delay(autojump_clock) -> None:
    """There is nothing that could keep it."""
    async with open_runtime(tree(plain())) as runtime:
        await quiet()
        runtime.ref("top/a").incarnation.kill("enough")
        await quiet()
        assert (exits(runtime), trio.current_time()) == ([ExitKind.KILLED], 0.0)


@pytest.mark.parametrize("grace", [0, 5])
async def test_it_stops_without_delay(grace, autojump_clock) -> None:
    """With a grace it stops by itself; without one it is killed at once."""
    async with open_runtime(tree(plain(shutdown=grace))) as runtime:
        await quiet()
        exit_ = await runtime.ref("top").call(TerminateChild("a"))
        assert (ExitKind.STOPPED if grace else ExitKind.KILLED) is exit_.kind
        assert 0.0 == trio.current_time()


async def test_its_progress_limit_runs_from_the_first_message_on(autojump_clock) -> None:
    """Who waits for it is not stuck, however long; who then hangs over it is."""

    async def hang(_: object) -> None:
        await trio.sleep_forever()

    async with open_runtime(tree(plain(limits=Limits(progress=5)))) as runtime:
        await trio.sleep(100)
        assert [] == exits(runtime)
        await runtime.ref("top/a").cast(hang)
        await trio.sleep(4.9)
        assert [] == exits(runtime)
        await trio.sleep(0.2)
        assert [ExitKind.STUCK] == exits(runtime)


async def test_a_cancelled_run_ends_it(autojump_clock) -> None:
    """What comes from outside the tree is a stop in order."""
    with trio.CancelScope() as outer:
        async with open_runtime(tree(plain())) as runtime:
            await quiet()
            outer.cancel()
            await trio.sleep_forever()
    assert [ExitKind.STOPPED] == exits(runtime)


async def test_one_that_is_stopped_before_it_had_its_turn_is_never_made(autojump_clock) -> None:
    """Nothing of it is to be seen."""
    made = []
    spec = ChildSpec(id="a", factory=lambda: made.append("a") or Plain())
    async with open_runtime(SupervisorSpec(id="top", dynamic=True)) as runtime:
        top = runtime.ref("top")
        top.cast_nowait(StartChild(spec))
        top.cast_nowait(TerminateChild("a"))
        await quiet()
        assert [] == made
        await top.call(StartChild(spec))
        assert ["a"] == made
