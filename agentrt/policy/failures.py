"""Failures: what kind of failure a call had, and whether the other side may have acted on it."""

from __future__ import annotations

import email.utils
import enum
import re

import attrs


class FailureKind(enum.StrEnum):
    """What kind of failure a call had."""

    #: May work next time: refused, reset, DNS, 502, 503, 504, server restarting.
    TRANSIENT = "transient"
    #: Will fail each time: 400, invalid params, no such tool.
    PERMANENT = "permanent"
    #: The other side does not know who calls, or does not let it: 401, 403.
    AUTH = "auth"
    #: Too many calls: 429, or a bound of our own.
    THROTTLED = "throttled"
    #: No answer in time; as passing as any other transient failure.
    TIMEOUT = "timeout"
    #: The tool ran and reported an error itself.
    TOOL = "tool"


class SendState(enum.StrEnum):
    """Whether the other side got the call."""

    #: It got it, and may have acted on it.
    SENT = "sent"
    #: It cannot have acted on it: it never got it, or refused it unread.
    NOT_SENT = "not_sent"
    #: Nobody knows.
    UNKNOWN = "unknown"


@attrs.frozen
class Failure:
    """How one try of a call failed.

    Args:
        kind: What kind of failure it was.
        sent: Whether the other side got the call.
        reason: For people.
        retry_after: Seconds after which the other side wants to be asked again, where it said so.
        session_lost: The server does not know the session any more: a new one helps.
        is_final: Nobody is to try again, whatever the kind.
    """

    kind: FailureKind
    sent: SendState
    reason: str = ""
    retry_after: float | None = None
    session_lost: bool = False
    is_final: bool = False

    @property
    def may_have_happened(self) -> bool:
        """Whether the other side may have acted on it."""
        return self.sent is not SendState.NOT_SENT


#: JSON-RPC leaves these to the server's implementation: its own trouble, and not the tool's.
SERVER_ERRORS = range(-32019, -31999)
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
_REFUSED = frozenset({PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, *range(-32099, -32019)})
# "Session not found", "Session terminated", "No valid session ID", "Invalid session", "unknown or expired session".
_LOST = re.compile(
    r"\bsession\b.*\b(not found|terminated|expired|invalid|unknown|closed)\b"
    r"|\b(no valid|invalid|unknown|expired|missing)\b.*\bsession\b",
    re.IGNORECASE | re.DOTALL,
)

_OK, _REDIRECT, _CLIENT_ERROR, _SERVER_ERROR, _END = 200, 300, 400, 500, 600
_UNAUTHORIZED, _NOT_FOUND, _GONE = 401, 404, 410
_AUTH = frozenset({_UNAUTHORIZED, 403, 407})
_THROTTLED = frozenset({429, 529})
#: The server, or whoever stands before it, may have begun: a timeout of its own, or something broke on the way.
_PASSING = frozenset({408, 500, 502, 503, 504})
_TOO_EARLY = 425
_NEVER = frozenset({501, 505, 506, 508, 510, 511})


def says_session_lost(text: str) -> bool:
    """Whether an error says that the server does not know the session, as servers put it after a restart."""
    return _LOST.search(text) is not None


def classify_status(
    status: int, *, text: str = "", retry_after: float | None = None, has_session: bool = False
) -> Failure:
    """Classify an HTTP status that is no success.

    A refusal (4xx) was not acted on. Of a passing failure (5xx) nobody knows: a gateway that lost the answer says the
    same as one that never passed the call on.

    Args:
        status: The status.
        text: What the body says, as far as it is text.
        retry_after: What the ``Retry-After`` header says, in seconds.
        has_session: Whether the request named a session, so that 404 and 410 mean the session and not the address.
    """
    reason = f"HTTP {status}" + (f": {text}" if text else "")
    if status in _AUTH:
        return Failure(FailureKind.AUTH, SendState.NOT_SENT, reason)
    if status in _THROTTLED:
        return Failure(FailureKind.THROTTLED, SendState.NOT_SENT, reason, retry_after)
    if has_session and (status in {_NOT_FOUND, _GONE} or (status < _SERVER_ERROR and says_session_lost(text))):
        return Failure(FailureKind.TRANSIENT, SendState.NOT_SENT, reason, session_lost=True)
    if status == _TOO_EARLY:
        return Failure(FailureKind.TRANSIENT, SendState.NOT_SENT, reason, retry_after)
    if status in _PASSING or (_SERVER_ERROR <= status < _END and status not in _NEVER):
        return Failure(FailureKind.TRANSIENT, SendState.UNKNOWN, reason, retry_after)
    return Failure(FailureKind.PERMANENT, SendState.NOT_SENT, reason)


def classify_rpc(code: int, message: str, *, has_session: bool = False) -> Failure:
    """Classify a JSON-RPC error that came from the server.

    The server's own trouble passes; it had the call, so it may have acted on it. A call that the protocol refuses was
    not acted on. Any other code is the tool's.

    Args:
        code: The error's code.
        message: Its message.
        has_session: Whether the connection has a session that the server can lose.
    """
    if has_session and (code in SERVER_ERRORS or code == INVALID_REQUEST) and says_session_lost(message):
        return Failure(FailureKind.TRANSIENT, SendState.NOT_SENT, message, session_lost=True)
    if code == INTERNAL_ERROR or code in SERVER_ERRORS:
        return Failure(FailureKind.TRANSIENT, SendState.SENT, message)
    if code in _REFUSED:
        return Failure(FailureKind.PERMANENT, SendState.NOT_SENT, message)
    return Failure(FailureKind.TOOL, SendState.SENT, message)


class Phase(enum.Enum):
    """How far a request had come when the network failed."""

    CONNECTING = "connecting"
    WRITING = "writing"
    WAITING = "waiting"


_DELIVERED = {
    Phase.CONNECTING: SendState.NOT_SENT,
    Phase.WRITING: SendState.UNKNOWN,
    Phase.WAITING: SendState.SENT,
}


def classify_network(phase: Phase, reason: str, *, is_timeout: bool = False) -> Failure:
    """Classify a fault of the network: refused, reset, cut off, not resolved.

    Args:
        phase: How far the request had come.
        reason: For people.
        is_timeout: Whether it was only silence.
    """
    kind = FailureKind.TIMEOUT if is_timeout else FailureKind.TRANSIENT
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        kind = FailureKind.PERMANENT
    return Failure(kind, _DELIVERED[phase], reason)


def parse_retry_after(value: str | None, unix_now: float) -> float | None:
    """Read a ``Retry-After`` header: seconds, or a date; None where it is neither, and never less than 0.

    Args:
        value: What the header says; None where there is none.
        unix_now: The time, in seconds since 1970.
    """
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", text):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - unix_now)
    except (ValueError, OverflowError):
        return None
