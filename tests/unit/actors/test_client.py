"""A managed client in virtual time: one owner of recovery, a new object in place of one that is lost, for ever."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio

from actors.client import ClientActor, ClientSettings, ManagedClient
from agentrt.kernel import ChildSpec, Event, EventStream, SupervisorSpec, open_runtime
from agentrt.policy import Pace, Setback
from agentrt.ports import ClientAdapter, ConnectionEnded, ConnectionUnavailable

Clock = trio.testing.MockClock


class Toy:
    """A client object of a library that is told how to behave."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.answers = True
        self.closed: str | None = None
        self.breaks = trio.Event()
        self.subscribed = False
        self.discarded = False

    async def background(self) -> None:
        await self.breaks.wait()
        raise RuntimeError("the library's task failed")


@attrs.define
class ToyAdapter(ClientAdapter[Toy]):
    """Makes toys, in a world where connecting may fail or hang."""

    made: list[Toy] = attrs.field(factory=list)
    attempts: list[float] = attrs.field(factory=list)
    failure: Exception | None = None
    connect_takes: float = 0.0
    restore_takes: float = 0.0
    close_takes: float = 0.0
    #: A probe that got no answer on a connection that the library gave up gets none on the next one either.
    patience: float = math.inf

    async def connect(self, nursery: trio.Nursery) -> Toy:
        self.attempts.append(trio.current_time())
        await trio.sleep(self.connect_takes)
        if self.failure is not None:
            raise self.failure
        toy = Toy(len(self.made) + 1)
        self.made.append(toy)
        nursery.start_soon(toy.background)
        return toy

    async def probe(self, client: Toy) -> None:
        if not client.answers:
            await trio.sleep(self.patience)
            raise OSError("reconnecting")
        await trio.lowlevel.checkpoint()

    def is_closed(self, client: Toy) -> str | None:
        return client.closed

    async def restore(self, client: Toy) -> None:
        await trio.sleep(self.restore_takes)
        client.subscribed = True

    async def close(self, client: Toy) -> None:
        client.discarded = True
        await trio.sleep(self.close_takes)


@attrs.define
class Running:
    managed: ManagedClient[Toy]
    toys: ToyAdapter
    events: list[Event] = attrs.field(factory=list)
    runtime: Any = None

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events if event.kind.startswith("connection_")]

    def one(self, kind: str) -> Event:
        (event,) = [event for event in self.events if event.kind == kind]
        return event

    @property
    def restarts(self) -> int:
        return sum(node.restarts for node in self.runtime.tree().walk())


@asynccontextmanager
async def running(adapter: Any = None, **settings: Any) -> AsyncIterator[Running]:
    toys = adapter or ToyAdapter()
    world = Running(ManagedClient("feed", toys, ClientSettings(**settings)), toys)
    stream = EventStream()
    stream.listen(world.events.append)
    child = ChildSpec(id="feed", factory=lambda: ClientActor(world.managed))
    async with open_runtime(SupervisorSpec(id="agent", children=(child,)), seed=1, events=stream) as runtime:
        world.runtime = runtime
        yield world


async def lost_and_back(world: Running, harm: Callable[[Toy], object]) -> Event:
    """Harm the first client; return the event of its loss once there is a second one."""
    await world.managed.wait_ready()
    first = world.managed.client_nowait()
    harm(first)
    await trio.sleep(10)
    second = world.managed.client_nowait()
    assert (first.number, first.discarded, second.number, second.subscribed) == (1, True, 2, True)
    assert 0 == world.restarts
    assert ["connection_lost", "connection_rebuilding", "connection_rebuilt"] == [
        kind for kind in world.kinds() if kind not in ("connection_opened", "connection_unresponsive")
    ]
    rebuilt = world.one("connection_rebuilt")
    assert world.one("connection_lost").id == rebuilt.cause
    return world.one("connection_lost")


async def test_started_is_not_ready(autojump_clock: Clock):
    """The actor runs at once; ready is when a client was connected and restored."""
    async with running(ToyAdapter(connect_takes=1, restore_takes=2)) as world:
        await trio.sleep(2.9)
        assert (False, "not started") == (world.managed.is_ready, world.managed.reason)
        with pytest.raises(ConnectionUnavailable, match=r"connection 'feed': no client now \(not started\)"):
            world.managed.client_nowait()
        toy = await world.managed.client()
        assert (3.0, True, "connected") == (trio.current_time(), toy.subscribed, world.managed.reason)
    assert toy.discarded


