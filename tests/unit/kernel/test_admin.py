"""Admin calls: taken at once, answered when done."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

import pytest
import trio
import trio.lowlevel
from kernel_kit import (
    AT_ONCE,
    ONE_SECOND,
    Ends,
    Plan,
    Probe,
    crash,
    hello,
    loop,
    node,
    open_runtime,
    probe,
    probes,
    quiet,
    recorder,
    states,
    tree,
)

from agentrt.kernel import (
    Actor,
    ActorRef,
    AlreadyPresent,
    AlreadyStarted,
    Budget,
    CallTimeout,
    ChildSpec,
    DeleteChild,
    ExitKind,
    GetChildSpec,
    Ignore,
    KernelError,
    NoSuchChild,
    Refusal,
    Restart,
    RestartChild,
    Runtime,
    StartChild,
    StartFailed,
    Strategy,
    SupervisorSpec,
    TerminateChild,
    TooManyChildren,
    UnexpectedMessage,
    WhenExhausted,
)
from agentrt.policy.backoff import Backoff

SLOW = Backoff(initial=1000, maximum=1000, jitter=(1.0, 1.0))


def pool(**spec) -> SupervisorSpec:
    return SupervisorSpec(id="pool", dynamic=True, **spec)


async def test_a_child_can_be_added_and_is_answered_when_it_is_started(autojump_clock) -> None:
    async with open_runtime(tree(pool())) as runtime:
        ref = await runtime.ref("top/pool").call(StartChild(probe("a", Plan(start_takes=3))))
        assert trio.current_time() == 3.0
        assert ref is runtime.ref("top/pool/a")
        assert await ref.call(hello) == "a 1"


async def test_a_child_that_does_not_start_is_forgotten(autojump_clock) -> None:
    """The caller has the cause, nothing is spent, and the name is free."""
    async with open_runtime(tree(pool(budget=Budget(0, 1)))) as runtime:
        ref = runtime.ref("top/pool")
        for _ in range(3):
            with pytest.raises(StartFailed, match="Boom: a does not start") as failed:
                await ref.call(StartChild(probe("a", Plan(start_fails=1))))
            assert failed.value.exit.started is False
            assert states(runtime, "top/pool") == {}
        assert (await ref.call(StartChild(probe("a")))).path == "top/pool/a"


async def test_a_name_that_is_taken_is_refused(autojump_clock) -> None:
    async with open_runtime(tree(probe("a"))) as runtime:
        with pytest.raises(AlreadyStarted, match=r"top has a child 'a' already \(running\)") as taken:
            await runtime.ref("top").call(StartChild(probe("a")))
        assert taken.value.ref is runtime.ref("top/a")


async def test_a_full_pool_is_refused_and_has_room_when_somebody_is_done(autojump_clock) -> None:
    """A child that waits for its restart still counts; one that is done does not."""

    async def short(_: Actor) -> None:
        await trio.sleep(5)

    async with open_runtime(tree(pool(max_children=2))) as runtime:
        ref = runtime.ref("top/pool")
        await ref.call(StartChild(probe("a", backoff=SLOW)))
        await ref.call(StartChild(loop("b", short, restart=Restart.TRANSIENT)))
        await crash(runtime.ref("top/pool/a"))
        with pytest.raises(TooManyChildren, match="top/pool has its 2 children already"):
            await ref.call(StartChild(probe("c")))
        await trio.sleep(6)
        await ref.call(StartChild(probe("c")))
        assert states(runtime, "top/pool") == {"a": "waiting", "c": "running"}


def asks(id_: str) -> dict[str, object]:
    """Give one message of each kind that is about a child."""
    return {
        "start": StartChild(probe(id_)),
        "restart": RestartChild(id_),
        "delete": DeleteChild(id_),
        "terminate": TerminateChild(id_),
        "spec": GetChildSpec(id_),
    }


#: What OTP's supervisor answers; ``exit`` stands for done, told with the last exit.
MATRIX = {
    "nowhere": ("ref", "NoSuchChild", "NoSuchChild", "NoSuchChild", "NoSuchChild"),
    "starting": ("AlreadyStarted", "ChildRunning", "ChildRunning", "exit", "spec"),
    "running": ("AlreadyStarted", "ChildRunning", "ChildRunning", "exit", "spec"),
    "waiting": ("AlreadyPresent", "ChildRestarting", "ChildRestarting", "exit", "spec"),
    "restarting": ("AlreadyPresent", "ChildRestarting", "ChildRestarting", "exit", "spec"),
    "taken along": ("AlreadyPresent", "ChildRestarting", "ChildRestarting", "exit", "spec"),
    "stopping": ("AlreadyPresent", "ref", "exit", "exit", "spec"),
    "down": ("AlreadyPresent", "ref", "exit", "exit", "spec"),
    "done": ("AlreadyPresent", "ref", "exit", "exit", "spec"),
    "exhausted": ("AlreadyPresent", "ref", "exit", "exit", "spec"),
    "ignored": ("AlreadyPresent", "NoneType", "exit", "exit", "spec"),
}
CASES = [(where, ask, answer) for where, row in MATRIX.items() for ask, answer in zip(asks("a"), row, strict=True)]


@pytest.mark.parametrize(("where", "ask", "answer"), CASES)
async def test_the_matrix_of_answers(autojump_clock, where, ask, answer) -> None:
    """supervisor_SUITE: child_adm, hanging_restart_loop; an error is answered at once, whatever goes on."""
    plan = Plan()
    flags = {"start_timeout": 500, "restart": Restart.TRANSIENT, "backoff": AT_ONCE, **SETS.get(where, {})}
    ends = Ends()
    spec = ends.child("a", **flags) if where == "done" else ChildSpec(id="a", factory=lambda: Needless(plan), **flags)
    slow = probe("slow", Plan(stop_takes=100), shutdown=500)
    strategy = Strategy.ONE_FOR_ALL if where == "taken along" else Strategy.ONE_FOR_ONE
    async with open_runtime(tree(probe("first"), slow, strategy=strategy)) as runtime:
        await lead_to(where, runtime, spec, plan, ends)
        now = trio.current_time()
        name, is_error = await answer_of(runtime.ref("top"), asks("a")[ask])
        assert name == answer
        assert trio.current_time() == now or not is_error


async def answer_of(ref: ActorRef, message: object) -> tuple[str, bool]:
    """Say what is answered, by its type, and whether that is an error."""
    try:
        got = await ref.call(message, timeout=1000)
    except KernelError as error:
        return type(error).__name__, True
    name = type(got).__name__
    return {"Exit": "exit", "ActorRef": "ref", "ChildSpec": "spec"}.get(name, name), False


SETS = {"waiting": {"backoff": SLOW}, "exhausted": {"budget": Budget(0, 1)}}


class Needless(Probe):
    """A probe that is not needed while its plan says that starts fail for ever."""

    async def on_start(self) -> None:
        if self.plan.start_fails < 0:
            raise Ignore("not needed")
        await super().on_start()


async def lead_to(where: str, runtime: Runtime, spec: ChildSpec, plan: Plan, ends: Ends) -> None:
    """Bring the child to where it is asked about."""
    top = runtime.ref("top")
    if where == "nowhere":
        return
    plan.start_takes = 100 if where == "starting" else 0
    plan.start_fails = -1 if where == "ignored" else 0
    plan.stop_takes = 3 if where in {"stopping", "taken along"} else 0
    await top.cast(StartChild(spec))
    await quiet()
    if where == "restarting":
        plan.start_takes = 100
    if where in {"waiting", "restarting", "exhausted"}:
        await crash(runtime.ref("top/a"))
    elif where == "taken along":
        await crash(runtime.ref("top/first"))
    elif where == "down":
        await top.call(TerminateChild("a"))
    elif where == "stopping":
        await top.cast(TerminateChild("a"))
        await quiet()
    elif where == "done":
        ends.end("a")
        await quiet()
    states_of = {"restarting": "starting", "taken along": "stopping", "nowhere": None}
    assert states(runtime)["a"] == states_of.get(where, where)


async def test_terminate_answers_with_the_exit_and_does_no_harm_twice(autojump_clock) -> None:
    async with open_runtime(tree(probe("a", Plan(stop_takes=2)))) as runtime:
        top = runtime.ref("top")
        exits = []

        async def terminate() -> None:
            exits.append(await top.call(TerminateChild("a")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(terminate)
            nursery.start_soon(terminate)
        exits.append(await top.call(TerminateChild("a")))
        assert trio.current_time() == 2.0
        assert [exit_.kind for exit_ in exits] == [ExitKind.STOPPED] * 3
        assert states(runtime) == {"a": "down"}


async def test_a_terminated_child_can_be_started_again(autojump_clock) -> None:
    """Behind the same ref; whoever calls while it is down is told at once."""
    async with open_runtime(tree(probe("a"))) as runtime:
        top, ref = runtime.ref("top"), runtime.ref("top/a")
        await top.call(TerminateChild("a"))
        with pytest.raises(Exception, match="is gone"):
            await ref.call(hello)
        assert await top.call(RestartChild("a")) is ref
        assert await ref.call(hello) == "a 2"
        assert ref._cell.mailbox.accept(hello)


async def test_a_deleted_child_gives_its_name_free(autojump_clock) -> None:
    async with open_runtime(tree(probe("a"))) as runtime:
        top = runtime.ref("top")
        await top.call(TerminateChild("a"))
        await top.call(DeleteChild("a"))
        with pytest.raises(NoSuchChild, match="top has no child 'a'; it has none"):
            await top.call(TerminateChild("a"))
        with pytest.raises(NoSuchChild):
            runtime.ref("top/a")
        await top.call(StartChild(probe("a")))
        assert node(runtime, "top/a").generation == 1


async def test_restart_of_a_running_child_stops_it_first_and_spends_nothing(autojump_clock) -> None:
    log = []
    spec = tree(probe("a", Plan(log, stop_takes=1), budget=Budget(0, 1)), budget=Budget(0, 1))
    async with open_runtime(spec) as runtime:
        for _ in range(3):
            await runtime.ref("top").call(RestartChild("a", stop_first=True))
        assert node(runtime, "top/a").generation == 4
    assert log[:4] == ["start a", "stop a", "start a", "stop a"]


async def test_restart_of_an_exhausted_child_renews_its_budget(autojump_clock) -> None:
    async with open_runtime(tree(probe("a", budget=Budget(1, 60)))) as runtime:
        ref = runtime.ref("top/a")
        for _ in range(2):
            await crash(ref)
        assert states(runtime) == {"a": "exhausted"}
        await runtime.ref("top").call(RestartChild("a"))
        await crash(ref)
        assert states(runtime) == {"a": "running"}


@pytest.mark.parametrize(("was", "then"), [("running", "running"), ("down", "down")])
async def test_a_restart_that_fails_is_told_and_leaves_the_child_where_it_was(autojump_clock, was, then) -> None:
    """One that ran has failed, and is restarted within its budget; one that was down is down, and costs nothing."""
    plan = Plan()
    async with open_runtime(tree(probe("a", plan, backoff=ONE_SECOND, budget=Budget(1, 60)))) as runtime:
        top = runtime.ref("top")
        if was == "down":
            await top.call(TerminateChild("a"))
        for _ in range(1 if was == "running" else 5):
            plan.start_fails = 1
            with pytest.raises(StartFailed, match="a does not start"):
                await top.call(RestartChild("a", stop_first=was == "running"))
            await trio.sleep(1.5)
            assert states(runtime) == {"a": then}
        assert runtime.ref("top").actor.statistics().restarts == (was == "running")


async def test_admin_calls_are_answered_while_a_child_waits_for_its_restart(autojump_clock) -> None:
    """A backoff is a timer and never a sleep in the loop."""
    specs = [probe(name, backoff=SLOW) for name in "abc"]
    async with open_runtime(tree(*specs)) as runtime:
        top = runtime.ref("top")
        for name in "abc":
            await crash(runtime.ref(f"top/{name}"))
        assert states(runtime) == {"a": "waiting", "b": "waiting", "c": "waiting"}
        assert (await top.call(TerminateChild("a"))).kind is ExitKind.CRASHED
        assert await top.call(RestartChild("b", stop_first=True)) is runtime.ref("top/b")
        await top.call(StartChild(probe("d")))
        with pytest.raises(AlreadyPresent, match=r"'c' already \(waiting\)"):
            await top.call(StartChild(probe("c")))
        assert states(runtime) == {"a": "down", "b": "running", "c": "waiting", "d": "running"}
        assert trio.current_time() == 0.0
    assert trio.current_time() == 0.0


async def test_a_restart_by_hand_does_not_lose_the_siblings_that_wait_with_it(autojump_clock) -> None:
    """Each child has a timer of its own: here b comes back early, and c still comes back in its time."""
    specs = [probe(name, backoff=ONE_SECOND) for name in "bac"]
    async with open_runtime(tree(*specs, strategy=Strategy.REST_FOR_ONE)) as runtime:
        await crash(runtime.ref("top/b"))
        await runtime.ref("top").call(RestartChild("b", stop_first=True))
        assert states(runtime) == {"b": "running", "a": "waiting", "c": "waiting"}
        await trio.sleep(1.5)
        assert set(states(runtime).values()) == {"running"}


async def test_restart_overtakes_terminate_and_both_are_answered(autojump_clock) -> None:
    """Whoever asked for the stop learns of it, also where the child comes back at once."""
    async with open_runtime(tree(probe("a", Plan(stop_takes=2)))) as runtime:
        top = runtime.ref("top")
        answers = []

        async def ask(message) -> None:
            answers.append(await top.call(message))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, TerminateChild("a"))
            await quiet()
            nursery.start_soon(ask, RestartChild("a"))
        assert {type(answer).__name__ for answer in answers} == {"Exit", "ActorRef"}
        assert await runtime.ref("top/a").call(hello) == "a 2"


async def test_what_is_being_forgotten_cannot_be_restarted(autojump_clock) -> None:
    async with open_runtime(tree(probe("a", Plan(stop_takes=2)))) as runtime:
        top = runtime.ref("top")
        await top.cast(TerminateChild("a"))
        await top.cast(DeleteChild("a"))
        with pytest.raises(Refusal, match="top/a is being stopped to be forgotten"):
            await top.call(RestartChild("a"))
        await trio.sleep(2.5)
        assert states(runtime) == {}


async def test_a_child_terminated_during_its_start_tells_who_waits_for_it(autojump_clock) -> None:
    async with open_runtime(tree(pool())) as runtime:
        ref = runtime.ref("top/pool")
        async with trio.open_nursery() as nursery:

            async def start() -> None:
                with pytest.raises(Refusal, match="top/pool/a was stopped before it was started"):
                    await ref.call(StartChild(probe("a", Plan(start_takes=50))))

            nursery.start_soon(start)
            await quiet()
            exit_ = await ref.call(TerminateChild("a"))
        assert (exit_.kind, exit_.started) == (ExitKind.STOPPED, False)
        assert trio.current_time() == 0.0


async def test_a_child_of_which_nothing_is_kept_is_never_started_again(autojump_clock) -> None:
    """So that nobody stops it by asking for its restart."""
    async with open_runtime(tree(probe("a", restart=Restart.TEMPORARY))) as runtime:
        top = runtime.ref("top")
        with pytest.raises(Refusal, match="top/a is temporary: it is never started again"):
            await top.call(RestartChild("a", stop_first=True))
        assert await runtime.ref("top/a").call(hello) == "a 1"
        await top.call(TerminateChild("a"))
        assert states(runtime) == {}


async def test_a_pool_forgets_a_guest_that_is_terminated(autojump_clock) -> None:
    """DynamicSupervisorTest: "terminates child"; otherwise the pool would fill with names that nobody knows."""
    async with open_runtime(tree(pool(max_children=1))) as runtime:
        ref = runtime.ref("top/pool")
        for name in "abc":
            await ref.call(StartChild(probe(name)))
            assert (await ref.call(TerminateChild(name))).kind is ExitKind.STOPPED
            with pytest.raises(NoSuchChild):
                await ref.call(TerminateChild(name))


async def test_a_pools_guest_can_be_restarted_while_it_is_there(autojump_clock) -> None:
    async with open_runtime(tree(pool())) as runtime:
        ref = runtime.ref("top/pool")
        await ref.call(StartChild(probe("a", Plan(stop_takes=2))))
        await ref.call(RestartChild("a", stop_first=True))
        assert await runtime.ref("top/pool/a").call(hello) == "a 2"
        await ref.cast(TerminateChild("a"))
        await quiet()
        with pytest.raises(Refusal, match="is being stopped to be forgotten"):
            await ref.call(RestartChild("a"))


async def test_a_restart_by_hand_waits_for_no_sibling(autojump_clock) -> None:
    """Where they do not depend on each other: OTP's supervisor would not even listen while the first one starts."""
    plans = [Plan(), Plan()]
    async with open_runtime(tree(probe("a", plans[0]), probe("b", plans[1]))) as runtime:
        top = runtime.ref("top")
        for name in "ab":
            await top.call(TerminateChild(name))
        plans[0].start_takes = 20
        await top.cast(RestartChild("a"))
        assert await top.call(RestartChild("b")) is runtime.ref("top/b")
        assert (states(runtime), trio.current_time()) == ({"a": "starting", "b": "running"}, 0.0)


