"""Every exit code of the command line, in one table; where sysexits.h has a code for the case, it is that one."""

from __future__ import annotations

import enum
from typing import Self


class ExitCode(enum.IntEnum):
    """How a command ended, with what that means for whoever reads it in a script."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        """Make a member that carries its meaning."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "it worked; for run: the fleet was asked to stop, and stopped in order"
    USAGE = 2, "the command line is wrong"
    FAILED = 10, "send, outcome: the task failed"
    EXPIRED = 11, "send, outcome: the task's deadline passed before it was done"
    REFUSED = 12, "send, outcome: the task was refused"
    DEAD_LETTERED = 13, "send, outcome: the task is with the dead letters"
    NO_OUTCOME = 14, "send, outcome: there is no outcome yet"
    DIFFERS = 15, "check --bus: the bus has not what the configuration declares"
    BAD_DATA = 65, "the payload is not JSON, or cannot be read"
    NO_SUCH_AGENT = 67, "there is no agent of that name"
    UNAVAILABLE = 69, "no fleet runs, or its bus cannot be reached"
    BROKEN = 70, "the fleet failed, or could not stop in order"
    SYSTEM = 71, "the system said no: an address is taken, a folder or file cannot be used"
    EXISTS = 73, "init: the folder is not empty"
    TRY_LATER = 75, "another run holds the state directory, or the fleet is still starting or stopping"
    NO_ANSWER = 76, "the fleet runs and does not answer: something blocks its event loop"
    CONFIG = 78, "the configuration is wrong"
    HUNG_UP = 129, "ended at once by a second signal, the terminal's end"
    INTERRUPTED = 130, "ended at once by a second SIGINT"
    TERMINATED = 143, "ended at once by a second SIGTERM"


class Failure(Exception):
    """A command cannot do what it was asked to; its message is what a person reads, without a traceback.

    Attributes:
        code: What the process exits with.
    """

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.code = code


def table() -> str:
    """Write the exit codes for ``--help``, one a line."""
    return "\n".join(f"{code.value:>4}  {code.meaning}" for code in ExitCode)
