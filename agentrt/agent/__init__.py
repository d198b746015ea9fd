"""Agents: the class that users subclass, and what it is made of."""

from __future__ import annotations

from agentrt.agent.base import Agent, AgentSetup, Connections, TaskRefused, Tools
from agentrt.agent.client import NoOutcome, TaskClient, TaskFailed, answer_of
from agentrt.agent.setup import MAX_IN_HAND, Admission, Entry, Host, HostActor, InboxSetup, TaskBook
from agentrt.agent.work import Result, Slot, Slots, TaskActor

__all__ = [
    "MAX_IN_HAND",
    "Admission",
    "Agent",
    "AgentSetup",
    "Connections",
    "Entry",
    "Host",
    "HostActor",
    "InboxSetup",
    "NoOutcome",
    "Result",
    "Slot",
    "Slots",
    "TaskActor",
    "TaskBook",
    "TaskClient",
    "TaskFailed",
    "TaskRefused",
    "Tools",
    "answer_of",
]
