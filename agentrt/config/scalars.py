"""What single values of the configuration are, where a plain string or number would not say it."""

from __future__ import annotations

from typing import NewType

#: Seconds, written as ``"30s"``, ``"5m"``, ``"1h30m"`` or ``"250ms"``.
Duration = NewType("Duration", float)
#: Bytes, written as ``"64MiB"``, ``"100MB"`` or ``"4096"``.
Size = NewType("Size", int)
#: A secret by reference, ``"env:NAME"`` or ``"file:PATH"``; its value is read when it is used and never printed.
Secret = NewType("Secret", str)
#: ``[a-z][a-z0-9-]{0,62}``: a fleet, an agent, a role, a tool server or a policy.
Name = NewType("Name", str)
