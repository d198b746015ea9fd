"""Piercing: what shields itself against its cancellation for too long loses its shields before it is given up."""

from __future__ import annotations

import pytest
import trio
from kernel_kit import (
    Plan,
    loop,
    node,
    open_runtime,
    probe,
    quiet,
    recorder,
    shielded,
    stubborn,
    tree,
)

from agentrt.kernel import Actor, ChildSpec, ExitKind, Restart, SupervisorSpec, TerminateChild, _trio_internals
from agentrt.kernel._trio_internals import pierce, why_no_piercing
from agentrt.kernel.leash import PIERCE_GRACE, ZOMBIE_AFTER
from agentrt.policy.watchdog import Limits


@pytest.fixture
def fresh_probe():
    """Let the probe be made anew, and again after the test."""
    why_no_piercing.cache_clear()
    yield
    why_no_piercing.cache_clear()


async def terminate(runtime, name: str):
    return await runtime.ref("top").call(TerminateChild(name))


async def test_a_shield_is_pierced_when_the_patience_is_over(autojump_clock) -> None:
    """It ends at that moment, is called killed and not a zombie, and the event shows where it stood."""
    events, seen = recorder()
    async with open_runtime(tree(probe("a", shutdown=2)), events=events) as runtime:
        await runtime.ref("top/a").cast(shielded)
        await quiet()
        exit_ = await terminate(runtime, "a")
        assert trio.current_time() == 2.0 + ZOMBIE_AFTER
        assert exit_.kind is ExitKind.KILLED
        assert exit_.reason == "asked for: did not stop within 2 s; its shield was pierced"
        assert runtime.zombies == []
    (told,) = [event for event in seen if event.kind == "actor_pierced"]
    assert (told.path, told.fields["generation"], told.fields["shields"]) == ("top/a", 1, 1)
    assert told.fields["reason"] == exit_.reason
    assert "await trio.sleep_forever()" in told.fields["stack"]


async def test_the_shields_of_all_its_tasks_are_pierced(autojump_clock) -> None:
    """Those in each other, those of tasks that it spawned and those of their tasks; the stacks of all are shown."""
    events, seen = recorder()

    async def twice() -> None:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(shielded, None, name="the inner one")

    async def run(actor: Actor) -> None:
        actor.spawn(twice)
        with trio.CancelScope(shield=True), trio.CancelScope(shield=True):
            await trio.sleep_forever()

    async with open_runtime(tree(loop("a", run, shutdown=0)), events=events) as runtime:
        exit_ = await terminate(runtime, "a")
        assert (exit_.kind, trio.current_time()) == (ExitKind.KILLED, ZOMBIE_AFTER)
    (told,) = [event for event in seen if event.kind == "actor_pierced"]
    assert told.fields["shields"] == 4
    assert "the inner one:\n" in told.fields["stack"]


async def test_a_cleanup_that_ends_in_time_is_not_touched(autojump_clock) -> None:
    """Whoever needs less than the patience after his cancellation has all of it, shielded or not."""
    events, seen = recorder()
    log = []

    async def tidy(_: Actor) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(ZOMBIE_AFTER - 0.1)
            log.append("tidy")

    async with open_runtime(tree(loop("a", tidy, shutdown=0)), events=events) as runtime:
        exit_ = await terminate(runtime, "a")
        assert (exit_.kind, trio.current_time()) == (ExitKind.KILLED, ZOMBIE_AFTER - 0.1)
    assert log == ["tidy"]
    assert [event for event in seen if event.kind == "actor_pierced"] == []
    assert "pierced" not in exit_.reason


async def test_a_pierced_actor_has_a_grace_to_end(autojump_clock) -> None:
    """What it does about it takes its time; a shield that it puts up anew holds."""

    async def linger(_: Actor) -> None:
        try:
            await shielded(_)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(PIERCE_GRACE / 2)

    async with open_runtime(tree(loop("a", linger, shutdown=0))) as runtime:
        exit_ = await terminate(runtime, "a")
        assert (exit_.kind, trio.current_time()) == (ExitKind.KILLED, ZOMBIE_AFTER + PIERCE_GRACE / 2)
        assert runtime.zombies == []


async def test_one_that_swallows_its_cancellation_is_a_zombie_after_that_grace(autojump_clock) -> None:
    """With the stack where it stands then."""
    events, seen = recorder()
    release = trio.Event()

    async def shut(_: Actor) -> None:
        await stubborn(release)

    async with open_runtime(tree(loop("a", shut, shutdown=0)), events=events) as runtime:
        exit_ = await terminate(runtime, "a")
        assert (exit_.kind, trio.current_time()) == (ExitKind.ZOMBIE, ZOMBIE_AFTER + PIERCE_GRACE)
        release.set()
        await quiet()
    told = [event for event in seen if event.kind in {"actor_pierced", "actor_zombie", "actor_zombie_ended"}]
    assert [event.kind for event in told] == ["actor_pierced", "actor_zombie", "actor_zombie_ended"]
    assert "await release.wait()" in told[1].fields["stack"]