async def test_a_client_that_is_closed_is_made_anew(autojump_clock: Clock):
    """By a poll, which a library without an event needs; the reason is told."""
    async with running() as world:
        lost = await lost_and_back(world, lambda toy: setattr(toy, "closed", "authentication expired"))
        assert "authentication expired" == lost.fields["reason"]


async def test_a_task_of_the_library_that_fails_ends_its_client(autojump_clock: Clock):
    """And neither the actor nor anything else."""
    async with running() as world:
        lost = await lost_and_back(world, lambda toy: toy.breaks.set())
        assert "RuntimeError: the library's task failed" == lost.fields["reason"]


async def test_a_client_that_is_asked_to_go_is_made_anew(autojump_clock: Clock):
    """By whoever holds the handle."""
    async with running() as world:
        lost = await lost_and_back(world, lambda _: world.managed.replace("a rotated certificate"))
        assert "a rotated certificate" == lost.fields["reason"]


async def test_a_client_that_does_not_answer_is_thrown_away_at_the_limit(autojump_clock: Clock):
    """Found by probes, whatever the library says of itself."""
    async with running() as world:
        lost = await lost_and_back(world, lambda toy: setattr(toy, "answers", False))
        assert "no probe was answered for 5 s (no answer)" == lost.fields["reason"]
        unresponsive = world.one("connection_unresponsive")
        assert unresponsive.id < lost.id
        assert world.managed.statistics().probes_failed >= 1


@pytest.mark.parametrize("begins", [0.5, 1.9, 2.0])
async def test_silence_counts_only_while_somebody_listens(begins: float, mock_clock: Clock):
    """A process that stood for longer than the limit keeps its client, and one that is dead is found after it."""
    async with running() as world:
        await world.managed.wait_ready()
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(begins)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(30.0)
        await trio.testing.wait_all_tasks_blocked()
        assert 1 == world.managed.client_nowait().number
        world.managed.client_nowait().answers = False
        for _ in range(60):
            mock_clock.jump(0.1)
            await trio.testing.wait_all_tasks_blocked()
        assert "no probe was answered" in world.one("connection_lost").fields["reason"]


async def test_a_library_that_reconnects_by_itself_is_left_alone(autojump_clock: Clock):
    """Until the limit: it is not ready meanwhile, and the same object serves on."""
    async with running(ToyAdapter(patience=0.5), probe_interval=1) as world:
        toy = await world.managed.client()
        toy.answers = False
        await trio.sleep(4.1)
        assert not world.managed.is_ready
        assert "does not answer: OSError: reconnecting" == world.managed.reason
        toy.answers = True
        await trio.sleep(2.5)
        assert world.managed.client_nowait() is toy
        await trio.sleep(600)
        assert ["connection_opened", "connection_unresponsive", "connection_responsive"] == world.kinds()
        assert (1, 0, 0) == attrs.astuple(world.managed.counted)[:3]


async def test_attempts_go_on_for_ever_and_ever_more_slowly(autojump_clock: Clock):
    """Eager in the first minute, then every 2 s at most; events grow rarer, and one attempt that works ends it."""
    async with running(ToyAdapter(failure=OSError("refused"))) as world:
        await trio.sleep(3600)
        gaps = [later - earlier for earlier, later in zip(world.toys.attempts, world.toys.attempts[1:], strict=False)]
        assert max(gaps) <= 2.0
        early = [at for at in world.toys.attempts if at < 60]
        assert len(early) > 120
        assert {"connection_attempt_failed"} == set(world.kinds())
        assert len(world.kinds()) < 15
        world.toys.failure = None
        await trio.sleep(2)
        assert world.managed.is_ready
        assert len(world.toys.attempts) - 1 == world.managed.statistics().attempts_failed


async def test_reasons_that_take_turns_do_not_fill_the_log(autojump_clock: Clock):
    """A server may fail in two ways, one after the other, or in a new one each time."""

    class Fickle(ToyAdapter):
        async def connect(self, nursery: trio.Nursery) -> Toy:
            self.failure = OSError(f"refused in way {len(self.attempts) % 2}")
            return await super().connect(nursery)

    class Inventive(ToyAdapter):
        async def connect(self, nursery: trio.Nursery) -> Toy:
            self.failure = OSError(f"refused request {len(self.attempts)}")
            return await super().connect(nursery)

    for adapter in (Fickle(), Inventive()):
        async with running(adapter) as world:
            await trio.sleep(3600)
            assert len(world.toys.attempts) > 1000
            assert len(world.kinds()) < 25


