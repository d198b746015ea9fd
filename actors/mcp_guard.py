"""The guard: keeps a client's session with a stdio MCP server while the server dies and comes back."""

from __future__ import annotations

import os
import random
import stat
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

import attrs
import trio

from actors._guard_life import Life, start
from actors._guard_report import Reports
from actors._guard_session import GuardSession
from actors._reaped import reaper
from actors._stdio import MAX_LINE, LineSplitter
from agentrt.policy.memory import MemoryGuardPolicy, MemoryVerdict
from agentrt.policy.server_restart import ServerRestart

_CHUNK = 64 * 1024
_TICK = 0.1
#: Seconds that calls in flight have to finish before a planned restart.
_DRAIN = 30.0
#: A server that ran this long, or answered, was a good start.
_GOOD_START = 10.0
_MISSED_PINGS = 2
_MIB = 1024 * 1024


@attrs.frozen(kw_only=True)
class GuardSettings:
    """How to guard one server; seconds and bytes.

    Args:
        command: The server.
        name: What it is called in reports.
        wait: How long a request waits for a server before it fails.
        start_timeout: For a server to answer the handshake, the client's own or its repetition.
        stop_grace: For a server to end in order.
        ping_interval: Between two looks whether an idle server answers; 0 is never.
        call_timeout: After which a call fails, and the server is asked whether it lives; 0 is never.
        memory_warn: Resident bytes of its process tree to warn at; 0 is none.
        memory_limit: Resident bytes at which it is replaced; 0 is none.
        memory_interval: Between two samples.
        restart_every: Age at which it is replaced; 0 is never.
        warm_spare: Keep a second server started, which takes over at once.
        max_line: Bytes of the longest line.
        env: Its environment.
    """

    command: Sequence[str]
    name: str
    wait: float = 30.0
    start_timeout: float = 30.0
    stop_grace: float = 6.0
    ping_interval: float = 30.0
    call_timeout: float = 0.0
    memory_warn: int = 0
    memory_limit: int = 0
    memory_interval: float = 30.0
    restart_every: float = 0.0
    warm_spare: bool = False
    max_line: int = MAX_LINE
    env: Mapping[str, str] = attrs.field(factory=lambda: dict(os.environ), repr=False)


class CannotStart(Exception):
    """The command is none: it could not be started even once."""


