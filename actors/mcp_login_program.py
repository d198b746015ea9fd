"""``agentrt mcp login`` itself: a person agrees in a browser to what a session does by itself from then on."""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Callable, Sized
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qs, urlsplit

import trio
from mcp.client.auth import AuthorizationCodeResult

from actors._egress import proxy_of
from actors._environment import server_headers
from actors._mcp_client import ERAS, HandshakeFailed, connect
from actors._mcp_http import HttpLink
from actors._mcp_login import Login
from actors._mcp_person import KeptLogin, Person
from actors._mcp_wire import HttpWire
from agentrt.resilience import CallFailed

if TYPE_CHECKING:
    from agentrt.config.model import McpServerConfig

#: Bytes of a request of the browser; what is longer is none of ours.
_REQUEST = 16 * 1024
_PAGE = "Thank you. agentrt has what it needs; this page can be closed."


class LoginFailed(Exception):
    """Nobody was logged in; says why."""


class Browser:
    """A person at this machine: a page is opened, and the browser comes back to a port of loopback.

    Args:
        listener: Where it comes back to.
        say: Called with what the person has to know.
        opens: Opens a page, in a thread of its own.
    """

    def __init__(
        self,
        listener: trio.SocketListener,
        say: Callable[[str], object],
        opens: Callable[[str], object] = webbrowser.open,
    ) -> None:
        self._listener = listener
        self._say = say
        self._opens = opens

    @property
    def redirect_uri(self) -> str:
        """Where the browser comes back to."""
        return f"http://127.0.0.1:{self._listener.socket.getsockname()[1]}/callback"

    async def visit(self, url: str) -> None:
        """Open a page, and say which, for whoever has the browser elsewhere."""
        self._say(f"agree to it in a browser: {url}")
        # Nobody waits for it: some browsers end when the person closes them.
        threading.Thread(target=self._opens, args=(url,), daemon=True).start()

    async def answer(self) -> AuthorizationCodeResult:
        """Wait until the browser comes back; what else it asks for, such as an icon, is not there.

        Raises:
            LoginFailed: The person said no, or the authorization server did.
        """
        while True:
            stream = await self._listener.accept()
            found: dict[str, str] = {}
            with suppress(trio.BrokenResourceError):
                async with stream:
                    found = _came_back(await _target(stream))
                    await stream.send_all(_response("200 OK", _PAGE) if found else _response("404 Not Found", ""))
            if not found:
                continue
            if "code" not in found:
                raise LoginFailed(
                    found.get("error_description", found.get("error", "the browser came back without it"))
                )
            return AuthorizationCodeResult(code=found["code"], state=found.get("state"), iss=found.get("iss"))


async def log_in(config: McpServerConfig, person: Person) -> int:
    """Log in to a server, whatever is kept of an earlier login; return how many tools there are.

    Args:
        config: The server, with ``url`` and ``oauth.login_file``.
        person: Who is asked.

    Raises:
        LoginFailed: It did not work.
    """
    assert config.url is not None
    assert config.oauth is not None
    assert config.oauth.login_file is not None
    login = Login(config.url, config.oauth, config.start_timeout, person)
    headers, timeout = partial(server_headers, config.headers, None), config.start_timeout
    link = HttpLink(config.url, headers, timeout, login=login, proxy=proxy_of(config.url))
    tools: Sized = ()
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        try:
            async with connect(HttpWire(link), ERAS[config.protocol], tools_changed=lambda: None) as connection:
                tools = await connection.list_tools()
        except (HandshakeFailed, CallFailed) as error:
            failure = error
        finally:
            link.kill()
    if failure is not None:
        raise LoginFailed(str(failure)) from failure
    if login.authorization is None:
        raise LoginFailed("the server lets everybody in; leave out oauth")
    return len(tools)


async def run(config: McpServerConfig, say: Callable[[str], object]) -> int:
    """Ask the person at this machine; return how many tools there are.

    Raises:
        LoginFailed: It did not work.
    """
    assert config.oauth is not None
    assert config.oauth.login_file is not None
    listener = await _listen(KeptLogin(config.oauth.login_file, lambda *_, **__: None).port())
    async with listener:
        return await log_in(config, Browser(listener, say))


async def _listen(port: int) -> trio.SocketListener:
    """Listen where the client that was registered before said, for authorization servers are strict about that."""
    try:
        (listener,) = await trio.open_tcp_listeners(port, host="127.0.0.1")
    except OSError as error:
        raise LoginFailed(f"cannot listen on 127.0.0.1:{port} for the browser: {error.strerror or error}") from error
    return listener


async def _target(stream: trio.SocketStream) -> SplitResult:
    read = b""
    while b"\r\n" not in read and len(read) < _REQUEST and (chunk := await stream.receive_some()):
        read += chunk
    words = read.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
    return urlsplit(words[1] if len(words) > 1 else "/")


def _came_back(target: SplitResult) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(target.query).items()} if target.path == "/callback" else {}


def _response(status: str, page: str) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {len(page)}\r\n"
    return f"{head}connection: close\r\n\r\n{page}".encode()
