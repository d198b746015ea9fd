"""The memory guard: replaces tool servers that grow too large, and says when the process itself is short of memory."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import attrs
import psutil
import trio

from actors import _reaper
from actors._cgroup import read_cgroup
from agentrt.kernel import Actor
from agentrt.policy import IdleRecycling, MemoryGuardPolicy, MemoryVerdict

if TYPE_CHECKING:
    from agentrt.config.model import MemoryConfig

T = TypeVar("T")

#: Seconds that one reading may take.
_READ_LIMIT = 1.0
#: Seconds after its start in which a child may still be its parent's copy: two on a busy machine, and one by which a
#: process may look older than it is, since the kernel tells the time of boot in whole seconds.
_FORKING = 3.0
_MIB = 1024 * 1024


class Guarded(Protocol):
    """What the guard needs of a session, such as :class:`actors.mcp_session.McpToolSession`."""

    @property
    def name(self) -> str:
        """The server's name."""
        ...

    @property
    def pid(self) -> int | None:
        """Its process, while there is one."""
        ...

    @property
    def started_at(self) -> float | None:
        """When that was started, in monotonic seconds."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether it has no call in hand."""
        ...

    async def request_restart(self, reason: str) -> None:
        """Let calls in hand finish, within a bound, and replace the server."""


@attrs.frozen
class ProcessMemory:
    """Memory of the fleet's own process.

    Args:
        rss: Its resident memory in bytes.
        used: Bytes that count towards *limit*.
        limit: Bytes that there are.
        source: Whose limit it is, ``cgroup`` or ``machine``.
    """

    rss: int
    used: int
    limit: int
    source: str


@attrs.frozen
class Readers:
    """Where the figures come from; each may be replaced in a test.

    Args:
        tree: Resident bytes of a process and all below it; None where it is gone.
        process: Memory of this process.
        share: As *tree*, but of what several processes share each has its part only; None where that is not told.
    """

    tree: Callable[[int], Awaitable[int | None]]
    process: Callable[[], Awaitable[ProcessMemory]]
    share: Callable[[int], Awaitable[int | None]]


def read_tree(pid: int) -> int | None:
    """Add up the resident memory of *pid* and all that it started; None where it is gone.

    Who left its parent, as a daemon does, is found at the server's keeper. What was forked a moment ago does not count:
    a server that starts a program would look twice its size.
    """
    try:
        top, *others = _tree_of(pid)
        total = top.memory_info().rss
    except psutil.NoSuchProcess:
        return None
    for process in others:
        try:
            total += 0 if _is_forking(process) else process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return int(total)


def read_share(pid: int) -> int | None:
    """Add up the proportional set sizes of *pid* and all that it started; None where the kernel does not tell.

    What a server and its workers share, the interpreter above all, counts once here, and once for each in the other.
    """
    try:
        tree = _tree_of(pid)
    except psutil.NoSuchProcess:
        return None
    shares = [_pss(process.pid) for process in tree]
    return None if shares[0] is None else sum(share or 0 for share in shares)


def _pss(pid: int) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)


def _tree_of(pid: int) -> list[psutil.Process]:
    top = psutil.Process(pid)
    return [top, *(one for one in _root_of(top).children(recursive=True) if one.pid != pid)]


def _root_of(server: psutil.Process) -> psutil.Process:
    """The keeper of a server, whose children are the server's own and those that nobody else has; else the server."""
    try:
        keeper = server.parent()
        return keeper if keeper is not None and _reaper.__file__ in keeper.cmdline() else server
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return server


def _is_forking(process: psutil.Process) -> bool:
    """Whether it has not begun its own program yet: until then it shows its parent's memory as its own.

    To be asked before its memory is read. A child that keeps to its parent's program, as a worker does, is forking only
    for as long as it is young.
    """
    if time.time() - process.create_time() >= _FORKING:
        return False
    parent = process.parent()
    return parent is not None and process.cmdline() == parent.cmdline()


def read_process() -> ProcessMemory:
    """Read this process's memory: against the limit of its cgroup, else against the machine's memory."""
    rss = int(psutil.Process(os.getpid()).memory_info().rss)
    cgroup = read_cgroup()
    if cgroup is not None:
        return ProcessMemory(rss, cgroup.used, cgroup.limit, "cgroup")
    return ProcessMemory(rss, rss, int(psutil.virtual_memory().total), "machine")


def _in_thread(function: Callable[..., T]) -> Callable[..., Awaitable[T]]:
    # /proc can block while the machine swaps; such a thread is left behind rather than waited for.
    return partial(trio.to_thread.run_sync, function, abandon_on_cancel=True)


