"""What a crash leaves behind: tasks that do not end when they are cancelled do not keep the actor from its restart."""

from __future__ import annotations

import pytest
import trio
from kernel_kit import AT_ONCE, Boom, hello, open_runtime, probe, recorder, shielded, stubborn, tree

from agentrt.kernel import Actor, ExitKind
from agentrt.kernel.leash import PIERCE_GRACE, ZOMBIE_AFTER


async def fails_with_a_shielded_task_beside(actor: Actor) -> None:
    actor.spawn(shielded, actor)
    await trio.sleep(1)
    raise Boom("over it")


async def shields_itself_while_a_task_beside_fails(actor: Actor) -> None:
    async def fail_soon() -> None:
        await trio.sleep(1)
        raise Boom("beside")

    actor.spawn(fail_soon)
    await shielded(actor)


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (fails_with_a_shielded_task_beside, "Boom: over it"),
        (shields_itself_while_a_task_beside_fails, "Boom: beside"),
    ],
)
async def test_what_a_crash_leaves_behind_is_pierced_and_the_actor_restarted(autojump_clock, message, cause) -> None:
    """Nobody asked it to end, so there is no grace of a stop that would be over some time."""
    events, seen = recorder()
    async with open_runtime(tree(probe("a")), events=events) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(message)
        assert "a 2" == await ref.call(hello)
        assert 1 + ZOMBIE_AFTER == trio.current_time()
        last = ref._cell.last_exit
        assert (ExitKind.CRASHED, cause) == (last.kind, str(last.cause))
    assert ["top/a"] == [event.path for event in seen if event.kind == "actor_pierced"]


async def test_a_zombie_that_a_crash_left_behind_says_what_it_crashed_of(autojump_clock) -> None:
    release = trio.Event()

    async def fail(actor: Actor) -> None:
        actor.spawn(stubborn, release)
        await trio.sleep(1)
        raise Boom("over it")

    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(fail)
        assert "a 2" == await ref.call(hello)
        assert 1 + ZOMBIE_AFTER + PIERCE_GRACE == trio.current_time()
        last = ref._cell.last_exit
        assert (ExitKind.ZOMBIE, "Boom: over it") == (last.kind, str(last.cause))
        release.set()
    assert [] == runtime.zombies


async def test_one_that_fails_while_it_stops_has_its_grace_for_what_it_spawned(autojump_clock) -> None:
    """The last resort of a stop is the stop's own."""

    async def beside() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(ZOMBIE_AFTER + 2)

    async def fail(actor: Actor) -> None:
        actor.spawn(beside)
        await trio.sleep(1)
        raise Boom

    exits = []
    spec = probe("a", shutdown=ZOMBIE_AFTER + 5, backoff=AT_ONCE, on_exit=exits.append)
    async with open_runtime(tree(spec)) as runtime:
        await runtime.ref("top/a").cast(fail)
        await trio.sleep(0.5)
    assert [(ExitKind.CRASHED_DURING_STOP, ZOMBIE_AFTER + 2)] == [(one.kind, one.uptime) for one in exits]
