"""Links: a failure of one is a failure of both, once; nothing else travels."""

from __future__ import annotations

import pytest
import trio
from kernel_kit import (
    AT_ONCE,
    ONE_SECOND,
    Boom,
    Plan,
    Probe,
    crash,
    hang,
    hello,
    loop,
    open_runtime,
    probe,
    probes,
    quiet,
    stubborn,
    tree,
)
from watch_kit import link, unlink

from agentrt.kernel import (
    Actor,
    ActorDied,
    Budget,
    ChildSpec,
    ExitKind,
    RestartChild,
    Runtime,
    Strategy,
    SupervisorSpec,
    TerminateChild,
)
from agentrt.policy.watchdog import Limits

ENOUGH = Budget(1000, 1.0)


def exits(runtime: Runtime, path: str) -> list[str]:
    """Say how the incarnations of an actor ended."""
    return [exit_.summary().removeprefix(f"{path} ") for exit_ in runtime.ref(path)._cell.exits]


async def linked(runtime: Runtime, one: str, other: str) -> None:
    await runtime.ref(one).call(link(runtime.ref(other)))


@pytest.mark.parametrize(("fails", "follows"), [("top/a", "top/b"), ("top/b", "top/a")])
async def test_a_failure_of_either_is_one_of_both(autojump_clock, fails, follows) -> None:
    """The other's exit names it as the cause, and its own supervisor decides what becomes of it."""
    async with open_runtime(tree(probe("a"), probe("b"))) as runtime:
        await linked(runtime, "top/a", "top/b")
        await crash(runtime.ref(fails))
        exit_ = runtime.ref(follows)._cell.last_exit
        assert exit_.kind is ExitKind.CRASHED
        assert exit_.report().splitlines() == [
            f"{follows} crashed (generation 1, up 0 s): LinkBroken: linked to {fails} (crashed)",
            "  restarted at once, attempt 1; 2 of 3 restarts left in 30 s, 8 of 10 for top",
            f"  {fails} crashed (generation 1, up 0 s): Boom: told to",
            "    restarted at once, attempt 1; 2 of 3 restarts left in 30 s, 9 of 10 for top",
        ]
        assert await runtime.ref(fails).call(hello) == f"{fails[-1]} 2"
        assert await runtime.ref(follows).call(hello) == f"{follows[-1]} 2"


async def test_a_failure_reaches_one_that_is_busy_or_lives_by_itself(autojump_clock) -> None:
    """Whatever it waits for is cancelled."""
    log = []

    async def run(actor: Actor) -> None:
        actor.link(actor.context.cell.runtime.ref("top/a"))
        try:
            await trio.sleep_forever()
        finally:
            log.append("cleaned up")

    async with open_runtime(tree(probe("a"), probe("b"), loop("c", run, backoff=ONE_SECOND))) as runtime:
        await linked(runtime, "top/b", "top/a")
        await runtime.ref("top/b").cast(hang)
        await crash(runtime.ref("top/a"))
        assert exits(runtime, "top/b") == ["crashed (generation 1): LinkBroken: linked to top/a (crashed)"]
        assert exits(runtime, "top/c") == ["crashed (generation 1): LinkBroken: linked to top/a (crashed)"]
        assert log == ["cleaned up"]


@pytest.mark.parametrize("how", ["completes", "stops", "crashes on the way", "overstays", "has no grace"])
async def test_an_end_that_is_no_failure_of_its_own_does_not_travel(autojump_clock, how) -> None:
    """Who completes, or was asked to end, does not take others along, however that goes."""
    go = trio.Event()

    async def run(_: Actor) -> None:
        try:
            await go.wait()
        except trio.Cancelled:
            if how == "overstays":
                with trio.CancelScope(shield=True):
                    await trio.sleep(3)
            raise
        finally:
            if how == "crashes on the way":
                raise Boom(how)

    grace = {"has no grace": 0, "overstays": 1}.get(how, 5)
    async with open_runtime(tree(loop("a", run, shutdown=grace, backoff=ONE_SECOND), probe("b"))) as runtime:
        await linked(runtime, "top/b", "top/a")
        if how == "completes":
            go.set()
            await quiet()
        else:
            await runtime.ref("top").call(TerminateChild("a"))
        kinds = {
            "completes": ExitKind.COMPLETED,
            "stops": ExitKind.STOPPED,
            "crashes on the way": ExitKind.CRASHED_DURING_STOP,
            "overstays": ExitKind.KILLED,
            "has no grace": ExitKind.KILLED,
        }
        assert runtime.ref("top/a")._cell.last_exit.kind is kinds[how]
        assert await runtime.ref("top/b").call(hello) == "b 1"
        assert not runtime.ref("top/b").incarnation.links


