"""Says whether an exception may be raised between two bytecodes of what runs now, as a signal's handler does it.

That is safe in an actor's own code, with what it calls, and nowhere else. Where a call has just entered a cancel scope
or a nursery, an exception would leave it open, and Trio's books would be wrong from there on. CPython's own ``with``
leaves no such gap, but code that stands between it and what it enters does.
"""

from __future__ import annotations

import dis
import inspect
import sys
from types import FrameType

from agentrt.kernel._trio_internals import is_run_loop

#: The versions of Python whose bytecodes this was tried with.
TRIED = frozenset({(3, 11), (3, 12), (3, 13)})

#: Written for interruptions by nobody: they may hold a lock that all threads share, or be called where what is raised
#: is lost.
_NEVER = frozenset(
    (
        *("trio", "trio_asyncio", "asyncio", "logging", "weakref", "_weakrefset"),
        *("importlib", "_frozen_importlib", "_frozen_importlib_external"),
    )
)
#: Ours may stand between the run loop and the actor's code as what awaits it, and nowhere else.
_OURS = frozenset({"agentrt", "actors"})
#: What these have entered is left again only by whoever called them, once they returned.
_BETWEEN = frozenset({"__enter__", "__exit__", "__aenter__", "__aexit__", "__del__"})

_CACHE, _GET_AWAITABLE = bytes([dis.opmap["CACHE"]]), bytes([dis.opmap["GET_AWAITABLE"]])


def why_never() -> str:
    """Say why no place in this Python is known to be safe; "" where there are such."""
    version = sys.version_info[:2]
    return "" if version in TRIED else f"not tried with Python {version[0]}.{version[1]}"


def why_not_in(frame: FrameType | None) -> str:
    """Say why nothing must be raised in *frame*; "" where it may.

    Args:
        frame: What runs now, as a signal's handler gets it. All from there out to Trio's run loop is looked at.
    """
    innermost = frame
    while frame is not None:
        if is_run_loop(frame):
            return ""
        module = str(frame.f_globals.get("__name__", ""))
        if reason := _why_not_through(frame, module, is_innermost=frame is innermost):
            return f"{reason} {module}"
        frame = frame.f_back
    return "it is not called by Trio"


def _why_not_through(frame: FrameType, module: str, *, is_innermost: bool) -> str:
    package, code = module.partition(".")[0], frame.f_code
    if package in _NEVER or module == "agentrt.kernel.supervisor":
        return "it is in"
    if package in _OURS and (is_innermost or not code.co_flags & inspect.CO_COROUTINE):
        return "it is in"
    if code.co_name in _BETWEEN or (module == "contextlib" and code.co_name != "inner"):
        # The one that is left out is what makes a decorator of a context.
        return "it enters or leaves a context in"
    if is_innermost and _has_made_an_awaitable(frame):
        return "it is about to wait in"
    return ""


def _has_made_an_awaitable(frame: FrameType) -> bool:
    """Whether *frame* called what it has not begun to await: at the end of an ``async with``, what would leave it."""
    code, at = frame.f_code.co_code, frame.f_lasti + 2
    while code[at : at + 1] == _CACHE:
        at += 2
    return code[at : at + 1] == _GET_AWAITABLE
