"""``resilient``: retries, a deadline, a bulkhead and a breaker around any callable."""

from __future__ import annotations

import functools
import inspect
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, overload

import attrs
import structlog
import trio

from agentrt.policy import Breaker, Bulkhead, Failure, RetryBudget, RetryPolicy, Transition
from agentrt.resilience.breaker import BreakerGate
from agentrt.resilience.bulkhead import BulkheadGate
from agentrt.resilience.classify import classify as classify_error
from agentrt.resilience.retrying import Report, Retrying, Tries

P = ParamSpec("P")
T = TypeVar("T")

_log = structlog.get_logger("agentrt.resilience")


class Settings(TypedDict, total=False):
    """The settings of :func:`resilient`, which has what they mean."""

    idempotent: bool
    timeout: float | None
    name: str
    retry: RetryPolicy
    budget: RetryBudget
    breaker: Breaker
    bulkhead: Bulkhead
    classify: Callable[[Exception], Failure | None]
    report: Report
    seed: int


class Decorator(Protocol):
    """What :func:`resilient` returns where it is not yet told around what."""

    @overload
    def __call__(self, function: Callable[P, Awaitable[T]], /) -> Callable[P, Awaitable[T]]: ...
    @overload
    def __call__(self, function: Callable[P, T], /) -> Callable[P, Awaitable[T]]: ...


@overload
def resilient(function: Callable[P, Awaitable[T]], /, **settings: Unpack[Settings]) -> Callable[P, Awaitable[T]]: ...
@overload
def resilient(function: Callable[P, T], /, **settings: Unpack[Settings]) -> Callable[P, Awaitable[T]]: ...
@overload
def resilient(**settings: Unpack[Settings]) -> Decorator: ...
def resilient(function: Callable[..., Any] | None = None, /, **settings: Unpack[Settings]) -> Any:
    """Repeat a call that fails in passing, where that is safe, and never beyond its deadline.

    ``await resilient(bus.store, idempotent=True)(subject, body, msg_id=task.id)``, or as a decorator, with or without
    arguments. A function that is not async runs in a worker thread, such as a query to a database.

    Only transient failures are repeated, and one that may have happened only where it is *idempotent*. What the last
    try raised is raised, with a note that says how often it was tried and why no more. A bulkhead, a breaker and a
    budget belong to what is returned: make it once and call it often.

    Args:
        function: What to call.
        settings: As follows.
        idempotent: Whether doing it twice does no harm.
        timeout: Seconds for all tries and all waits, which end a try that is under way, too; without it only the
            caller's own deadline counts.
        name: Its name in logs and errors; by default the function's.
        retry: Whether and when it is tried again: 4 retries from 0.5 s, doubling, with up to 30 % more.
        budget: Bounds the retries of all calls together; by default a fifth of the calls, and 10 in a minute anyway.
        breaker: Keeps calls away from what fails again and again.
        bulkhead: Bounds the calls in hand and those that wait.
        classify: Says how a call failed by what it raised; None passes the error on. By default as
            :func:`agentrt.resilience.classify`.
        report: Told of each retry and recovery, instead of the log.
        seed: For the jitter, in tests.

    Raises:
        TimeoutError: From a call: no answer within *timeout*.
        BreakerOpen: From a call: the breaker is open.
        BulkheadFull: From a call: too many calls.
    """
    return partial(_wrap, settings) if function is None else _wrap(settings, function)


def _wrap(settings: Settings, wrapped: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    name = settings.get("name", getattr(wrapped, "__qualname__", type(wrapped).__name__))
    report = settings.get("report", partial(_write_log, name))
    retrying = Retrying(
        settings.get("retry", RetryPolicy()),
        settings.get("budget", RetryBudget()),
        settings.get("classify", classify_error),
        report,
        random.Random(settings.get("seed")),  # noqa: S311 - jitter, no secret.
    )
    breaker, bulkhead = settings.get("breaker"), settings.get("bulkhead")
    calls = _Calls(
        call=wrapped if _is_async(wrapped) else partial(_in_thread, wrapped),
        name=name,
        idempotent=settings.get("idempotent", False),
        timeout=settings.get("timeout"),
        retrying=retrying,
        breaker=BreakerGate(name, breaker, partial(_tell_change, report)) if breaker is not None else None,
        bulkhead=BulkheadGate(name, bulkhead) if bulkhead is not None else None,
    )

    @functools.wraps(wrapped)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await calls(*args, **kwargs)

    return call


@attrs.frozen
class _Calls:
    call: Callable[..., Awaitable[Any]]
    name: str
    idempotent: bool
    timeout: float | None
    retrying: Retrying
    breaker: BreakerGate | None
    bulkhead: BulkheadGate | None

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        deadline = trio.current_effective_deadline()
        if self.timeout is not None:
            deadline = min(deadline, trio.current_time() + self.timeout)
        tries = Tries()
        attempt = partial(self._attempt, partial(self.call, *args, **kwargs), deadline)
        try:
            if self.bulkhead is None:
                return await self._retry(attempt, deadline, tries)
            async with self.bulkhead.slot(lambda: 0, deadline):
                return await self._retry(attempt, deadline, tries)
        except Exception as error:
            if tries.failure is not None:
                why = f", no more because of: {tries.given_up}" if tries.given_up is not None else ""
                error.add_note(f"{self.name} was tried {tries.attempt} time(s){why}")
            raise

    async def _retry(self, attempt: Callable[[], Awaitable[Any]], deadline: float, tries: Tries) -> Any:
        return await self.retrying.call(attempt, deadline=deadline, idempotent=lambda: self.idempotent, tries=tries)

    async def _attempt(self, call: Callable[[], Awaitable[Any]], deadline: float) -> Any:
        if self.breaker is None:
            return await self._within(call, deadline)
        ticket = self.breaker.admit()
        try:
            answer = await self._within(call, deadline)
        except Exception as error:
            self.breaker.ended(ticket, self.retrying.classify(error))
            raise
        except BaseException:
            self.breaker.released(ticket)
            raise
        self.breaker.ended(ticket)
        return answer

    async def _within(self, call: Callable[[], Awaitable[Any]], deadline: float) -> Any:
        if self.timeout is None:
            return await call()
        with trio.CancelScope(deadline=deadline):
            return await call()
        raise TimeoutError(f"{self.name}: no answer within {self.timeout:g} s")


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - asks what kind it is.


async def _in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    # A plain function may return something to wait for, which Trio takes for a mistake where it stands by itself.
    (answer,) = await trio.to_thread.run_sync(lambda: (function(*args, **kwargs),), abandon_on_cancel=True)
    return await answer if inspect.isawaitable(answer) else answer


def _write_log(name: str, kind: str, fields: Mapping[str, Any]) -> None:
    write = _log.info if kind in {"call_recovered", "breaker_closed"} else _log.warning
    write(kind, call=name, **fields)


def _tell_change(report: Report, transition: Transition, reason: str) -> None:
    kind = {"open": "breaker_opened", "half_open": "breaker_half_opened", "closed": "breaker_closed"}
    report(kind[transition.new], {"was": transition.old.value, "reason": reason})