@pytest.mark.parametrize(
    ("limits", "kind"), [(Limits(total=3), ExitKind.TIMED_OUT), (Limits(progress=3), ExitKind.STUCK)]
)
async def test_a_limit_that_was_broken_travels(autojump_clock, limits, kind) -> None:
    async with open_runtime(tree(probe("a", limits=limits), probe("b"))) as runtime:
        await linked(runtime, "top/a", "top/b")
        await runtime.ref("top/a").cast(hang)
        await trio.sleep(4)
        assert exits(runtime, "top/b") == [f"crashed (generation 1): LinkBroken: linked to top/a ({kind.value})"]


async def test_a_start_that_takes_too_long_travels(autojump_clock) -> None:
    """Nobody asked it to end before it failed."""
    plan = Plan()

    class Slow(Probe):
        async def on_start(self) -> None:
            if self.generation > 1:
                self.link(self.context.cell.runtime.ref("top/b"))
            await super().on_start()

    slow = ChildSpec(id="a", factory=lambda: Slow(plan), start_timeout=3, backoff=ONE_SECOND)
    async with open_runtime(tree(slow, probe("b"))) as runtime:
        plan.start_takes = 60
        await crash(runtime.ref("top/a"))
        await trio.sleep(5)
        assert exits(runtime, "top/b") == ["crashed (generation 1): LinkBroken: linked to top/a (killed)"]


async def test_a_zombie_travels_when_it_is_given_up(autojump_clock) -> None:
    """And one that does not end over its link is given up itself."""
    release = trio.Event()

    async def stay(_: Actor) -> None:
        await stubborn(release)

    async with open_runtime(tree(probe("a", limits=Limits(progress=3)), probe("b"))) as runtime:
        a, b = runtime.ref("top/a").incarnation, runtime.ref("top/b").incarnation
        await linked(runtime, "top/a", "top/b")
        await runtime.ref("top/a").cast(stay)
        await runtime.ref("top/b").cast(stay)
        await trio.sleep(60)
        assert (a.exit.kind, b.exit.kind) == (ExitKind.ZOMBIE, ExitKind.ZOMBIE)
        assert b.exit.reason.startswith("LinkBroken: linked to top/a (zombie); ")
        release.set()


async def test_two_have_one_link_whoever_made_it_and_however_often(autojump_clock) -> None:
    """So one call takes it away, and nothing is left of it."""
    async with open_runtime(tree(probe("a"), probe("b"))) as runtime:
        a, b = runtime.ref("top/a"), runtime.ref("top/b")
        for one, other in [(a, b), (a, b), (b, a)]:
            await one.call(link(other))
        assert (len(a.incarnation._endings), len(b.incarnation._endings)) == (1, 1)
        await b.call(unlink(a))
        await b.call(unlink(a))
        assert (a.incarnation._endings, b.incarnation._endings) == ({}, {})
        await crash(a)
        assert await b.call(hello) == "b 1"


async def test_who_linked_can_unlink_too(autojump_clock) -> None:
    async with open_runtime(tree(probe("a"), probe("b"))) as runtime:
        a, b = runtime.ref("top/a"), runtime.ref("top/b")
        await a.call(link(b))
        await a.call(unlink(b))
        await crash(b)
        assert await a.call(hello) == "a 1"
        await a.call(link(b))
        await crash(b)
        assert await a.call(hello) == "a 2"


@pytest.mark.parametrize("name", ["a", "b"])
async def test_a_link_goes_with_either_incarnation(autojump_clock, name) -> None:
    """The next one of either has no link unless it makes one."""
    async with open_runtime(tree(probe("a"), probe("b"))) as runtime:
        await linked(runtime, "top/a", "top/b")
        await runtime.ref("top").call(RestartChild(name, stop_first=True))
        other = {"a": "b", "b": "a"}[name]
        assert not runtime.ref(f"top/{other}").incarnation.links
        await crash(runtime.ref("top/a"))
        assert await runtime.ref("top/b").call(hello) == f"b {2 if name == 'b' else 1}"
        await crash(runtime.ref("top/b"))
        assert await runtime.ref("top/a").call(hello) == f"a {3 if name == 'a' else 2}"


