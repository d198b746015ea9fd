"""Asking a supervisor, and trees of them, as OTP's supervisor suite has it: every answer is exact, counts included."""

from __future__ import annotations

import pytest
import trio
from conformance_kit import FOREVER, PLENTY, counts, kind_of, listed
from kernel_kit import AT_ONCE, ONE_SECOND, Plan, Probe, crash, hello, node, open_runtime, probe, quiet, states, tree

from agentrt.kernel import (
    ActorDied,
    AlreadyPresent,
    AlreadyStarted,
    Budget,
    ChildExists,
    ChildRunning,
    ChildSpec,
    CountChildren,
    DeleteChild,
    ExitKind,
    GetChildSpec,
    NoSuchChild,
    Refusal,
    Registry,
    Restart,
    RestartChild,
    Runtime,
    StartChild,
    StartFailed,
    Strategy,
    SupervisorSpec,
    TerminateChild,
    WhichChildren,
)


async def test_every_answer_of_a_supervisor(autojump_clock) -> None:
    """Case 25: supervisor_SUITE: child_adm, extra_return; in their order."""
    child = probe("child1")
    async with open_runtime(tree(child)) as runtime:
        top = runtime.ref("top")
        assert await listed(top) == [("child1", "running", True)]
        assert await counts(top) == (1, 1, 0, 1)
        ref = runtime.ref("top/child1")
        with pytest.raises(AlreadyStarted) as taken:
            await top.call(StartChild(child))
        assert taken.value.ref is ref

        with pytest.raises(NoSuchChild, match="top has no child 'hej'; it has child1"):
            await top.call(TerminateChild("hej"))
        assert (await top.call(TerminateChild("child1"))).kind is ExitKind.STOPPED
        assert await listed(top) == [("child1", "down", False)]
        assert await counts(top) == (1, 0, 0, 1)
        assert (await top.call(TerminateChild("child1"))).kind is ExitKind.STOPPED
        with pytest.raises(AlreadyPresent):
            await top.call(StartChild(child))

        assert await top.call(RestartChild("child1")) is ref
        assert await listed(top) == [("child1", "running", True)]
        assert await counts(top) == (1, 1, 0, 1)
        with pytest.raises(ChildRunning):
            await top.call(RestartChild("child1"))
        with pytest.raises(NoSuchChild):
            await top.call(RestartChild("child2"))

        with pytest.raises(ChildRunning):
            await top.call(DeleteChild("child1"))
        with pytest.raises(NoSuchChild):
            await top.call(DeleteChild("hej"))
        await top.call(TerminateChild("child1"))
        await top.call(DeleteChild("child1"))
        with pytest.raises(NoSuchChild, match="it has none"):
            await top.call(RestartChild("child1"))
        assert await listed(top) == []
        assert await counts(top) == (0, 0, 0, 0)

        new = await top.call(StartChild(child))
        assert await counts(top) == (1, 1, 0, 1)
        await crash(new)
        assert await listed(top) == [("child1", "running", True)]
        assert await new.call(hello) == "child1 2"


async def test_every_answer_of_a_dynamic_supervisor(autojump_clock) -> None:
    """Case 25: supervisor_SUITE: child_adm_simple.

    Children have names here too. One that is terminated is forgotten, as in Elixir, so there is none to restart.
    """
    async with open_runtime(tree(dynamic=True)) as runtime:
        top = runtime.ref("top")
        assert await listed(top) == []
        assert await counts(top) == (0, 0, 0, 0)
        refs = [await top.call(StartChild(probe(name))) for name in ("child1", "child2")]
        assert await listed(top) == [("child2", "running", True), ("child1", "running", True)]
        assert await counts(top) == (2, 2, 0, 2)
        with pytest.raises(ChildRunning):
            await top.call(RestartChild("child1"))
        with pytest.raises(ChildRunning):
            await top.call(DeleteChild("child1"))
        assert (await top.call(TerminateChild("child1"))).kind is ExitKind.STOPPED
        assert await listed(top) == [("child2", "running", True)]
        assert await counts(top) == (1, 1, 0, 1)
        assert list(map(kind_of, refs)) == [ExitKind.STOPPED, None]
        for message in (TerminateChild("child1"), RestartChild("child1"), DeleteChild("child1")):
            with pytest.raises(NoSuchChild):
                await top.call(message)
        assert await listed(top) == [("child2", "running", True)]


ASKED = [
    *(message("a") for message in (TerminateChild, RestartChild, DeleteChild, GetChildSpec)),
    StartChild(probe("new")),
    WhichChildren(),
    CountChildren(),
]


