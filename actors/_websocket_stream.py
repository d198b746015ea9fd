"""The bytes below a WebSocket: signs of life, and an answer to the handshake that is none."""

from __future__ import annotations

import ssl
from email.utils import parsedate_to_datetime

import trio

from agentrt.policy import Pace, Setback, judge_handshake
from agentrt.ports import ConnectionEnded

# Written in such pieces, so that a slow peer that still reads gives a sign of life in between.
_CHUNK = 64 * 1024
# No server sends a longer head.
_MAX_HEAD = 64 * 1024
_SWITCHING, _FINAL = 101, 200

# OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and CERT_HAS_EXPIRED; HOSTNAME_MISMATCH and IP_ADDRESS_MISMATCH.
_DATES, _NAMES = (9, 10), (62, 64)
# What a server says of the certificate of its client, or of there being none.
_OURS = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED")
_OUR_CERTIFICATE = "give a certificate that the server trusts as tls_cert with tls_key"


class Signs:
    """Signs that the other side lives; whoever waits is woken by the next one."""

    def __init__(self) -> None:
        self._next = trio.Event()

    def see(self) -> None:
        """There was one."""
        self._next.set()
        self._next = trio.Event()

    async def wait(self) -> None:
        """Wait for the next one."""
        await self._next.wait()


class WatchedStream(trio.abc.Stream):
    """A stream that tells of each piece that came in or was taken, and judges the answer to a handshake.

    A server that refuses a handshake may do so in ways that a WebSocket library waits through: with a body without an
    end, or by closing without a word. So the head of the answer is read here: whatever is not *101* ends the reader.

    Args:
        stream: The transport, TLS included.
        signs: Told of bytes that were received, and of a piece that was taken while more of the same are to come.
    """

    def __init__(self, stream: trio.abc.Stream, signs: Signs) -> None:
        self._stream = stream
        self._signs = signs
        self._head: bytes | None = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send in pieces."""
        view = memoryview(data)
        for start in range(0, len(view), _CHUNK):
            try:
                await self._stream.send_all(view[start : start + _CHUNK])
            except trio.BrokenResourceError as error:
                if self._head is not None:
                    # A library whose request is not taken may wait for its answer all the same.
                    raise self._unanswered(error) from error
                raise
            # The last one says nothing: a black hole takes a ping, too.
            if start + _CHUNK < len(view):
                self._signs.see()
        if not view:
            await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        """As the transport has it."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive; what comes first is the answer to the handshake, without what comes before that.

        Raises:
            ConnectionEnded: The handshake was refused, or the connection ended before it was answered.
        """
        answer = None
        while self._head is not None and answer is None:
            try:
                data = await self._stream.receive_some(max_bytes)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise self._unanswered(error) from error
            if not data:
                raise self._unanswered(None)
            self._signs.see()
            answer = self._look(self._head + data)
        if answer is not None:
            self._head = None
            return answer
        data = await self._stream.receive_some(max_bytes)
        if data:
            self._signs.see()
        return data

    def _look(self, received: bytes) -> bytes | None:
        """Return the answer with what came behind it, where it is there and a good one."""
        while b"\r\n\r\n" in received:
            head, _, rest = received.partition(b"\r\n\r\n")
            status, headers = _parse(head)
            if status >= _FINAL or status == 0:
                raise _refused(status, headers)
            if status == _SWITCHING:
                return received
            # 100 and 103 come before the answer.
            received = rest
        if len(received) > _MAX_HEAD:
            raise _refused(0, {})
        self._head = received
        return None

    def _unanswered(self, error: BaseException | None) -> ConnectionEnded:
        cause = None if error is None else error.__cause__
        if isinstance(cause, ssl.SSLError):
            return tls_failure(cause)
        # A server that does not take the certificate of its client may end the connection without a word that is heard.
        advice = f"where the server wants one, {_OUR_CERTIFICATE}" if isinstance(self._stream, trio.SSLStream) else ""
        reason = "the server closed the connection before it had answered the handshake"
        return ConnectionEnded(reason, Setback(advice=advice))

    async def aclose(self) -> None:
        """Close the transport."""
        await self._stream.aclose()


def tls_failure(error: ssl.SSLError) -> ConnectionEnded:
    """Say what a failure of TLS is, and what a person can do about it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _DATES:
            advice = "have the server's certificate renewed, or set the clock of this machine"
        elif error.verify_code in _NAMES:
            advice = "give the name in the server's certificate as tls_name, or correct the host in the URL"
        else:
            advice = "give the authority of the server's certificate as tls_ca"
        reason = f"its certificate is not trusted: {error.verify_message}"
        return ConnectionEnded(reason, Setback(Pace.RARELY, advice=advice))
    said = (error.reason or str(error)).replace("_", " ").lower()
    if any(word in (error.reason or "") for word in _OURS):
        reason = f"the server refused the TLS handshake: {said}"
        return ConnectionEnded(reason, Setback(Pace.RARELY, advice=_OUR_CERTIFICATE))
    advice = "a server without TLS has a ws:// URL" if error.reason == "WRONG_VERSION_NUMBER" else ""
    return ConnectionEnded(f"the TLS handshake failed: {said}", Setback(advice=advice))


def _refused(status: int, headers: dict[str, str]) -> ConnectionEnded:
    if not status:
        return ConnectionEnded("what answers the handshake does not speak HTTP", judge_handshake(_FINAL))
    setback = judge_handshake(status, _seconds(headers.get("retry-after"), headers.get("date")))
    # What stands behind a question mark may be a secret.
    target = headers.get("location", "").partition("?")[0]
    where = f", which leads to {target}" if target else ""
    return ConnectionEnded(f"the server answered the handshake with HTTP {status}{where}", setback)


def _seconds(retry_after: str | None, date: str | None) -> float | None:
    """Read for how long the server wants to be left alone; None where it said nothing that can be read."""
    if retry_after is not None and retry_after.isdecimal():
        return float(retry_after)
    try:
        # By the server's clock, whatever ours says.
        wait = parsedate_to_datetime(retry_after or "") - parsedate_to_datetime(date or "")
    except (TypeError, ValueError):
        # One of them is no date, or has no zone.
        return None
    return max(0.0, wait.total_seconds())


def _parse(head: bytes) -> tuple[int, dict[str, str]]:
    """Read the status, 0 where there is none, and the headers of an answer."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if not first.startswith("HTTP/1.") or len(words) == 1 or not words[1].isdecimal():
        return 0, {}
    pairs = (line.partition(":") for line in lines)
    return int(words[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}
