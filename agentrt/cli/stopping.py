"""Ending a run: in order at the first signal, at once at the second, and never with processes left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import psutil
import trio

#: Seconds that a cancelled run has to unwind before the process is ended without it.
UNWIND_LIMIT = 1.0
#: A closed terminal (SIGHUP) is an end like any other: else it would leave the processes of tool servers behind.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Turns SIGINT, SIGTERM and SIGHUP into an ordered stop, and the second of them into the end.

    A thread takes the signals, where ``trio.open_signal_receiver`` would be shorter: that one speaks through the event
    loop, and the signal that has to work is the one that is sent because the event loop does not turn. Not even
    Python's own handlers do then: they run in the main thread when it runs Python again, and a signal that the kernel
    gives to another thread does not wake a main thread that sleeps. Only the wakeup descriptor is written to at once.

    Args:
        stop: Asks for an ordered stop, with the reason; called in the event loop.
        cancel: Cancels everything; called in the event loop.
    """

    def __init__(self, stop: Callable[[str], None], cancel: Callable[[], None]) -> None:
        self._stop = stop
        self._cancel = cancel
        self._received: list[int] = []
        self._done = threading.Event()

    @property
    def exit_code(self) -> int:
        """What the process has to exit with: 0, or 128 and the number of the signal that ended it at once."""
        return 128 + self._received[1] if len(self._received) > 1 else 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle signals inside the block, in a Trio task of the main thread."""
        token = trio.lowlevel.current_trio_token()
        # Under nohup a closed terminal is to be survived.
        ignored = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else set()
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        thread = threading.Thread(target=self._take_all, args=(reader, token), name="agentrt-signals", daemon=True)
        with reader:
            thread.start()
            # Without a handler of Python's a signal would do what it does by default.
            before = {number: signal.signal(number, _do_nothing) for number in _SIGNALS if number not in ignored}
            wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
            try:
                yield
            finally:
                self._done.set()
                signal.set_wakeup_fd(wakeup)
                for number, handler in before.items():
                    signal.signal(number, handler)
                # The end of its input ends the thread.
                writer.close()
                thread.join()

    def _take_all(self, reader: socket.socket, token: trio.lowlevel.TrioToken) -> None:
        while numbers := reader.recv(64):
            for number in numbers:
                if number in _SIGNALS:
                    self._take(number, token)

    def _take(self, number: int, token: trio.lowlevel.TrioToken) -> None:
        self._received.append(number)
        if len(self._received) == 1:
            _tell("stopping in order; once more to stop at once")
            self._soon(token, lambda: self._stop(f"received {signal.Signals(number).name}"))
        elif len(self._received) == 2:  # noqa: PLR2004 - the second signal.
            _tell("stopping at once")
            self._soon(token, self._cancel)
            threading.Thread(target=self._insist, name="agentrt-insist", daemon=True).start()

    def _soon(self, token: trio.lowlevel.TrioToken, function: Callable[[], None]) -> None:
        # Where the run is over already there is nothing left to stop.
        with contextlib.suppress(trio.RunFinishedError):
            token.run_sync_soon(function)

    def _insist(self) -> None:
        # Ordered stops are shielded from cancellation, and a blocked event loop knows none.
        if not self._done.wait(UNWIND_LIMIT):
            end_now(self.exit_code)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Leave it to the thread."""


def end_now(code: int) -> NoReturn:
    """End this process and all below it, without waiting for anything."""
    kill_descendants()
    os._exit(code)


def kill_descendants() -> None:
    """Kill every process that this one started, with the groups that they made."""
    own_group = os.getpgrp()
    for process in psutil.Process().children(recursive=True):
        # It may be gone meanwhile, and its number with it.
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            group = os.getpgid(process.pid)
            if group != own_group:
                os.killpg(group, signal.SIGKILL)
            process.kill()


def _tell(text: str) -> None:
    # Not by a logger or a stream: the main thread may stand still while it holds the lock of one.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), f"\nagentrt: {text}\n".encode())
