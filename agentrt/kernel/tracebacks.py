"""Tracebacks as they are kept: where an exception came from, without the frames, which keep alive all that they knew.

To take one costs little more than the walk along the frames; what is costly, the source lines and the columns, is
looked up when somebody reads it.
"""

from __future__ import annotations

import itertools
import textwrap
import traceback
from collections.abc import Iterator
from types import CodeType, TracebackType

#: Frames kept of a traceback, the innermost ones.
FRAMES_KEPT = 20
#: Exceptions kept of a chain of causes, and of a group.
CHAIN_KEPT = 5
PARTS_KEPT = 5
#: Notes kept of an exception.
NOTES_KEPT = 5
#: Characters kept of what an exception says, and of each of its notes.
MESSAGE_KEPT = 2000

_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"


class Trace:
    """One exception of a chain: its frames as code and position, and what led to it.

    Args:
        error: The exception; it is not kept.
        depth: How many more of the chain are taken.
        seen: Those that were taken already, since a chain may be a ring.
    """

    __slots__ = ("_cause", "_frames", "_is_direct", "_left_out", "_message", "_module", "_name", "_notes", "_parts")

    def __init__(self, error: BaseException, depth: int = CHAIN_KEPT, seen: tuple[BaseException, ...] = ()) -> None:
        kind, direct = type(error), error.__cause__
        self._module, self._name = kind.__module__, kind.__qualname__
        self._message = message_of(error)
        self._notes = _notes_of(error)
        self._frames, self._left_out = _walk(error.__traceback__)
        earlier = direct or (None if error.__suppress_context__ else error.__context__)
        self._is_direct = direct is not None
        self._cause: Trace | None = None
        if earlier is not None and depth > 1 and not any(earlier is one for one in (*seen, error)):
            self._cause = Trace(earlier, depth - 1, (*seen, error))
        self._parts: tuple[Trace, ...] = ()
        if isinstance(error, BaseExceptionGroup) and depth > 1:
            self._parts = tuple(Trace(part, depth - 1, (*seen, error)) for part in error.exceptions[:PARTS_KEPT])

    @property
    def message(self) -> str:
        """What the exception said, within bounds."""
        return self._message

    @property
    def title(self) -> str:
        """Its class, what it said and its notes, as below a traceback."""
        kind = self._name if self._module in {"builtins", "__main__"} else f"{self._module}.{self._name}"
        first = f"{kind}: {self._message}" if self._message else kind
        return "\n".join([first, *self._notes, ""])

    def format(self) -> str:
        """Write it as Python does, earliest exception first."""
        before = self._cause.format() + (_CAUSE if self._is_direct else _CONTEXT) if self._cause is not None else ""
        return before + self._stack() + self.title + "".join(self._format_parts())

    def earlier(self) -> Iterator[str]:
        """Name what led to it, the nearest first, each in a line."""
        if self._cause is not None:
            yield self._cause.title.partition("\n")[0]
            yield from self._cause.earlier()

    def _stack(self) -> str:
        if not self._frames:
            return ""
        left_out = f"  ... {self._left_out} outer frames\n" if self._left_out else ""
        lines = traceback.StackSummary.from_list(_summary(*frame) for frame in self._frames).format()
        return "".join(["Traceback (most recent call last):\n", left_out, *lines])

    def _format_parts(self) -> list[str]:
        return [
            f"  + {number}:\n{textwrap.indent(part.format(), '    ')}" for number, part in enumerate(self._parts, 1)
        ]


def message_of(error: BaseException) -> str:
    """Say what *error* says, within bounds; a user's ``__str__`` may do anything."""
    try:
        return cut(str(error), MESSAGE_KEPT)
    except Exception as broken:  # noqa: BLE001 - see above.
        return f"<its __str__ raised {type(broken).__name__}>"


def _notes_of(error: BaseException) -> tuple[str, ...]:
    notes = getattr(error, "__notes__", None)
    # Anybody may put anything there.
    if not isinstance(notes, list):
        return ()
    return tuple(cut(note, MESSAGE_KEPT) for note in notes[:NOTES_KEPT] if isinstance(note, str))


def cut(text: str, length: int) -> str:
    """Cut *text* to *length* characters, and say how many more there were."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text) - length} characters more)"


def _walk(found: TracebackType | None) -> tuple[list[tuple[CodeType, int]], int]:
    frames = []
    while found is not None:
        # Not the line: to find that costs more than all the rest, so it is done when somebody reads it.
        frames.append((found.tb_frame.f_code, found.tb_lasti))
        found = found.tb_next
    left_out = len(frames) - FRAMES_KEPT
    return (frames[left_out:], left_out) if left_out > 0 else (frames, 0)


def _summary(code: CodeType, lasti: int) -> traceback.FrameSummary:
    nowhere = (None, None, None, None)
    line, end, column, end_column = next(itertools.islice(code.co_positions(), lasti // 2, None), nowhere)
    return traceback.FrameSummary(
        code.co_filename,
        line,
        code.co_name,
        lookup_line=False,
        end_lineno=end,
        colno=column,
        end_colno=end_column,
    )
