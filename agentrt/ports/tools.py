"""A tool server as an agent sees it, and what a call of it may fail with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import attrs

from agentrt.policy import SendState


class BatteryMissing(LookupError):
    """Something that the fleet needs is not installed, or cannot be imported; says what to do."""


@attrs.frozen
class ToolDefinition:
    """A tool as its server describes it: what a model has to know to call it.

    Args:
        name: Its name.
        description: What it does, in the server's words; empty where the server says nothing.
        input_schema: Its arguments as JSON Schema, as the server wrote it.
    """

    name: str
    description: str
    input_schema: Mapping[str, Any]


class ToolError(Exception):
    """A tool call that did not work.

    Attributes:
        kind: A word of :class:`agentrt.policy.FailureKind`: ``transient``, ``permanent``, ``auth``, ``throttled``,
            ``timeout`` or ``tool`` (the tool ran and reported an error itself).
        server: The server's name.
        tool: The tool's name.
        attempt: The try that failed last, from 1.
        sent: Whether the server got the call: ``sent``, ``not_sent`` or ``unknown``, over all tries.
        retry_after: Seconds after which the server wants to be asked again, where it said so.
        cause: What went wrong below, where that was an exception.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str,
        server: str,
        tool: str,
        attempt: int = 1,
        sent: SendState = SendState.NOT_SENT,
        retry_after: float | None = None,
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.server = server
        self.tool = tool
        self.attempt = attempt
        self.sent = sent
        self.retry_after = retry_after
        self.cause = cause

    @property
    def may_have_happened(self) -> bool:
        """Whether the server may have done it."""
        return self.sent is not SendState.NOT_SENT


class ToolSession(Protocol):
    """One tool server as an agent sees it: a handle that survives restarts of the server."""

    @property
    def is_ready(self) -> bool:
        """Whether it answers and offers all that is expected of it."""
        ...

    @property
    def reason(self) -> str:
        """Why it is ready or not, for people."""
        ...

    @property
    def pid(self) -> int | None:
        """The server's process, where it has one and it runs."""
        ...

    @property
    def started_at(self) -> float | None:
        """When that was started, or a link to a server elsewhere was made, in monotonic seconds."""
        ...

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the tools that the server listed last."""
        ...

    @property
    def definitions(self) -> tuple[ToolDefinition, ...]:
        """What the server said of each of them."""
        ...

    async def wait_ready(self) -> None:
        """Wait until :attr:`is_ready`."""

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        idempotent: bool = False,
    ) -> Any:
        """Call a tool: its structured content, else its text.

        Raises:
            ToolError: It did not work; says what kind of failure it was.
        """
        ...
