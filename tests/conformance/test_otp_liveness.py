"""Liveness, as OTP's supervisor suite has it: whatever its children do, a supervisor answers, and ends."""

from __future__ import annotations

import pytest
import trio
from conformance_kit import FOREVER, PLENTY, counts, kind_of, listed
from kernel_kit import (
    AT_ONCE,
    ONE_SECOND,
    Plan,
    crash,
    hello,
    open_runtime,
    probe,
    states,
    stubborn,
    tree,
)

from agentrt.kernel import (
    Actor,
    ActorRef,
    AlreadyPresent,
    ChildRestarting,
    ChildSpec,
    DeleteChild,
    ExitKind,
    RestartChild,
    StartChild,
    Strategy,
    SupervisorSpec,
    TerminateChild,
)
from agentrt.kernel.leash import PIERCE_GRACE, ZOMBIE_AFTER

#: Where a child hangs that cannot be restarted, how it is brought there, and the word for it.
HANGS = {
    "backoff": ({"backoff": FOREVER}, {}, "waiting"),
    "start": ({"start_timeout": 1e6}, {"start_takes": 1e6}, "starting"),
    "loop": ({"backoff": ONE_SECOND}, {"start_fails": -1}, "waiting"),
}


def hanging(id_: str, plan: Plan, where: str) -> ChildSpec:
    """Describe a child that hangs there when it crashes once its plan is changed."""
    flags, _, _ = HANGS[where]
    return probe(id_, plan, shutdown=0, budget=PLENTY, **{"backoff": AT_ONCE, **flags})


async def hang_in_restart(ref: ActorRef, plan: Plan, where: str) -> None:
    """Have it crash, and not come back."""
    for name, value in HANGS[where][1].items():
        setattr(plan, name, value)
    await crash(ref)
    await trio.sleep(2.5 if where == "loop" else 0)


def behave(plan: Plan) -> None:
    """Let the child start as it should."""
    plan.start_takes, plan.start_fails = 0.0, 0


@pytest.mark.parametrize("where", HANGS)
async def test_a_supervisor_answers_while_a_child_hangs_in_its_restart(autojump_clock, where) -> None:
    """Case 23: supervisor_SUITE: hanging_restart_loop.

    That is in the middle of failed starts there (OTP-9549), and here during its backoff too.
    """
    plan = Plan()
    spec = hanging("child1", plan, where)
    async with open_runtime(tree(spec, budget=PLENTY)) as runtime:
        top = runtime.ref("top")
        for _ in range(2):
            await hang_in_restart(runtime.ref("top/child1"), plan, where)
            now = trio.current_time()
            with pytest.raises(AlreadyPresent):
                await top.call(StartChild(spec))
            with pytest.raises(ChildRestarting):
                await top.call(RestartChild("child1"))
            with pytest.raises(ChildRestarting):
                await top.call(DeleteChild("child1"))
            # OTP counts one that starts as inactive too; here it has an incarnation, and a ref that reaches it.
            starts = where == "start"
            assert await listed(top) == [("child1", HANGS[where][2], starts)]
            assert await counts(top) == (1, int(starts), 0, 1)
            exit_ = await top.call(TerminateChild("child1"))
            assert exit_.kind is (ExitKind.KILLED if starts else ExitKind.CRASHED)
            assert await listed(top) == [("child1", "down", False)]
            behave(plan)
            assert await top.call(RestartChild("child1")) is runtime.ref("top/child1")
            assert trio.current_time() == now
        await hang_in_restart(runtime.ref("top/child1"), plan, where)
        now = trio.current_time()
    assert trio.current_time() == now


@pytest.mark.parametrize("where", HANGS)
async def test_a_supervisor_answers_while_a_group_hangs_in_its_restart(autojump_clock, where) -> None:
    """Case 23: supervisor_SUITE: hanging_restart_loop_rest_for_one.

    When the one that hangs is terminated, those that wait for it go on. In OTP they stay down and nobody says so.
    """
    plan = Plan()
    specs = [probe("child1"), hanging("child2", plan, where), probe("child3")]
    async with open_runtime(tree(*specs, strategy=Strategy.REST_FOR_ONE, budget=PLENTY)) as runtime:
        top = runtime.ref("top")
        await hang_in_restart(runtime.ref("top/child2"), plan, where)
        now, starts = trio.current_time(), where == "start"
        for name in ("child2", "child3"):
            with pytest.raises(AlreadyPresent):
                await top.call(StartChild(probe(name)))
            with pytest.raises(ChildRestarting):
                await top.call(RestartChild(name))
            with pytest.raises(ChildRestarting):
                await top.call(DeleteChild(name))
        assert await listed(top) == [
            ("child3", "waiting", False),
            ("child2", HANGS[where][2], starts),
            ("child1", "running", True),
        ]
        assert await counts(top) == (3, 1 + starts, 0, 3)
        await top.call(TerminateChild("child2"))
        behave(plan)
        assert trio.current_time() == now
        await trio.sleep(1e6 + 1 if where == "backoff" else 1)
        assert states(runtime) == {"child1": "running", "child2": "down", "child3": "running"}
        assert await top.call(RestartChild("child2")) is runtime.ref("top/child2")
        assert await counts(top) == (3, 3, 0, 3)
        await hang_in_restart(runtime.ref("top/child2"), plan, where)
        now = trio.current_time()
    assert trio.current_time() == now


