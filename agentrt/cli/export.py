"""``agentrt export``: what other programs need, made from the configuration."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import attrs
import typer

from agentrt.cli.common import DEFAULT_CONFIG, ConfigOption, print_json, read_config
from agentrt.cli.exits import ExitCode, Failure
from agentrt.config import BusConfig, Loaded, Name, Secret, SecretError, login_of, resolve_secret
from agentrt.fleet import Batteries, use_of_agent, use_of_fleet
from agentrt.ports import Json, Permissions

app = typer.Typer(name="export", help="Write what other programs need.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _export() -> None:
    """Write what other programs need."""


@app.command("nats-permissions")
def nats_permissions(
    config: ConfigOption = DEFAULT_CONFIG,
    form: Annotated[
        Literal["conf", "json"], typer.Option("--format", help="For a nats-server's configuration, or for a script.")
    ] = "conf",
) -> None:
    """Write the users of a nats-server for this fleet, each with the least permissions with which it works.

    There is one for each agent and one for the fleet itself. No secret is written: a password is a variable, which the
    server takes from its environment.
    """
    loaded = read_config(config)
    found = [*users(loaded)]
    for user in found:
        if user.login.is_proposed:
            typer.echo(f"agentrt: {user.whose} has no login of its own; add {user.login.advice}", err=True)
    if form == "json":
        print_json({"users": [user.as_json() for user in found]})
    else:
        typer.echo("\n".join(as_conf(loaded, found)))


@attrs.frozen
class Login:
    """How a server knows a user.

    Args:
        shown: What stands in the server's configuration, a password as a variable; nothing where the user is not
            named there.
        advice: What a person has to do for it.
        is_proposed: Whether the fleet does not log in like this yet.
    """

    shown: tuple[tuple[str, str], ...]
    advice: str = ""
    is_proposed: bool = False


@attrs.frozen
class User:
    """One user of the server.

    Args:
        whose: For people.
        table: Where its login stands in the fleet's configuration.
        login: How the server knows it.
        permissions: What it may.
    """

    whose: str
    table: str
    login: Login
    permissions: Permissions

    def as_json(self) -> dict[str, Json]:
        """Write it for a script."""
        return {
            "table": self.table,
            "login": dict(self.login.shown),
            "permissions": {
                "publish": {"allow": list(self.permissions.publish)},
                "subscribe": {"allow": list(self.permissions.subscribe)},
            },
        }


def users(loaded: Loaded) -> Iterator[User]:
    """Give the user of the fleet itself, and that of each agent.

    Raises:
        Failure: One logs in as the server can give no permissions to, or its key cannot be read.
    """
    config = loaded.config
    battery: Any = Batteries()["nats"]
    fleet = str(config.fleet.name)
    yield User(
        "the fleet itself",
        "bus",
        _login(loaded, "bus", config.bus, fleet),
        battery.permissions(use_of_fleet(config)),
    )
    for agent, settings in config.agents.items():
        table = f"agents.{agent}.bus"
        # What it has in common with the fleet would make it the fleet's user.
        own = login_of(config, Name(agent)) if settings.bus.is_given else BusConfig()
        login = _login(loaded, table, own, f"{fleet}-{agent}")
        yield User(f"agent {agent}", table, login, battery.permissions(use_of_agent(config, str(agent))))


def _login(loaded: Loaded, table: str, bus: BusConfig, name: str) -> Login:
    if bus.token is not None:
        raise Failure(
            f"[{table}] logs in with a token, to which a nats-server gives no permissions; "
            "log in with user and password, an nkey or a certificate",
            ExitCode.CONFIG,
        )
    if bus.user is not None and bus.password is not None:
        variable, advice = _variable(bus.password, f"{name}-password")
        return Login((("user", bus.user), ("password", f"${variable}")), advice)
    if bus.nkey is not None:
        return Login((("nkey", _public_nkey(loaded, table, bus.nkey)),))
    if bus.creds is not None:
        return Login((), "its permissions stand in its JWT: nsc edit user takes them, as --allow-pub and --allow-sub")
    if bus.tls_cert is not None:
        return Login(
            (("user", f"the subject of {bus.tls_cert}"),),
            "with tls { verify_and_map: true }; write the subject of the certificate, or its first DNS name, as user",
        )
    variable = _upper(f"{name}-password")
    proposed = f'[{table}] user = {_quoted(name)}, password = "env:{variable}"'
    return Login((("user", name), ("password", f"${variable}")), proposed, is_proposed=True)


def _variable(secret: Secret, name: str) -> tuple[str, str]:
    kind, _, where = secret.partition(":")
    return (where, "") if kind == "env" else (_upper(name), f"{_upper(name)} is the content of {where}")


def _upper(name: str) -> str:
    return re.sub(r"\W", "_", name).upper()


def _public_nkey(loaded: Loaded, table: str, secret: Secret) -> str:
    battery: Any = Batteries()["nats"]
    try:
        return str(battery.public_nkey(resolve_secret(secret, os.environ, loaded.folder)))
    except (SecretError, ValueError) as error:
        raise Failure(f"[{table}] nkey: its public part cannot be told: {error}", ExitCode.CONFIG) from error


def as_conf(loaded: Loaded, found: list[User]) -> Iterator[str]:
    """Write users for the configuration of a nats-server, a line each time."""
    yield f"# The users of the fleet {loaded.config.fleet.name!r}, as agentrt export nats-permissions writes them."
    yield "authorization {"
    yield "  users = ["
    for user in found:
        yield from (f"    {line}" if line else "" for line in _user(user))
    yield "  ]"
    yield "}"


def _user(user: User) -> Iterator[str]:
    yield f"# {user.whose}: [{user.table}]"
    if user.login.advice:
        yield f"# {'proposed: ' if user.login.is_proposed else ''}{user.login.advice}"
    # Whoever is not named here gets its permissions elsewhere; they are written all the same.
    mark = "" if user.login.shown else "# "
    yield f"{mark}{{"
    for key, value in user.login.shown:
        # A variable in quotes would be the password itself.
        yield f"  {key}: {value if key == 'password' else _quoted(value)}"
    yield f"{mark}  permissions {{"
    for what, subjects in attrs.asdict(user.permissions).items():
        yield f"{mark}    {what} {{"
        yield f"{mark}      allow = ["
        yield from (f"{mark}        {_quoted(subject)}" for subject in subjects)
        yield f"{mark}      ]"
        yield f"{mark}    }}"
    yield f"{mark}  }}"
    yield f"{mark}}}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
