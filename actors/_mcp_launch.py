"""How a tool server comes to be: a process of one's own, or a link to one that runs elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import attrs
import trio

from actors._egress import BadProxy, proxy_of
from actors._environment import server_environment, server_headers
from actors._mcp_desk import Peer
from actors._mcp_http import HttpLink
from actors._mcp_login import Login
from actors._mcp_wire import HttpWire, Lines, StdioWire, Wire
from actors._stdio import ServerProcess
from agentrt.config import SecretError

if TYPE_CHECKING:
    from agentrt.config.model import McpServerConfig

Report = Callable[..., object]
Ignored = Callable[[bytes], object]


class Process(Peer, Lines, Protocol):
    """A server process, and the lines to it."""


class Spawn(Protocol):
    """How a server process is started; raises OSError where it cannot be."""

    def __call__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None,
        log: Path | None,
        grace: float,
        report: Report,
    ) -> Awaitable[Process]: ...


class CannotStart(Exception):
    """The server could not even be started; says why."""


@attrs.frozen
class Launched:
    """A server that was started, or is to be talked to.

    Args:
        peer: The server; its ``run`` is to be started at once.
        wire: How messages get to it.
    """

    peer: Peer
    wire: Wire


class Launcher(Protocol):
    """Starts a server."""

    async def launch(self, report: Report, ignored: Ignored) -> Launched:
        """Start it.

        Args:
            report: Called with an event's kind and fields.
            ignored: Called with each line from the server that is no message.

        Raises:
            CannotStart: It did not work.
        """
        ...

    async def hope(self) -> None:
        """Return when a start that has just failed may work now, for a reason that is known here."""
        ...


def launcher_of(config: McpServerConfig, *, log: Path | None, spawn: Spawn) -> Launcher:
    """Choose how a server is started, by its configuration."""
    if config.url is not None:
        limit = config.start_timeout
        return _Http(config, config.url, None if config.oauth is None else Login(config.url, config.oauth, limit))
    assert config.command is not None
    return _Stdio(config, config.command, log, spawn)


@attrs.frozen
class _Stdio:
    config: McpServerConfig
    command: tuple[str, ...]
    log: Path | None
    spawn: Spawn

    async def launch(self, report: Report, ignored: Ignored) -> Launched:
        try:
            process = await self.spawn(
                self.command,
                env=server_environment(self.config.env),
                cwd=self.config.cwd,
                log=self.log,
                grace=self.config.stop_grace,
                report=report,
            )
        except SecretError as error:
            raise CannotStart(f"its environment: {error}") from error
        except OSError as error:
            # The system says the same of both.
            cwd = self.config.cwd
            what = f"{self.command[0]!r}" if cwd is None or cwd.is_dir() else f"{self.command[0]!r} in {cwd}"
            raise CannotStart(f"cannot start {what}: {error.strerror or error}") from error
        return Launched(process, StdioWire(process, ignored))

    async def hope(self) -> None:
        await trio.sleep_forever()


@attrs.frozen
class _Http:
    config: McpServerConfig
    url: str
    login: Login | None

    async def launch(self, report: Report, ignored: Ignored) -> Launched:  # noqa: ARG002 - HTTP has no lines.
        headers = partial(server_headers, self.config.headers, self.config.token)
        if self.login is not None:
            self.login.report = report
        try:
            timeout, proxy = self.config.start_timeout, proxy_of(self.url)
            link = HttpLink(self.url, headers, timeout, login=self.login, proxy=proxy)
        except SecretError as error:
            raise CannotStart(f"its headers: {error}") from error
        except BadProxy as error:
            raise CannotStart(str(error)) from error
        return Launched(link, HttpWire(link))

    async def hope(self) -> None:
        if self.login is None:
            await trio.sleep_forever()
        else:
            await self.login.wait_for_person()


#: How a server process is really started.
spawn_process: Spawn = ServerProcess.spawn