@pytest.mark.parametrize("where", HANGS)
async def test_a_dynamic_supervisor_answers_while_a_child_hangs_in_its_restart(autojump_clock, where) -> None:
    """Case 23: supervisor_SUITE: hanging_restart_loop_simple; when it is terminated, its spec goes too."""
    plan = Plan()
    async with open_runtime(tree(dynamic=True, budget=PLENTY)) as runtime:
        top = runtime.ref("top")
        for _ in range(2):
            ref = await top.call(StartChild(hanging("child", plan, where)))
            await hang_in_restart(ref, plan, where)
            now, starts = trio.current_time(), where == "start"
            for message in (RestartChild("child"), DeleteChild("child")):
                with pytest.raises(ChildRestarting):
                    await top.call(message)
            assert await listed(top) == [("child", HANGS[where][2], starts)]
            assert await counts(top) == (1, int(starts), 0, 1)
            await top.call(TerminateChild("child"))
            assert await listed(top) == []
            assert trio.current_time() == now
            behave(plan)
        await hang_in_restart(await top.call(StartChild(hanging("child", plan, where))), plan, where)
        now = trio.current_time()
    assert trio.current_time() == now


async def shield_oneself(release: trio.Event) -> None:
    """Take a cancellation as a reason to go on under a shield."""
    try:
        await release.wait()
    except trio.Cancelled:
        with trio.CancelScope(shield=True):
            await release.wait()


async def be_deaf(release: trio.Event) -> None:
    """Wait for what knows no cancellation, as for a thread."""
    task = trio.lowlevel.current_task()

    async def wake() -> None:
        await release.wait()
        trio.lowlevel.reschedule(task)

    trio.lowlevel.spawn_system_task(wake)
    await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)


#: Each way not to end, and what comes of it when: it is asked at 0, cancelled at 1, and pierced then where that helps.
NAUGHTY = [
    (shield_oneself, (ExitKind.KILLED, 1 + ZOMBIE_AFTER)),
    (be_deaf, (ExitKind.ZOMBIE, 1 + ZOMBIE_AFTER)),
    (stubborn, (ExitKind.ZOMBIE, 1 + ZOMBIE_AFTER + PIERCE_GRACE)),
]


class Naughty(Actor):
    """A child that does all it can not to end."""

    def __init__(self, refuse, release: trio.Event) -> None:
        self._refuse = refuse
        self._release = release

    async def run(self) -> None:
        await self._refuse(self._release)


@pytest.mark.parametrize(("refuse", "end"), NAUGHTY)
async def test_a_naughty_child_cannot_hang_its_termination(autojump_clock, refuse, end) -> None:
    """Case 24: supervisor_SUITE: child_unlink.

    There it unlinks itself from its supervisor; here it shields itself, hears of no cancellation, or swallows it for
    ever. All the while its supervisor takes whatever else there is.
    """
    release = trio.Event()
    naughty = ChildSpec(id="a", factory=lambda: Naughty(refuse, release), shutdown=1)
    async with open_runtime(tree(naughty, probe("b"))) as runtime:
        top, exits = runtime.ref("top"), []

        async def terminate() -> None:
            exits.append(await top.call(TerminateChild("a")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(terminate)
            await trio.sleep(0.5)
            assert await counts(top) == (2, 2, 0, 2)
            await crash(runtime.ref("top/b"))
            assert await runtime.ref("top/b").call(hello) == "b 2"
            assert trio.current_time() == 0.5
        assert (exits[0].kind, trio.current_time()) == end
        assert states(runtime) == {"a": "down", "b": "running"}
        release.set()


@pytest.mark.parametrize(("refuse", "end"), NAUGHTY)
async def test_a_naughty_child_cannot_hang_the_stop_of_its_supervisor(autojump_clock, refuse, end) -> None:
    """Case 24: supervisor_SUITE: child_unlink; those before it still stop in order."""
    release, log = trio.Event(), []
    naughty = ChildSpec(id="a", factory=lambda: Naughty(refuse, release), shutdown=1)
    inner = SupervisorSpec(id="inner", children=(probe("before", Plan(log)), naughty))
    async with open_runtime(tree(inner)) as runtime:
        ref = runtime.ref("top/inner/a")
        exit_ = await runtime.ref("top").call(TerminateChild("inner"))
        assert (kind_of(ref), trio.current_time()) == end
        assert exit_.kind is ExitKind.STOPPED
        assert log == ["start before", "stop before"]
        release.set()
