"""A server that asks a service of its own who may come in (auth callout), and the service's moods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
import trio
from nats_callout import CalloutService
from nats_process import RealServer

Run = Callable[..., AbstractAsyncContextManager[Any]]
FAST = {"probe_interval": 0.2, "probe_limit": 1.0}
#: Seconds that anything may take on a machine with much to do.
PATIENCE = 40.0
LOGIN = {"user": "editor", "password": "hush"}


@pytest.fixture
def callout(nats_server: RealServer) -> Iterator[CalloutService]:
    """The server, started anew so that it asks; nobody answers yet."""
    service = CalloutService(nats_server.url, LOGIN["password"])
    nats_server.kill()
    nats_server.anonymous, nats_server.jetstream = True, False
    nats_server.start(**service.settings())
    yield service
    service.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the test's deadline bounds."""
    while not condition():  # noqa: ASYNC110 - the outside world has no event to wait for.
        await trio.sleep(0.01)


async def hears(bus: Any) -> None:
    """It is ready, and what is published arrives."""
    await bus.wait_ready()
    async with bus.subscribe("t.x") as inbox:
        await bus.publish("t.x", b"hello")
        assert b"hello" == (await inbox.receive()).body


async def test_who_is_denied_is_back_when_the_callout_admits_it(nats_server, run_bus: Run, callout):
    """Nothing is restarted for it, and the password that it was asked for is seen nowhere."""
    callout.mode = "deny"
    callout.start()
    with trio.fail_after(PATIENCE):
        async with run_bus(nats_server, credentials=lambda: LOGIN, **FAST) as running:
            await until(lambda: callout.asked >= 3)
            connected, why = running.bus.checks()["nats_connected"]
            assert (False, True) == (connected, "uthorization" in why)
            callout.mode = "admit"
            await hears(running.bus)
            assert "hush" not in repr(running.events) + repr(running.bus.settings) + why


async def test_a_wrong_password_is_denied_and_one_that_is_rotated_is_admitted(nats_server, run_bus: Run, callout):
    """What one logs in with is read anew for each attempt."""
    callout.start()
    login = {"user": "editor", "password": "wrong"}
    with trio.fail_after(PATIENCE):
        async with run_bus(nats_server, credentials=lambda: login, **FAST) as running:
            await until(lambda: callout.asked >= 2)
            assert not running.bus.is_ready
            login["password"] = "hush"
            await hears(running.bus)


@pytest.mark.parametrize("outage", ["silent", "gone"])
async def test_a_connection_outlives_an_outage_of_the_callout(nats_server, run_bus: Run, callout, outage):
    """One that is open stays open; one that is lost meanwhile is back as soon as somebody answers again.

    Whether the service hangs or is gone, each attempt ends with a reason: nothing waits for ever.
    """
    callout.start()
    with trio.fail_after(PATIENCE):
        async with run_bus(nats_server, credentials=lambda: LOGIN, **FAST) as running:
            await hears(running.bus)
            if outage == "gone":
                callout.stop()
            else:
                callout.mode = "silent"
            await hears(running.bus)
            nats_server.kill()
            nats_server.start(**callout.settings())
            # Attempts fail for a reason of their own, not because nobody listens.
            await until(lambda: "uthenticat" in (why := running.bus.checks()["nats_connected"][1]) or "uthoriz" in why)
            assert not running.bus.is_ready
            callout.mode = "admit"
            if outage == "gone":
                callout.start()
            await hears(running.bus)
            assert "nats_connection_rebuilt" in running.kinds()


async def test_who_is_admitted_for_a_while_is_asked_for_again(nats_server, run_bus: Run, callout):
    """The server ends the connection when the time is over; the next one is admitted anew."""
    callout.admitted_for = 2.0
    callout.start()
    with trio.fail_after(PATIENCE):
        async with run_bus(nats_server, credentials=lambda: LOGIN, **FAST) as running:
            await hears(running.bus)
            await until(lambda: "nats_connection_rebuilt" in running.kinds())
            await hears(running.bus)
            lost = next(event for event in running.events if event.kind == "nats_connection_lost")
            assert "expired" in lost.fields["reason"].lower()
