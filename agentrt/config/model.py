"""The configuration as attrs classes: every setting, its type, its default and its bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import attrs
from attrs import validators

from agentrt.config.connection import ConnectionConfig
from agentrt.config.fields import (
    address,
    bus_url,
    class_path,
    count,
    endpoint,
    not_empty,
    not_negative,
    positive,
    positive_or_none,
    program,
    registry_url,
    required,
    share,
)
from agentrt.config.fields import (
    headers as valid_headers,
)
from agentrt.config.oauth import OAuthConfig
from agentrt.config.scalars import Duration, Name, Secret, Size

RestartType = Literal["permanent", "transient", "temporary"]


@attrs.frozen(kw_only=True)
class FleetConfig:
    """``[fleet]``."""

    name: Name = required("newsroom")
    state_dir: Path = Path(".agentrt")
    #: A folder that agents write to: while that fails they are not ready. The state directory is looked at anyway.
    workspace: Path | None = None
    drain_timeout: Duration = positive(10.0)
    #: Seconds that the platform waits before it kills; a drain must be shorter.
    kill_timeout: Duration = positive(30.0)


@attrs.frozen(kw_only=True)
class BusConfig:
    """``[bus]``: without *url* the fleet brings its own nats-server."""

    #: One URL, or several with commas between.
    url: str | None = attrs.field(default=None, validator=bus_url, repr=False)
    user: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    #: The seed of a user's nkey.
    nkey: Secret | None = None
    #: A credentials file: a user JWT and its seed.
    creds: Secret | None = None
    #: Whom to trust, as PEM; else whom the system trusts. With any of these, and with ``tls://``, TLS is spoken.
    tls_ca: Path | None = None
    #: With *tls_key*: what the fleet shows for itself.
    tls_cert: Path | None = None
    tls_key: Path | None = None
    #: The name in the server's certificate, where it is not the one in the URL.
    tls_name: str | None = None
    connect_timeout: Duration = positive(15.0)
    probe_interval: Duration = positive(2.0)
    #: Without an answered probe for this long the connection is made anew; where only JetStream is silent for so long,
    #: another server whose JetStream answers is moved to, if there is one.
    probe_limit: Duration = positive(5.0)
    publish_buffer: Size = not_negative(Size(64 * 1024 * 1024))
    #: What was published and waited for a connection for this long is given up, and told by an event.
    publish_age: Duration = positive(600.0)
    #: What the embedded server may store, each of them where there are several; tasks that wait take up three quarters
    #: of it at most, and are refused then.
    max_store: Size = positive(Size(1024 * 1024 * 1024))
    #: 3 brings a cluster of three servers along, on loopback, in which each message is stored three times.
    embedded_nodes: Literal[1, 3] = 1


@attrs.frozen(kw_only=True)
class InboxConfig:
    """``[inbox]``: deliveries and redelivery of tasks."""

    max_deliveries: int = count(4)
    #: Wait before each redelivery; the last one repeats where there are more deliveries than delays.
    redelivery: tuple[Duration, ...] = attrs.field(
        default=(Duration(60.0), Duration(300.0), Duration(900.0)), validator=not_empty
    )
    ack_wait: Duration = positive(60.0)
    keepalive: Duration = positive(20.0)
    #: How long an outcome can be asked for.
    outcome_ttl: Duration = positive(7 * 86400.0)
    dead_letter_ttl: Duration = positive(30 * 86400.0)


@attrs.frozen(kw_only=True)
class FloodGateConfig:
    """``[flood_gate]``: when messages are a loop."""

    max_hops: int = count(16)
    #: How often one agent may stand in the causal path of a message.
    max_visits: int = count(3, least=2)
    self_messages: int = count(3)
    self_window: int = count(5)
    #: The same payload from the same sender in one conversation, this often, is no progress. More than the deliveries
    #: of a task, because each attempt of the sender may ask the same again.
    repeats: int = count(6, least=2)


@attrs.frozen(kw_only=True)
class MemoryConfig:
    """``[memory]``: limits on resident memory, for each tool server and for the fleet's own process."""

    interval: Duration = positive(30.0)
    server_warn: Size = positive(Size(100_000_000))
    server_limit: Size = positive(Size(140_000_000))
    #: A server above the limit so soon after its start is reported, not restarted.
    settle: Duration = not_negative(60.0)
    #: Whether a server above the warning is replaced when a look at it finds no call in hand.
    recycle_idle: bool = False
    #: Not ready above this share of the cgroup's (else the machine's) memory.
    process_limit: float = attrs.field(default=0.9, validator=[validators.gt(0), validators.le(1)])