async def test_an_attempt_has_a_deadline(autojump_clock: Clock):
    """Over connecting and restoring together; the half-made client is thrown away."""
    async with running(ToyAdapter(connect_takes=10, restore_takes=10)) as world:
        await trio.sleep(15.5)
        assert "not connected and restored within 15 s" == world.managed.reason
        assert [True] == [toy.discarded for toy in world.toys.made]


async def test_what_needs_a_person_is_loud_and_tried_rarely(autojump_clock: Clock):
    """An adapter says so by the setback that it raises."""
    refused = ConnectionEnded("not authorised", Setback(Pace.RARELY, advice="correct the password"))
    async with running(ToyAdapter(failure=refused)) as world:
        await trio.sleep(600)
        assert len(world.toys.attempts) < 60
        assert {"connection_failing"} == set(world.kinds())
        told = world.events[-1].fields
        assert ("not authorised", "correct the password") == (told["reason"], told["advice"])


async def test_the_other_side_is_left_alone_as_long_as_it_asks_for(autojump_clock: Clock):
    """Not a moment less."""
    async with running(ToyAdapter(failure=ConnectionEnded("busy", Setback(after=40)))) as world:
        await trio.sleep(100)
        first, second, *_ = world.toys.attempts
        assert 40 <= second - first <= 44


async def test_one_that_dies_young_is_backed_off_from(autojump_clock: Clock):
    """Else a server that takes everybody and ends them at once would be called in a tight loop."""

    class Doomed(ToyAdapter):
        async def closed(self, client: Toy) -> str:
            await trio.lowlevel.checkpoint()
            return "go away"

    async with running(Doomed()) as world:
        await trio.sleep(60)
        assert len(world.toys.made) < 400
        assert len(world.toys.made) == world.managed.statistics().losses + world.managed.has_client


async def test_a_close_that_hangs_does_not_hold_up_the_next(autojump_clock: Clock):
    """It has a deadline."""
    async with running(ToyAdapter(close_takes=math.inf)) as world:
        toy = await world.managed.client()
        toy.closed = "gone"
        await trio.sleep(3)
        assert 2 == (await world.managed.client()).number


