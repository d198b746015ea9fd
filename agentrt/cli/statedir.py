"""The state directory: who holds it, and where a running fleet can be reached."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from agentrt.cli.exits import ExitCode, Failure

LOCK = "lock"
RUN = "run.json"
EVENTS = "events.jsonl"
# Another command that only looks whether a fleet runs holds the lock for an instant.
_TRIES, _PAUSE = 10, 0.05


@attrs.frozen(kw_only=True)
class RunInfo:
    """What ``run.json`` says about a running fleet. It holds the bus's token: the file is for its owner only.

    Args:
        pid: The fleet's process.
        fleet: Its name.
        bus_url: Where its bus is.
        bus_token: What the bus asks for; None where the configuration says it, or nothing is asked for.
        health: Where the health server listens, as ``host:port``.
        control: The control socket's path.
        started_at: When it started, ISO in UTC.
        version: Of agentrt.
    """

    pid: int
    fleet: str
    bus_url: str
    bus_token: str | None = attrs.field(repr=False)
    health: str
    control: str
    started_at: str
    version: str


@attrs.frozen
class StateDir:
    """A state directory that this process holds; :func:`hold` makes one."""

    path: Path

    def write_run(self, info: RunInfo) -> None:
        """Write ``run.json``: whoever reads it sees all of it or none.

        Raises:
            Failure: It cannot be written.
        """
        draft = self.path / f"{RUN}.draft"
        try:
            # A draft that a killed run left behind has the right mode, and nobody else writes one.
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(attrs.asdict(info), file, indent=1)
                file.write("\n")
            draft.replace(self.path / RUN)
        except OSError as error:
            raise unusable(self.path, error) from error

    def remove_run(self) -> None:
        """Remove ``run.json``; nothing happens where there is none."""
        with contextlib.suppress(OSError):
            (self.path / RUN).unlink()


@contextmanager
def hold(path: Path) -> Iterator[StateDir]:
    """Hold the state directory for as long as a fleet runs; it is made where it is not there.

    Raises:
        Failure: Another run holds it, or it cannot be used.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Also where it was there before, made with another mode: it holds tokens and a socket that stops the fleet.
        path.chmod(0o700)
        descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise unusable(path, error) from error
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        if not _lock(descriptor):
            raise Failure(
                f"another run of a fleet holds {path}{_held_by(path)}; stop that one first "
                "(agentrt stop), or set another state_dir in [fleet]",
                ExitCode.TRY_LATER,
            )
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        except OSError as error:
            raise unusable(path, error) from error
        state = StateDir(path)
        # Left by a run that was killed; nobody must take it for this one's.
        state.remove_run()
        try:
            yield state
        finally:
            state.remove_run()


def find_run(path: Path) -> RunInfo | None:
    """Return what is known about the fleet that runs on a state directory; None where none does.

    A ``run.json`` that a killed run left behind does not count: nobody holds the lock.

    Raises:
        Failure: A fleet runs that cannot be reached yet or any more, or the directory cannot be read.
    """
    if not is_held(path):
        return None
    try:
        return RunInfo(**json.loads((path / RUN).read_text()))
    except FileNotFoundError:
        raise Failure(
            f"the fleet{_held_by(path)} is starting or stopping; try again in a moment", ExitCode.TRY_LATER
        ) from None
    except (ValueError, TypeError) as error:
        message = f"{path / RUN} is not what this version of agentrt writes ({error}); restart the fleet"
        raise Failure(message, ExitCode.SYSTEM) from error
    except OSError as error:
        raise unusable(path, error) from error


def is_held(path: Path) -> bool:
    """Say whether a fleet runs on a state directory.

    Raises:
        Failure: The directory cannot be read.
    """
    try:
        with (path / LOCK).open() as file:
            return not _try_lock(file.fileno(), fcntl.LOCK_SH)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: OSError) -> Failure:
    """Say that a state directory cannot be used."""
    where = error.filename or path
    reason = (error.strerror or str(error)).lower()
    return Failure(f"the state directory cannot be used: {where}: {reason}", ExitCode.SYSTEM)


def _lock(descriptor: int) -> bool:
    for _ in range(_TRIES):
        if _try_lock(descriptor, fcntl.LOCK_EX):
            return True
        time.sleep(_PAUSE)
    return False


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _held_by(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return f" (pid {int((path / LOCK).read_text())})"
    return ""
