"""A random tree under random faults: whatever happens, and in whatever order, what the kernel promises holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import attrs
import trio
from hypothesis import event, given, settings
from hypothesis import strategies as st
from kernel_kit import recorder
from trio.testing import MockClock

from agentrt.kernel import (
    Actor,
    ActorDied,
    Budget,
    CallCycle,
    CallTimeout,
    ChildSpec,
    Event,
    KernelError,
    MailboxSpec,
    Restart,
    RestartChild,
    Runtime,
    StartChild,
    Strategy,
    SupervisorSpec,
    TerminateChild,
    TreeFailed,
    open_runtime,
)
from agentrt.policy.backoff import Backoff
from agentrt.policy.watchdog import Limits

#: Seconds after which everything that the faults left behind is over: backoffs, graces, deadlines, zombies.
CALM = 500.0
EXITS = frozenset({"actor_crashed", "actor_exited"})
START_FAULTS = {"bad start": "crash", "slow start": "slow", "hanging start": "hang"}
BACKOFF = Backoff(initial=1.0, maximum=8.0)
ENOUGH = Budget(10_000, 1.0)


class Fault(Exception):
    """What an actor is told to die of."""


@attrs.define(eq=False)
class World:
    """What the actors of one example do, and what is seen of them."""

    start_faults: dict[str, list[str]] = attrs.field(factory=lambda: defaultdict(list))
    slow_stops: dict[str, float] = attrs.field(factory=lambda: defaultdict(float))
    living: set[tuple[str, int]] = attrs.field(factory=set)
    started: dict[str, list[int]] = attrs.field(factory=lambda: defaultdict(list))
    order: list[str] = attrs.field(factory=list)
    wrongs: list[str] = attrs.field(factory=list)


class Faulty(Actor):
    """Does what the world has in store for it."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def on_start(self) -> None:
        world = self.world
        world.started[self.path].append(self.generation)
        world.order.append(self.path)
        self.spawn(self.live)
        fault = world.start_faults[self.path].pop() if world.start_faults[self.path] else "none"
        if fault == "slow":
            await trio.sleep(2)
        elif fault == "hang":
            await trio.sleep_forever()
        elif fault == "crash":
            raise Fault("at the start")

    async def live(self) -> None:
        """Be seen for as long as any task of this incarnation lives."""
        me = (self.path, self.generation)
        self.world.living.add(me)
        try:
            await trio.sleep_forever()
        finally:
            self.world.living.remove(me)

    async def handle(self, message: tuple[str, Any]) -> object:
        what, other = message
        if what == "crash":
            raise Fault("told to")
        if what == "hang":
            await trio.sleep_forever()
        elif what == "slow":
            await trio.sleep(3)
        elif what == "shield":
            with trio.CancelScope(shield=True):
                await trio.sleep(8)
        elif what == "spin off":
            self.spawn(self.fail_later)
        elif what == "pass on" and other is not None:
            try:
                return await other.call(("pass on", self.ref))
            except (CallTimeout, CallCycle, ActorDied):
                return "passed on in vain"
        return self.generation

    async def fail_later(self) -> None:
        await trio.sleep(1)
        raise Fault("beside")

    async def on_stop(self) -> None:
        await trio.sleep(self.world.slow_stops[self.path])


@st.composite
def trees(draw: st.DrawFn, budget: Budget, depth: int = 2, path: str = "top") -> SupervisorSpec:
    """Draw a supervisor with some children, of which some are supervisors."""
    children: list[Any] = []
    for number in range(draw(st.integers(1, 3))):
        if depth > 1 and draw(st.booleans()):
            children.append(draw(trees(budget, depth - 1, f"s{number}")))
        else:
            children.append(
                {
                    "id": f"a{number}",
                    "restart": draw(st.sampled_from([Restart.PERMANENT, Restart.TRANSIENT])),
                    "shutdown": draw(st.sampled_from([0.0, 1.0, 5.0])),
                    "limits": draw(st.sampled_from([Limits(), Limits(progress=20.0)])),
                    "mailbox": MailboxSpec(capacity=draw(st.integers(1, 3))),
                }
            )
    dynamic = draw(st.booleans())
    strategy = Strategy.ONE_FOR_ONE if dynamic else draw(st.sampled_from(Strategy))
    return {"id": path, "children": children, "dynamic": dynamic, "strategy": strategy, "budget": budget}