async def test_where_there_is_no_shield_nothing_is_waited_for(autojump_clock) -> None:
    """One that waits for what knows no cancellation, as a thread, is a zombie as soon as the patience is over."""
    tasks = []

    async def wait_for_a_thread(_: Actor) -> None:
        tasks.append(trio.lowlevel.current_task())
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    async with open_runtime(tree(loop("a", wait_for_a_thread, shutdown=0))) as runtime:
        exit_ = await terminate(runtime, "a")
        assert (exit_.kind, trio.current_time()) == (ExitKind.ZOMBIE, ZOMBIE_AFTER)
        assert "pierced" not in exit_.reason
        trio.lowlevel.reschedule(tasks[0])


async def test_a_limit_stays_the_kind_of_exit(autojump_clock) -> None:
    """Why it was cancelled counts; that it had to be pierced stands in the reason."""
    spec = loop("a", shielded, limits=Limits(total=3), restart=Restart.TEMPORARY)
    async with open_runtime(tree(spec)) as runtime:
        exit_ = await runtime.ref("top/a").wait_gone()
        assert (exit_.kind, exit_.uptime) == (ExitKind.TIMED_OUT, 3.0 + ZOMBIE_AFTER)
        assert exit_.reason == "timed_out (last progress: none); its shield was pierced"


async def test_a_supervisor_waits_for_the_piercing_below_and_is_not_pierced_itself(autojump_clock) -> None:
    """It shields itself for its children's sake: none outlives it, and it is no zombie because one of them is."""
    events, seen = recorder()
    release = trio.Event()

    async def shut(_: Actor) -> None:
        await stubborn(release)

    inner = SupervisorSpec(id="inner", children=(loop("a", shut), loop("b", shielded), probe("c", Plan())))
    async with open_runtime(tree(SupervisorSpec(id="outer", children=(inner,))), events=events) as runtime:
        runtime.ref("top/outer")._cell.incarnation.kill("at once")
        await trio.sleep(ZOMBIE_AFTER + PIERCE_GRACE)
        await quiet()
        assert [one.path for one in runtime.zombies] == ["top/outer/inner/a"]
        assert node(runtime, "top/outer").generation == 1
        release.set()
        await trio.sleep(1)
    assert {event.path for event in seen if event.kind == "actor_pierced"} == {
        "top/outer/inner/a",
        "top/outer/inner/b",
    }
    ends = [(event.path, event.fields["exit"]) for event in seen if event.kind in {"actor_crashed", "actor_exited"}]
    assert [end for end in ends if end[0] in {"top/outer", "top/outer/inner"}][:2] == [
        ("top/outer/inner", "killed"),
        ("top/outer", "killed"),
    ]


async def test_a_parent_has_patience_for_the_piercing_of_its_children(autojump_clock) -> None:
    """A supervisor that is stopped in order computes it into its grace, so it is not cancelled meanwhile."""
    release = trio.Event()

    async def shut(_: Actor) -> None:
        await stubborn(release)

    inner = SupervisorSpec(id="inner", children=tuple(loop(name, shut, shutdown=1) for name in "abc"))
    async with open_runtime(tree(inner)) as runtime:
        exit_ = await terminate(runtime, "inner")
        assert (exit_.kind, trio.current_time()) == (ExitKind.STOPPED, 3 * (1.0 + ZOMBIE_AFTER + PIERCE_GRACE))
        release.set()
        await quiet()


async def test_a_shield_outside_is_left_alone() -> None:
    """Only what is below the scope is pierced."""
    with trio.CancelScope(shield=True) as outside, trio.CancelScope() as scope, trio.CancelScope(shield=True) as below:
        assert pierce(scope) == 1
        assert (outside.shield, below.shield) == (True, False)
        await trio.lowlevel.checkpoint()


async def test_a_scope_that_nobody_is_in_has_nothing_to_pierce() -> None:
    with trio.CancelScope() as scope:
        await trio.lowlevel.checkpoint()
    assert pierce(scope) == 0


async def test_this_trio_is_one_that_it_was_tried_with(fresh_probe) -> None:
    """Where this fails for a new Trio: run these tests with it, read its changes, then add it to ``TRIED``."""
    assert why_no_piercing() == ""


async def test_with_a_trio_that_it_was_not_tried_with_there_are_zombies_only(
    autojump_clock, monkeypatch, fresh_probe
) -> None:
    """The kernel goes on without what it cannot do."""
    monkeypatch.setattr(trio, "__version__", "0.99.1")
    events, seen = recorder()
    release = trio.Event()

    class Shut(Actor):
        async def run(self) -> None:
            with trio.CancelScope(shield=True):
                await release.wait()

    async with open_runtime(tree(ChildSpec(id="a", factory=Shut, shutdown=0)), events=events) as runtime:
        exit_ = await terminate(runtime, "a")
        assert (exit_.kind, trio.current_time()) == (ExitKind.ZOMBIE, ZOMBIE_AFTER)
        release.set()
        await quiet()
        assert runtime.zombies == []
    assert why_no_piercing() == "not tried with Trio 0.99"
    assert [event for event in seen if event.kind == "actor_pierced"] == []


async def test_a_trio_in_which_it_does_not_work_is_found_out(monkeypatch, fresh_probe) -> None:
    """A probe is made before anything is changed; the version alone is not believed."""
    monkeypatch.setattr(_trio_internals, "_pierce", lambda _: 0)
    assert why_no_piercing() == "RuntimeError: a shield that is taken off lets no cancellation through"
    with trio.CancelScope() as scope, trio.CancelScope(shield=True) as shield:
        assert pierce(scope) == 0
        assert shield.shield
        await trio.lowlevel.checkpoint()
