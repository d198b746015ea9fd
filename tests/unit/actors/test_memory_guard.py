"""The memory guard in virtual time, and what it reads from cgroup files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from actors._cgroup import CgroupMemory, read_cgroup, read_oom_kills
from actors.memory_guard import MemoryGuard, MemoryWatch, ProcessMemory, Readers
from agentrt.config.model import MemoryConfig
from agentrt.kernel import ChildSpec, Event, EventStream, SupervisorSpec, open_runtime

MB = 1_000_000


class Session:
    """A server as the guard sees it; a restart takes a while and gives it another pid."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pid: int | None = 100
        self.started_at: float | None = 0.0
        self.is_idle = True
        self.restarts: list[str] = []

    async def request_restart(self, reason: str) -> None:
        self.restarts.append(reason)
        await trio.sleep(20)
        assert self.pid is not None
        self.pid += 1
        self.started_at = trio.current_time()


class World:
    """A guard over one server, whose memory the test sets."""

    def __init__(self, *, recycle_idle: bool = False, **settings: object) -> None:
        self.session = Session("archive")
        self.watch = MemoryWatch(MemoryConfig(recycle_idle=recycle_idle), [self.session], **settings)
        self.rss: int | None = 50 * MB
        self.process = ProcessMemory(100 * MB, 100 * MB, 1000 * MB, "cgroup")
        self.reading_takes = 0.0
        self.error: Exception | None = None
        self.events: list[Event] = []
        self.read_at: list[float] = []

    async def _tree(self, pid: int) -> int | None:
        assert pid == self.session.pid
        self.read_at.append(trio.current_time())
        await trio.sleep(self.reading_takes)
        if self.error is not None:
            raise self.error
        return self.rss

    async def _share(self, pid: int) -> int | None:
        assert pid == self.session.pid
        return 20 * MB

    async def _process(self) -> ProcessMemory:
        return self.process

    @asynccontextmanager
    async def run(self) -> AsyncIterator[World]:
        stream = EventStream()
        stream.listen(self.events.append)
        readers = Readers(self._tree, self._process, self._share)
        child = ChildSpec(id="memory-guard", factory=lambda: MemoryGuard(self.watch, readers=readers))
        async with open_runtime(SupervisorSpec(id="agent", children=(child,)), seed=1, events=stream):
            await trio.sleep(0.1)
            yield self

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events if event.kind.startswith("memory")]


async def test_memory_is_read_every_thirty_seconds(autojump_clock):
    """The first time at once; the samples stay with the handle."""
    async with World().run() as world:
        await trio.sleep(100)
        assert world.read_at == [0.0, 30.0, 60.0, 90.0]
        assert world.watch.samples == {"archive": 50 * MB, "process": 100 * MB}
    assert world.kinds() == []


async def test_the_warning_comes_once_until_it_fell_below(autojump_clock):
    """100 MB is worth a warning; repeated only after it was below."""
    async with World().run() as world:
        for rss in (100, 120, 100, 99, 100):
            world.rss = rss * MB
            await trio.sleep(30)
    assert world.kinds() == ["memory_warning", "memory_warning"]
    assert world.events[-2].fields | {"rss": 0} == {
        "server": "archive",
        "pid": 100,
        "rss": 0,
        "pss": 20 * MB,
        "limit": 100 * MB,
    }


async def test_a_server_at_the_limit_is_restarted_once(autojump_clock):
    """140 MB asks for a restart, once per start, and the sampling goes on meanwhile."""
    async with World().run() as world:
        await trio.sleep(70)
        world.rss = 140 * MB
        await trio.sleep(21)
        assert world.session.restarts == ["holds 133 MiB, the limit is 133 MiB"]
        await trio.sleep(20)
        world.rss = 60 * MB
        await trio.sleep(100)
    assert world.kinds() == ["memory_limit_exceeded"]
    assert len(world.session.restarts) == 1


async def test_a_server_that_starts_large_is_reported_and_left(autojump_clock):
    """Restarting it would be a loop."""
    world = World()
    world.rss = 200 * MB
    async with world.run():
        await trio.sleep(300)
    assert world.kinds() == ["memory_limit_at_start"]
    assert world.session.restarts == []


async def test_a_server_that_grew_is_replaced_when_it_is_idle(autojump_clock):
    """Where that is wanted; not while it works, and once for each start."""
    async with World(recycle_idle=True).run() as world:
        await trio.sleep(70)
        world.rss, world.session.is_idle = 110 * MB, False
        await trio.sleep(60)
        assert [] == world.session.restarts
        world.session.is_idle = True
        await trio.sleep(45)
        assert ["holds 104 MiB, the warning is at 95 MiB, and is idle"] == world.session.restarts
        world.rss = 50 * MB
        await trio.sleep(100)
        assert ["memory_warning", "memory_recycled"] == world.kinds()


async def test_a_server_may_have_limits_of_its_own(autojump_clock):
    """By its name; a limit below the ordinary warning is its warning too."""
    async with World(limit={"archive": 60 * MB}).run() as world:
        await trio.sleep(70)
        world.rss = 60 * MB
        await trio.sleep(30)
        assert world.kinds() == ["memory_limit_exceeded"]


