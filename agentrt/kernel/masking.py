"""Masked crashes: the exception that a cancellation took the place of.

A checkpoint in a ``finally``, an ``except`` or an ``__aexit__`` of a cancelled task raises ``Cancelled`` in the place
of the exception that was on its way out there, which is left as its ``__context__`` only. An exception that was being
*handled* when the cancellation came, as one is that is waited out before the next try, is left in the same way. What
tells them apart is what the code would have done: raise it on, or get over it. So the code is asked.
"""

from __future__ import annotations

import dis
import functools
from collections import Counter
from collections.abc import Iterator
from types import CodeType, FrameType

import trio

#: Exceptions looked at for one end; a chain of contexts can be long, and even a circle.
_LOOKED_AT = 100
#: Asked for often where many are stopped at once, all in the same place.
_CODE_KEPT = 256

_JUMPS = frozenset({*dis.hasjrel, *dis.hasjabs})
_RAISES = frozenset({"RERAISE", "RAISE_VARARGS"})
_ENDS = frozenset({"RETURN_VALUE", "RETURN_CONST", "RETURN_GENERATOR"})
_ALWAYS_JUMPS = frozenset({"JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "JUMP", "JUMP_NO_INTERRUPT"})


def masked_by(cancellation: BaseException) -> BaseException | None:
    """Find the exception that would have left the actor, had *cancellation* not taken its place; None where none would.

    Args:
        cancellation: A ``Cancelled``, or a group of them.
    """
    todo, seen = [cancellation], set[int]()
    while todo and len(seen) < _LOOKED_AT:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, BaseExceptionGroup):
            todo += [part for part in one.exceptions if _is_cancellation(part)]
        pending = Counter[FrameType]()
        for covered in _contexts(one):
            if (crash := _crash_in(covered)) is not None and _was_leaving(covered, one, pending):
                return crash
            if _is_cancellation(covered):
                # What it took the place of is looked for where it passed itself.
                todo.append(covered)
                break
    return None


def _contexts(error: BaseException) -> Iterator[BaseException]:
    context = error.__context__
    for _ in range(_LOOKED_AT):
        if context is None:
            return
        yield context
        context = context.__context__


def _is_cancellation(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(trio.Cancelled) is not None
    return isinstance(error, trio.Cancelled)


def _crash_in(error: BaseException) -> BaseException | None:
    """Leave out what is no crash: other cancellations, and that something was not ready."""
    if isinstance(error, BaseExceptionGroup):
        return error.split((trio.Cancelled, trio.WouldBlock))[1]
    return error if isinstance(error, Exception) and not isinstance(error, trio.WouldBlock) else None


def _was_leaving(covered: BaseException, cancellation: BaseException, pending: Counter[FrameType]) -> bool:
    """Say whether *covered* would have been raised on from where *cancellation* passed.

    Where that did not pass the frame that had caught it, it is none of this task: a scope is cancelled at once, so a
    ``Cancelled`` is made, and gets its context, where somebody else handles something.
    """
    if covered.__traceback__ is None:
        return False
    # The last frame that an exception reached is the one that caught it.
    frame = covered.__traceback__.tb_frame
    inner = pending[frame]
    pending[frame] += 1
    step = cancellation.__traceback__
    while step is not None:
        if step.tb_frame is frame:
            return _raises_on(frame.f_code, step.tb_lasti, inner)
        step = step.tb_next
    return False


@functools.lru_cache(maxsize=_CODE_KEPT)
def _raises_on(code: CodeType, offset: int, inner: int) -> bool:
    """Follow *code* from *offset*: whether it may raise before it is done with the exception that it handles there.

    Args:
        code: The code of the frame.
        offset: Where it stood.
        inner: How many exceptions it handles further in, inside the handling of this one.
    """
    instructions = {one.offset: one for one in dis.get_instructions(code)}
    following = dict(zip(instructions, list(instructions)[1:], strict=False))
    # Where it stood may be inside an instruction, among its caches.
    start = max((one for one in instructions if one <= offset), default=offset)
    todo, seen = [(start, 0)], set[tuple[int, int]]()
    while todo:
        place = at, done_with = todo.pop()
        if place in seen or at not in instructions:
            continue
        seen.add(place)
        one = instructions[at]
        if one.opname in _RAISES:
            return True
        if one.opname == "POP_EXCEPT":
            done_with += 1
        if one.opname in _ENDS or done_with > inner:
            continue
        if one.opcode in _JUMPS:
            todo.append((one.argval, done_with))
        if one.opname not in _ALWAYS_JUMPS and at in following:
            todo.append((following[at], done_with))
    return False
