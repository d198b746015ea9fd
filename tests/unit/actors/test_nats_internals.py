"""Private parts of nats-py: what is used of them is there, and where it is not, the public way is taken."""

from __future__ import annotations

import pytest
from nats.aio.client import Client
from nats.aio.transport import TcpTransport

from actors import _nats_internals
from actors._nats_client import NatsClient, bridge
from actors._nats_internals import CLIENT_NAMES, READER, TAKES, TRIED, WRITERS, why_not_private


def test_the_installed_releases_are_the_ones_that_were_tried():
    """A new release fails here: try it with the integration tests, add it to TRIED, or see what became of a name."""
    assert "" == why_not_private(Client())
    assert [] == [name for name in (*WRITERS, READER) if not hasattr(TcpTransport(), name)]


@pytest.mark.parametrize("package", sorted(TRIED))
def test_a_release_that_was_not_tried_is_used_the_public_way(package: str, monkeypatch: pytest.MonkeyPatch):
    """Whatever it is; the reason names it."""
    monkeypatch.setattr(_nats_internals, "TRIED", {**TRIED, package: frozenset({"0.0"})})
    assert f"not tried with {package} " in why_not_private(Client())


@pytest.mark.parametrize("name", CLIENT_NAMES)
def test_a_name_that_is_gone_is_told(name: str):
    """A release that was tried may be patched by its packager."""
    client = Client()
    there = {one: getattr(client, one) for one in CLIENT_NAMES if one != name}
    assert name in why_not_private(type("Patched", (), there)())


@pytest.mark.parametrize("name", sorted(TAKES))
def test_a_method_that_is_called_otherwise_is_told(name: str):
    """What stands in its place would be called with arguments that it does not know."""
    client = Client()

    async def other(self: object, something: object) -> None:
        """Take something else."""

    there = {one: getattr(client, one) for one in CLIENT_NAMES}
    assert name in why_not_private(type("Patched", (), {**there, name: other})())


async def test_a_connection_says_why_it_takes_the_public_way(monkeypatch: pytest.MonkeyPatch):
    """Asked for, or because of a release."""
    async with bridge():
        assert "" == NatsClient(lambda _subject, _error: None).why_public
        assert "asked for" == NatsClient(lambda _subject, _error: None, is_public=True).why_public
        monkeypatch.setattr(_nats_internals, "TRIED", {"trio-asyncio": frozenset({"0.0"})})
        assert "not tried" in NatsClient(lambda _subject, _error: None).why_public
