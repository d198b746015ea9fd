"""Admin calls: taken at once, answered when done."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel
from kernel_kit import (
    ONE_SECOND,
    Plan,
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
    Budget,
    CallTimeout,
    ChildExists,
    ExitKind,
    NoSuchChild,
    Refusal,
    Restart,
    RestartChild,
    StartChild,
    StartFailed,
    Strategy,
    SupervisorSpec,
    TerminateChild,
    TooManyChildren,
    UnexpectedMessage,
    WhenExhausted,
)
from agentrt.kernel.messages import Envelope
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
        with pytest.raises(ChildExists, match=r"top has a child 'a' already \(running\)"):
            await runtime.ref("top").call(StartChild(probe("a")))


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
        assert ref._cell.mailbox.accept(Envelope(hello, ref._cell))


async def test_a_forgotten_child_gives_its_name_free(autojump_clock) -> None:
    async with open_runtime(tree(probe("a"))) as runtime:
        top = runtime.ref("top")
        await top.call(TerminateChild("a", forget=True))
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
            await runtime.ref("top").call(RestartChild("a"))
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


async def test_restart_tells_of_a_failed_start_and_goes_on_trying(autojump_clock) -> None:
    """The child is one of the supervisor's own, so its failed start is a failure like any other."""
    plan = Plan()
    async with open_runtime(tree(probe("a", plan, backoff=ONE_SECOND))) as runtime:
        plan.start_fails = 1
        with pytest.raises(StartFailed):
            await runtime.ref("top").call(RestartChild("a"))
        await trio.sleep(1.5)
        assert states(runtime) == {"a": "running"}


async def test_admin_calls_are_answered_while_a_child_waits_for_its_restart(autojump_clock) -> None:
    """A backoff is a timer and never a sleep in the loop."""
    specs = [probe(name, backoff=SLOW) for name in "abc"]
    async with open_runtime(tree(*specs)) as runtime:
        top = runtime.ref("top")
        for name in "abc":
            await crash(runtime.ref(f"top/{name}"))
        assert states(runtime) == {"a": "waiting", "b": "waiting", "c": "waiting"}
        assert (await top.call(TerminateChild("a"))).kind is ExitKind.CRASHED
        assert await top.call(RestartChild("b")) is runtime.ref("top/b")
        await top.call(StartChild(probe("d")))
        with pytest.raises(ChildExists, match=r"'c' already \(waiting\)"):
            await top.call(StartChild(probe("c")))
        assert states(runtime) == {"a": "down", "b": "running", "c": "waiting", "d": "running"}
        assert trio.current_time() == 0.0
    assert trio.current_time() == 0.0


async def test_a_restart_by_hand_does_not_lose_the_siblings_that_wait_with_it(autojump_clock) -> None:
    """Each child has a timer of its own: here b comes back early, and c still comes back in its time."""
    specs = [probe(name, backoff=ONE_SECOND) for name in "bac"]
    async with open_runtime(tree(*specs, strategy=Strategy.REST_FOR_ONE)) as runtime:
        await crash(runtime.ref("top/b"))
        await runtime.ref("top").call(RestartChild("b"))
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
        assert [type(answer).__name__ for answer in answers] == ["Exit", "ActorRef"]
        assert await runtime.ref("top/a").call(hello) == "a 2"


async def test_what_is_being_forgotten_cannot_be_restarted(autojump_clock) -> None:
    async with open_runtime(tree(probe("a", Plan(stop_takes=2)))) as runtime:
        top = runtime.ref("top")
        await top.cast(TerminateChild("a", forget=True))
        with pytest.raises(Refusal, match="top/a is being stopped to be forgotten"):
            await top.call(RestartChild("a"))


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
        with pytest.raises(UnexpectedMessage, match="top has no handler for str"):
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
    """It is in the middle of a message then; its grace bounds that."""

    async def end_me(actor: Actor) -> None:
        await runtime.ref("top").call(TerminateChild(actor.name))

    async with open_runtime(tree(probe("a", shutdown=2))) as runtime:
        await runtime.ref("top/a").cast(end_me)
        exit_ = await runtime.ref("top/a").wait_gone()
        assert (exit_.kind, trio.current_time()) == (ExitKind.KILLED, 2.0)


async def test_ten_thousand_temporary_children_leave_nothing(autojump_clock) -> None:
    """Neither a cell, nor a record, nor a timer; and the last is as quick as the first."""
    events, seen = recorder()

    async def run(_: Actor) -> None:
        await trio.lowlevel.checkpoint()

    async with open_runtime(tree(pool(max_children=50)), events=events) as runtime:
        ref = runtime.ref("top/pool")
        for number in range(10_000):
            child = await ref.call(StartChild(loop(f"t{number}", run, restart=Restart.TEMPORARY)))
            if number % 40 == 39:
                await quiet()
        await child.wait_gone()
        await quiet()
        assert states(runtime, "top/pool") == {}
        assert ref._cell.below == {}
        assert len(runtime.timers._heap) < 600
        # The timers, the root and the pool.
        assert len(runtime.nursery.child_tasks) == 3
    assert sum(event.kind == "actor_exited" for event in seen) == 10_000 + 1


async def test_a_thousand_children_stop_together(autojump_clock) -> None:
    async with open_runtime(tree(pool())) as runtime:
        ref = runtime.ref("top/pool")
        async with trio.open_nursery() as nursery:
            for number in range(1000):
                nursery.start_soon(ref.call, StartChild(probe(f"t{number}", Plan(stop_takes=2))))
        assert len(states(runtime, "top/pool")) == 1000
    assert trio.current_time() == 2.0
