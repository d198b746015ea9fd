"""Every way to log in and to be sure of the other side, against a real nats-server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import nkeys
import pytest
import trio
import trustme
from nats_jwt import Operator
from nats_process import RealServer

Run = Callable[..., AbstractAsyncContextManager[Any]]
FAST = {"probe_interval": 0.2, "probe_limit": 1.0}
#: Seconds that anything may take on a machine with much to do.
PATIENCE = 30.0


async def works(run_bus: Run, server: RealServer, **login: Any) -> None:
    """A bus that logs in like this publishes and hears."""
    with trio.fail_after(PATIENCE):
        async with run_bus(server, credentials=lambda: login, **FAST) as running:
            await running.bus.wait_ready()
            async with running.bus.subscribe("t.x") as inbox:
                await running.bus.publish("t.x", b"hello")
                assert b"hello" == (await inbox.receive()).body


async def trouble(run_bus: Run, server: RealServer, *, without: str = "\0", **login: Any) -> str:
    """Return why a bus that logs in like this does not connect; nothing that is said may hold *without*."""
    with trio.fail_after(PATIENCE):
        async with run_bus(server, credentials=lambda: login, **FAST) as running:
            while "nats_connect_failed" not in running.kinds():  # noqa: ASYNC110 - there is no event for an event.
                await trio.sleep(0.01)
            why = str(running.bus.checks()["nats_connected"][1])
            assert without not in repr(running.events) + repr(running.bus.settings) + why
            return why


class Certificates:
    """An authority, and what it signed for a server and a client."""

    def __init__(self, folder: Path) -> None:
        self.ca, other = trustme.CA(), trustme.CA()
        self.server, self.client = self.ca.issue_cert("127.0.0.1"), self.ca.issue_cert("agentrt")
        self.paths = {name: str(folder / f"{name}.pem") for name in ("ca", "other", "cert", "key", "own", "own_key")}
        self.ca.cert_pem.write_to_path(self.paths["ca"])
        other.cert_pem.write_to_path(self.paths["other"])
        for pair, cert, key in ((self.server, "cert", "key"), (self.client, "own", "own_key")):
            pair.cert_chain_pems[0].write_to_path(self.paths[cert])
            pair.private_key_pem.write_to_path(self.paths[key])

    def settings(self, *, mutual: bool = False) -> dict[str, str]:
        """What a server needs in its configuration."""
        lines = [f'cert_file: "{self.paths["cert"]}"', f'key_file: "{self.paths["key"]}"']
        if mutual:
            lines += [f'ca_file: "{self.paths["ca"]}"', "verify: true"]
        return {"tls": "{ " + ", ".join(lines) + " }"}

    @property
    def own(self) -> dict[str, str]:
        """What a client shows for itself."""
        return {"tls_ca": self.paths["ca"], "tls_cert": self.paths["own"], "tls_key": self.paths["own_key"]}


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


def restart(server: RealServer, *, token: bool = False, **settings: Any) -> None:
    """Start it anew with another way to log in."""
    server.kill()
    server.anonymous, server.jetstream = not token, False
    server.start(**settings)


async def test_tls_is_spoken_with_whom_is_trusted(nats_server, run_bus, certificates):
    restart(nats_server, token=True, **certificates.settings())
    await works(run_bus, nats_server, token="first", tls_ca=certificates.paths["ca"])


@pytest.mark.parametrize("trusted", ["other", None])
async def test_a_server_that_is_not_trusted_is_not_connected_to(nats_server, run_bus, certificates, trusted):
    """And the reason says so."""
    restart(nats_server, **certificates.settings())
    login = {"tls_ca": certificates.paths[trusted]} if trusted else {}
    assert "certificate verify failed" in await trouble(run_bus, nats_server, **login)


async def test_a_name_that_is_not_in_the_certificate_is_given_apart(nats_server, run_bus, certificates):
    certificates.server = certificates.ca.issue_cert("nats.example")
    certificates.server.cert_chain_pems[0].write_to_path(certificates.paths["cert"])
    certificates.server.private_key_pem.write_to_path(certificates.paths["key"])
    restart(nats_server, **certificates.settings())
    assert "certificate verify failed" in await trouble(run_bus, nats_server, tls_ca=certificates.paths["ca"])
    await works(run_bus, nats_server, tls_ca=certificates.paths["ca"], tls_name="nats.example")


async def test_both_sides_show_a_certificate(nats_server, run_bus, certificates):
    restart(nats_server, **certificates.settings(mutual=True))
    await works(run_bus, nats_server, **certificates.own)
    assert await trouble(run_bus, nats_server, tls_ca=certificates.paths["ca"])


async def test_a_certificate_is_a_login(nats_server, run_bus, certificates):
    """The server takes the name in it for the user's, and so gives each its own permissions."""
    tls = certificates.settings(mutual=True)["tls"].replace("verify: true", "verify_and_map: true")
    only = '{ users: [ { user: "%s", permissions: { publish: "t.>", subscribe: ["t.>", "_INBOX.>"] } } ] }'
    restart(nats_server, tls=tls, authorization=only % "agentrt")
    await works(run_bus, nats_server, **certificates.own)
    restart(nats_server, tls=tls, authorization=only % "other")
    assert "uthorization" in await trouble(run_bus, nats_server, **certificates.own)


