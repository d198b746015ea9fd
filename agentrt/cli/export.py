"""``agentrt export``: what other programs need, made from the configuration."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal

import attrs
import typer

from agentrt.cli.common import DEFAULT_CONFIG, ConfigOption, print_json, read_config
from agentrt.cli.exits import ExitCode, Failure
from agentrt.config import BusConfig, Loaded, Name, Secret, SecretError, login_of, resolve_secret
from agentrt.fleet import Batteries, use_of_agent, use_of_fleet
from agentrt.ports import Account, Json

app = typer.Typer(
    name="export",
    help="Write what other programs need.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)


@app.callback()
def _export() -> None:
    """Write what other programs need."""


@app.command("nats-permissions", short_help="Write the users of a nats-server.")
def nats_permissions(
    config: ConfigOption = DEFAULT_CONFIG,
    form: Annotated[
        Literal["conf", "json"], typer.Option("--format", help="For a nats-server's configuration, or for a script.")
    ] = "conf",
) -> None:
    """Write the accounts and users of a nats-server for this fleet, each with the least with which it works.

    There is one for each agent and one for the fleet itself, whose account has the streams; an agent's is let in to
    what it needs of that one. No secret is written: a password is a variable, which the server takes from its
    environment.
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
        account: The account that it has to itself.
        login: How the server knows it.
        needs: What it may, and what its account shares with others.
    """

    whose: str
    table: str
    account: str
    login: Login
    needs: Account

    @property
    def mark(self) -> str:
        """What its lines begin with: whoever is named elsewhere gets all this there, and so it is a comment."""
        return "" if self.login.shown else "# "

    def as_json(self) -> dict[str, Json]:
        """Write it for a script."""
        return {
            "table": self.table,
            "account": self.account,
            "login": dict(self.login.shown),
            "permissions": {
                "publish": {"allow": list(self.needs.permissions.publish)},
                "subscribe": {"allow": list(self.needs.permissions.subscribe)},
            },
            "asks": [attrs.asdict(one) for one in self.needs.asks],
            "says": [attrs.asdict(one) for one in self.needs.says],
            "hears": list(self.needs.hears),
        }


def users(loaded: Loaded) -> Iterator[User]:
    """Give the user of the fleet itself, and that of each agent.

    Raises:
        Failure: One logs in as the server can give no permissions to, or its key cannot be read.
    """
    config = loaded.config
    battery: Any = Batteries()["nats"]
    fleet = str(config.fleet.name)
    use = use_of_fleet(config)
    # Its account is that of the streams, so it is let in to nothing for them.
    needs = Account(battery.permissions(use), (), (), use.subscribes)
    yield User("the fleet itself", "bus", fleet, _login(loaded, "bus", config.bus, fleet), needs)
    for agent, settings in config.agents.items():
        table = f"agents.{agent}.bus"
        # What it has in common with the fleet would make it the fleet's user.
        own = login_of(config, Name(agent)) if settings.bus.is_given else BusConfig()
        account = f"{fleet}-{agent}"
        login = _login(loaded, table, own, account)
        needs = battery.account(use_of_agent(config, str(agent)), account)
        yield User(f"agent {agent}", table, account, login, needs)


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
        return Login(
            (),
            "its permissions stand in its JWT: nsc edit user takes them, as --allow-pub and --allow-sub; "
            "nsc add export, add import and add mapping what its account has",
        )
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
    """Write accounts and their users for the configuration of a nats-server, a line each time."""
    fleet, *agents = found
    yield f"# The accounts of the fleet {loaded.config.fleet.name!r}, as agentrt export nats-permissions writes them."
    yield "accounts {"
    yield from _account(fleet, ["jetstream: enabled", *_asked(agents), *_imports(fleet, fleet, agents)])
    for agent in agents:
        others = [other for other in agents if other is not agent]
        yield from _account(agent, [*_said(agent, [fleet, *others]), *_imports(agent, fleet, others)])
    yield "}"


def _account(user: User, more: Iterable[str]) -> Iterator[str]:
    yield f"  # {user.whose}: [{user.table}]"
    if user.login.advice:
        yield f"  # {'proposed: ' if user.login.is_proposed else ''}{user.login.advice}"
    for line in (f"{_quoted(user.account)} {{", *(f"  {line}" for line in (*_user(user), *more)), "}"):
        yield f"  {user.mark}{line}"


def _user(user: User) -> Iterator[str]:
    yield "users = ["
    yield "  {"
    for key, value in user.login.shown:
        # A variable in quotes would be the password itself.
        yield f"    {key}: {value if key == 'password' else _quoted(value)}"
    yield "    permissions {"
    for what, subjects in attrs.asdict(user.needs.permissions).items():
        yield f"      {what} {{"
        yield "        allow = ["
        yield from (f"          {_quoted(subject)}" for subject in subjects)
        yield "        ]"
        yield "      }"
    yield "    }"
    yield "  }"
    yield "]"


def _asked(agents: Iterable[User]) -> Iterator[str]:
    """Write what agents ask of the fleet's account, and which of them; nobody else is let in."""
    let_in: dict[str, list[User]] = {}
    several = {one.subject for agent in agents for one in agent.needs.asks if one.answers}
    for agent in agents:
        for one in agent.needs.asks:
            let_in.setdefault(one.subject, []).append(agent)
    yield "exports = ["
    for subject, those in sorted(let_in.items()):
        more = ", response_type: stream" if subject in several else ""
        yield f"  {_mark(those)}{{ service: {_quoted(subject)}, {_accounts(those)}{more} }}"
    yield "]"


def _said(agent: User, others: Iterable[User]) -> Iterator[str]:
    """Write what an account calls what it asks and says, and who hears what it says."""
    yield "mappings {"
    for one in (*agent.needs.asks, *agent.needs.says):
        if one.local != one.subject:
            yield f"  {_quoted(one.subject)}: {_quoted(_numbered(one.local))}"
    yield "}"
    yield "exports = ["
    for one in agent.needs.says:
        those = [other for other in others if one.subject in other.needs.hears]
        yield f"  {_mark(those)}{{ stream: {_quoted(one.local)}, {_accounts(those)} }}"
    yield "]"


def _imports(user: User, fleet: User, others: Iterable[User]) -> Iterator[str]:
    """Write what an account is let in to: to ask the fleet's, and to hear what others say."""
    yield "imports = ["
    for one in user.needs.asks:
        to = "" if one.local == one.subject else f", to: {_quoted(one.local)}"
        yield f"  {{ service: {_in(fleet, one.subject)}{to} }}"
    for other in others:
        for one in other.needs.says:
            if one.subject in user.needs.hears:
                to = _quoted(_numbered(one.subject))
                yield f"  {other.mark}{{ stream: {_in(other, one.local)}, to: {to} }}"
    yield "]"


def _in(user: User, subject: str) -> str:
    return f"{{ account: {_quoted(user.account)}, subject: {_quoted(subject)} }}"


def _mark(those: Iterable[User]) -> str:
    """What a line begins with that names accounts: a server ends over one that is not there."""
    return "" if any(not one.mark for one in those) else "# "


def _accounts(those: Sequence[User]) -> str:
    named = [one for one in those if not one.mark] or those
    return f"accounts: [{', '.join(_quoted(one.account) for one in named)}]"


def _numbered(subject: str) -> str:
    """Name each wildcard by its place, as what is mapped is written."""
    places = itertools.count(1)
    return ".".join(f"${next(places)}" if token == "*" else token for token in subject.split("."))  # noqa: S105


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
