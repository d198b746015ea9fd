"""One call of a tool: which server takes it, how long it waits, and what its failures mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import trio

from actors._mcp_desk import Desk, Server
from agentrt.policy import Failure, FailureKind, SendState
from agentrt.resilience import BreakerGate, CallFailed
from agentrt.resilience.retrying import Tries


class Call:
    """One call with all of its tries.

    Args:
        desk: Where the server is found.
        breaker: Keeps calls away from a server that fails.
        tool: The tool's name.
        arguments: Its arguments.
        limit: Seconds in all.
        waits: Whether it waits while the server is down, or fails at once.
        heard: Called when the server answered it.

    Attributes:
        tries: What became of it so far.
        deadline: When nobody waits for it any more, in Trio's time.
    """

    def __init__(
        self,
        desk: Desk,
        breaker: BreakerGate,
        tool: str,
        arguments: Mapping[str, Any],
        *,
        limit: float,
        waits: bool,
        heard: Callable[[Server], object],
    ) -> None:
        self.tool = tool
        self.tries = Tries()
        self.deadline = trio.current_time() + limit
        self._desk = desk
        self._breaker = breaker
        self._arguments = arguments
        self._limit = limit
        self._waits = waits
        self._heard = heard

    def size(self) -> int:
        """About how many bytes it holds."""
        try:
            return len(json.dumps(self._arguments, default=str))
        except (TypeError, ValueError):
            # What is no JSON fails where it is sent, and says so there.
            return 0

    async def attempt(self) -> Any:
        """Try once.

        Raises:
            CallFailed: It did not work.
        """
        server = await self._admitted()
        ticket = self._breaker.admit()
        try:
            answer = await self._call(server)
        except CallFailed as error:
            if server.peer.lost.is_set():
                # The owner sees to a server that is gone; the breaker is for one that is there and does not work.
                self._breaker.released(ticket)
            else:
                self._breaker.ended(ticket, error.failure)
            raise
        except BaseException:
            self._breaker.released(ticket)
            raise
        self._breaker.ended(ticket)
        return answer

    async def _call(self, server: Server) -> Any:
        began = trio.current_time()
        server.calls += 1
        try:
            with trio.CancelScope(deadline=self.deadline):
                await self._check_offered(server)
                answer = await server.connection.call(self.tool, self._arguments)
                self._heard(server)
                return answer
        except CallFailed as error:
            self._note_failure(server, error.failure, began)
            raise CallFailed(_explained(error.failure, server)) from error
        finally:
            server.end_call()
        if server.peer.last_heard <= began:
            self._desk.doubt()
        raise CallFailed(Failure(FailureKind.TIMEOUT, SendState.UNKNOWN, f"no answer within {self._limit:g} s"))

    def _note_failure(self, server: Server, failure: Failure, began: float) -> None:
        if failure.kind is FailureKind.TOOL:
            self._heard(server)
        elif failure.kind is FailureKind.TRANSIENT and server.peer.last_heard <= began:
            self._desk.doubt()

    async def _admitted(self) -> Server:
        desk = self._desk
        if not self._waits and not desk.takes_calls():
            reason = f"the server is down: {desk.reason}"
            raise CallFailed(Failure(FailureKind.TRANSIENT, SendState.NOT_SENT, reason, is_final=True))
        if desk.server is not None and desk.takes_calls():
            return desk.server
        with trio.CancelScope(deadline=self.deadline):
            await desk.wait_for(desk.takes_calls)
            assert desk.server is not None
            return desk.server
        reason = f"no server within {self._limit:g} s: {desk.reason}"
        raise CallFailed(Failure(FailureKind.TRANSIENT, SendState.NOT_SENT, reason))

    async def _check_offered(self, server: Server) -> None:
        if self.tool not in self._desk.tools:
            # Servers may change their tools while they run.
            self._desk.tools = await server.connection.list_tools()
        if self.tool not in self._desk.tools:
            offered = ", ".join(self._desk.tools) or "none"
            reason = f"no such tool; the server offers {offered}"
            raise CallFailed(Failure(FailureKind.PERMANENT, SendState.NOT_SENT, reason))


def _explained(failure: Failure, server: Server) -> Failure:
    if failure.kind is not FailureKind.TRANSIENT or not server.peer.lost.is_set():
        return failure
    return attrs.evolve(failure, reason=f"the server {server.peer.ending} during the call")