@attrs.frozen(kw_only=True)
class HealthConfig:
    """``[health]``."""

    listen: str = attrs.field(default="127.0.0.1:8080", validator=address)
    #: Liveness fails when the event loop has not turned for this long.
    stall_limit: Duration = positive(30.0)
    #: An agent whose code holds the event loop for this long at a stretch is interrupted there and crashes, as far as
    #: that is safe; 0 never interrupts.
    interrupt_after: Duration = not_negative(0.0)
    #: Progress fails when a task in hand has not moved for this long.
    progress_limit: Duration = positive(600.0)


@attrs.frozen(kw_only=True)
class RegistryConfig:
    """``[registry]``: where others find the fleet's agents and tool servers; on the bus they do anyway."""

    #: An HTTP registry of agents: each is written to ``URL/KEY`` by PUT, and removed by DELETE.
    url: str | None = attrs.field(default=None, validator=registry_url)
    #: The same for tool servers.
    mcp_url: str | None = attrs.field(default=None, validator=registry_url)
    #: Sent as a bearer token to both; read again for each request.
    token: Secret | None = None
    #: How long an entry counts; it is renewed three times as often.
    lease: Duration = attrs.field(default=Duration(30.0), validator=validators.ge(Duration(1.0)))
    #: Whether the process is not ready while an entry is missing somewhere.
    required: bool = False


