"""The kernel: actors, mailboxes, refs and supervisors. It needs Trio and attrs, and nothing else."""

from __future__ import annotations

from agentrt.kernel.actor import Actor, ActorContext
from agentrt.kernel.admin import RestartChild, StartChild, TerminateChild
from agentrt.kernel.errors import (
    ActorDied,
    CallCycle,
    CallTimeout,
    ChildExists,
    ChildGaveUp,
    KernelError,
    MailboxFull,
    NoSuchChild,
    Refusal,
    RestartIntensityExceeded,
    StartFailed,
    TooManyChildren,
    TreeFailed,
    UnexpectedMessage,
)
from agentrt.kernel.events import Event, EventStream
from agentrt.kernel.exits import Cause, Exit, ExitKind
from agentrt.kernel.mailbox import MailboxSpec, Overflow
from agentrt.kernel.ref import ActorRef
from agentrt.kernel.runtime import Node, Runtime, open_runtime
from agentrt.kernel.spec import Budget, ChildSpec, Restart, Strategy, SupervisorSpec, WhenExhausted
from agentrt.kernel.supervisor import Supervisor

__all__ = [
    "Actor",
    "ActorContext",
    "ActorDied",
    "ActorRef",
    "Budget",
    "CallCycle",
    "CallTimeout",
    "Cause",
    "ChildExists",
    "ChildGaveUp",
    "ChildSpec",
    "Event",
    "EventStream",
    "Exit",
    "ExitKind",
    "KernelError",
    "MailboxFull",
    "MailboxSpec",
    "NoSuchChild",
    "Node",
    "Overflow",
    "Refusal",
    "Restart",
    "RestartChild",
    "RestartIntensityExceeded",
    "Runtime",
    "StartChild",
    "StartFailed",
    "Strategy",
    "Supervisor",
    "SupervisorSpec",
    "TerminateChild",
    "TooManyChildren",
    "TreeFailed",
    "UnexpectedMessage",
    "WhenExhausted",
    "open_runtime",
]