async def test_an_exhausted_child_that_is_terminated_can_still_be_restarted_in_full(autojump_clock) -> None:
    """Whatever happened before, a start by hand is a new beginning."""
    async with open_runtime(tree(probe("a", budget=Budget(1, 60)))) as runtime:
        top, ref = runtime.ref("top"), runtime.ref("top/a")
        for _ in range(2):
            await crash(ref)
        await top.call(TerminateChild("a"))
        assert states(runtime) == {"a": "exhausted"}
        await top.call(RestartChild("a"))
        await crash(ref)
        assert states(runtime) == {"a": "running"}


async def test_a_child_that_crashes_while_it_waits_to_be_stopped_was_stopped(autojump_clock) -> None:
    """In a group they stop in turn; whoever goes before his turn does not come back, and costs nothing."""
    specs = [probe("a"), probe("b"), probe("slow", Plan(stop_takes=3))]
    async with open_runtime(tree(*specs, strategy=Strategy.REST_FOR_ONE)) as runtime:
        top = runtime.ref("top")
        for name in ("slow", "b"):
            await top.cast(TerminateChild(name))
        await quiet()
        assert states(runtime) == {"a": "running", "b": "running", "slow": "stopping"}
        await crash(runtime.ref("top/b"))
        await trio.sleep(4)
        assert states(runtime) == {"a": "running", "b": "down", "slow": "down"}
        assert top.actor.statistics().restarts == 0


