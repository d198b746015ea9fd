"""An auth callout: a service of its own that a nats-server asks whether somebody may come in."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, Literal

import nats
from nats.aio.msg import Msg
from nats_jwt import Issuer, read_claims

_SUBJECT = "$SYS.REQ.USER.AUTH"


class CalloutService:
    """Runs in a thread with a connection of its own, and answers as it is told: the same *password* for everybody.

    Args:
        url: The server.
        password: What is admitted.
    """

    def __init__(self, url: str, password: str) -> None:
        self.mode: Literal["admit", "deny", "silent"] = "admit"
        #: Seconds for which somebody is admitted; None is for ever.
        self.admitted_for: float | None = None
        self.asked = 0
        self._url = url
        self._password = password
        self._issuer = Issuer("APP")
        self._up = threading.Event()
        self._over: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None

    def settings(self) -> dict[str, str]:
        """What the server needs in its configuration."""
        return {
            "accounts": '{ AUTH { users: [ { user: "callout", password: "callout" } ] }, APP {}, SYS {} }',
            "system_account": "SYS",
            "authorization": (
                f'{{ timeout: 0.5, auth_callout {{ issuer: "{self._issuer.public}", account: AUTH, '
                "auth_users: [ callout ] } }"
            ),
        }

    def start(self) -> None:
        """Start, and return when it answers."""
        self._up.clear()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._up.wait(20), "the callout service did not connect"

    def stop(self) -> None:
        """Leave nobody who answers."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join(20)
            self._thread = None

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        options: dict[str, Any] = {"max_reconnect_attempts": -1, "reconnect_time_wait": 0.05}
        connection = await nats.connect(self._url, user="callout", password="callout", error_cb=_pass, **options)
        await connection.subscribe(_SUBJECT, cb=self._answer)
        await connection.flush()
        self._up.set()
        await self._over.wait()
        await connection.close()

    async def _answer(self, message: Msg) -> None:
        self.asked += 1
        if self.mode == "silent":
            return
        options = read_claims(message.data)["nats"]["connect_opts"]
        if self.mode == "deny" or options.get("pass") != self._password:
            await message.respond(self._issuer.deny(message.data))
            return
        expires = None if self.admitted_for is None else time.time() + self.admitted_for
        await message.respond(self._issuer.admit(message.data, expires))


async def _pass(_error: Exception) -> None:
    """Let the library go on trying: the server is restarted under it."""