async def test_linking_to_one_that_is_down_is_refused_at_once(autojump_clock) -> None:
    """There is nobody to share a failure with."""
    async with open_runtime(tree(probe("a"), probe("b", backoff=ONE_SECOND))) as runtime:
        await crash(runtime.ref("top/b"))
        with pytest.raises(ActorDied, match="Boom: told to") as caught:
            runtime.ref("top/a").actor.link(runtime.ref("top/b"))
        assert (caught.value.path, caught.value.generation) == ("top/b", 1)
        assert caught.value.exit is runtime.ref("top/b")._cell.last_exit
        assert not runtime.ref("top/a").incarnation.links


async def test_linking_to_one_that_never_lived_is_refused(autojump_clock) -> None:
    errors = []

    class Early(Actor):
        async def on_start(self) -> None:
            try:
                self.link(self.context.cell.runtime.ref("top/b"))
            except ActorDied as error:
                errors.append((str(error), error.generation, error.exit))

    async with open_runtime(tree(ChildSpec(id="a", factory=Early), probe("b"))):
        assert errors == [("top/b (generation 0) is gone", 0, None)]


async def test_linking_to_one_that_stops_or_fails_just_now_is_refused(autojump_clock) -> None:
    """It is as good as down; who was restarted for it would only be torn down with it again."""
    async with open_runtime(tree(probe("a"), probe("b", Plan(stop_takes=3)), probe("c"))) as runtime:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.ref("top").call, TerminateChild("b"))
            await trio.sleep(1)
            with pytest.raises(ActorDied, match=r"top/b \(generation 1\) is gone"):
                runtime.ref("top/a").actor.link(runtime.ref("top/b"))
        runtime.ref("top/c").incarnation.fail(Boom("from outside"))
        with pytest.raises(ActorDied, match=r"top/c \(generation 1\) is gone"):
            runtime.ref("top/a").actor.link(runtime.ref("top/c"))
        assert await runtime.ref("top/a").call(hello) == "a 1"


async def test_a_supervisor_can_be_linked(autojump_clock) -> None:
    """Its failure travels, and it fails over another's with all its children, as over a fault of its own."""
    sub = SupervisorSpec(id="sub", children=(probe("b"),), budget=Budget(0, 1.0))
    async with open_runtime(tree(probe("a"), sub, budget=ENOUGH)) as runtime:
        await linked(runtime, "top/a", "top/sub")
        await crash(runtime.ref("top/a"))
        await trio.sleep(2)
        assert exits(runtime, "top/sub") == ["crashed (generation 1): LinkBroken: linked to top/a (crashed)"]
        assert await runtime.ref("top/sub/b").call(hello) == "b 2"
        await linked(runtime, "top/a", "top/sub")
        await trio.sleep(60)
        await crash(runtime.ref("top/sub/b"))
        assert exits(runtime, "top/a")[1:] == ["crashed (generation 2): LinkBroken: linked to top/sub (crashed)"]