async def test_a_child_that_waits_to_be_stopped_for_a_siblings_restart_is_on_its_way_back(autojump_clock) -> None:
    """It still runs, and will not for long."""
    specs = [probe("a"), probe("slow", Plan(stop_takes=3)), probe("c")]
    async with open_runtime(tree(*specs, strategy=Strategy.ONE_FOR_ALL)) as runtime:
        await crash(runtime.ref("top/c"))
        assert states(runtime) == {"a": "running", "slow": "stopping", "c": "waiting"}
        answers = [(await answer_of(runtime.ref("top"), asks("a")[ask]))[0] for ask in ("start", "restart", "delete")]
        assert answers == ["AlreadyPresent", "ChildRestarting", "ChildRestarting"]


async def test_a_start_by_hand_begins_the_backoff_anew(autojump_clock) -> None:
    events, seen = recorder()
    spec = probe("a", backoff=Backoff(initial=1, maximum=60, jitter=(1.0, 1.0)))
    async with open_runtime(tree(spec), events=events) as runtime:
        top, ref = runtime.ref("top"), runtime.ref("top/a")
        for _ in range(2):
            await crash(ref)
            await trio.sleep(5)
        await top.call(TerminateChild("a"))
        await top.call(RestartChild("a"))
        await crash(ref)
    assert [event.fields["delay"] for event in seen if event.kind == "actor_restarting"] == [1.0, 2.0, 1.0]


