"""The kernel: actors, mailboxes, refs and supervisors. It needs Trio and attrs, and nothing else."""

from __future__ import annotations

from agentrt.kernel.actor import Actor, ActorContext
from agentrt.kernel.admin import (
    CountChildren,
    DeleteChild,
    GetChildSpec,
    RestartChild,
    StartChild,
    TerminateChild,
    WhichChildren,
)
from agentrt.kernel.cell import ActorStatistics, Poison
from agentrt.kernel.census import ChildCounts, ChildInfo, ChildStatistics, SupervisorStatistics
from agentrt.kernel.children import ChildState
from agentrt.kernel.clockwork import Timer
from agentrt.kernel.errors import (
    ActorDied,
    ActorHung,
    AlreadyPresent,
    AlreadyRegistered,
    AlreadyStarted,
    CallCycle,
    CallTimeout,
    ChildExists,
    ChildGaveUp,
    ChildRestarting,
    ChildRunning,
    DeathPact,
    Ignore,
    KernelError,
    LinkBroken,
    MailboxFull,
    NoSuchChild,
    Refusal,
    RestartIntensityExceeded,
    StartFailed,
    StashFull,
    TooManyChildren,
    TreeFailed,
    UnexpectedMessage,
)
from agentrt.kernel.events import Event, EventStream
from agentrt.kernel.exits import Cause, Exit, ExitKind
from agentrt.kernel.handlers import handles
from agentrt.kernel.mailbox_spec import MailboxSpec, MailboxStatistics, Overflow
from agentrt.kernel.messages import Request
from agentrt.kernel.ref import ActorRef
from agentrt.kernel.registry import Entry, Registry, RegistryStatistics
from agentrt.kernel.reports import BudgetLeft, Outlook, Sequel
from agentrt.kernel.runtime import Node, Runtime, open_runtime
from agentrt.kernel.spec import (
    AutoShutdown,
    Budget,
    ChildSpec,
    ChildType,
    Restart,
    Strategy,
    SupervisorSpec,
    WhenExhausted,
)
from agentrt.kernel.supervisor import Supervisor
from agentrt.kernel.watching import Down, Monitor

__all__ = [
    "Actor",
    "ActorContext",
    "ActorDied",
    "ActorHung",
    "ActorRef",
    "ActorStatistics",
    "AlreadyPresent",
    "AlreadyRegistered",
    "AlreadyStarted",
    "AutoShutdown",
    "Budget",
    "BudgetLeft",
    "CallCycle",
    "CallTimeout",
    "Cause",
    "ChildCounts",
    "ChildExists",
    "ChildGaveUp",
    "ChildInfo",
    "ChildRestarting",
    "ChildRunning",
    "ChildSpec",
    "ChildState",
    "ChildStatistics",
    "ChildType",
    "CountChildren",
    "DeathPact",
    "DeleteChild",
    "Down",
    "Entry",
    "Event",
    "EventStream",
    "Exit",
    "ExitKind",
    "GetChildSpec",
    "Ignore",
    "KernelError",
    "LinkBroken",
    "MailboxFull",
    "MailboxSpec",
    "MailboxStatistics",
    "Monitor",
    "NoSuchChild",
    "Node",
    "Outlook",
    "Overflow",
    "Poison",
    "Refusal",
    "Registry",
    "RegistryStatistics",
    "Request",
    "Restart",
    "RestartChild",
    "RestartIntensityExceeded",
    "Runtime",
    "Sequel",
    "StartChild",
    "StartFailed",
    "StashFull",
    "Strategy",
    "Supervisor",
    "SupervisorSpec",
    "SupervisorStatistics",
    "TerminateChild",
    "Timer",
    "TooManyChildren",
    "TreeFailed",
    "UnexpectedMessage",
    "WhenExhausted",
    "WhichChildren",
    "handles",
    "open_runtime",
]