async def test_linking_to_itself_is_refused(autojump_clock) -> None:
    async with open_runtime(tree(probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        with pytest.raises(ValueError, match="top/a cannot be linked to itself"):
            ref.actor.link(ref)


async def test_who_ended_cannot_link(autojump_clock) -> None:
    async with open_runtime(tree(probe("a"), probe("b"))) as runtime:
        old = runtime.ref("top/a").actor
        await crash(runtime.ref("top/a"))
        with pytest.raises(ActorDied, match=r"top/a \(generation 1\)"):
            old.link(runtime.ref("top/b"))
        old.unlink(runtime.ref("top/b"))


# Among siblings


async def test_under_one_for_all_linked_siblings_restart_once_and_spend_one_unit(autojump_clock) -> None:
    """The supervisor takes the other along anyway, so its end is part of that restart."""
    log: list[str] = []
    specs = tree(*probes("ab", log), strategy=Strategy.ONE_FOR_ALL, budget=Budget(1, 1000.0))
    async with open_runtime(specs) as runtime:
        await linked(runtime, "top/a", "top/b")
        log.clear()
        await crash(runtime.ref("top/a"))
        assert log == ["start a", "start b"]
        assert exits(runtime, "top/b") == ["crashed (generation 1): LinkBroken: linked to top/a (crashed)"]
        assert [runtime.ref(f"top/{name}").statistics().generation for name in "ab"] == [2, 2]


@pytest.mark.parametrize("grace", [0, 5])
async def test_under_one_for_all_a_link_into_another_tree_is_not_lost(autojump_clock, grace) -> None:
    """*b* failed over its link before its supervisor could stop it, so who is linked to *b* fails too."""

    async def run(_: Actor) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)

    children = (probe("a"), loop("b", run, shutdown=grace))
    group = SupervisorSpec(id="group", children=children, strategy=Strategy.ONE_FOR_ALL)
    async with open_runtime(tree(group, probe("c"))) as runtime:
        await linked(runtime, "top/group/a", "top/group/b")
        await linked(runtime, "top/c", "top/group/b")
        await crash(runtime.ref("top/group/a"))
        await trio.sleep(2)
        assert exits(runtime, "top/c") == ["crashed (generation 1): LinkBroken: linked to top/group/b (crashed)"]


async def test_a_sibling_that_is_stopped_for_another_s_restart_takes_nobody_along(autojump_clock) -> None:
    """It was asked to end: that it belongs to a group is no failure of its own."""
    group = SupervisorSpec(id="group", children=probes("ab", []), strategy=Strategy.ONE_FOR_ALL)
    async with open_runtime(tree(group, probe("c"))) as runtime:
        await linked(runtime, "top/c", "top/group/b")
        await crash(runtime.ref("top/group/a"))
        assert await runtime.ref("top/group/b").call(hello) == "b 2"
        assert await runtime.ref("top/c").call(hello) == "c 1"


async def test_under_one_for_one_each_restart_is_one_of_its_own(autojump_clock) -> None:
    """Two failed, and neither would be restarted for the other: two units."""
    async with open_runtime(tree(probe("a"), probe("b"), budget=Budget(2, 1000.0))) as runtime:
        await linked(runtime, "top/a", "top/b")
        await crash(runtime.ref("top/a"))
        assert [runtime.ref(f"top/{name}").statistics().generation for name in "ab"] == [2, 2]
        assert runtime.ref("top").statistics().state == "running"


async def test_a_ring_fails_once_and_does_not_go_round(autojump_clock) -> None:
    """Each is told of one failure, whichever it hears of first, and crashes once."""
    names = "abcde"
    async with open_runtime(tree(*(probe(name, budget=ENOUGH) for name in names), budget=ENOUGH)) as runtime:
        for one, other in zip(names, names[1:] + names[0], strict=True):
            await linked(runtime, f"top/{one}", f"top/{other}")
        await crash(runtime.ref("top/c"))
        await trio.sleep(60)
        assert [len(exits(runtime, f"top/{name}")) for name in names] == [1, 1, 1, 1, 1]
        assert [runtime.ref(f"top/{name}").statistics().generation for name in names] == [2, 2, 2, 2, 2]
        assert not any(runtime.ref(f"top/{name}").incarnation.links for name in names)


async def test_one_that_is_stopped_when_its_link_fails_ends_in_order(autojump_clock) -> None:
    """What came first stands."""
    async with open_runtime(tree(probe("a"), probe("b", Plan(stop_takes=3)))) as runtime:
        await linked(runtime, "top/a", "top/b")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(runtime.ref("top").call, TerminateChild("b"))
            await trio.sleep(1)
            await crash(runtime.ref("top/a"))
        assert exits(runtime, "top/b") == ["stopped (generation 1): asked for"]
        assert trio.current_time() == 3.0


async def test_linked_at_each_start_they_fail_together_each_time(autojump_clock) -> None:
    """The one that comes second under rest_for_one makes the link, so that there is somebody to link to."""
    log: list[str] = []

    class Second(Probe):
        async def on_start(self) -> None:
            await super().on_start()
            self.link(self.context.cell.runtime.ref("top/a"))

    second = ChildSpec(id="b", factory=lambda: Second(Plan(log)), backoff=AT_ONCE)
    specs = tree(probe("a", Plan(log)), second, strategy=Strategy.REST_FOR_ONE, budget=Budget(3, 1000.0))
    async with open_runtime(specs) as runtime:
        for _ in range(3):
            await crash(runtime.ref("top/a"))
        assert [runtime.ref(f"top/{name}").statistics().generation for name in "ab"] == [4, 4]
        assert log == ["start a", "start b"] * 4


async def test_the_end_of_the_run_is_no_failure(autojump_clock) -> None:
    """SystemExit is meant for the process: the others stop in order."""

    async def leave(_: Actor) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        async with open_runtime(tree(probe("a"), probe("b"))) as runtime:
            await linked(runtime, "top/a", "top/b")
            ref = runtime.ref("top/b")
            await runtime.ref("top/a").cast(leave)
            await trio.sleep_forever()
    assert ref._cell.last_exit.kind is ExitKind.STOPPED