@pytest.mark.parametrize("message", ASKED[:4], ids=lambda message: type(message).__name__)
async def test_an_actor_of_somebody_else_is_not_found(autojump_clock, message) -> None:
    """Case 25: supervisor_SUITE: child_adm_simple; and nothing happens to it."""
    mine = SupervisorSpec(id="mine", children=(probe("b"),))
    async with open_runtime(tree(mine, SupervisorSpec(id="other", children=(probe("a"),)))) as runtime:
        foreign = runtime.ref("top/other/a").incarnation
        with pytest.raises(NoSuchChild, match="top/mine has no child 'a'; it has b"):
            await runtime.ref("top/mine").call(message)
        assert runtime.ref("top/other/a").incarnation is foreign
        assert foreign.state == "running"


@pytest.mark.parametrize("message", ASKED, ids=lambda message: type(message).__name__)
async def test_a_supervisor_that_is_gone_says_so_at_once(autojump_clock, message) -> None:
    """Case 25: supervisor_SUITE: child_adm; ``noproc`` there. One that is stopping only tells what there is."""
    async with open_runtime(tree(SupervisorSpec(id="inner", children=(probe("a", Plan(stop_takes=3)),)))) as runtime:
        inner = runtime.ref("top/inner")
        await runtime.ref("top").cast(TerminateChild("inner"))
        await trio.sleep(1)
        if isinstance(message, (GetChildSpec, WhichChildren, CountChildren)):
            await inner.call(message)
        else:
            with pytest.raises(Refusal, match="top/inner is stopping: asked for"):
                await inner.call(message)
        await trio.sleep(3)
        with pytest.raises(ActorDied, match=r"top/inner \(generation 1\) is gone"):
            await inner.call(message)
        assert trio.current_time() == 4.0
        with pytest.raises(NoSuchChild, match="no actor at 'foo'"):
            runtime.ref("foo")


def generations(runtime: Runtime, *paths: str) -> list[int]:
    return [node(runtime, f"top/{path}").generation for path in paths]


async def test_a_nested_restart_leaves_uncles_alone_and_a_meltdown_goes_up(autojump_clock) -> None:
    """Case 26: supervisor_SUITE: tree; after the meltdown all are new, and the dynamic children are gone.

    Whoever was terminated before stays down, where in OTP a sibling's restart would bring it back.
    """
    small = {"budget": Budget(4, 3600), "backoff": AT_ONCE}
    sups = (
        SupervisorSpec(id="sup1", children=(probe("child1"), probe("child2")), **small),
        SupervisorSpec(id="sup2", **small),
        SupervisorSpec(id="sup3", restart=Restart.TRANSIENT, **small),
    )
    plan = Plan()
    async with open_runtime(tree(*sups, strategy=Strategy.ONE_FOR_ALL, budget=Budget(4, 3600))) as runtime:
        top, sup1, sup2 = (runtime.ref(path) for path in ("top", "top/sup1", "top/sup2"))
        await top.call(TerminateChild("sup3"))
        assert await counts(top) == (3, 2, 3, 0)
        assert await counts(sup1) == (2, 2, 0, 2)
        guest = await sup2.call(StartChild(probe("child3", plan, budget=PLENTY)))
        await sup2.call(StartChild(probe("child4")))
        assert await counts(sup2) == (2, 2, 0, 2)

        await crash(runtime.ref("top/sup2/child4"))
        assert generations(runtime, "sup1", "sup1/child1", "sup1/child2", "sup2", "sup2/child3") == [1] * 5
        assert generations(runtime, "sup2/child4") == [2]
        assert await counts(sup2) == (2, 2, 0, 2)

        plan.start_fails = -1
        await crash(guest)
        assert await listed(top) == [("sup3", "down", False), ("sup2", "running", True), ("sup1", "running", True)]
        assert generations(runtime, "sup1", "sup1/child1", "sup1/child2", "sup2", "sup3") == [2, 2, 2, 2, 1]
        assert top.actor.statistics().restarts == 1
        assert await listed(sup1) == [("child2", "running", True), ("child1", "running", True)]
        assert await listed(sup2) == []
        assert await counts(sup2) == (0, 0, 0, 0)
        with pytest.raises(ActorDied):
            await guest.call(hello)


