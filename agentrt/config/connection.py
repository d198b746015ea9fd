"""A connection to another service, in the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs

from agentrt.config import fields as valid
from agentrt.config.fields import not_negative, positive, required
from agentrt.config.scalars import Duration, Secret, Size


@attrs.frozen(kw_only=True)
class ConnectionConfig:
    """``[connections.NAME]``: a connection to another service, one of its own for each agent that names it."""

    #: ``websocket``, or ``module:Class`` for a client library of your own: a subclass of ``ClientAdapter``.
    kind: str = required("websocket", validator=valid.connection_kind)
    #: Where a WebSocket leads: "ws://host/path" or "wss://host/path".
    url: str | None = attrs.field(default=None, validator=valid.websocket_url, repr=False)
    #: Sent with the handshake. A value may be a reference, ``"env:NAME"`` or ``"file:PATH"``, read at each attempt.
    headers: dict[str, str] = attrs.field(factory=dict, repr=False, validator=valid.headers)
    #: Sent as a bearer token with the handshake; read at each attempt.
    token: Secret | None = None
    #: Offered, the most wanted one first.
    subprotocols: tuple[str, ...] = attrs.field(default=(), validator=valid.subprotocols)
    #: ``module:function``, an async function that is called with each new connection before it is ready: to log in, to
    #: subscribe, to ask for what was missed.
    resume: str | None = attrs.field(default=None, validator=valid.function_path)
    #: Whom to trust, as PEM; else whom the system trusts.
    tls_ca: Path | None = None
    #: With *tls_key*: what the agent shows for itself.
    tls_cert: Path | None = None
    tls_key: Path | None = None
    #: The name in the server's certificate, where it is not the one in the URL.
    tls_name: str | None = None
    #: A larger message that comes in ends the connection.
    max_message: Size = positive(Size(1024 * 1024))
    send_buffer: Size = not_negative(Size(16 * 1024 * 1024))
    #: What waited to be sent for this long without a connection is given up, and told by an event.
    send_age: Duration = positive(60.0)
    #: Unread messages; beyond it nothing is read from the network.
    receive_buffer: Size = positive(Size(1024 * 1024))
    #: For one attempt, with what has to be restored.
    connect_timeout: Duration = positive(15.0)
    probe_interval: Duration = positive(2.0)
    #: For one probe of a client of your own.
    probe_timeout: Duration = positive(2.0)
    #: A client that answered no probe for this long is thrown away.
    probe_limit: Duration = positive(5.0)
    #: For throwing one away.
    close_timeout: Duration = positive(2.0)
    #: Free for a client of your own, as ``self.setup.options``.
    options: dict[str, Any] = attrs.field(factory=dict, repr=False)