async def test_certificates_are_read_anew_for_each_connection(nats_server, run_bus, certificates, tmp_path):
    """What was rotated on both sides is taken at the next attempt, without a restart of anything."""
    restart(nats_server, **certificates.settings(mutual=True))
    with trio.fail_after(PATIENCE):
        async with run_bus(nats_server, credentials=lambda: certificates.own, **FAST) as running:
            await running.bus.wait_ready()
            nats_server.kill()
            certificates = Certificates(tmp_path)
            nats_server.start(**certificates.settings(mutual=True))
            while running.kinds().count("nats_connection_rebuilt") < 1:  # noqa: ASYNC110 - as above.
                await trio.sleep(0.01)
            await running.bus.wait_ready()


async def test_an_nkey_is_a_login(nats_server, run_bus):
    seed = bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)).decode()
    public = bytes(nkeys.from_seed(bytearray(seed.encode())).public_key).decode()
    restart(nats_server, authorization=f"{{ users: [ {{ nkey: {public} }} ] }}")
    await works(run_bus, nats_server, nkey=seed)
    other = bytes(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)).decode()
    assert "uthorization" in await trouble(run_bus, nats_server, without=other, nkey=other)


async def test_a_credentials_file_is_a_login(nats_server, run_bus):
    operator = Operator()
    restart(nats_server, **operator.settings())
    await works(run_bus, nats_server, creds=operator.credentials(time.time() + 3600))


async def test_user_and_password_are_a_login(nats_server, run_bus):
    restart(nats_server, authorization='{ users: [ { user: "editor", password: "hush" } ] }')
    await works(run_bus, nats_server, user="editor", password="hush")
    wrong = await trouble(run_bus, nats_server, without="h-u-s-h", user="editor", password="h-u-s-h")
    assert "uthorization" in wrong


@pytest.mark.parametrize(
    ("login", "why"),
    [
        ({"nkey": "SAABCDEF"}, "nkey is not the seed of a user: such a seed begins with SU"),
        ({"creds": "secret"}, "creds is not a credentials file: it has to hold a user JWT and its seed"),
        ({"tls_ca": "/no/such/ca.pem"}, "tls_ca /no/such/ca.pem: no such file or directory"),
        ({"tls_cert": "{key}", "tls_key": "{key}"}, "it is no PEM file, or the two do not belong together"),
    ],
)
async def test_a_login_that_is_none_says_which_part_and_not_its_value(nats_server, run_bus, certificates, login, why):
    """It is tried again all the same: what is wrong now may be mended."""
    login = {key: value.format(**certificates.paths) for key, value in login.items()}
    secret = login.get("nkey") or login.get("creds") or "\0"
    assert why in await trouble(run_bus, nats_server, without=secret, **login)