async def test_a_server_without_a_process_has_no_sample(autojump_clock):
    """While it is restarted, or when it is gone before it was read, there is nothing to judge."""
    async with World().run() as world:
        world.rss = None
        await trio.sleep(30)
        assert "archive" not in world.watch.samples
        world.session.pid = None
        await trio.sleep(30)
    assert len(world.read_at) == 2


@pytest.mark.parametrize("how", ["slow", "refused"])
async def test_a_reading_that_fails_is_an_event_and_no_crash(autojump_clock, how):
    """One reading has a second; the guard goes on with the next."""
    async with World().run() as world:
        if how == "slow":
            world.reading_takes = 1000.0
        else:
            world.error = PermissionError("not yours")
        await trio.sleep(61)
        assert set(world.kinds()) == {"memory_sample_failed"}
        world.reading_takes, world.error = 0.0, None
        await trio.sleep(35)
        assert world.watch.samples["archive"] == 50 * MB
        assert [event.kind for event in world.events if event.kind == "actor_crashed"] == []


async def test_a_process_near_its_limit_is_not_ready(autojump_clock):
    """Above 90 % of what there is, the check fails and says by how much; once it is over it says so."""
    async with World().run() as world:
        assert world.watch.check() == (True, "95 of 953 MiB of the cgroup (10%)")
        world.process = ProcessMemory(500 * MB, 910 * MB, 1000 * MB, "cgroup")
        await trio.sleep(30)
        assert world.watch.check() == (False, "867 of 953 MiB of the cgroup (91%)")
        world.process = ProcessMemory(500 * MB, 900 * MB, 1000 * MB, "cgroup")
        await trio.sleep(60)
        assert world.watch.check()[0]
    assert world.kinds() == ["memory_pressure", "memory_pressure_over"]


def test_before_the_first_sample_the_check_holds():
    """Nothing is known against it."""
    assert MemoryWatch(MemoryConfig(), []).check() == (True, "not sampled yet")


def group(path, **files):
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name.replace("_dot_", ".")).write_text(text)


def v2(path, limit, current, inactive=0):
    group(path, memory_dot_max=f"{limit}\n", memory_dot_current=f"{current}\n")
    group(path, memory_dot_stat=f"anon 1\ninactive_file {inactive}\n")


def test_the_tightest_of_all_groups_above_counts(tmp_path):
    """A limit on a slice kills what is in its services; page cache that can be dropped does not count."""
    v2(tmp_path / "a", 1000, 900, inactive=100)
    v2(tmp_path / "a" / "b", 5000, 700)
    v2(tmp_path / "a" / "b" / "c", "max", 600)
    (tmp_path / "self").write_text("0::/a/b/c\n")
    assert read_cgroup(tmp_path / "self", tmp_path) == CgroupMemory(used=800, limit=1000)


def test_a_container_that_sees_its_group_as_the_root_has_a_limit_too(tmp_path):
    """The membership names a path that is not mounted; the files at the root are what counts."""
    v2(tmp_path, 1000, 900)
    (tmp_path / "self").write_text("0::/docker/abc\n")
    assert read_cgroup(tmp_path / "self", tmp_path) == CgroupMemory(used=900, limit=1000)


def test_the_old_layout_is_read(tmp_path):
    """In v1 the memory controller has a tree of its own, and no limit is a huge number."""
    names = {"memory_dot_usage_in_bytes": "500", "memory_dot_stat": "total_inactive_file 50"}
    group(tmp_path / "memory", memory_dot_limit_in_bytes="9223372036854771712", **names)
    group(tmp_path / "memory" / "job", memory_dot_limit_in_bytes="1000", **names)
    (tmp_path / "self").write_text("12:cpu,cpuacct:/job\n5:memory:/job\n1:name=systemd:/x\n")
    assert read_cgroup(tmp_path / "self", tmp_path) == CgroupMemory(used=450, limit=1000)


@pytest.mark.parametrize(
    ("membership", "path", "name", "text", "expected"),
    [
        ("0::/a\n", "a", "memory.events", "low 0\noom 4\noom_kill 3\noom_group_kill 0\n", 3),
        ("0::/docker/abc\n", ".", "memory.events", "oom_kill 2\n", 2),
        ("5:memory:/job\n0::/\n", "memory/job", "memory.oom_control", "under_oom 0\noom_kill 1\n", 1),
        ("5:cpu:/job\n", "memory/job", "memory.oom_control", "oom_kill 1\n", None),
        ("0::/a\n", "a", "memory.events", "oom 4\n", None),
        ("0::/a\n", "a", "memory.events", "nonsense", None),
    ],
)
def test_kills_for_want_of_memory_are_counted(tmp_path, membership, path, name, text, expected):
    """In the layout of v2 and in that of v1; none is no count, which is not a count of none."""
    (tmp_path / "self").write_text(membership)
    (tmp_path / path).mkdir(parents=True, exist_ok=True)
    (tmp_path / path / name).write_text(text)
    assert expected == read_oom_kills(tmp_path / "self", tmp_path)


@pytest.mark.parametrize("membership", ["0::/\n", "", None])
def test_without_a_limit_there_is_none(tmp_path, membership):
    """No group, no file or no limit: the machine's memory counts instead."""
    if membership is not None:
        (tmp_path / "self").write_text(membership)
    v2(tmp_path, "max", 1)
    assert read_cgroup(tmp_path / "self", tmp_path) is None
