"""``resilient`` around functions of all kinds, in virtual time."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import structlog
import trio

import agentrt
from agentrt import BreakerOpen, BulkheadFull, BusUnavailable, resilient
from agentrt.policy import Breaker, Bulkhead, RetryBudget, RetryPolicy


class Store:
    """Fails as often as told."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls: list[tuple[Any, ...]] = []

    async def put(self, *args: Any) -> str:
        self.calls.append(args)
        if self.errors:
            raise self.errors.pop(0)
        return "stored"

    def query(self, *args: Any) -> str:
        self.calls.append((*args, threading.current_thread()))
        if self.errors:
            raise self.errors.pop(0)
        return "rows"


async def test_a_call_that_fails_in_passing_is_repeated(autojump_clock):
    """With its arguments; a refused connection cannot have happened, so nothing has to be said of it."""
    store = Store(ConnectionRefusedError(111, "refused"), ConnectionRefusedError(111, "refused"))
    assert "stored" == await resilient(store.put)("key", 1)
    assert [("key", 1)] * 3 == store.calls


async def test_a_publish_is_repeated_where_it_is_idempotent(autojump_clock):
    """A stored publish has an id by which the stream knows it again; one without is the caller's to judge."""
    store = Store(BusUnavailable("no answer"))
    assert "stored" == await resilient(store.put, idempotent=True)("subject", b"body")
    store = Store(BusUnavailable("no answer"))
    with pytest.raises(BusUnavailable):
        await resilient(store.put)("subject", b"body")
    assert 1 == len(store.calls)


async def test_it_decorates_with_and_without_settings(autojump_clock):
    """The name and the docstring stay."""
    tries = []

    @resilient
    async def plain(value: int) -> int:
        """Twice as much."""
        return 2 * value

    @resilient(idempotent=True, retry=RetryPolicy(retries=1))
    async def flaky() -> str:
        tries.append(trio.current_time())
        raise ConnectionResetError(104, "reset")

    assert 14 == await plain(7)
    assert ("plain", "Twice as much.") == (plain.__name__, plain.__doc__)
    with pytest.raises(ConnectionResetError) as caught:
        await flaky()
    assert 2 == len(tries)
    assert ["was tried 2 time(s), no more because of: retries_spent"] == [
        note.partition("flaky ")[2] for note in caught.value.__notes__
    ]


async def test_a_function_that_blocks_runs_in_a_thread():
    """A query to a database must not hold the loop; and a plain function may give back something to wait for."""
    store = Store()
    assert "rows" == await resilient(store.query)("select")
    assert store.calls[0][1] is not threading.main_thread()
    assert "stored" == await resilient(lambda: store.put("key"))()
    assert "stored" == await resilient(partial(store.put, "key"))()


async def test_the_deadline_ends_a_try_that_is_under_way(autojump_clock):
    """All tries and waits together take no longer."""
    began = trio.current_time()
    hangs = resilient(trio.sleep, timeout=3.0)
    with pytest.raises(TimeoutError, match="sleep: no answer within 3 s"):
        await hangs(60)
    assert 3.0 == trio.current_time() - began


async def test_the_callers_own_deadline_counts(autojump_clock):
    """No wait is begun that reaches it, so the caller hears of the failure and not of its own deadline."""
    store = Store(*[ConnectionRefusedError(111, "refused") for _ in range(9)])
    with trio.fail_after(1.0), pytest.raises(ConnectionRefusedError):
        await resilient(store.put)("key")
    assert 2 == len(store.calls)


async def test_it_logs_each_retry_and_the_try_that_worked(autojump_clock):
    """With the call's name, the error, the attempt and the wait."""
    store = Store(ConnectionRefusedError(111, "refused"))
    with structlog.testing.capture_logs() as logs:
        await resilient(store.put, name="archive.put", seed=1)("key")
    assert ["call_retried", "call_recovered"] == [log["event"] for log in logs]
    assert {"call": "archive.put", "attempt": 1, "log_level": "warning"}.items() <= logs[0].items()
    assert 0.5 <= logs[0]["wait"] <= 0.65
    assert "ConnectionRefusedError" in logs[0]["error"]
    assert {"call": "archive.put", "attempt": 2, "log_level": "info"}.items() <= logs[1].items()


async def test_a_breaker_keeps_calls_away_and_lets_a_probe_through(autojump_clock):
    """Each change is told; an open breaker costs nothing and says when it will try again."""
    reports: list[tuple[str, Mapping[str, Any]]] = []
    store = Store(*[ConnectionRefusedError(111, "refused") for _ in range(3)])
    put = resilient(
        store.put,
        name="archive",
        retry=RetryPolicy(retries=0),
        breaker=Breaker(failure_threshold=3, recovery_timeout=10.0),
        report=lambda kind, fields: reports.append((kind, fields)),
    )
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            await put("key")
    with pytest.raises(BreakerOpen, match=r"the breaker of archive is open \(.*refused\).* in 10\.0 s") as caught:
        await put("key")
    assert 10.0 == caught.value.failure.retry_after
    assert 3 == len(store.calls)
    await trio.sleep(10)
    assert "stored" == await put("key")
    assert ["breaker_opened", "breaker_half_opened", "breaker_closed"] == [kind for kind, _ in reports]


async def test_a_call_that_is_cancelled_is_no_failure(autojump_clock):
    """The probe's permit goes to the next."""
    breaker = Breaker(failure_threshold=1, recovery_timeout=10.0)
    breaker.trip(trio.current_time(), "escalated")
    sleep = resilient(trio.sleep, breaker=breaker)
    await trio.sleep(10)
    with trio.move_on_after(1):
        await sleep(60)
    await sleep(1)
    assert "closed" == breaker.state


async def test_a_bulkhead_bounds_the_calls_in_hand(autojump_clock):
    """What finds no room is refused at once, and not tried again."""
    sleep = resilient(trio.sleep, name="naps", bulkhead=Bulkhead(max_concurrent=1, max_queued=1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sleep, 5)
        nursery.start_soon(sleep, 5)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(BulkheadFull, match="naps has 1 calls in hand and 1 waiting"):
            await sleep(5)
    assert 10.0 == trio.current_time()


async def test_a_budget_belongs_to_what_was_wrapped(autojump_clock):
    """Made once and called often, it does not multiply an outage."""
    store = Store(*[ConnectionRefusedError(111, "refused") for _ in range(999)])
    put = resilient(store.put, budget=RetryBudget(ratio=0.0, minimum=3))
    for _ in range(5):
        with pytest.raises(ConnectionRefusedError):
            await put("key")
    assert 5 + 3 == len(store.calls)


def test_it_is_public():
    """The same wrapper for whatever goes over a wire."""
    assert resilient is agentrt.resilient
