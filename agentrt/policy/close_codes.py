"""Close codes of WebSocket and refused handshakes: what each means for the next attempt to connect."""

from __future__ import annotations

from agentrt.policy.setback import Pace, Setback

_AUTH = "correct the credentials; they are read anew at each attempt"
_MESSAGE = "send what the server takes; the message that it closed for is not sent again"
_BUSY = 2.0

#: The registered codes (RFC 6455, section 7.4, and IANA's registry), and two that are never on the wire: 1005, closed
#: without a code, and 1006, closed without a word.
_CODES = {
    1000: Setback(Pace.AT_ONCE),
    1001: Setback(),
    1002: Setback(advice="one side does not speak the protocol as the other expects; see the server's log"),
    1003: Setback(advice=_MESSAGE),
    1005: Setback(Pace.AT_ONCE),
    1006: Setback(Pace.AT_ONCE),
    1007: Setback(advice=_MESSAGE),
    1008: Setback(Pace.RARELY, advice=f"do what the server's policy asks for, or {_AUTH}"),
    1009: Setback(advice="send smaller messages, or raise the limit of the side that found one too big"),
    1010: Setback(Pace.RARELY, advice="the server lacks an extension that was asked for"),
    1011: Setback(),
    1012: Setback(),
    1013: Setback(after=_BUSY),
    1014: Setback(),
    1015: Setback(Pace.RARELY, advice="correct the certificates of either side"),
    3000: Setback(Pace.RARELY, advice=_AUTH),
    3003: Setback(Pace.RARELY, advice=_AUTH),
    3008: Setback(Pace.AT_ONCE),
}
#: Servers use 4400 to 4599 for what HTTP calls 400 to 599.
_HTTP_BASE = 4000
_HTTP_RANGE = range(4400, 4600)

_TIMEOUT, _TOO_EARLY, _TOO_MANY = 408, 425, 429
_SERVER_ERROR = range(500, 600)
# What servers answer for good: this one has no WebSocket, or not here.
_FOR_GOOD = frozenset({501, 505})
_LOGIN = frozenset({401, 403, 407})
_MOVED = range(300, 400)


def judge_close(code: int) -> Setback:
    """Say what a close code means for the next attempt; a code that is not known is backed off from.

    Args:
        code: As it was received, or 1005 or 1006 where none was.
    """
    if code in _HTTP_RANGE:
        return judge_handshake(code - _HTTP_BASE)
    return _CODES.get(code, Setback())


def judge_handshake(status: int, retry_after: float | None = None) -> Setback:
    """Say what a handshake that was answered with an HTTP status means for the next attempt.

    Args:
        status: Anything but 101.
        retry_after: Seconds after which the server wants to be asked again, where it said so.
    """
    if status in _LOGIN:
        return Setback(Pace.RARELY, after=retry_after or 0.0, advice=_AUTH)
    if status == _TOO_MANY:
        return Setback(after=_BUSY if retry_after is None else retry_after, advice="connect less often, or from fewer")
    if status in {_TIMEOUT, _TOO_EARLY} or (status in _SERVER_ERROR and status not in _FOR_GOOD):
        return Setback(after=retry_after or 0.0)
    if status in _MOVED:
        advice = "write the URL that it leads to: redirects are not followed"
    else:
        advice = "correct the URL: there is no WebSocket behind it"
    return Setback(Pace.RARELY, after=retry_after or 0.0, advice=advice)