@pytest.mark.parametrize("supervisor", [{}, {"dynamic": True}])
async def test_a_guest_that_was_up_once_is_a_child_like_any_other(autojump_clock, supervisor) -> None:
    """Where its restart does not start, that is a failure, and it is tried again."""
    plan = Plan()
    async with open_runtime(tree(**supervisor)) as runtime:
        await runtime.ref("top").call(StartChild(probe("a", plan, backoff=ONE_SECOND)))
        plan.start_fails = 1
        await crash(runtime.ref("top/a"))
        await trio.sleep(3)
        assert await runtime.ref("top/a").call(hello) == "a 3"


async def test_a_guest_that_is_started_again_by_hand_and_does_not_start_is_kept(autojump_clock) -> None:
    """Only one that never was up is forgotten."""
    plan = Plan()
    async with open_runtime(tree(probe("b"))) as runtime:
        top = runtime.ref("top")
        await top.call(StartChild(probe("a", plan)))
        await top.call(TerminateChild("a"))
        plan.start_fails = 1
        with pytest.raises(StartFailed):
            await top.call(RestartChild("a"))
        assert states(runtime) == {"b": "running", "a": "down"}
        assert await top.call(RestartChild("a")) is runtime.ref("top/a")


async def test_a_deletion_waits_for_the_end(autojump_clock) -> None:
    """And so does whoever asks for it, or for the termination, once more."""
    async with open_runtime(tree(probe("a", Plan(stop_takes=2)))) as runtime:
        top, told = runtime.ref("top"), []

        async def ask(message) -> None:
            told.append((await top.call(message)).kind)
            assert trio.current_time() == 2.0

        async with trio.open_nursery() as nursery:
            for message in (TerminateChild("a"), DeleteChild("a"), DeleteChild("a"), TerminateChild("a")):
                nursery.start_soon(ask, message)
                await quiet()
        assert (told, states(runtime)) == ([ExitKind.STOPPED] * 4, {})


