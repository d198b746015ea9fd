"""Retry: what is tried again, how often, and when not to wait."""

from __future__ import annotations

from typing import Any

import pytest

from agentrt.policy import Backoff, FailureKind, GiveUp, GiveUpReason, Retry, RetryPolicy


def decide(policy: RetryPolicy | None = None, attempt: int = 1, **changed: Any) -> Retry | GiveUp:
    """Decide about a transient failure that cannot have happened, without deadline or jitter, except for *changed*."""
    given = {
        "kind": FailureKind.TRANSIENT,
        "may_have_happened": False,
        "idempotent": False,
        "now": 100.0,
        "deadline": None,
        "jitter": 0.0,
    }
    return (policy or RetryPolicy()).decide(attempt, **{**given, **changed})


def test_four_retries_take_about_seven_and_a_half_seconds():
    """0.5 s x 2 ** n, four times, and then it is over."""
    assert [Retry(0.5), Retry(1.0), Retry(2.0), Retry(4.0)] == [decide(attempt=n) for n in range(1, 5)]
    assert GiveUp(GiveUpReason.RETRIES_SPENT) == decide(attempt=5)


def test_up_to_thirty_per_cent_are_added():
    """The jitter only lengthens a delay."""
    assert pytest.approx(decide(jitter=1.0).delay) == 0.65


def test_a_timeout_is_retried():
    """It is as passing as a refused connection."""
    assert Retry(0.5) == decide(kind=FailureKind.TIMEOUT)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (FailureKind.PERMANENT, GiveUpReason.PERMANENT),
        (FailureKind.AUTH, GiveUpReason.AUTH),
        (FailureKind.TOOL, GiveUpReason.TOOL),
    ],
)
def test_what_would_fail_again_is_never_retried(kind, reason):
    """Neither a permanent failure nor an error of the tool itself, also where a repetition does no harm."""
    assert GiveUp(reason) == decide(kind=kind, idempotent=True)


def test_what_may_have_happened_is_repeated_only_where_it_is_idempotent():
    """A mail is not sent twice."""
    assert GiveUp(GiveUpReason.MAY_HAVE_HAPPENED) == decide(may_have_happened=True)
    assert Retry(0.5) == decide(may_have_happened=True, idempotent=True)


@pytest.mark.parametrize(
    ("deadline", "expected"),
    [(100.4, GiveUp(GiveUpReason.DEADLINE)), (100.5, GiveUp(GiveUpReason.DEADLINE)), (100.6, Retry(0.5))],
)
def test_no_delay_reaches_the_deadline(deadline, expected):
    """A try that would begin when nobody waits any more is not waited for."""
    assert expected == decide(deadline=deadline)


def test_the_deadline_counts_with_the_jitter():
    """0.5 s fits before the deadline, 0.65 s do not."""
    assert GiveUp(GiveUpReason.DEADLINE) == decide(deadline=100.6, jitter=1.0)


def test_no_retries_means_one_try():
    """retries=0 switches it off."""
    assert GiveUp(GiveUpReason.RETRIES_SPENT) == decide(RetryPolicy(retries=0))


def test_the_backoff_is_a_setting():
    """Two retries from half a second, as the proxy has them."""
    policy = RetryPolicy(retries=2, backoff=Backoff(initial=0.25, jitter=(1.0, 1.0)))
    expected = [Retry(0.25), Retry(0.5), GiveUp(GiveUpReason.RETRIES_SPENT)]
    assert expected == [decide(policy, attempt=n) for n in (1, 2, 3)]


def test_a_negative_number_of_retries_is_refused():
    """0 is the least."""
    with pytest.raises(ValueError, match="retries"):
        RetryPolicy(retries=-1)


def test_the_kinds_are_the_words_of_a_tool_error():
    """A tool error names its kind in these words."""
    assert list(FailureKind) == ["transient", "permanent", "auth", "throttled", "timeout", "tool"]


def test_what_was_throttled_is_repeated_only_where_the_other_side_said_when():
    """Its own wish counts where it is longer than the backoff; without one nobody knows when it may be asked again."""
    assert GiveUp(GiveUpReason.THROTTLED) == decide(kind=FailureKind.THROTTLED)
    assert Retry(3.0) == decide(kind=FailureKind.THROTTLED, retry_after=3.0)
    assert Retry(0.5) == decide(kind=FailureKind.THROTTLED, retry_after=0.1)


def test_no_delay_is_shorter_than_what_the_other_side_asked_for():
    """Also for what is transient; and what is beyond the deadline is not waited for."""
    assert Retry(2.0) == decide(retry_after=2.0)
    assert GiveUp(GiveUpReason.DEADLINE) == decide(retry_after=2.0, deadline=101.0)