@attrs.frozen(kw_only=True)
class LogConfig:
    """``[log]``."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


@attrs.frozen(kw_only=True)
class RetryConfig:
    """``[policies.retry.NAME]``."""

    retries: int = count(4, least=0)
    initial: Duration = not_negative(0.5)
    factor: float = attrs.field(default=2.0, validator=validators.ge(1))
    maximum: Duration = positive(30.0)
    #: Share that is added to a delay at random, 0 to 1.
    jitter: float = share(0.3)
    #: Retries of all calls to one server in *budget_window*: this share of its calls, and *budget_minimum* anyway.
    budget: float = share(0.2)
    budget_minimum: int = count(10, least=0)
    budget_window: Duration = positive(60.0)


@attrs.frozen(kw_only=True)
class BreakerConfig:
    """``[policies.breaker.NAME]``."""

    failure_threshold: int = count(3)
    recovery_timeout: Duration = positive(300.0)
    #: The recovery time doubles while probes fail, up to this.
    max_recovery_timeout: Duration = positive(3600.0)
    #: A probe that is not heard of again for this long has failed. Left out, a little more than one task or call takes.
    probe_lease: Duration | None = positive_or_none()
    #: Opens, too, when this share of the calls in *window* failed, or took longer than *slow_call*; 0 never does.
    failure_rate: float = share(0.0)
    slow_rate: float = share(0.0)
    slow_call: Duration = not_negative(0.0)
    #: Fewer calls in *window* say nothing about a share.
    min_calls: int = count(20)
    window: Duration = positive(60.0)


@attrs.frozen(kw_only=True)
class BulkheadConfig:
    """``[policies.bulkhead.NAME]``: how many calls a tool server may have in hand, and how many may wait."""

    max_concurrent: int = count(32)
    max_queued: int = count(256, least=0)
    #: What the arguments of the calls that wait may take together.
    max_queued_bytes: Size = not_negative(Size(16 * 1024 * 1024))
    max_wait: Duration = positive(60.0)


@attrs.frozen(kw_only=True)
class ServerRestartConfig:
    """``[policies.server_restart.NAME]``: when a tool server that ended is started again, or connected to again."""

    #: From the second failure in a row on; the first restart waits for nothing.
    initial: Duration = positive(2.0)
    factor: float = attrs.field(default=2.0, validator=validators.ge(1))
    maximum: Duration = positive(60.0)
    #: The wait where that did not help: after *extended_after* failures in a row, or *same_failures* equal ones at the
    #: start, which are probably permanent.
    extended: Duration = positive(300.0)
    extended_after: int = count(10, least=2)
    same_failures: int = count(3, least=2)


@attrs.frozen(kw_only=True)
class RestartConfig:
    """``[policies.restart.NAME]``: how an actor is restarted, how often, and how long its stop may take."""

    restart: RestartType = "permanent"
    max_restarts: int = count(3, least=0)
    max_seconds: Duration = positive(30.0)
    initial: Duration = not_negative(0.5)
    factor: float = attrs.field(default=2.0, validator=validators.ge(1))
    maximum: Duration = positive(30.0)
    start_timeout: Duration = positive(30.0)
    shutdown: Duration = positive(5.0)
    #: Without a progress mark for this long the actor counts as stuck; 0 switches the watchdog off.
    progress_timeout: Duration = not_negative(0.0)


@attrs.frozen(kw_only=True)
class PoliciesConfig:
    """``[policies]``: defined once, referenced by name."""

    retry: dict[Name, RetryConfig] = attrs.field(factory=dict)
    breaker: dict[Name, BreakerConfig] = attrs.field(factory=dict)
    restart: dict[Name, RestartConfig] = attrs.field(factory=dict)
    bulkhead: dict[Name, BulkheadConfig] = attrs.field(factory=dict)
    server_restart: dict[Name, ServerRestartConfig] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ActorsConfig:
    """``[actors]``: the restart policy of each battery, by the name of a ``[policies.restart.NAME]``."""

    connection: Name | None = None
    mcp_session: Name | None = None
    inbox: Name | None = None
    memory_guard: Name | None = None


@attrs.frozen(kw_only=True)
class McpServerConfig:
    """``[mcp.global.SERVER]``, ``[mcp.roles.ROLE.SERVER]`` or ``[mcp.agents.AGENT.SERVER]``.

    The most specific scope wins whole: nothing is merged.
    """

    #: A server that is started here and spoken to over its standard input and output; else *url*.
    command: tuple[str, ...] | None = attrs.field(default=None, validator=program)
    #: A server that runs elsewhere and is spoken to over streamable HTTP, such as "http://host:8000/mcp".
    url: str | None = attrs.field(default=None, validator=endpoint)
    #: Sent with each request to *url*. A value may be a reference, ``"env:NAME"`` or ``"file:PATH"``.
    headers: dict[str, str] = attrs.field(factory=dict, repr=False, validator=valid_headers)
    #: Sent as a bearer token to *url*; read again when the server does not accept it any more.
    token: Secret | None = None
    #: In place of a token: how to get one.
    oauth: OAuthConfig | None = None
    #: The protocol that it speaks; ``auto`` asks it once and keeps the answer.
    protocol: Literal["auto", "2025-11-25", "2026-07-28"] = "auto"
    #: A value may be a reference, ``"env:NAME"`` or ``"file:PATH"``, which is read at each start of the server.
    env: dict[str, str] = attrs.field(factory=dict, repr=False)
    cwd: Path | None = None
    start_timeout: Duration = positive(30.0)
    call_timeout: Duration = positive(60.0)
    #: What calls do while the server is down: ``wait`` until their deadline, or ``fail`` at once.
    when_down: Literal["wait", "fail"] = "wait"
    #: A ping without an answer for this long, twice in a row and no call in hand, restarts the server.
    ping_interval: Duration = positive(2.0)
    stop_grace: Duration = positive(12.0)
    #: Tools that may be repeated although an earlier try may have happened.
    idempotent: tuple[str, ...] = ()
    #: Whether to believe the server where it calls a tool read-only or idempotent itself.
    trust_annotations: bool = True
    #: Tools that must be there for the agent to be ready.
    expect_tools: tuple[str, ...] = ()
    #: What is done with a form that the server wants filled in (elicitation): it is told that nobody does (``none``),
    #: or gets back the ``defaults`` that it proposes, and a no where they are not all that it needs.
    elicitation: Literal["none", "defaults"] = "none"
    #: Whether only one agent may use it, such as a server that keeps a file of its own.
    exclusive: bool = False
    retry: Name | None = None
    breaker: Name | None = None
    bulkhead: Name | None = None
    restart: Name | None = None
    #: A file that gets one line of JSON per restart, as well as the log.
    restart_log: Path | None = None
    memory_warn: Size | None = positive_or_none()
    memory_limit: Size | None = positive_or_none()


@attrs.frozen(kw_only=True)
class McpConfig:
    """``[mcp]``: tool servers in three scopes."""

    #: More of them, one file each: ``global.SERVER.toml``, ``roles.ROLE.SERVER.toml`` or ``agents.AGENT.SERVER.toml``,
    #: such as a mounted ConfigMap.
    folder: Path | None = None
    global_: dict[Name, McpServerConfig] = attrs.field(factory=dict, metadata={"key": "global"})
    roles: dict[Name, dict[Name, McpServerConfig]] = attrs.field(factory=dict)
    agents: dict[Name, dict[Name, McpServerConfig]] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class AgentBusConfig:
    """``[agents.NAME.bus]``: a login of the agent's own, so that the server can tell it from the others."""

    user: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    nkey: Secret | None = None
    creds: Secret | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def is_given(self) -> bool:
        """Whether the agent logs in as somebody of its own."""
        return any(value is not None for value in attrs.astuple(self))