def build(drawn: dict[str, Any], world: World) -> SupervisorSpec | ChildSpec:
    if "children" not in drawn:
        return ChildSpec(**drawn, factory=lambda: Faulty(world), budget=ENOUGH, backoff=BACKOFF, start_timeout=10.0)
    budget = drawn["budget"]
    children = tuple(build(child, world) for child in drawn["children"])
    return SupervisorSpec(**{**drawn, "children": children}, own_budget=budget, backoff=BACKOFF, start_timeout=60.0)


def supervisors(spec: SupervisorSpec, above: str = "") -> Iterator[tuple[str, SupervisorSpec]]:
    path = f"{above}{spec.id}"
    yield path, spec
    for child in spec.children:
        if isinstance(child, SupervisorSpec):
            yield from supervisors(child, f"{path}/")


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "crash",
                "hang",
                "slow",
                "shield",
                "spin off",
                "pass on",
                "slow stop",
                *START_FAULTS,
                "terminate",
                "restart",
                "start child",
                "end child",
            ]
        ),
        st.integers(0, 20),
        st.integers(0, 20),
        st.sampled_from([0.0, 0.0, 0.5, 1.0, 4.0]),
        st.sampled_from([None, 1.0, 6.0]),
    ),
    max_size=25,
)


@attrs.define(eq=False)
class Calls:
    """Every call that was made, with its outcome and how long it took over its time."""

    made: int = 0
    outcomes: list[str] = attrs.field(factory=list)
    late: list[str] = attrs.field(factory=list)

    async def make(self, ref: Any, message: Any, timeout: float | None) -> None:
        self.made += 1
        begun = trio.current_time()
        try:
            await ref.call(message, timeout=timeout)
        except KernelError as error:
            self.outcomes.append(type(error).__name__)
        else:
            self.outcomes.append("answered")
        if trio.current_time() - begun > (timeout or 60.0):
            self.late.append(f"{message} to {ref.path}")


async def act(
    runtime: Runtime, world: World, calls: Calls, nursery: trio.Nursery, actions: list[Any], paths: list[str]
) -> None:
    """Carry out the faults, one after the other."""
    for kind, which, other, pause, timeout in actions:
        path = paths[which % len(paths)]
        above, _, name = path.rpartition("/")
        if kind == "slow stop":
            world.slow_stops[path] = 3.0
        elif kind in START_FAULTS:
            world.start_faults[path] = [START_FAULTS[kind]]
        else:
            message, target = (kind, runtime.ref(paths[other % len(paths)])), path
            if kind in {"terminate", "restart"}:
                message, target = (TerminateChild(name) if kind == "terminate" else RestartChild(name)), above
            elif kind == "start child":
                guest = ChildSpec(
                    id=f"g{other}", factory=lambda: Faulty(world), backoff=BACKOFF, restart=Restart.TEMPORARY
                )
                message, target = StartChild(guest), above
            elif kind == "end child":
                message, target = TerminateChild(f"g{other}", forget=True), above
            nursery.start_soon(calls.make, runtime.ref(target), message, timeout)
        await trio.sleep(pause)


def check_on(world: World, told: Event) -> None:
    """At each end of an actor nothing of it, or below it, may live; a zombie's is known and excused."""
    if told.kind in EXITS and told.fields["exit"] != "zombie":
        left = [
            one
            for one in world.living
            if one == (told.path, told.fields["generation"]) or one[0].startswith(f"{told.path}/")
        ]
        if left:
            world.wrongs.append(f"{left} outlived {told.path}")