async def test_a_restarting_child_is_not_active(autojump_clock) -> None:
    """Case 27: supervisor_SUITE: count_restarting_children."""
    plan = Plan()
    async with open_runtime(tree(dynamic=True, budget=PLENTY)) as runtime:
        top = runtime.ref("top")
        refs = []
        for number in range(3):
            flags = {"backoff": ONE_SECOND, "budget": PLENTY, "shutdown": 0}
            refs.append(await top.call(StartChild(probe(f"t{number}", plan, **flags))))
            assert await counts(top) == (number + 1, number + 1, 0, number + 1)
        for ref in refs:
            await crash(ref)
        assert await counts(top) == (3, 0, 0, 3)
        await trio.sleep(1.5)
        assert await counts(top) == (3, 3, 0, 3)

        plan.start_fails = -1
        for ref in refs[:2]:
            await crash(ref)
        await trio.sleep(4.5)
        assert await counts(top) == (3, 1, 0, 3)
        plan.start_fails = 0
        await trio.sleep(4.5)
        assert await counts(top) == (3, 3, 0, 3)

        for number, left in ((2, 2), (0, 1), (1, 0)):
            await top.call(TerminateChild(f"t{number}"))
            assert await counts(top) == (left, left, 0, left)


async def test_a_restarting_child_can_be_terminated_by_its_old_ref(autojump_clock) -> None:
    """Case 27: supervisor_SUITE: count_restarting_children; whoever holds the ref from before learns of it too."""
    async with open_runtime(tree(probe("a", backoff=FOREVER), probe("b"))) as runtime:
        top, old = runtime.ref("top"), runtime.ref("top/a")
        await crash(old)
        assert await listed(top) == [("b", "running", True), ("a", "waiting", False)]
        assert old.actor is None
        heard = []

        async def wait() -> None:
            heard.append((await old.wait_gone()).kind)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await quiet()
            assert heard == []
            assert (await top.call(TerminateChild(old.path.rpartition("/")[2]))).kind is ExitKind.CRASHED
        assert heard == [ExitKind.CRASHED]
        assert await counts(top) == (2, 1, 0, 2)
        with pytest.raises(ActorDied):
            await old.call(hello)
        assert trio.current_time() == 0.0


async def test_a_name_that_is_taken_names_who_has_it(autojump_clock) -> None:
    """Case 30: supervisor_SUITE: already_started_outside_supervisor; among siblings the names are the supervisor's."""
    async with open_runtime(tree(probe("a"))) as runtime:
        with pytest.raises(AlreadyStarted, match=r"top has a child 'a' already \(running\)") as taken:
            await runtime.ref("top").call(StartChild(SupervisorSpec(id="a")))
        assert taken.value.ref is runtime.ref("top/a")
        assert isinstance(taken.value, ChildExists)
        assert states(runtime) == {"a": "running"}


class Named(Probe):
    """A child that registers under a name, as OTP's does before its start function returns."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(Plan())
        self._registry = registry

    async def on_start(self) -> None:
        self._registry.register(self, "registered-name")


async def test_a_name_that_is_taken_elsewhere_says_by_whom(autojump_clock) -> None:
    """Case 30: supervisor_SUITE: already_started_outside_supervisor.

    The start fails with the clash as its cause, and nothing of it is left; whoever has the name is not disturbed.
    """
    registry = Registry()
    outside = ChildSpec(id="outside", factory=lambda: Named(registry))
    async with open_runtime(tree(SupervisorSpec(id="other", children=(outside,)))) as runtime:
        top = runtime.ref("top")
        with pytest.raises(StartFailed) as failed:
            await top.call(StartChild(ChildSpec(id="child", factory=lambda: Named(registry))))
        cause = failed.value.exit.cause
        assert (cause.type, cause.message) == ("AlreadyRegistered", "'registered-name' is taken by top/other/outside")
        assert registry.whereis("registered-name") is runtime.ref("top/other/outside")
        assert await runtime.ref("top/other/outside").call(hello) == "outside 1"
        assert await listed(top) == [("other", "running", True)]
        await runtime.ref("top/other").call(TerminateChild("outside"))
        ref = await top.call(StartChild(ChildSpec(id="child", factory=lambda: Named(registry))))
        assert registry.whereis("registered-name") is ref


async def test_a_name_is_free_for_the_next_incarnation(autojump_clock) -> None:
    """Case 30: supervisor_SUITE: already_started_outside_supervisor; no child clashes with who it was before."""
    registry = Registry()
    spec = ChildSpec(id="a", factory=lambda: Named(registry), backoff=AT_ONCE)
    async with open_runtime(tree(spec)) as runtime:
        await crash(runtime.ref("top/a"))
        assert await runtime.ref("top/a").call(hello) == "a 2"
        assert registry.whereis("registered-name") is runtime.ref("top/a")