async def test_what_is_deleted_leaves_nothing(autojump_clock) -> None:
    """Neither its place nor its record; its ref tells whoever has it."""
    async with open_runtime(tree(probe("a"))) as runtime:
        top, ref = runtime.ref("top"), runtime.ref("top/a")
        await top.call(TerminateChild("a"))
        await top.call(DeleteChild("a"))
        assert (top._cell.below, top.actor.statistics().children) == ({}, {})
        assert (await ref.wait_gone()).kind is ExitKind.STOPPED


async def test_a_supervisor_that_stops_refuses_what_it_will_not_do(autojump_clock) -> None:
    """And answers those who still wait, so that nobody hangs on a supervisor that is no more."""
    async with open_runtime(tree(pool(), probe("last", Plan(stop_takes=3)))) as runtime:
        ref = runtime.ref("top/pool")
        told = []

        async def start(name: str) -> None:
            with pytest.raises(Refusal):
                await ref.call(StartChild(probe(name, Plan(start_takes=50))))
            told.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(start, "a")
            await quiet()
            runtime.stop("over")
            await trio.sleep(1)
            with pytest.raises(Refusal, match="top is stopping: over"):
                await runtime.ref("top").call(TerminateChild("last"))
        assert told == ["a"]
        assert trio.current_time() == 3.0


