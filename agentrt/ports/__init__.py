"""What a battery offers to an agent and a fleet, as protocols; batteries implement them, nothing here does."""

from __future__ import annotations

from agentrt.ports.bus import Bus, BusMessage, Consumer, Delivery, Headers, KeyChange, Watch
from agentrt.ports.connections import (
    AdapterSetup,
    ClientAdapter,
    Connection,
    ConnectionEnded,
    ConnectionUnavailable,
    MessageRefused,
)
from agentrt.ports.errors import (
    BusError,
    BusRefused,
    BusUnavailable,
    KeyExists,
    LimitReached,
    MessageDropped,
    NoResponders,
    PayloadTooLarge,
    PermissionDenied,
    SlowConsumer,
    StoreFull,
    WrongRevision,
)
from agentrt.ports.registry import Entries, Registration, RegistryEntry
from agentrt.ports.rights import Account, BusUse, Permissions, Share
from agentrt.ports.server import ServerNode, Servers, ServerStatus
from agentrt.ports.tools import BatteryMissing, ToolDefinition, ToolError, ToolSession
from agentrt.ports.topology import BucketSpec, ConsumerSpec, Difference, Finding, Json, StreamSpec, Topology

__all__ = [
    "Account",
    "AdapterSetup",
    "BatteryMissing",
    "BucketSpec",
    "Bus",
    "BusError",
    "BusMessage",
    "BusRefused",
    "BusUnavailable",
    "BusUse",
    "ClientAdapter",
    "Connection",
    "ConnectionEnded",
    "ConnectionUnavailable",
    "Consumer",
    "ConsumerSpec",
    "Delivery",
    "Difference",
    "Entries",
    "Finding",
    "Headers",
    "Json",
    "KeyChange",
    "KeyExists",
    "LimitReached",
    "MessageDropped",
    "MessageRefused",
    "NoResponders",
    "PayloadTooLarge",
    "PermissionDenied",
    "Permissions",
    "Registration",
    "RegistryEntry",
    "ServerNode",
    "ServerStatus",
    "Servers",
    "Share",
    "SlowConsumer",
    "StoreFull",
    "StreamSpec",
    "ToolDefinition",
    "ToolError",
    "ToolSession",
    "Topology",
    "Watch",
    "WrongRevision",
]
