"""What Pekko's SupervisionSpec adds about limits, death pacts and fatal errors."""

from __future__ import annotations

import itertools

import pytest
import trio
from conformance_kit import PLENTY
from kernel_kit import AT_ONCE, Boom, Plan, Probe, crash, hello, node, open_runtime, probe, states, tree

from agentrt.kernel import Actor, ActorRef, Budget, ChildSpec, Down, ExitKind, Runtime, SupervisorSpec
from agentrt.policy.backoff import Backoff


async def crash_at(runtime: Runtime, times: list[float]) -> str:
    """Crash the child at these times and say what became of it."""
    for time in times:
        await trio.sleep(time - trio.current_time())
        await crash(runtime.ref("top/a"))
    return states(runtime)["a"]


@pytest.mark.parametrize(
    ("times", "then"),
    [
        ([0, 1, 11.5, 12.5, 23, 24], "running"),
        ([0, 1, 10], "exhausted"),
        # It lasts from the first failure on in Pekko, and then begins anew: three within two seconds pass.
        ([0, 9, 10.5, 11], "exhausted"),
    ],
)
async def test_a_child_has_all_its_restarts_again_after_its_window(autojump_clock, times, then) -> None:
    """Case 36: SupervisionSpec: "reset fixed limit after timeout", "stop when restart limit is hit"; 2 in 10 s.

    Ours is a sliding window, in which a restart that is exactly as old still counts.
    """
    async with open_runtime(tree(probe("a", budget=Budget(2, 10)), budget=PLENTY)) as runtime:
        assert await crash_at(runtime, times) == then


@pytest.mark.parametrize("way", ["factory", "start", "message"])
@pytest.mark.parametrize("limit", [0, 1, 3])
async def test_a_limit_counts_failed_starts_and_crashes_alike(autojump_clock, limit, way) -> None:
    """Case 37: SupervisionSpec: "fail after more than limit in restart.withLimit when deferred factory throws".

    And "stop at first exception when restart retries limit is 0". In Pekko the two are off by one. A child that fails
    at its very first start is a failure of its supervisor's start.
    """
    plan, made = Plan(), []

    def factory() -> Actor:
        made.append(plan)
        if way == "factory" and len(made) > 1:
            raise Boom("it cannot even be made")
        return Probe(plan)

    spec = ChildSpec(id="a", factory=factory, backoff=AT_ONCE, budget=Budget(limit, 60))
    async with open_runtime(tree(spec)) as runtime:
        plan.start_fails = -1 if way == "start" else 0
        for _ in range(limit + 1 if way == "message" else 1):
            assert states(runtime) == {"a": "running"}
            await crash(runtime.ref("top/a"))
        assert states(runtime) == {"a": "exhausted"}
        assert (len(made), node(runtime, "top/a").generation) == (limit + 1, limit + 1)


@pytest.mark.parametrize("failures", [1, 2, 3])
async def test_a_start_may_fail_as_often_as_the_limit_says(autojump_clock, failures) -> None:
    """Case 37: SupervisionSpec: "restart.withLimit when deferred factory throws"; the next one is up, and stays."""
    plan = Plan()
    async with open_runtime(tree(probe("a", plan, budget=Budget(3, 60)))) as runtime:
        plan.start_fails = failures
        await crash(runtime.ref("top/a"))
        if failures < 3:
            assert await runtime.ref("top/a").call(hello) == f"a {failures + 2}"
        else:
            assert states(runtime) == {"a": "exhausted"}


class Watcher(Probe):
    """Watches its sibling from its start on."""

    def __init__(self, ref: ActorRef) -> None:
        super().__init__(Plan())
        self._ref = ref

    async def on_start(self) -> None:
        self.monitor(self._ref)

    async def handle(self, message: object) -> object:
        return await super().handle(message) if callable(message) else await Actor.handle(self, message)


class Recovering(Watcher):
    """Knows what to do about an end: watch whoever comes next."""

    async def handle(self, message: object) -> object:
        if not isinstance(message, Down):
            return await super().handle(message)
        self.plan.log.append(f"{message.ref.path} {message.exit.kind.value}")
        self.monitor(message.ref)
        return None