async def test_nobody_waits_for_ever_on_a_supervisor_that_was_killed(autojump_clock) -> None:
    """Those who wait for a child of it are told when the child is gone."""

    async def start(ref) -> None:
        with pytest.raises(Refusal, match="was stopped before it was started"):
            await ref.call(StartChild(probe("a", Plan(start_takes=50))))

    with pytest.raises(Exception, match="at once"):
        async with open_runtime(tree(pool())) as runtime, trio.open_nursery() as nursery:
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as shielded:
                    shielded.start_soon(start, runtime.ref("top/pool"))
                    await quiet()
                    runtime.kill("at once")
            nursery.cancel_scope.cancel()
    assert trio.current_time() == 0.0


async def test_messages_a_supervisor_does_not_know_are_answered(autojump_clock) -> None:
    async with open_runtime(tree(probe("a"))) as runtime:
        with pytest.raises(UnexpectedMessage, match=r"no handler for str; it has for StartChild, .*GetChildSpec"):
            await runtime.ref("top").call("hello")
        assert await runtime.ref("top/a").call(hello) == "a 1"


async def test_a_request_that_is_none_is_the_callers_error() -> None:
    with pytest.raises(TypeError, match="spec"):
        StartChild("worker")


async def test_a_caller_that_gives_up_does_not_take_the_child_back(autojump_clock) -> None:
    async with open_runtime(tree(pool())) as runtime:
        with pytest.raises(CallTimeout):
            await runtime.ref("top/pool").call(StartChild(probe("a", Plan(start_takes=5))), timeout=1)
        await trio.sleep(5)
        assert states(runtime, "top/pool") == {"a": "running"}


