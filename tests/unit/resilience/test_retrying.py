"""The retry driver, in virtual time."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest
import trio

from agentrt.policy import Failure, FailureKind, GiveUpReason, RetryBudget, RetryPolicy, SendState
from agentrt.resilience import CallFailed, Retrying, classify
from agentrt.resilience.retrying import Tries


class Flaky:
    """Fails as told, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.reports: list[tuple[str, Mapping[str, Any]]] = []
        self.times: list[float] = []
        self.tries = Tries()

    async def __call__(self) -> str:
        self.times.append(trio.current_time())
        if self.failures:
            raise self.failures.pop(0)
        return "answer"

    async def call(
        self, *, budget: RetryBudget | None = None, deadline: float | None = None, idempotent: bool = False
    ) -> str:
        retrying = Retrying(
            RetryPolicy(), budget, classify, lambda kind, fields: self.reports.append((kind, fields)), random.Random(3)
        )
        return await retrying.call(self, deadline=deadline, idempotent=lambda: idempotent, tries=self.tries)


def transient(sent: SendState = SendState.NOT_SENT, **more: Any) -> CallFailed:
    return CallFailed(Failure(FailureKind.TRANSIENT, sent, "reset", **more))


async def test_four_retries_take_about_seven_and_a_half_seconds(autojump_clock):
    """0.5 s doubling, plus up to 30 % each; each is told with its wait, and so is the try that worked."""
    flaky = Flaky(*[transient() for _ in range(4)])
    assert "answer" == await flaky.call()
    assert 7.5 <= flaky.times[-1] - flaky.times[0] <= 9.75
    assert ["call_retried"] * 4 + ["call_recovered"] == [kind for kind, _ in flaky.reports]
    assert [1, 2, 3, 4, 5] == [fields["attempt"] for _, fields in flaky.reports]
    assert {"error": "reset", "error_kind": "transient"}.items() <= flaky.reports[0][1].items()
    waited = [later - earlier for earlier, later in zip(flaky.times, flaky.times[1:], strict=False)]
    assert pytest.approx(waited, abs=0.001) == [fields["wait"] for _, fields in flaky.reports[:4]]


async def test_the_fifth_failure_is_raised(autojump_clock):
    """It is known how often it was tried, and why no more."""
    flaky = Flaky(*[transient() for _ in range(9)])
    with pytest.raises(CallFailed, match="reset"):
        await flaky.call()
    assert (5, GiveUpReason.RETRIES_SPENT) == (flaky.tries.attempt, flaky.tries.given_up)
    assert 4 == len(flaky.reports)


async def test_a_success_at_once_is_no_recovery(autojump_clock):
    """Nothing is told where nothing went wrong."""
    flaky = Flaky()
    assert "answer" == await flaky.call()
    assert [] == flaky.reports


@pytest.mark.parametrize("kind", [FailureKind.PERMANENT, FailureKind.AUTH, FailureKind.TOOL, FailureKind.THROTTLED])
async def test_what_does_not_pass_is_raised_at_once(autojump_clock, kind):
    """It would fail each time."""
    flaky = Flaky(CallFailed(Failure(kind, SendState.NOT_SENT, "no")))
    with pytest.raises(CallFailed):
        await flaky.call(idempotent=True)
    assert 1 == len(flaky.times)


async def test_what_is_final_is_raised_at_once(autojump_clock):
    """Whatever its kind."""
    flaky = Flaky(transient(is_final=True))
    with pytest.raises(CallFailed):
        await flaky.call()
    assert 1 == len(flaky.times)


async def test_what_is_no_failure_of_a_call_passes_as_it_is(autojump_clock):
    """A mistake in the code is not tried again."""
    flaky = Flaky(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await flaky.call(idempotent=True)
    assert (1, None) == (len(flaky.times), flaky.tries.failure)


async def test_what_may_have_happened_is_repeated_only_where_it_does_no_harm(autojump_clock):
    """And once it may have, a later failure that did not happen does not make it undone."""
    with pytest.raises(CallFailed):
        await (flaky := Flaky(transient(SendState.SENT))).call()
    assert 1 == len(flaky.times)
    flaky = Flaky(transient(SendState.SENT), CallFailed(Failure(FailureKind.PERMANENT, SendState.NOT_SENT, "no")))
    with pytest.raises(CallFailed):
        await flaky.call(idempotent=True)
    assert flaky.tries.failure is not None
    assert (SendState.UNKNOWN, 2) == (flaky.tries.failure.sent, flaky.tries.attempt)


async def test_no_retry_begins_at_or_after_the_deadline(autojump_clock):
    """Waiting for a try that nobody waits for helps nobody."""
    flaky = Flaky(*[transient() for _ in range(9)])
    began = trio.current_time()
    with pytest.raises(CallFailed):
        await flaky.call(deadline=began + 2.0)
    assert trio.current_time() < began + 2.0
    assert (3, GiveUpReason.DEADLINE) == (len(flaky.times), flaky.tries.given_up)


async def test_an_outage_is_not_multiplied(autojump_clock):
    """A hundred calls that all fail get twenty retries between them, and each that got none says so."""
    budget = RetryBudget()
    flakies = [Flaky(*[transient() for _ in range(9)]) for _ in range(100)]

    async def fail(flaky: Flaky) -> None:
        with pytest.raises(CallFailed):
            await flaky.call(budget=budget)

    async with trio.open_nursery() as nursery:
        for flaky in flakies:
            nursery.start_soon(fail, flaky)
    assert 120 == sum(len(flaky.times) for flaky in flakies)
    kinds = [kind for flaky in flakies for kind, _ in flaky.reports]
    assert (20, 100) == (kinds.count("call_retried"), kinds.count("call_not_retried"))
    assert {GiveUpReason.BUDGET_SPENT} == {flaky.tries.given_up for flaky in flakies}
