"""The configuration of ``agentrt mcp proxy``: a file of its own, or options of the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
from attrs import validators

from agentrt.config.fields import address, count, endpoint, not_empty, not_negative, positive, required, share
from agentrt.config.model import BreakerConfig, BulkheadConfig
from agentrt.config.problems import Fault, Invalid, KeyPath, shown
from agentrt.config.scalars import Duration, Name, Size
from agentrt.config.structure import structure_as

_MIB = 1024 * 1024


def _endpoints(instance: object, attribute: object, value: tuple[str, ...]) -> None:
    not_empty(instance, attribute, value)
    for url in value:
        endpoint(instance, attribute, url)
    if len(set(value)) < len(value):
        raise Invalid("one of the replicas stands here twice", "leave it out once")


def _header(_instance: object, _attribute: object, value: str | None) -> None:
    if value is not None and not value.replace("-", "").isalnum():
        raise Invalid(f"not the name of a header: {shown(value)}", 'write tenant_header = "x-tenant"')


def _origins(_instance: object, _attribute: object, value: tuple[str, ...]) -> None:
    for origin in value:
        if origin != "*" and ("://" not in origin or origin.count("/") > len("//")):
            raise Invalid(f"not an origin: {shown(origin)}", 'write "https://app.example", without a path')


@attrs.frozen(kw_only=True)
class BackendConfig:
    """``[backends.NAME]`` or ``[tenants.TENANT.NAME]``: a server over streamable HTTP, or several that do the same."""

    #: Its replicas, such as ``["http://host:8000/mcp"]``.
    url: tuple[str, ...] = required(["http://127.0.0.1:8000/mcp"], validator=_endpoints)
    #: Tools that may be repeated although an earlier try may have happened.
    idempotent: tuple[str, ...] = ()
    #: Whether to believe the server where it calls a tool read-only or idempotent itself.
    trust_annotations: bool = True
    #: ``safe`` repeats what does no harm twice or cannot have happened; ``all`` whatever failed in passing.
    repeat: Literal["safe", "all"] = "safe"
    #: Until an answer begins, with all tries and waits; a stream may last longer.
    timeout: Duration = positive(300.0)
    connect_timeout: Duration = positive(5.0)
    #: Whether a session that the server lost is made anew behind the client's back.
    revive_sessions: bool = True


@attrs.frozen(kw_only=True)
class ProxyBreakerConfig(BreakerConfig):
    """``[proxy.breaker]``: of each replica; opens later than an agent's and is probed sooner."""

    failure_threshold: int = count(5)
    recovery_timeout: Duration = positive(10.0)
    max_recovery_timeout: Duration = positive(300.0)
    failure_rate: float = share(0.5)


@attrs.frozen(kw_only=True)
class ProxyConfig:
    """``[proxy]``."""

    listen: str = attrs.field(default="127.0.0.1:8090", validator=address)
    #: What it shows for itself, as PEM: with both it speaks TLS.
    tls_cert: Path | None = None
    tls_key: Path | None = None
    #: A header that names the tenant, where the path does not.
    tenant_header: str | None = attrs.field(default=None, validator=_header)
    #: Web pages that may talk to it, by their origin, beside those on this machine; ``"*"`` is all.
    origins: tuple[str, ...] = attrs.field(default=(), validator=_origins)
    retries: int = count(2, least=0)
    retry_delay: Duration = positive(0.5)
    #: The longest request, and the longest answer that is no stream.
    max_request: Size = positive(Size(16 * _MIB))
    max_answer: Size = positive(Size(32 * _MIB))
    #: What all requests in hand may take together.
    max_buffered: Size = positive(Size(256 * _MIB))
    #: Streams that stay open beside the calls, for each backend.
    max_streams: int = count(256)
    #: Sessions that are remembered for each backend; the one that was used longest ago goes first.
    max_sessions: int = count(10_000)
    #: Between two looks at each replica; 0 never looks.
    check_interval: Duration = not_negative(5.0)
    #: Calls in hand may finish within this at the end.
    drain_timeout: Duration = positive(10.0)
    breaker: ProxyBreakerConfig = attrs.field(factory=ProxyBreakerConfig)
    #: Of each backend.
    bulkhead: BulkheadConfig = attrs.field(factory=BulkheadConfig)


@attrs.frozen(kw_only=True)
class ProxyFile:
    """A whole ``proxy.toml``."""

    schema: Literal[1] = attrs.field(default=1, validator=validators.instance_of(int))
    proxy: ProxyConfig = attrs.field(factory=ProxyConfig)
    backends: dict[Name, BackendConfig] = attrs.field(factory=dict)
    #: Backends of one tenant each, at ``/TENANT/BACKEND/mcp``.
    tenants: dict[Name, dict[Name, BackendConfig]] = attrs.field(factory=dict)


def read_proxy(document: dict[str, Any]) -> tuple[ProxyFile, tuple[Fault, ...]]:
    """Structure a document, and find every fault in it.

    Args:
        document: What ``tomllib`` read. It is changed where it is wrong.
    """
    draft, faults, damaged = structure_as(document, ProxyFile)
    return draft, (*faults, *_cross_check(draft, damaged))


def _cross_check(draft: ProxyFile, damaged: frozenset[KeyPath]) -> Iterator[Fault]:
    is_damaged = any(path[0] in {"backends", "tenants"} for path in damaged)
    if not is_damaged and not draft.backends and not any(draft.tenants.values()):
        yield Fault(("backends",), "there is nothing to stand before", "add a table [backends.NAME] with a url")
    if (draft.proxy.tls_cert is None) is not (draft.proxy.tls_key is None):
        missing = "tls_key" if draft.proxy.tls_key is None else "tls_cert"
        yield Fault(("proxy",), f"{missing} is missing: TLS needs both", f"add {missing}, or leave out the other")
    for name in draft.tenants:
        if name in draft.backends:
            message = f"{shown(name)} is a backend, too: its path would mean both"
            yield Fault(("tenants", name), message, "give one of them another name")


def backend_of(option: str) -> tuple[KeyPath, dict[str, Any]]:
    """Read ``[TENANT/]NAME=URL[,URL...]``, as on the command line, as a table and its place.

    Raises:
        Invalid: It is something else.
    """
    name, equals, urls = option.partition("=")
    place = name.split("/")
    if not equals or not all(place) or len(place) > len(("tenant", "name")):
        raise Invalid(f"not a backend: {shown(option)}", "write NAME=URL, or TENANT/NAME=URL for one tenant")
    path: KeyPath = ("backends", *place) if len(place) == 1 else ("tenants", *place)
    return path, {"url": [url.strip() for url in urls.split(",")]}


def put(document: dict[str, Any], path: KeyPath, table: Mapping[str, Any]) -> None:
    """Put a table into a document, in the place of what stands there."""
    around: Any = document
    for key in path[:-1]:
        around = around.setdefault(key, {})
    around[path[-1]] = dict(table)
