"""What an agent's connection logs in with."""

from __future__ import annotations

import attrs
import pytest

from agentrt.config import AgentBusConfig, BusConfig, Config, Name, Secret, login_of
from agentrt.config.model import AgentConfig, FleetConfig

EDITOR = Name("editor")
SHARED = {"url": "nats://a", "tls_ca": "ca.pem", "tls_name": "a", "user": "desk", "password": "env:DESK"}


def config(**own: object) -> Config:
    """A fleet whose editor has a login of its own."""
    agent = AgentConfig(class_="newsroom:Editor", bus=AgentBusConfig(**own))  # type: ignore[arg-type]
    bus = BusConfig(**SHARED, tls_cert="fleet.pem", tls_key="fleet.key")  # type: ignore[arg-type]
    return Config(schema=1, fleet=FleetConfig(name=Name("newsroom")), bus=bus, agents={EDITOR: agent})


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, {}),
        ({"user": "ed", "password": Secret("env:ED")}, {"user": "ed", "password": "env:ED"}),
        ({"nkey": Secret("env:SEED")}, {"user": None, "password": None, "nkey": "env:SEED"}),
        (
            {"tls_cert": "ed.pem", "tls_key": "ed.key"},
            {"user": None, "password": None, "tls_cert": "ed.pem", "tls_key": "ed.key"},
        ),
    ],
)
def test_what_an_agent_has_of_its_own_counts_whole_and_the_rest_is_the_fleet_s(own, expected):
    """It never logs in as the fleet as well; whom to trust is the same for all, and so is a certificate for all."""
    shared = config()
    assert attrs.evolve(shared.bus, **expected) == login_of(config(**own), EDITOR)


def test_only_something_given_is_a_login_of_its_own():
    """An empty table is none."""
    assert not AgentBusConfig().is_given
    assert AgentBusConfig(token=Secret("env:T")).is_given