def watching(kind: type[Watcher], watchers: list[Watcher]) -> SupervisorSpec:
    """Describe a child, and one that watches it."""

    def factory() -> Actor:
        watchers.append(kind(refs[0]))
        return watchers[-1]

    refs: list[ActorRef] = []

    class Watched(Probe):
        async def on_start(self) -> None:
            refs[:] = [self.ref]

    slowly = Backoff(initial=1, maximum=1, jitter=(1.0, 1.0))
    watched = ChildSpec(id="watched", factory=lambda: Watched(Plan()), backoff=AT_ONCE)
    return tree(watched, ChildSpec(id="watcher", factory=factory, backoff=slowly))


async def test_who_does_not_handle_an_end_dies_of_it_and_is_restarted(autojump_clock) -> None:
    """Case 38: SupervisionSpec: "be able to recover from a DeathPactException"; its supervisor sees to that."""
    watchers = []
    async with open_runtime(watching(Watcher, watchers)) as runtime:
        ref = runtime.ref("top/watcher")
        for generation in (1, 2):
            assert await ref.call(hello) == f"watcher {generation}"
            await crash(runtime.ref("top/watched"))
            assert states(runtime) == {"watched": "running", "watcher": "waiting"}
            exit_ = ref.incarnation.exit
            assert (exit_.kind, exit_.cause.type) == (ExitKind.CRASHED, "DeathPact")
            assert exit_.cause.exits[0].path == "top/watched"
            assert (exit_.cause.exits[0].generation, exit_.cause.exits[0].cause.type) == (generation, "Boom")
        assert await ref.call(hello) == "watcher 3"
        assert trio.current_time() == 2.0
    assert len(watchers) == 3


async def test_who_handles_an_end_lives_on(autojump_clock) -> None:
    """Case 38: SupervisionSpec: "be able to recover from a DeathPactException"; and may watch the next one."""
    watchers = []
    async with open_runtime(watching(Recovering, watchers)) as runtime:
        for _ in range(2):
            await crash(runtime.ref("top/watched"))
        assert await runtime.ref("top/watcher").call(hello) == "watcher 1"
    (watcher,) = watchers
    assert watcher.plan.log[:2] == ["top/watched crashed"] * 2


class Fatal(Actor):
    """Raises what no supervisor may take for a crash, at some point of its life."""

    def __init__(self, error: BaseException, where: str) -> None:
        self._error = error
        self._where = where

    def _reach(self, where: str) -> None:
        if where == self._where:
            raise self._error

    async def on_start(self) -> None:
        self._reach("on_start")
        if self._where == "task":
            self.spawn(self._beside)

    async def _beside(self) -> None:
        await trio.sleep(1)
        self._reach("task")

    async def handle(self, message: object) -> object:
        self._reach("handler")

    async def on_stop(self) -> None:
        self._reach("on_stop")


FATAL = [
    KeyboardInterrupt(),
    SystemExit(7),
    BaseExceptionGroup("both", [Boom("an ordinary one"), BaseExceptionGroup("inner", [SystemExit(7)])]),
]


@pytest.mark.parametrize("where", ["on_start", "handler", "task", "on_stop"])
@pytest.mark.parametrize("error", FATAL, ids=["KeyboardInterrupt", "SystemExit", "in a group"])
async def test_a_fatal_error_is_never_a_childs_crash(autojump_clock, error, where) -> None:
    """Case 39: SupervisionSpec: "not catch fatal error".

    It passes every supervisor on its way and is restarted by none; the run ends in order and raises it.
    """
    log, starts = [], itertools.count()

    def factory() -> Actor:
        next(starts)
        return Fatal(error, where)

    fatal = ChildSpec(id="fatal", factory=factory, backoff=AT_ONCE)
    inner = SupervisorSpec(id="inner", children=(probe("before", Plan(log, stop_takes=1)), fatal), backoff=AT_ONCE)
    expected = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else SystemExit
    with pytest.raises(expected) as left:
        async with open_runtime(tree(probe("other", Plan(log)), inner)) as runtime:
            ref = runtime.ref("top/inner/fatal")
            if where == "handler":
                await ref.cast("go")
            await trio.sleep(0 if where == "on_stop" else 10)
            if where != "on_stop":
                pytest.fail("the run goes on")
    assert getattr(left.value, "code", 7) == 7
    assert next(starts) == 1
    assert log == ["start other", "start before", "stop before", "stop other"]