class MemoryWatch:
    """What the guard found out: the handle that stays when the guard is restarted.

    Args:
        config: Limits and the interval.
        sessions: The servers to guard.
        warn: Bytes per server, where they differ from the configured ones; by the server's name.
        limit: The same for the second limit. A server with a limit below the configured warning is warned about there.
    """

    def __init__(
        self,
        config: MemoryConfig,
        sessions: Sequence[Guarded],
        *,
        warn: dict[str, int] | None = None,
        limit: dict[str, int] | None = None,
    ) -> None:
        self.config = config
        self.sessions = tuple(sessions)
        #: Bytes at the last sample, by server, and of the fleet's own as ``process``.
        self.samples: dict[str, int] = {}
        self.process: ProcessMemory | None = None
        self.policies = {
            session.name: _policy(config, (warn or {}).get(session.name), (limit or {}).get(session.name))
            for session in sessions
        }
        self.recycling = {
            name: IdleRecycling(policy.warn, config.settle)
            for name, policy in self.policies.items()
            if config.recycle_idle
        }

    def check(self) -> tuple[bool, str]:
        """Say whether the process is below its limit, and why; the check ``memory_below_limit``."""
        if self.process is None:
            return True, "not sampled yet"
        memory = self.process
        share = memory.used / memory.limit
        figures = f"{memory.used // _MIB} of {memory.limit // _MIB} MiB of the {memory.source} ({share:.0%})"
        return share <= self.config.process_limit, figures


class MemoryGuard(Actor):
    """Samples memory every interval and acts on what it finds.

    Args:
        watch: The handle.
        readers: Where the figures come from.
    """

    def __init__(self, watch: MemoryWatch, *, readers: Readers | None = None) -> None:
        self._watch = watch
        self._readers = readers or Readers(_in_thread(read_tree), _in_thread(read_process), _in_thread(read_share))

    @staticmethod
    def open_handle(
        config: MemoryConfig, sessions: Sequence[Guarded], *, warn: dict[str, int], limit: dict[str, int]
    ) -> MemoryWatch:
        """Make the watch over some servers and this process."""
        return MemoryWatch(config, sessions, warn=warn, limit=limit)

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            for session in self._watch.sessions:
                await self._sample_server(session)
            await self._sample_process()
            self.progress("sample")
            await trio.sleep(self._watch.config.interval)

    async def _sample_server(self, session: Guarded) -> None:
        pid, started_at = session.pid, session.started_at
        rss = None
        if pid is not None:
            rss = await self._read(session.name, partial(self._readers.tree, pid))
        if rss is None or started_at is None:
            self._watch.samples.pop(session.name, None)
            return
        self._watch.samples[session.name] = rss
        policy = self._watch.policies[session.name]
        now = trio.current_time()
        verdict = policy.sample(rss, started_at, now)
        recycling = self._watch.recycling.get(session.name)
        is_recycled = recycling is not None and recycling.sample(rss, started_at, now, idle=session.is_idle)
        if verdict is not MemoryVerdict.OK:
            await self._act(session, policy, verdict, pid, rss)
        if is_recycled and verdict is not MemoryVerdict.RESTART and session.pid == pid:
            self.emit("memory_recycled", server=session.name, pid=pid, rss=rss, limit=policy.warn)
            reason = f"holds {rss // _MIB} MiB, the warning is at {policy.warn // _MIB} MiB, and is idle"
            self.spawn(session.request_restart, reason)

    async def _act(
        self, session: Guarded, policy: MemoryGuardPolicy, verdict: MemoryVerdict, pid: int | None, rss: int
    ) -> None:
        # Costs five times as much as the other figure, so it is read where somebody will look at it.
        pss = await self._read(session.name, partial(self._readers.share, pid)) if pid is not None else None
        kind, limit = {
            MemoryVerdict.WARN: ("memory_warning", policy.warn),
            MemoryVerdict.RESTART: ("memory_limit_exceeded", policy.limit),
            MemoryVerdict.REPORT: ("memory_limit_at_start", policy.limit),
        }[verdict]
        self.emit(kind, server=session.name, pid=pid, rss=rss, pss=pss, limit=limit)
        if verdict is MemoryVerdict.RESTART and session.pid == pid:
            # Beside the sampling: calls in hand may take their time.
            self.spawn(session.request_restart, f"holds {rss // _MIB} MiB, the limit is {limit // _MIB} MiB")

    async def _sample_process(self) -> None:
        memory = await self._read("process", self._readers.process)
        if memory is None:
            return
        was_below, _ = self._watch.check()
        self._watch.process = memory
        self._watch.samples["process"] = memory.rss
        is_below, reason = self._watch.check()
        if was_below != is_below:
            kind = "memory_pressure_over" if is_below else "memory_pressure"
            self.emit(kind, rss=memory.rss, used=memory.used, limit=memory.limit, reason=reason)

    async def _read(self, what: str, reader: Callable[[], Awaitable[T]]) -> T | None:
        error = f"no answer within {_READ_LIMIT:g} s"
        with trio.move_on_after(_READ_LIMIT):
            try:
                return await reader()
            except (OSError, psutil.Error) as failure:
                error = str(failure)
        self.emit("memory_sample_failed", what=what, error=error)
        return None


def _policy(config: MemoryConfig, warn: int | None, limit: int | None) -> MemoryGuardPolicy:
    limit = config.server_limit if limit is None else limit
    warn = min(config.server_warn, limit) if warn is None else warn
    return MemoryGuardPolicy(warn, limit, config.settle)
