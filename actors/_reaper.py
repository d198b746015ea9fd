"""The reaper: the small program that starts tool servers, outlives the fleet, and leaves no orphan of theirs.

Run by its path, ``python -I -S _reaper.py FD``, so it imports nothing but the standard library. *FD* is one end of a
socket pair; the other is held by :mod:`actors._reaped`, and its end is the end of the fleet, however that came.

It forks a *keeper* for each server. A keeper is the parent of its server and the subreaper of all that the server
starts, so whoever leaves the server's group, its session or its parent becomes the keeper's child, and is found. When
the server is gone, or the fleet is, the keeper ends whatever is left. Where a keeper itself is killed, the reaper is
the next subreaper above, and kills what falls to it.

Off Linux there is no subreaper: there the server's process group is all that is ended.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NoReturn, Self

_PR_SET_CHILD_SUBREAPER = 36
#: The length of what follows. With it travel the server's stdin, stdout and stderr, and its keeper's socket.
HEADER = struct.Struct("!I")
DESCRIPTORS = 4
#: Seconds for whoever is killed to be gone, before the fleet is told of the server's end all the same.
_SWEEP = 0.25
#: Seconds between two looks at what is left of it after that.
_AGAIN = 0.05
#: Where cgroup v2 is, alone or beside v1.
_CGROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")


def main(number: int) -> None:
    """Start keepers until the fleet is gone."""
    requests = socket.socket(fileno=number)
    _become_subreaper()
    children = _ChildSignal()
    keepers: set[int] = set()
    inherited = [number, *children.descriptors]
    spare = _Spare(inherited)
    watched: list[Any] = [requests, children]
    while True:
        ready, _, _ = select.select(watched, [], [])
        if children in ready:
            children.clear()
            keepers -= _reap().keys()
            for stray in _children(os.getpid()):
                if stray not in keepers and stray != spare.pid:
                    _kill(stray)
        if requests in ready:
            request = _receive(requests)
            if request is None:
                return
            while not spare.take(*request):
                spare = _Spare(inherited)
            keepers.add(spare.pid)
            spare = _Spare(inherited)


class _Spare:
    """A keeper that is prepared, and waits for a server: what takes long is done before anybody waits for it."""

    def __init__(self, inherited: list[int]) -> None:
        self._order, theirs = socket.socketpair()
        self.pid = os.fork()
        if not self.pid:
            _keep(theirs, [*inherited, self._order.detach()])
        theirs.close()

    def take(self, body: bytes, descriptors: list[int]) -> bool:
        """Hand it the server that it is to keep; False where it is gone."""
        try:
            socket.send_fds(self._order, [HEADER.pack(len(body))], descriptors)
            self._order.sendall(body)
        except OSError:
            return False
        finally:
            self._order.close()
        for descriptor in descriptors:
            os.close(descriptor)
        return True


def _receive(requests: socket.socket) -> tuple[bytes, list[int]] | None:
    header, descriptors, _, _ = socket.recv_fds(requests, HEADER.size, DESCRIPTORS)
    if len(header) < HEADER.size:
        return None
    (left,) = HEADER.unpack(header)
    chunks = []
    while left:
        chunks.append(requests.recv(left))
        if not chunks[-1]:
            return None
        left -= len(chunks[-1])
    return b"".join(chunks), descriptors


def _keep(orders: socket.socket, inherited: list[int]) -> NoReturn:
    """Be the keeper of one server, and end with it."""
    status = 1
    try:
        for descriptor in inherited:
            os.close(descriptor)
        os.setsid()
        _become_subreaper()
        children = _ChildSignal()
        with _Cgroup() as cgroup, orders:
            if (request := _receive(orders)) is not None:
                body, (*streams, control) = request
                Keeper(json.loads(body), socket.socket(fileno=control), cgroup, children).run(streams)
        status = 0
    finally:
        # Never back into the loop of whom it was forked from.
        os._exit(status)


class Keeper:
    """The parent of one server.

    Args:
        order: ``command``, ``env``, ``cwd``, and ``patience``: seconds that the server has to end by itself, and again
            after SIGTERM, where the fleet is gone.
        control: Tells the fleet in lines of JSON what became of it: ``pid`` or ``errno``, then ``returncode``. Each
            byte from the fleet is the number of a signal.
        cgroup: What the server is started in.
        children: Tells of its end.
    """

    def __init__(self, order: dict[str, Any], control: socket.socket, cgroup: _Cgroup, children: _ChildSignal) -> None:
        self._order = order
        self._control = control
        self._cgroup = cgroup
        self._children = children
        self._pid = 0
        self._returncode: int | None = None
        self._is_told = False

    def run(self, streams: list[int]) -> None:
        """Start the server, and stay until it and all that it left behind are gone."""
        if not self._start(streams):
            return
        self._cgroup.leave()
        fleet: list[Any] = [self._control]
        deadlines = _deadlines(self._order["patience"])
        deadline, step = None, 0
        while True:
            timeout = _AGAIN if self._returncode is not None else _until(deadline)
            ready, _, _ = select.select([*fleet, self._children], [], [], timeout)
            self._children.clear()
            if self._control in ready and not self._obey():
                fleet.clear()
                deadline, step = next(deadlines)
            elif deadline is not None and time.monotonic() >= deadline:
                self._signal(step)
                deadline, step = next(deadlines)
            self._look()
            if self._returncode is not None and self._swept():
                break

    def _start(self, streams: list[int]) -> bool:
        stdin, stdout, stderr = streams
        try:
            server = subprocess.Popen(
                self._order["command"],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=self._order["env"],
                cwd=self._order["cwd"],
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            self._tell(errno=getattr(error, "errno", None), strerror=getattr(error, "strerror", None) or str(error))
            return False
        finally:
            for stream in streams:
                os.close(stream)
        self._pid = server.pid
        # It is reaped here, with all others.
        server.returncode = 0
        self._tell(pid=self._pid)
        return True

    def _obey(self) -> bool:
        try:
            numbers = self._control.recv(64)
        except OSError:
            numbers = b""
        for number in numbers:
            self._signal(number)
        return bool(numbers)

    def _look(self) -> None:
        if self._returncode is None and (status := _reap().get(self._pid)) is not None:
            self._returncode = os.waitstatus_to_exitcode(status)

    def _swept(self) -> bool:
        """Kill what the server left, and say whether it is gone; the fleet is told once it is, or before long."""
        until = time.monotonic() + (0.0 if self._is_told else _SWEEP)
        while strays := self._kill_everybody():
            if time.monotonic() >= until:
                break
            time.sleep(0.001)
        if not self._is_told:
            self._is_told = True
            self._tell(returncode=self._returncode)
        return not strays

    def _kill_everybody(self) -> list[int]:
        self._cgroup.kill()
        strays = [*_descendants(os.getpid())]
        for stray in strays:
            _kill(stray)
        _reap()
        return [*_children(os.getpid())]

    def _signal(self, number: int) -> None:
        if self._returncode is not None:
            return
        # Its number is its own until it is reaped, which is done here alone.
        _kill(-self._pid, number)
        if number == signal.SIGKILL:
            self._cgroup.kill()
            for pid in _descendants(os.getpid()):
                _kill(pid)

    def _tell(self, **what: Any) -> None:
        try:
            self._control.sendall(json.dumps(what).encode() + b"\n")
        except OSError:
            # The fleet is gone: nobody wants to know.
            return


class _Cgroup:
    """A control group (v2) of the server's own, where there may be one: the kernel itself then ends all in it.

    Only below a group that is delegated to this program, as systemd marks it, or that is the top of a container.
    """

    def __init__(self) -> None:
        self._above = self._find()
        self._path = f"{self._above}/agentrt-{os.getpid()}"

    def __enter__(self) -> Self:
        """Make it and enter it, so that whoever is started is in it."""
        if self._above is not None:
            try:
                os.mkdir(self._path)  # noqa: PTH102 - pathlib would have to be imported, here and below.
                self._write(self._path, "cgroup.procs", "0")
            except OSError:
                # It may have no rights there: then it does without.
                self._above = None
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it, which works once everybody is gone."""
        self.leave()
        for _again in range(20):
            try:
                os.rmdir(self._path)  # noqa: PTH106
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.005)

    def leave(self) -> None:
        """Go back to where it came from, for it ends all who are in it."""
        try:
            self._write(self._above, "cgroup.procs", "0")
        except OSError:
            self._above = None

    def kill(self) -> None:
        """Kill all in it."""
        with suppress(OSError):
            self._write(self._path, "cgroup.kill", "1")

    def _write(self, group: str | None, name: str, text: str) -> None:
        if self._above is not None:
            with open(f"{group}/{name}", "w") as file:  # noqa: PTH123
                file.write(text)

    @staticmethod
    def _find() -> str | None:
        try:
            with open("/proc/self/cgroup") as file:  # noqa: PTH123
                mine = next((line[3:].strip() for line in file if line.startswith("0::")), None)
            top = next((top for top in _CGROUPS if os.path.exists(f"{top}/cgroup.controllers")), None)  # noqa: PTH110
            if mine is None or top is None:
                return None
            above = top + mine.rstrip("/")
            return above if mine == "/" or os.getxattr(above, "user.delegate") == b"1" else None
        except OSError:
            return None


