"""What the kernel allows this process's control group to hold, and what it holds: cgroup v2 and v1."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import attrs

#: In v1 "no limit" is a huge number that depends on the page size.
_NO_LIMIT = 1 << 60


@attrs.frozen
class CgroupMemory:
    """Memory of the tightest group that this process is in.

    Args:
        used: Bytes in use that the kernel cannot simply drop.
        limit: Bytes at which the OOM killer acts.
    """

    used: int
    limit: int


@attrs.frozen
class _Files:
    limit: str
    usage: str
    droppable: str


_V2 = _Files("memory.max", "memory.current", "inactive_file")
_V1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def read_cgroup(
    membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
) -> CgroupMemory | None:
    """Read the limit that comes first, of this process's group and all above it; None where there is no limit."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    found = [memory for line in lines for memory in _limits(line, root)]
    return max(found, key=lambda memory: memory.used / memory.limit, default=None)


def read_oom_kills(membership: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Read how many processes of this process's group the kernel killed for want of memory; None where it is not told.

    In v2 those of the groups below count, too.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    found = [count for line in lines for count in _oom_kills(line, root)]
    return sum(found) if found else None


class OomKills:
    """Says whether the kernel killed somebody of this process's group for want of memory since the last look.

    Looked at when a server starts and when one ends; where somebody else of the group was killed in between, who was
    killed by a person then passes for a victim of that.
    """

    def __init__(self) -> None:
        self._count = 0

    def look(self) -> bool:
        """Look, and say whether there were more."""
        before, self._count = self._count, read_oom_kills() or 0
        return self._count > before


def _oom_kills(line: str, root: Path) -> Iterator[int]:
    _, controllers, path = line.split(":", 2)
    if controllers and "memory" not in controllers.split(","):
        return
    top, name = (root / "memory", "memory.oom_control") if controllers else (root, "memory.events")
    # As below: what the membership says need not be what is seen here.
    for group in (top / path.lstrip("/"), top):
        try:
            told = dict(entry.split(" ", 1) for entry in (group / name).read_text().splitlines())
            yield int(told["oom_kill"])
        except (OSError, ValueError, KeyError):
            continue
        else:
            return


def _limits(line: str, root: Path) -> Iterator[CgroupMemory]:
    _, controllers, path = line.split(":", 2)
    if controllers == "":
        top, files = root, _V2
    elif "memory" in controllers.split(","):
        top, files = root / "memory", _V1
    else:
        return
    # A container may see its own group as the root, whatever the membership says; so whatever exists counts.
    group = top / path.lstrip("/")
    while True:
        if (memory := _read(group, files)) is not None:
            yield memory
        if group == top:
            return
        group = group.parent


def _read(group: Path, files: _Files) -> CgroupMemory | None:
    try:
        limit = int((group / files.limit).read_text())
        usage = int((group / files.usage).read_text())
        stat = dict(line.split(" ", 1) for line in (group / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    if limit >= _NO_LIMIT or limit <= 0:
        return None
    return CgroupMemory(max(usage - int(stat.get(files.droppable, 0)), 0), limit)