async def test_a_stop_closes_the_client_in_order(autojump_clock: Clock):
    """With its own tasks alive until it is closed; that is no loss."""
    alive: list[bool] = []

    class Polite(ToyAdapter):
        async def connect(self, nursery: trio.Nursery) -> Toy:
            toy = await super().connect(nursery)
            nursery.start_soon(self.pump)
            return toy

        async def pump(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                alive.append(False)

        async def close(self, client: Toy) -> None:
            await trio.sleep(0.5)
            alive.append(True)

    async with running(Polite()) as world:
        await world.managed.wait_ready()
    assert [True, False] == alive
    assert ["connection_opened"] == world.kinds()


async def test_whoever_waits_for_a_client_is_told_when_there_is_none(autojump_clock: Clock):
    """By a typed error that says why, after their own deadline."""
    async with running(ToyAdapter(failure=OSError("refused"))) as world:
        with pytest.raises(ConnectionUnavailable, match=r"no client within 7 s \(OSError: refused\)"):
            await world.managed.client(timeout=7)
        assert 7.0 == trio.current_time()


async def test_a_library_that_cancels_its_own_tasks_ends_its_client(autojump_clock: Clock):
    """A cancelled nursery is no stop of the actor."""

    class Quitting(ToyAdapter):
        async def connect(self, nursery: trio.Nursery) -> Toy:
            toy = await super().connect(nursery)
            if toy.number == 1:
                nursery.start_soon(self.quit, nursery)
            return toy

        async def quit(self, nursery: trio.Nursery) -> None:
            await trio.sleep(1)
            nursery.cancel_scope.cancel()

    async with running(Quitting()) as world:
        await trio.sleep(3)
        assert "its tasks were cancelled" == world.one("connection_lost").fields["reason"]
        assert 2 == world.managed.client_nowait().number


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("nobody knows what I say")


class Panic(BaseException):
    """As of a library in another language, or asyncio's cancellation: no Exception."""


@pytest.mark.parametrize("odd", [Unspeakable(), Panic("at the disco"), BaseExceptionGroup("", [Panic("of two")])])
@pytest.mark.parametrize("where", ["connect", "task", "restore", "probe", "closed", "close"])
async def test_whatever_a_library_raises_ends_its_client_and_never_the_actor(
    where: str, odd: BaseException, autojump_clock: Clock
):
    """Also what is no Exception, and what cannot be shown; it is a reason, and the next client is made."""

    class Odd(ToyAdapter):
        def fail(self, at: str) -> None:
            if at == where and len(self.attempts) == 1:
                raise odd

        async def connect(self, nursery: trio.Nursery) -> Toy:
            toy = await super().connect(nursery)
            nursery.start_soon(self.task)
            self.fail("connect")
            return toy

        async def task(self) -> None:
            await trio.sleep(1)
            self.fail("task")

        async def restore(self, client: Toy) -> None:
            self.fail("restore")
            await super().restore(client)

        async def probe(self, client: Toy) -> None:
            await super().probe(client)
            self.fail("probe")

        async def closed(self, client: Toy) -> str:
            await trio.sleep(2)
            self.fail("closed")
            return "gone" if where == "close" and client.number == 1 else await super().closed(client)

        async def close(self, client: Toy) -> None:
            await super().close(client)
            self.fail("close")

    async with running(Odd()) as world:
        await trio.sleep(20)
        assert (True, 0) == (world.managed.is_ready, world.restarts)
        assert world.managed.client_nowait() is world.toys.made[1]
        assert 2 == len(world.toys.made)


async def test_a_client_whose_probe_does_not_end_is_closed_all_the_same(autojump_clock: Clock):
    """A call in a thread cannot be cancelled. What it waits for ends with the client, and so then does it."""

    class Threaded(ToyAdapter):
        async def probe(self, client: Toy) -> None:
            if not client.answers:
                with trio.CancelScope(shield=True):
                    await client.breaks.wait()
                raise OSError("closed under me")
            await trio.lowlevel.checkpoint()

        async def close(self, client: Toy) -> None:
            await super().close(client)
            client.breaks.set()

    async with running(Threaded()) as world:
        lost = await lost_and_back(world, lambda toy: setattr(toy, "answers", False))
        assert "no probe was answered for 5 s (the last one does not end)" == lost.fields["reason"]
        assert "connection_stuck" not in world.kinds()


@pytest.mark.parametrize("where", ["connect", "probe", "restore", "close", "task"])
async def test_a_client_that_does_not_let_go_is_told_of(where: str, autojump_clock: Clock):
    """No other one can be made until it does, so a person has to know; it does not look as if it worked."""

    class Clinging(ToyAdapter):
        async def cling(self, at: str) -> None:
            if at == where and len(self.attempts) == 1:
                with trio.CancelScope(shield=True):
                    await trio.sleep(100)

        async def connect(self, nursery: trio.Nursery) -> Toy:
            toy = await super().connect(nursery)
            nursery.start_soon(self.task)
            await self.cling("connect")
            return toy

        async def task(self) -> None:
            await self.cling("task")

        async def probe(self, client: Toy) -> None:
            await super().probe(client)
            await self.cling("probe")

        async def restore(self, client: Toy) -> None:
            await self.cling("restore")
            await super().restore(client)

        async def close(self, client: Toy) -> None:
            await super().close(client)
            await self.cling("close")

        def is_closed(self, client: Toy) -> str | None:
            return "gone" if where in ("close", "task") and client.number == 1 else None

    async with running(Clinging()) as world:
        await trio.sleep(60)
        assert not world.managed.is_ready
        stuck = world.one("connection_stuck").fields
        assert stuck["reason"] == f"{world.managed.reason}; {stuck['reason'].partition('; ')[2]}"
        assert "thread" in stuck["advice"]
        await trio.sleep(60)
        assert (True, 2, 0) == (world.managed.is_ready, world.managed.client_nowait().number, world.restarts)


@pytest.mark.parametrize("said", ["", None])
async def test_a_client_that_does_not_say_why_it_closed_does_not_look_connected(said: Any, autojump_clock: Clock):
    """Else whoever asks why it is not ready is told that it is connected."""

    class Silent(ToyAdapter):
        async def closed(self, client: Toy) -> str:
            await trio.sleep(3)
            return said  # type: ignore[no-any-return]

    async with running(Silent()) as world:
        await world.managed.wait_ready()
        world.toys.failure = ConnectionEnded("")
        await trio.sleep(3.01)
        assert (False, "it was not said why") == (world.managed.is_ready, world.managed.reason)
        assert "it was not said why" == world.one("connection_lost").fields["reason"]


def test_probes_that_are_further_apart_than_a_client_may_be_silent_are_refused():
    """Each client would be thrown away before anybody asked it."""
    with pytest.raises(ValueError, match="less than probe_limit"):
        ClientSettings(probe_interval=5.0, probe_limit=5.0)