async def test_a_child_started_by_hand_takes_part_in_the_strategy(autojump_clock) -> None:
    log = []
    async with open_runtime(tree(*probes("ab", log), strategy=Strategy.REST_FOR_ONE)) as runtime:
        await runtime.ref("top").call(StartChild(probe("c", Plan(log))))
        log.clear()
        await crash(runtime.ref("top/b"))
        assert log == ["stop c", "start b", "start c"]


async def test_dynamic_children_are_not_made_again_with_their_supervisor(autojump_clock) -> None:
    """Their specs were the old one's; their refs are gone for good, and so are their names."""
    spec = pool(
        children=(probe("own", budget=Budget(0, 1), when_exhausted=WhenExhausted.ESCALATE),), backoff=ONE_SECOND
    )
    async with open_runtime(tree(spec)) as runtime:
        guest = await runtime.ref("top/pool").call(StartChild(probe("guest")))
        await crash(runtime.ref("top/pool/own"))
        await trio.sleep(2)
        assert states(runtime, "top/pool") == {"own": "running"}
        assert (await guest.wait_gone()).kind is ExitKind.STOPPED
        with pytest.raises(NoSuchChild):
            runtime.ref("top/pool/guest")


async def test_a_child_may_ask_its_own_supervisor_to_end_it(autojump_clock) -> None:
    """To wait for its own end would last until its grace is over: it is answered, does what it was at, and stops."""
    plan = Plan()

    async def end_me(actor: Actor) -> None:
        answer = await runtime.ref("top").call(TerminateChild(actor.name))
        await trio.sleep(1)
        plan.log.append(f"answered {answer}")

    async with open_runtime(tree(probe("a", plan, shutdown=2))) as runtime:
        await runtime.ref("top/a").cast(end_me)
        exit_ = await runtime.ref("top/a").wait_gone()
        assert (exit_.kind, trio.current_time()) == (ExitKind.STOPPED, 1.0)
    assert plan.log == ["start a", "answered None", "stop a"]


async def test_a_task_beside_a_child_may_ask_for_its_restart(autojump_clock) -> None:
    """It ends before it could hear of the new start, so it is answered before."""
    plan, answers = Plan(), []

    async def beside(actor: Actor) -> None:
        answers.append(await runtime.ref("top").call(RestartChild(actor.name, stop_first=True)))

    async def spawn(actor: Actor) -> None:
        actor.spawn(beside, actor)

    async with open_runtime(tree(probe("a", plan))) as runtime:
        await runtime.ref("top/a").cast(spawn)
        await quiet()
        assert await runtime.ref("top/a").call(hello) == "a 2"
        assert trio.current_time() == 0.0
        assert answers == [runtime.ref("top/a")]
    assert plan.log == ["start a", "stop a", "start a", "stop a"]


async def test_whoever_lives_below_may_ask_for_the_end_of_all_of_it(autojump_clock) -> None:
    """Its supervisor waits for it, so it cannot wait for its supervisor."""
    plan = Plan()

    async def end_us(_: Actor) -> None:
        await runtime.ref("top").call(TerminateChild("sub"))
        plan.log.append("answered")

    async with open_runtime(tree(SupervisorSpec(id="sub", children=(probe("a", plan),)))) as runtime:
        await runtime.ref("top/sub/a").cast(end_us)
        exit_ = await runtime.ref("top/sub").wait_gone()
        assert (exit_.kind, trio.current_time()) == (ExitKind.STOPPED, 0.0)
    assert plan.log == ["start a", "answered", "stop a"]


