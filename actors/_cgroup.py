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