class _ChildSignal:
    """SIGCHLD as something to select on; the other signals of a terminal or a stop are not for whoever sees it."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        # Handlers, because what is ignored would stay ignored in the server.
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda _number, _frame: None)

    def fileno(self) -> int:
        """Say what to select on."""
        return self._read

    @property
    def descriptors(self) -> tuple[int, int]:
        """What whoever is forked has no use for."""
        return self._read, self._write

    def clear(self) -> None:
        """Take note of it."""
        try:
            while os.read(self._read, 512):
                pass
        except BlockingIOError:
            return


def _deadlines(patience: float) -> Iterator[tuple[float | None, int]]:
    """When to send what to a server whose fleet is gone: its stdin is at its end already."""
    now = time.monotonic()
    yield now + patience, signal.SIGTERM
    yield now + 2 * patience, signal.SIGKILL
    while True:
        yield None, 0


def _until(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _become_subreaper() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap() -> dict[int, int]:
    """Take the end of all children that ended: their numbers, and how."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended[pid] = status


def _descendants(pid: int) -> Iterator[int]:
    for child in _children(pid):
        yield child
        yield from _descendants(child)


def _children(pid: int) -> Iterator[int]:
    """Give the children of a process, as the kernel lists them; none where it does not."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - as above.
    except OSError:
        return
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children") as file:  # noqa: PTH123 - as above.
                listed = file.read()
        except OSError:
            continue
        yield from map(int, listed.split())


def _kill(pid: int, number: int = signal.SIGKILL) -> None:
    send: Callable[[int, int], None] = os.kill if pid > 0 else os.killpg
    try:
        send(abs(pid), number)
    except (ProcessLookupError, PermissionError):
        # Gone already, or (on macOS) a zombie.
        return


if __name__ == "__main__":
    main(int(sys.argv[1]))
