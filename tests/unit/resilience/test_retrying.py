"""The retry wrapper, in virtual time."""

from __future__ import annotations

import random

import pytest
import trio

from actors._retry import CallFailed, Retrying
from agentrt.policy import FailureKind, RetryPolicy


class Flaky:
    """Fails as told, then answers."""

    def __init__(self, *failures: CallFailed) -> None:
        self.failures = list(failures)
        self.log: list[tuple[int, float]] = []
        self.recovered: list[int] = []
        self.times: list[float] = []

    async def __call__(self) -> str:
        self.times.append(trio.current_time())
        if self.failures:
            raise self.failures.pop(0)
        return "answer"

    def retrying(self, policy: RetryPolicy | None = None) -> Retrying:
        return Retrying(
            policy or RetryPolicy(),
            random.Random(3),
            lambda _, attempt, wait: self.log.append((attempt, wait)),
            self.recovered.append,
        )


def transient(*, happened: bool = False) -> CallFailed:
    return CallFailed("reset", FailureKind.TRANSIENT, may_have_happened=happened)


async def test_four_retries_take_about_seven_and_a_half_seconds(autojump_clock):
    """0.5 s doubling, plus up to 30 % each; the recovery is told with its attempt."""
    flaky = Flaky(*[transient() for _ in range(4)])
    assert await flaky.retrying().call(flaky) == "answer"
    assert [attempt for attempt, _ in flaky.log] == [1, 2, 3, 4]
    assert 7.5 <= flaky.times[-1] - flaky.times[0] <= 9.75
    assert flaky.recovered == [5]


async def test_the_fifth_failure_is_raised(autojump_clock):
    """It says how often it was tried."""
    flaky = Flaky(*[transient() for _ in range(9)])
    with pytest.raises(CallFailed, match="reset") as caught:
        await flaky.retrying().call(flaky)
    assert caught.value.attempts == 5
    assert flaky.recovered == []


async def test_a_success_at_once_is_no_recovery(autojump_clock):
    """Nothing is logged where nothing went wrong."""
    flaky = Flaky()
    assert await flaky.retrying().call(flaky) == "answer"
    assert (flaky.log, flaky.recovered) == ([], [])


@pytest.mark.parametrize("kind", [FailureKind.PERMANENT, FailureKind.TOOL])
async def test_a_permanent_failure_is_raised_at_once(autojump_clock, kind):
    """It would fail each time."""
    flaky = Flaky(CallFailed("no", kind))
    with pytest.raises(CallFailed):
        await flaky.retrying().call(flaky, idempotent=True)
    assert len(flaky.times) == 1


async def test_what_may_have_happened_is_repeated_only_where_it_does_no_harm(autojump_clock):
    """And once it may have, a later failure that did not happen does not make it undone."""
    with pytest.raises(CallFailed):
        await (flaky := Flaky(transient(happened=True))).retrying().call(flaky)
    flaky = Flaky(transient(happened=True), CallFailed("no", FailureKind.PERMANENT))
    with pytest.raises(CallFailed) as caught:
        await flaky.retrying().call(flaky, idempotent=True)
    assert (caught.value.may_have_happened, caught.value.attempts) == (True, 2)


async def test_no_retry_begins_at_or_after_the_deadline(autojump_clock):
    """Waiting for a try that nobody waits for helps nobody."""
    flaky = Flaky(*[transient() for _ in range(9)])
    began = trio.current_time()
    with pytest.raises(CallFailed):
        await flaky.retrying().call(flaky, deadline=began + 2.0)
    assert trio.current_time() < began + 2.0
    assert len(flaky.times) == 3