async def test_a_refused_cast_is_told_of(autojump_clock) -> None:
    """Nobody waits for an answer that would say so."""
    events, seen = recorder()
    async with open_runtime(tree(probe("a")), events=events) as runtime:
        await runtime.ref("top").cast(TerminateChild("b"))
        await quiet()
        refused = [(event.path, event.fields["reason"]) for event in seen if event.kind == "message_refused"]
        assert refused == [("top", "top has no child 'b'; it has a")]


async def test_thousands_of_temporary_children_leave_nothing(autojump_clock) -> None:
    """Neither a cell, nor a record, nor a timer; and the last is as quick as the first."""
    events, seen = recorder()

    async def run(_: Actor) -> None:
        await trio.lowlevel.checkpoint()

    async with open_runtime(tree(pool(max_children=50)), events=events) as runtime:
        ref = runtime.ref("top/pool")
        for number in range(3_000):
            child = await ref.call(StartChild(loop(f"t{number}", run, restart=Restart.TEMPORARY)))
            if number % 40 == 39:
                await quiet()
        await child.wait_gone()
        await quiet()
        assert states(runtime, "top/pool") == {}
        assert ref._cell.below == {}
        assert len(runtime.timers._heap) < 600
        # The root and the pool.
        assert len(runtime.nursery.child_tasks) == 2
    assert sum(event.kind == "actor_exited" for event in seen) == 3_000 + 1


async def test_a_request_costs_the_same_among_few_and_many(autojump_clock) -> None:
    """Counted in Python calls, which no machine makes slower; a name that nobody has included."""

    async def calls_among(children: int) -> int:
        async with open_runtime(tree(*(probe(f"t{number}") for number in range(children)))) as runtime:
            top = runtime.ref("top")
            with counted_calls() as count:
                for name in ("t3", "nobody"):
                    for message in (
                        *(TerminateChild(name), RestartChild(name), RestartChild(name, stop_first=True)),
                        *(TerminateChild(name), DeleteChild(name), StartChild(probe(f"new-{name}"))),
                        GetChildSpec(f"new-{name}"),
                    ):
                        with contextlib.suppress(NoSuchChild):
                            await top.call(message)
            return count()

    few, many = await calls_among(30), await calls_among(3000)
    assert many < few * 1.2


async def test_many_children_start_and_stop_in_linear_time(autojump_clock) -> None:
    """supervisor_SUITE: scale_start_stop_many_children; counted in Python calls."""

    async def calls_with(children: int) -> int:
        spec = tree(*(probe(f"t{number}") for number in range(children)))
        with counted_calls() as count:
            async with open_runtime(spec):
                pass
        return count()

    few, many = await calls_with(100), await calls_with(2000)
    assert many < few * 22


@contextlib.contextmanager
def counted_calls() -> Iterator[Callable[[], int]]:
    """Count the calls of functions, those of the interpreter included, that are made in this thread."""
    calls, before = 0, sys.getprofile()

    def count(_frame: object, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        yield lambda: calls
    finally:
        sys.setprofile(before)


async def test_an_error_does_not_name_ten_thousand_children(autojump_clock) -> None:
    async with open_runtime(tree(*(probe(f"t{number}") for number in range(1000)))) as runtime:
        with pytest.raises(NoSuchChild) as missing:
            await runtime.ref("top").call(TerminateChild("nobody"))
    names = ", ".join(f"t{number}" for number in range(10))
    assert str(missing.value) == f"top has no child 'nobody'; it has {names} and 990 more"


def test_a_spec_of_ten_thousand_children_compares_no_pairs() -> None:
    """Names are looked up, and not held against each other."""
    compared = 0

    class Name(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    children = tuple(probe(Name(f"t{number}")) for number in range(10_000))
    compared = 0
    SupervisorSpec(id="s", children=children)
    assert compared <= 20_000


async def test_a_thousand_children_stop_together(autojump_clock) -> None:
    async with open_runtime(tree(pool())) as runtime:
        ref = runtime.ref("top/pool")
        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(ref.call, StartChild(probe(f"t{number}", Plan(stop_takes=2))))
        assert len(states(runtime, "top/pool")) == 1000
    assert trio.current_time() == 2.0
