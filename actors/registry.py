"""The registrar: keeps the fleet's agents and tool servers in registries, each entry with a lease."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Literal

import attrs
import trio

from actors._http import open_client
from actors._registries import LIMIT, BucketSink, HttpSink, Sink
from agentrt.config import RegistryConfig, SecretError
from agentrt.kernel import Actor, Event
from agentrt.policy import Backoff, FailureKind, Leases
from agentrt.ports import Bus, BusError, BusRefused, BusUnavailable, Entries, RegistryEntry
from agentrt.resilience import CallFailed

#: Seconds between two looks at what the entries should be.
_TICK = 1.0
#: Seconds at an ordered end to remove them all; those that are left end with their lease.
_FAREWELL = 3.0
_BACKOFF = Backoff(0.5, 2.0, 15.0, jitter=(0.5, 1.0))
#: What is looked at once: a server that was started again is another one, and so is a bus.
_TELLING = frozenset({"mcp_server_started", "nats_connected", "nats_connection_rebuilt", "jetstream_asset_lost"})
_FAILURES = (CallFailed, BusError, BusRefused, BusUnavailable, SecretError, trio.TooSlowError)


@attrs.define(eq=False)
class Book:
    """What is known of one registry; it outlives the registrar's restarts.

    Attributes:
        leases: What was written there.
        wanted: What should be there.
        failures: Attempts in a row that failed.
        reason: How the last one failed.
    """

    leases: Leases
    wanted: dict[str, str] = attrs.field(factory=dict)
    failures: int = 0
    reason: str = ""


class RegistrationBook:
    """What the registrar works on, and what it found: the handle.

    Args:
        config: The registries, and the lease.
        bus: The fleet's connection.
        bucket: The registry on it.
        entries: Gives what is to be registered.
        token: Reads what HTTP registries let it in by.
    """

    def __init__(
        self,
        config: RegistryConfig,
        *,
        bus: Bus,
        bucket: str,
        entries: Entries,
        token: Callable[[], str] | None = None,
    ) -> None:
        self.config = config
        self.bus = bus
        self.bucket = bucket
        self.entries = entries
        self.token = token
        names = ["nats", *(name for name, url in (("agents", config.url), ("servers", config.mcp_url)) if url)]
        self.books = {name: Book(Leases(config.lease)) for name in names}

    def checks(self) -> Mapping[str, tuple[bool, str]]:
        """Say of each registry whether its entries are there.

        A registry that cannot be reached keeps nobody from working, so that alone is no failed check, unless the
        configuration says that registration is required; the reason names it in any case.
        """
        return {f"registry:{name}": self._check(book) for name, book in self.books.items()}

    def _check(self, book: Book) -> tuple[bool, str]:
        missing = book.leases.missing(book.wanted, trio.current_time())
        if not book.failures and not missing:
            return True, f"{len(book.wanted)} entries"
        what = f"not there: {', '.join(missing)}" if missing else "the entries still count"
        why = f"failed {book.failures} times: {book.reason}" if book.failures else "not written yet"
        return not (missing and self.config.required), f"{what}; {why}"


class Registrar(Actor):
    """Keeps the entries: written when they change, renewed in time, removed at an ordered end.

    Each registry is served by a task of its own, so that one that hangs holds up no other.

    Args:
        book: The handle.
    """

    def __init__(self, book: RegistrationBook) -> None:
        self._book = book
        self._woken: dict[str, trio.Event] = {}

    @staticmethod
    def open_handle(
        config: RegistryConfig,
        *,
        bus: Bus,
        bucket: str,
        entries: Entries,
        token: Callable[[], str] | None,
    ) -> RegistrationBook:
        """Make the handle."""
        return RegistrationBook(config, bus=bus, bucket=bucket, entries=entries, token=token)

    async def run(self) -> None:
        """Keep them until cancelled."""
        stop_listening = self.context.cell.runtime.events.listen(self._note)
        try:
            async with _sinks_of(self._book) as sinks, trio.open_nursery() as nursery:
                for sink in sinks:
                    nursery.start_soon(self._keep, sink, self._book.books[sink.name])
        finally:
            stop_listening()

    async def on_stop(self) -> None:
        """Remove all entries, as far as that is done soon."""
        async with _sinks_of(self._book) as sinks:
            with trio.move_on_after(_FAREWELL):
                async with trio.open_nursery() as nursery:
                    for sink in sinks:
                        nursery.start_soon(self._leave, sink, self._book.books[sink.name])

    def _note(self, event: Event) -> None:
        if event.kind not in _TELLING:
            return
        if not event.kind.startswith("mcp_") and event.path == self._bus_path:
            # What was written may have been lost with the bus.
            self._book.books["nats"].leases.doubt()
        for woken in self._woken.values():
            woken.set()

    @property
    def _bus_path(self) -> str:
        """Where the connection is that the entries go by: beside this actor."""
        return f"{self.path.rpartition('/')[0]}/bus"

    async def _keep(self, sink: Sink, book: Book) -> None:
        while True:
            woken = self._woken[sink.name] = trio.Event()
            try:
                await self._bring_up_to_date(sink, book)
            except _FAILURES as error:
                book.failures += 1
                book.reason = str(error) or type(error).__name__
                self.emit("registration_failed", registry=sink.name, reason=book.reason, attempt=book.failures)
                # A server that starts again wakes nobody here: the registry is to have its rest.
                await trio.sleep(_BACKOFF.delay(book.failures, self.random.random()))
                continue
            if book.failures:
                self.emit("registration_recovered", registry=sink.name, attempts=book.failures)
                book.failures, book.reason = 0, ""
            with trio.move_on_after(_TICK):
                await woken.wait()

    async def _bring_up_to_date(self, sink: Sink, book: Book) -> None:
        entries = {entry.key: entry for entry in self._book.entries() if sink.takes(entry)}
        book.wanted = {key: _value(entry) for key, entry in entries.items()}
        work = book.leases.work(book.wanted, trio.current_time())
        refused: CallFailed | None = None
        for key in work.write:
            began = trio.current_time()
            try:
                with trio.fail_after(LIMIT):
                    await sink.write(entries[key])
            except CallFailed as error:
                if error.failure.kind is not FailureKind.PERMANENT:
                    raise
                # It does not want this one, and may want the others.
                refused = error
            else:
                book.leases.written(key, book.wanted[key], began)
        for key in work.remove:
            with trio.fail_after(LIMIT):
                await sink.remove(key)
            book.leases.removed(key)
        if refused is not None:
            raise refused

    async def _leave(self, sink: Sink, book: Book) -> None:
        book.wanted = {}
        for key in book.leases.keys:
            try:
                await sink.remove(key)
            except _FAILURES as error:
                self.emit("registration_failed", registry=sink.name, reason=str(error), attempt=book.failures + 1)
                return
            book.leases.removed(key)


@asynccontextmanager
async def _sinks_of(book: RegistrationBook) -> AsyncIterator[tuple[Sink, ...]]:
    """Open what the entries are kept in; a client for HTTP only where there is something for it to do."""
    kept = BucketSink(book.bus, book.bucket)
    urls: tuple[tuple[str, Literal["agent", "mcp_server"], str | None], ...] = (
        ("agents", "agent", book.config.url),
        ("servers", "mcp_server", book.config.mcp_url),
    )
    if not any(url for _, _, url in urls):
        yield (kept,)
        return
    async with open_client() as client:
        yield (kept, *(HttpSink(name, kind, url, client, book.token) for name, kind, url in urls if url))


def _value(entry: RegistryEntry) -> str:
    """What makes an entry another one, renewals aside."""
    return json.dumps(attrs.asdict(entry))