@attrs.frozen(kw_only=True)
class AgentConfig:
    """``[agents.NAME]``."""

    class_: str = required("newsroom:Editor", key="class", validator=class_path)
    role: Name | None = None
    mcp: tuple[Name, ...] = ()
    connections: tuple[Name, ...] = ()
    manager: Name | None = None
    #: Takes the work while this agent's breaker is open; its manager does, where nobody is named.
    fallback: Name | None = None
    critical: bool = False
    task_timeout: Duration = positive(1800.0)
    progress_timeout: Duration = positive(300.0)
    max_concurrent_tasks: int = count(1)
    breaker: Name | None = None
    #: A login of its own, below.
    bus: AgentBusConfig = attrs.field(factory=AgentBusConfig)
    #: Free for the agent's own use, as ``self.options``.
    options: dict[str, Any] = attrs.field(factory=dict)

    @property
    def stand_in(self) -> Name | None:
        """Who takes its work while its breaker is open: its fallback, else its manager."""
        return self.fallback or self.manager


@attrs.frozen(kw_only=True)
class Config:
    """A whole ``config.toml``."""

    schema: Literal[1] = required(1)
    fleet: FleetConfig = required({"name": "newsroom"})
    bus: BusConfig = attrs.field(factory=BusConfig)
    inbox: InboxConfig = attrs.field(factory=InboxConfig)
    flood_gate: FloodGateConfig = attrs.field(factory=FloodGateConfig)
    memory: MemoryConfig = attrs.field(factory=MemoryConfig)
    health: HealthConfig = attrs.field(factory=HealthConfig)
    log: LogConfig = attrs.field(factory=LogConfig)
    registry: RegistryConfig = attrs.field(factory=RegistryConfig)
    policies: PoliciesConfig = attrs.field(factory=PoliciesConfig)
    actors: ActorsConfig = attrs.field(factory=ActorsConfig)
    mcp: McpConfig = attrs.field(factory=McpConfig)
    connections: dict[Name, ConnectionConfig] = attrs.field(factory=dict)
    agents: dict[Name, AgentConfig] = required({"editor": {"class": "newsroom:Editor"}}, validator=not_empty)