class Guard:
    """Passes lines between a client and one server after the other.

    Args:
        settings: What to guard, and how.
        reports: Where it tells of what happens.
        read_memory: Resident bytes of a process and all that it started; None where it is gone.
    """

    def __init__(
        self,
        settings: GuardSettings,
        reports: Reports,
        read_memory: Callable[[int], Awaitable[int | None]],
    ) -> None:
        self._settings = settings
        self._reports = reports
        self._read_memory = read_memory
        self.session = GuardSession(settings.wait, reports.noise)
        self._restart = ServerRestart()
        self._life: Life | None = None
        self._spare: Life | None = None
        self._nursery: trio.Nursery | None = None
        self._out, self._to_write = trio.open_memory_channel[bytes](0)
        self._ended_at: float | None = None
        self._recycle = trio.Event()
        self._recycle_why = ""
        self._cannot = ""

    async def run(self, reads: trio.abc.ReceiveStream, writes: trio.abc.SendStream) -> None:
        """Guard until the client closes its end, or a cancellation.

        Raises:
            CannotStart: The command cannot be started at all.
        """
        with reaper.held():
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._write, writes)
                nursery.start_soon(self._live)
                nursery.start_soon(self._tick)
                nursery.start_soon(self._watch_handshake)
                for watch, wanted in (
                    (self._watch_memory, self._settings.memory_limit or self._settings.memory_warn),
                    (self._watch_health, self._settings.ping_interval),
                    (self._watch_calls, self._settings.call_timeout),
                    (self._watch_age, self._settings.restart_every),
                ):
                    if wanted:
                        nursery.start_soon(watch)
                await self._read(reads)
                # The client is done: servers end in order, each in a task that shields its own end.
                nursery.cancel_scope.cancel()

    # The client

    async def _read(self, reads: trio.abc.ReceiveStream) -> None:
        dropped = partial(self._reports.dropped, "the client", self._settings.max_line)
        splitter = LineSplitter(self._settings.max_line, dropped)
        while chunk := await reads.receive_some(_CHUNK):
            for line in splitter.feed(bytes(chunk)):
                if line.strip():
                    self.session.from_client(line, trio.current_time())
            await self._flush()

    async def _flush(self) -> None:
        lines, self.session.to_client = self.session.to_client, []
        if lines:
            await self._out.send(b"\n".join(lines) + b"\n")

    async def _write(self, writes: trio.abc.SendStream) -> None:
        try:
            async for data in self._to_write:
                await writes.send_all(data)
        except trio.BrokenResourceError:
            # The client is gone, which its end of our input says as well; but not where it only closed this one.
            assert self._nursery is not None
            self._nursery.cancel_scope.cancel()

    # The server

    async def _live(self) -> None:
        first = True
        while True:
            life, self._spare = self._spare, None
            if life is None or life.ended.is_set():
                life = await self._begin(may_fail=first)
            first = False
            if life is not None:
                await self._serve(life)
                ending = life.ending
            else:
                ending = self._cannot
            planned, self._recycle, self._life = self._recycle.is_set(), trio.Event(), None
            self._ended_at = trio.current_time()
            self.session.lost(f"the server {ending}", self._ended_at)
            await self._flush()
            await trio.sleep(self._delay(life, ending, planned=planned))

    async def _begin(self, *, may_fail: bool = False) -> Life | None:
        assert self._nursery is not None
        try:
            return await start(self._nursery, self._settings, self._reports)
        except OSError as error:
            self._cannot = f"cannot be started: {error.strerror or error}"
            if may_fail and isinstance(error, (FileNotFoundError, PermissionError)):
                raise CannotStart(f"{self._settings.command[0]!r} {self._cannot}") from error
            return None

    async def _serve(self, life: Life) -> None:
        """Greet a server, hand it the session, and pass its lines until it is gone."""
        self._life = life
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._take_over, life)
                nursery.start_soon(self._retire, life)
                while (line := await life.process.receive()) is not None:
                    if life.is_attached:
                        self.session.from_server(line)
                    else:
                        self.session.from_spare(line)
                    if self.session.to_client:
                        await self._flush()
                await life.ended.wait()
                scope.cancel()

    async def _take_over(self, life: Life) -> None:
        self._greet(life)
        with trio.move_on_after(self._settings.start_timeout):
            await life.is_greeted.wait()
        if not life.took_handshake:
            life.end(self._no_handshake)
            return
        life.is_attached, life.answered_before = True, self.session.counts.answered
        # Where nobody has agreed on anything yet, nothing was asked of it that would prove it.
        life.is_proved = not self.session.is_undecided
        self.session.attach(life)
        self._reports.attached(life.process.pid, self._ended_at, is_proved=life.is_proved)
        await self._flush()
        if self._settings.warm_spare:
            await self._keep_spare()

    def _greet(self, life: Life) -> None:
        if not life.is_being_greeted:
            life.is_being_greeted = True
            self.session.greet(life, life.greeted)

    async def _keep_spare(self) -> None:
        """Have a second server that took the client's handshake, as soon as the first did."""
        restart = ServerRestart()
        while True:
            while self.session.is_undecided:  # noqa: ASYNC110 - the session is pure, and has nothing to wait for.
                await trio.sleep(_TICK)
            spare = self._spare = await self._begin()
            if spare is not None:
                self._greet(spare)
                while not spare.is_greeted.is_set() and (line := await spare.process.receive()) is not None:
                    self.session.from_spare(line)
                if spare.took_handshake:
                    restart.succeeded()
                await spare.ended.wait()
                self.session.forget(spare)
            await trio.sleep(restart.failed(random.random()).delay)  # noqa: S311 - no secret.

    async def _retire(self, life: Life) -> None:
        """Replace a server that did nothing wrong: what it works on may finish, within a bound."""
        await self._recycle.wait()
        self.session.hold(f"the server is replaced: {self._recycle_why}")
        with trio.move_on_after(_DRAIN):
            while self.session.calls:  # noqa: ASYNC110 - as above.
                await trio.sleep(_TICK / 10)
        life.end(f"was replaced: {self._recycle_why}")

    def _replace(self, why: str) -> None:
        self._recycle_why = why
        self._recycle.set()

    def _delay(self, life: Life | None, ending: str, *, planned: bool) -> float:
        self._look_for_proof(life)
        if life is not None and (self.session.counts.answered > life.answered_before or life.age() >= _GOOD_START):
            self._restart.succeeded()
        if planned:
            self._reports.replaced(ending)
            return 0.0
        signature = None if life is not None and life.is_proved else ending
        verdict = self._restart.failed(random.random(), signature)  # noqa: S311 - no secret.
        delay = 0.0 if self._spare is not None and not self._spare.ended.is_set() else verdict.delay
        self._reports.ended(ending, life.process.last_words if life is not None else "", verdict, delay)
        return delay

    # What is watched

    async def _tick(self) -> None:
        while True:
            await trio.sleep(_TICK)
            self.session.tick(trio.current_time())
            await self._flush()
            self._look_for_proof(self._life)
            self._reports.refresh(self.session)

    def _look_for_proof(self, life: Life | None) -> None:
        """Take a server that the client began with for ready once it has answered something."""
        if life is not None and life.is_attached and not life.is_proved:
            life.is_proved = self.session.counts.answered > life.answered_before
            if life.is_proved:
                self._reports.proved()

    async def _watch_age(self) -> None:
        while True:
            await trio.sleep(min(1.0, self._settings.restart_every / 10))
            if self._life is not None and self._life.age() >= self._settings.restart_every:
                self._replace(f"it ran for {self._settings.restart_every:g} s")

    @property
    def _no_handshake(self) -> str:
        return f"did not take the handshake within {self._settings.start_timeout:g} s"

    async def _watch_handshake(self) -> None:
        # The client's own, which passes as it is; its repetition is waited for where it is done.
        while True:
            await trio.sleep(_TICK)
            life, since = self._life, self.session.handshake_since
            if life is not None and since is not None:
                began = max(since, life.process.started_at)
                if trio.current_time() - began >= self._settings.start_timeout:
                    life.end(self._no_handshake)

    async def _watch_calls(self) -> None:
        limit = self._settings.call_timeout
        while True:
            await trio.sleep(_TICK)
            oldest = self.session.oldest_call()
            if oldest is not None and trio.current_time() - oldest.since >= limit:
                self.session.give_up(oldest, f"no answer within {limit:g} s")
                await self._flush()
                await self._check(self._settings.ping_interval or limit)

    async def _watch_health(self) -> None:
        while True:
            await trio.sleep(self._settings.ping_interval)
            # A server that works on a call may be too busy for a ping; and one may not be spoken to before its client
            # has said how that is to be done.
            if not self.session.calls and not self.session.is_undecided:
                await self._check(self._settings.ping_interval)

    async def _check(self, patience: float) -> None:
        """Ask the server of the moment for a sign of life, and end it where none comes."""
        life = self._life
        if life is None or not life.is_attached:
            return
        for _ in range(_MISSED_PINGS):
            asked, heard = trio.current_time(), trio.Event()
            method = "ping" if self.session.is_legacy else "server/discover"
            self.session.ask(life, method, None, partial(_set, heard))
            with trio.move_on_after(patience):
                await heard.wait()
            if heard.is_set() or life.process.last_heard > asked or life.ended.is_set():
                return
        life.end(f"gave no sign of life for {trio.current_time() - life.process.last_heard:.0f} s")

    async def _watch_memory(self) -> None:
        limit = self._settings.memory_limit or sys.maxsize
        policy = MemoryGuardPolicy(min(self._settings.memory_warn or limit, limit), limit)
        while True:
            await trio.sleep(self._settings.memory_interval)
            life = self._life
            rss = await self._read_memory(life.process.pid) if life is not None else None
            if life is None or rss is None:
                continue
            self._reports.status.memory = rss
            verdict = policy.sample(rss, life.process.started_at, trio.current_time())
            if verdict is not MemoryVerdict.OK:
                self._reports.heavy(verdict, rss, policy.warn if verdict is MemoryVerdict.WARN else limit)
            if verdict is MemoryVerdict.RESTART and self._life is life:
                self._replace(f"it holds {rss // _MIB} MiB, the limit is {limit // _MIB} MiB")


def _set(event: trio.Event, _message: object) -> None:
    event.set()


def stream_of(descriptor: int) -> trio.lowlevel.FdStream:
    """Return a pipe, socket or terminal as a stream.

    Raises:
        OSError: It is a file, which no client is.
    """
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError("stdin and stdout are files; start the guard as the command of an MCP client")
    return trio.lowlevel.FdStream(descriptor)