async def run_example(drawn, actions, *, mends) -> None:
    world, calls = World(), Calls()
    root = build(drawn, world)
    events, seen = recorder()
    events.listen(lambda told: check_on(world, told))
    paths = [f"{path}/{child.id}" for path, spec in supervisors(root) for child in spec.children]
    actors = [path for path in paths if path not in dict(supervisors(root))]
    shape: set[str] = set()
    stopped_at = 0
    failed = None
    try:
        async with open_runtime(root, seed=1, events=events) as runtime:
            assert world.order == [path for path in in_start_order(root) if path in actors]
            shape = {node.path for node in runtime.tree().walk()}
            async with trio.open_nursery() as nursery:
                await act(runtime, world, calls, nursery, actions, paths)
                world.start_faults.clear()
                world.slow_stops.clear()
            await trio.sleep(CALM)
            if mends:
                await mend(runtime, root)
                now = {node.path: node.state for node in runtime.tree().walk()}
                assert shape <= set(now)
                assert {now[path] for path in shape} == {"running"}
            assert runtime.zombies == []
            stopped_at = len(seen)
    except TreeFailed as tree_failed:
        failed = tree_failed
    assert failed is None or not mends
    event("the tree failed" if failed is not None else "the tree held")
    assert world.living == set()
    assert world.wrongs == []
    assert (len(calls.outcomes), calls.late) == (calls.made, []) or failed is not None
    for path in actors:
        # One that was stopped before its task ran has a generation and an exit, but was never seen.
        ends = [one.fields["generation"] for one in seen if one.path == path and one.kind in EXITS]
        assert ends == list(range(1, len(ends) + 1))
        assert world.started[path] == sorted(set(world.started[path]) & set(ends))
    assert all(one.cause is None or one.cause < one.id for one in seen)
    if failed is None:
        check_stop_order(root, seen[stopped_at:])


def in_start_order(spec: SupervisorSpec, above: str = "") -> Iterator[str]:
    for child in spec.children:
        if isinstance(child, SupervisorSpec):
            yield from in_start_order(child, f"{above}{spec.id}/")
        yield f"{above}{spec.id}/{child.id}"


async def mend(runtime: Runtime, root: SupervisorSpec) -> None:
    """Start again what was terminated on purpose, from the top."""
    for path, spec in supervisors(root):
        for child in spec.children:
            node = next(one for one in runtime.tree().walk() if one.path == f"{path}/{child.id}")
            if node.state in {"down", "done"}:
                await runtime.ref(path).call(RestartChild(child.id))


def check_stop_order(root: SupervisorSpec, last: list[Event]) -> None:
    ends = [one.path for one in last if one.kind in EXITS]
    for path, spec in supervisors(root):
        if not spec.dynamic:
            own = [f"{path}/{child.id}" for child in spec.children]
            assert [one for one in ends if one in own] == [one for one in reversed(own) if one in ends]


@given(drawn=trees(ENOUGH), actions=ACTIONS, schedule=st.random_module())
@settings(max_examples=150, deadline=None)
def test_a_tree_that_may_restart_as_often_as_it_likes_is_whole_again(drawn, actions, schedule) -> None:
    """Each call has one outcome, in time; no task outlives its parent; order holds; and the shape comes back."""
    trio.run(lambda: run_example(drawn, actions, mends=True), clock=MockClock(autojump_threshold=0))


@given(
    drawn=st.sampled_from([Budget(0, 5.0), Budget(1, 5.0)]).flatmap(trees), actions=ACTIONS, schedule=st.random_module()
)
@settings(max_examples=100, deadline=None)
def test_a_tree_with_small_budgets_fails_in_order_if_it_fails(drawn, actions, schedule) -> None:
    """Escalation at any moment, through any level, in the middle of any start or stop."""
    trio.run(lambda: run_example(drawn, actions, mends=False), clock=MockClock(autojump_threshold=0))
