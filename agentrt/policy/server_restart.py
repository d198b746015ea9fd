"""Server restart: how long to wait before a tool server that ended is started again."""

from __future__ import annotations

import attrs
from attrs import validators

from agentrt.policy.backoff import Backoff


@attrs.frozen
class RestartDelay:
    """When to start the server again, and how loud to be about it.

    Args:
        delay: Seconds to wait.
        attempt: Failures in a row, this one included.
        extended: Whether ordinary backoff did not help; worth an alert.
        probably_permanent: Whether it keeps failing to start in the same way; a person should look.
    """

    delay: float
    attempt: int
    extended: bool
    probably_permanent: bool


@attrs.define
class ServerRestart:
    """Say how long to wait before each restart of a server; never give up, since what it needs may come back.

    The first failure in a row is followed by a restart at once. From the second on *backoff* applies: 2 s, doubling to
    60 s, each shortened by up to 20 % and so never more than 60 s. It is *extended*, 300 s and 20 % less or more, from
    failure number *extended_after* on, and where it keeps failing to start in the same way: that does not pass within a
    minute. A good start begins anew.

    What a good start is, the caller decides; a server that answers its handshake and ends at once, over and over, is
    held back only if that does not count as one.

    Pure: the caller draws the jitter, waits, and starts the server.

    Args:
        backoff: The delays from the second failure on.
        extended: The delays where ordinary backoff is of no use.
        extended_after: Failures in a row after which ordinary backoff is of no use.
        same_failures: Failures to start with the same signature, in a row, that make it probably permanent.
    """

    backoff: Backoff = attrs.field(default=Backoff(initial=2.0, factor=2.0, maximum=60.0, jitter=(0.8, 1.0)))
    extended: Backoff = attrs.field(default=Backoff(initial=300.0, factor=1.0, maximum=360.0, jitter=(0.8, 1.2)))
    extended_after: int = attrs.field(default=10, validator=validators.ge(2))
    same_failures: int = attrs.field(default=3, validator=validators.ge(2))
    _attempt: int = attrs.field(init=False, default=0)
    _signature: str | None = attrs.field(init=False, default=None)
    _alike: int = attrs.field(init=False, default=0)

    def failed(self, jitter: float, signature: str | None = None) -> RestartDelay:
        """Record that the server ended or did not start; return when to start it again.

        Args:
            jitter: A number from 0 to 1.
            signature: What identifies a failure to start, such as its error and exit code; None where the server had
                started.
        """
        self._attempt += 1
        self._alike = self._alike + 1 if signature == self._signature else 1
        self._signature = signature
        is_permanent = signature is not None and self._alike >= self.same_failures
        is_extended = self._attempt >= self.extended_after or is_permanent
        return RestartDelay(
            delay=self._delay(jitter, is_extended=is_extended),
            attempt=self._attempt,
            extended=is_extended,
            probably_permanent=is_permanent,
        )

    def succeeded(self) -> None:
        """Record a good start: the next failure is the first in a row again."""
        self._attempt = 0
        self._signature = None
        self._alike = 0

    def _delay(self, jitter: float, *, is_extended: bool) -> float:
        if is_extended:
            return self.extended.delay(self._attempt, jitter)
        if self._attempt == 1:
            return 0.0
        return self.backoff.delay(self._attempt - 1, jitter)
