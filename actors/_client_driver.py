"""Keeps a client connected: connect, restore, probe, throw away, again, for ever."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Generic, TypeVar

import attrs
import trio

from agentrt.policy import Health, Pace, ProbeHealth, Setback
from agentrt.policy.probe import LATENESS
from agentrt.ports import ConnectionEnded

if TYPE_CHECKING:
    from actors.client import ManagedClient
    from agentrt.kernel.events import Event

C = TypeVar("C")
T = TypeVar("T")
_LEAST_GAP = 0.1
# Of one outage that are told when they come.
_REASONS = 8
# What is cancelled gets so much longer before its client is given up without it, and before that is told.
_GRACE, _STUCK_AFTER = 0.1, 1.0
_CANCELLED = "its tasks were cancelled"
_STUCK = "what was cancelled goes on, and no other client is made until it ends"
_YIELD = "give its calls a timeout of their own, or run them in a thread that may be abandoned"
# All else is a failure of a library, whatever class it has: asyncio's cancellation is no exception, nor is a panic.
_OURS = (trio.Cancelled, KeyboardInterrupt, SystemExit, GeneratorExit)


def _said(reason: str | None) -> str:
    return reason or "it was not said why"


@attrs.frozen
class End:
    """Why a client, or an attempt to make one, came to its end."""

    reason: str = attrs.field(converter=_said)
    setback: Setback = attrs.field(factory=Setback)


@attrs.define
class _Outage:
    """From the loss of one client that lived until the next one does."""

    since: float
    last: End
    attempt: int = 0
    told: set[str] = attrs.field(factory=set)
    lost: Event | None = None


class Ending:
    """The end of one client: the first reason that is told counts.

    Args:
        due: When it ends by itself, unless that is put off.
        overdue: The reason then.
    """

    def __init__(self, due: float, overdue: str) -> None:
        self._came = trio.Event()
        self.end: End | None = None
        self._patience = trio.CancelScope(deadline=due)
        self._overdue = overdue
        #: Whether its tasks are cancelled because it is thrown away.
        self.is_released = False

    def tell(self, end: End) -> End:
        """Say that it ended; return the reason that counts, for later ones follow from the first."""
        if self.end is None:
            self.end = end
            self._came.set()
        return self.end

    async def wait(self) -> End:
        """Wait until it ended."""
        await self._came.wait()
        assert self.end is not None
        return self.end

    def extend(self, due: float, overdue: str = "") -> None:
        """Have it end at *due* by itself, and no longer when that was said before; the reason is the last one said."""
        self._patience.deadline = due
        self._overdue = overdue or self._overdue

    async def keep_time(self) -> None:
        """Wait until it ended; see that it does when it is due, whatever else hangs."""
        while self.end is None:
            with self._patience:
                await self.wait()
            now, due = trio.current_time(), self._patience.deadline
            if self.end is not None or 0 <= now - due <= LATENESS:
                break
            # Nobody could listen; who probes has put it off already, or will at once.
            self._patience = trio.CancelScope(deadline=max(due, now + LATENESS))
        self.tell(End(self._overdue))


@attrs.define
class ClientDriver(Generic[C]):
    """One owner of recovery for one client library.

    A rebuild happens inside: it is no crash, and costs no restart.

    Args:
        client: The handle.
        emit: Publishes an event, as :meth:`agentrt.kernel.Actor.emit`.
        progress: Called at each answered probe.
        jitter: A source of numbers from 0 to 1.
    """

    client: ManagedClient[C]
    emit: Callable[..., Event]
    progress: Callable[[str], None]
    jitter: Callable[[], float]
    _live_since: float | None = attrs.field(init=False, default=None)
    _lost: Event | None = attrs.field(init=False, default=None)

    async def run(self) -> None:
        """Keep the client connected until cancelled."""
        outage = _Outage(trio.current_time(), End("not started"))
        while True:
            outage.attempt += 1
            if outage.attempt > 1 or outage.lost is not None:
                elapsed = trio.current_time() - outage.since
                pace = self.client.settings.pace
                await trio.sleep(pace.delay(outage.last.setback, outage.attempt, elapsed, self.jitter()))
            self._live_since = self._lost = None
            end = await self._incarnation(outage)
            outage = self._next_outage(outage, end)

    def _next_outage(self, outage: _Outage, end: End) -> _Outage:
        now = trio.current_time()
        if self._live_since is None:
            self.client.counted.attempts_failed += 1
            outage.last = end
            # Each reason once, as far as they are few; a server may have a new one each time.
            is_new = end.reason not in outage.told and len(outage.told) < _REASONS
            if is_new or _is_power_of_two(outage.attempt):
                self._tell_failed(outage, end)
            return outage
        # One that died young is no end of the outage: else one that is killed at once would be made in a tight loop.
        lived = now - self._live_since
        attempt = outage.attempt if lived < self.client.settings.probe_interval else 0
        return _Outage(now, end, attempt, lost=self._lost)

    def _tell_failed(self, outage: _Outage, end: End) -> None:
        # What does not pass by itself needs a person, so it is loud.
        kind = "connection_failing" if end.setback.pace is Pace.RARELY else "connection_attempt_failed"
        outage.told.add(end.reason)
        self._emit(kind, cause=outage.lost, attempt=outage.attempt, reason=end.reason, advice=end.setback.advice)

    async def _incarnation(self, outage: _Outage) -> End:
        """Make one client and serve it to its end; return why it ended."""
        if outage.lost is not None and _is_power_of_two(outage.attempt):
            self._emit("connection_rebuilding", cause=outage.lost, attempt=outage.attempt, seconds=_since(outage))
        deadline = trio.current_time() + self.client.settings.connect_timeout
        ending = Ending(deadline + _GRACE, self._late)
        try:
            async with trio.open_nursery() as around:
                around.start_soon(self._keep_time, ending)
                await self._lifetime(ending, outage, deadline)
                around.cancel_scope.cancel()
        except BaseException as failed:  # noqa: BLE001, ASYNC103 - what is not a library's is raised again.
            ours, theirs = _parted(failed)
            if theirs is not None:
                ending.tell(_end_of(theirs))
            if ours is not None:
                raise ours from None  # noqa: ASYNC104
        end = ending.tell(End(_CANCELLED))
        self._tell_loss(ending)
        self.client.taken(end.reason)
        return end

    async def _lifetime(self, ending: Ending, outage: _Outage, deadline: float) -> None:
        async with trio.open_nursery() as around:
            nursery = await around.start(_hold, ending)
            try:
                await self._live(nursery, ending, outage, deadline)
            finally:
                ending.is_released = True
                nursery.cancel_scope.cancel()

    async def _keep_time(self, ending: Ending) -> None:
        """End a client that is overdue, and tell of one that does not let go."""
        await ending.keep_time()
        assert ending.end is not None
        if not self.client.has_client:
            self.client.taken(ending.end.reason)
        await trio.sleep(self.client.settings.close_timeout + _STUCK_AFTER)
        self._emit("connection_stuck", reason=f"{ending.end.reason}; {_STUCK}", advice=_YIELD)

    async def _live(self, nursery: trio.Nursery, ending: Ending, outage: _Outage, deadline: float) -> None:
        client = await self._attempt(deadline, lambda: self.client.adapter.connect(nursery))
        async with trio.open_nursery() as serving:
            try:
                serving.start_soon(self._serve, client, ending, outage, deadline)
                await ending.wait()
            finally:
                serving.cancel_scope.cancel()
                self._tell_loss(ending)
                self.client.taken(ending.end.reason if ending.end is not None else "stopped")
                # Also while one of those does not end yet: a closed client is often what it waits for.
                with trio.move_on_after(self.client.settings.close_timeout, shield=True):
                    await self._close(client)

    async def _attempt(self, deadline: float, step: Callable[[], Awaitable[T]]) -> T:
        """Do a step of an attempt to connect.

        Raises:
            ConnectionEnded: The time of the attempt is over.
        """
        with trio.CancelScope(deadline=deadline):
            return await step()
        raise ConnectionEnded(self._late)

    @property
    def _late(self) -> str:
        return f"not connected and restored within {self.client.settings.connect_timeout:g} s"

    async def _close(self, client: C) -> None:
        try:
            await self.client.adapter.close(client)
        except Exception as error:  # noqa: BLE001 - it is thrown away in any case, and its tasks are cancelled.
            self._emit("connection_close_failed", reason=describe(error))

    def _opened(self, client: C, outage: _Outage) -> None:
        self._live_since = trio.current_time()
        self.client.given(client)
        if outage.lost is None:
            self._emit("connection_opened", attempt=outage.attempt)
            return
        self.client.counted.rebuilds += 1
        self._emit("connection_rebuilt", cause=outage.lost, attempt=outage.attempt, seconds=_since(outage))

    def _tell_loss(self, ending: Ending) -> None:
        """Say that it is lost before anything is done about it; once."""
        end = ending.end
        if self._live_since is None or end is None or self._lost is not None:
            return
        self.client.counted.losses += 1
        self._lost = self._emit("connection_lost", reason=end.reason, advice=end.setback.advice)

    async def _serve(self, client: C, ending: Ending, outage: _Outage, deadline: float) -> None:
        try:
            await self._attempt(deadline, lambda: self.client.adapter.restore(client))
        except Exception as error:  # noqa: BLE001 - whatever an adapter raises fails the attempt.
            ending.tell(_end_of(error))
        if ending.end is not None:
            return
        self._opened(client, outage)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, client, ending)
            nursery.start_soon(self._probe, client, ending)
            nursery.start_soon(self._end_on_request, ending)

    async def _watch(self, client: C, ending: Ending) -> None:
        try:
            ending.tell(End(await self.client.adapter.closed(client)))
        except Exception as error:  # noqa: BLE001 - an adapter that cannot say why it is closed is closed.
            ending.tell(_end_of(error))

    async def _end_on_request(self, ending: Ending) -> None:
        ending.tell(End(await self.client.wait_request()))

    async def _probe(self, client: C, ending: Ending) -> None:
        settings = self.client.settings
        health = ProbeHealth(settings.probe_limit)
        health.connected(trio.current_time())
        unanswered = f"no probe was answered for {settings.probe_limit:g} s"
        # One that does not even end when it is cancelled, as in a thread, is no answer either.
        ending.extend(health.due + _GRACE, f"{unanswered} (the last one does not end)")
        wake = trio.current_time()
        while True:
            sent = trio.current_time()
            health.woke(wake, sent)
            ending.extend(health.due + _GRACE)
            health.sent(sent)
            timeout = max(0.0, min(settings.probe_timeout, health.due - sent))
            trouble = await self._probe_once(client, ending, timeout)
            now = trio.current_time()
            health.woke(sent + timeout, now)
            if not trouble:
                health.answered(now)
                ending.extend(health.due + _GRACE)
                self.client.round_trip = health.round_trip
                self.progress("probe")
            elif health.verdict(now) is Health.UNHEALTHY:
                ending.tell(End(f"{unanswered} ({trouble})"))
                return
            self._judged(trouble)
            # Nearer the limit more closely, so that a library that comes back just before it is seen to.
            soon = math.inf if not trouble else now + max(_LEAST_GAP, (health.due - now) / 2)
            wake = min(sent + settings.probe_interval, soon)
            await trio.sleep_until(wake)

    async def _probe_once(self, client: C, ending: Ending, timeout: float) -> str:
        """Probe; return what is wrong, or nothing."""
        try:
            with trio.move_on_after(timeout):
                await self.client.adapter.probe(client)
                return ""
        except ConnectionEnded as ended:
            ending.tell(End(str(ended), ended.setback))
            return str(ended)
        except Exception as error:  # noqa: BLE001 - while a library reconnects its calls may fail in any way.
            return describe(error)
        return "no answer"

    def _judged(self, trouble: str) -> None:
        """Tell of a change: it does not answer, which its library may mend by itself, or it answers again."""
        if trouble:
            self.client.counted.probes_failed += 1
        if bool(trouble) == bool(self.client.suspicion):
            return
        self.client.suspect(trouble)
        if trouble:
            self._emit("connection_unresponsive", reason=trouble)
        else:
            self._emit("connection_responsive")

    def _emit(self, kind: str, *, cause: Event | None = None, **fields: object) -> Event:
        return self.emit(kind, cause=cause, connection=self.client.name, **fields)


async def _hold(ending: Ending, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:  # noqa: ASYNC114 - it is started.
    """Hold the nursery of a client's own tasks; shielded, because a client that is closed in order needs them."""
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.shield = True
        task_status.started(nursery)
        await trio.Event().wait()
    # A library may also cancel the nursery that its tasks are in.
    if not ending.is_released:
        ending.tell(End(_CANCELLED))


def describe(error: BaseException) -> str:
    """Say in one line what went wrong."""
    try:
        said = str(error).partition("\n")[0]
    except Exception:  # noqa: BLE001 - one that cannot be shown is a reason all the same.
        said = ""
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _parted(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Part a failure into what is not a library's, such as our own cancellation, and what is."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(_OURS)
    return (error, None) if isinstance(error, _OURS) else (None, error)


def _end_of(error: BaseException) -> End:
    """Find what a failure says of the next attempt: the first part of a group that is no group counts."""
    while isinstance(error, BaseExceptionGroup):
        ended = error.subgroup(ConnectionEnded)
        error = (ended or error).exceptions[0]
    if isinstance(error, ConnectionEnded):
        return End(str(error), error.setback)
    return End(describe(error))


def _since(outage: _Outage) -> float:
    return round(trio.current_time() - outage.since, 3)


def _is_power_of_two(number: int) -> bool:
    # Often at first and ever more rarely: an outage of an hour is not an hour of events.
    return number & (number - 1) == 0
