"""How a life ended: what came out of it, sorted, and the record that is made of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import trio

from agentrt.kernel.errors import Ignore
from agentrt.kernel.exits import Cause, Exit, ExitKind, leaves
from agentrt.kernel.masking import masked_by
from agentrt.kernel.tracebacks import message_of
from agentrt.policy.watchdog import LimitVerdict

if TYPE_CHECKING:
    from agentrt.kernel.incarnation import Incarnation

#: Never a crash of whoever raised it: it ends the whole run, in order.
ENDS_RUN = (KeyboardInterrupt, SystemExit)
#: Nobody's to catch.
BEYOND_US = (trio.Cancelled, trio.TrioInternalError, GeneratorExit)

_LIMIT_EXITS = {LimitVerdict.TIMED_OUT: ExitKind.TIMED_OUT, LimitVerdict.STUCK: ExitKind.STUCK}


class Remains(NamedTuple):
    """What came out of a life, without the cancellation that was its supervisor's own.

    Args:
        crash: What is a crash of the actor.
        ends_run: What ends the whole run; the first of it.
        beyond_us: What is raised on.
        from_outside: Whether there is a cancellation, or anything that ends the run.
    """

    crash: BaseException | None
    ends_run: BaseException | None = None
    beyond_us: BaseException | None = None
    from_outside: bool = False

    @classmethod
    def of(cls, error: BaseException | None) -> Remains:
        """Sort *error*."""
        if error is None or (isinstance(error, Exception) and not isinstance(error, ExceptionGroup)):
            # What nearly every life leaves: nothing, or one exception, which is neither of the others.
            return cls(error)
        return cls(
            without(error, trio.Cancelled, *ENDS_RUN),
            leaf(error, *ENDS_RUN),
            only(error, *BEYOND_US),
            only(error, trio.Cancelled, *ENDS_RUN) is not None,
        )


def exit_of(life: Incarnation, remains: Remains) -> Exit:
    """Make the exit record of a life that ended and left *remains*."""
    crash, ends_run = remains.crash, remains.ends_run
    if life.failure is not None:
        crash = joined("it was failed, and raised on the way", life.failure, crash)
    if isinstance(crash, Ignore) and life.started_at is None:
        return _ignored(life, crash)
    kind = kind_of(life, crashed=crash is not None, cut_from_outside=remains.from_outside)
    reason = life.reason if ends_run is None else f"{type(ends_run).__name__} ends the run"
    return exit_record(life, kind, reason, Cause.of(crash) if crash is not None else None, ends_run is not None)


def exit_record(
    life: Incarnation,
    kind: ExitKind,
    reason: str,
    cause: Cause | None = None,
    ends_run: bool = False,  # noqa: FBT001, FBT002 - the fields of the record, in their order.
) -> Exit:
    """Make the exit record of a life that ended, or was given up, as *kind*."""
    cell, started_at = life.cell, life.started_at
    uptime = cell.runtime.timers.now() - started_at if started_at is not None else 0.0
    masked = life.masked if cause is None else None
    started = started_at is not None
    return Exit(cell.path, life.generation, kind, reason, cause, uptime, started, life.result, ends_run, masked)


def suspect(life: Incarnation, error: BaseException | None) -> None:
    """Keep the crash that a cancellation took the place of, where all of *error* is one."""
    if error is not None and without(error, trio.Cancelled) is None and (masked := masked_by(error)) is not None:
        life.masked = Cause.of(masked)


def kind_of(life: Incarnation, *, crashed: bool, cut_from_outside: bool) -> ExitKind:
    """Name the end of a life that did end.

    Args:
        life: The incarnation.
        crashed: An exception left it.
        cut_from_outside: A cancellation left it that was not its supervisor's.
    """
    if life.verdict is not None:
        return _LIMIT_EXITS[life.verdict]
    if life.failure is not None:
        return ExitKind.CRASHED
    if crashed:
        return ExitKind.CRASHED_DURING_STOP if life.is_stopping or life.is_cancelled else ExitKind.CRASHED
    if cut_from_outside:
        return ExitKind.KILLED
    if life.was_cut:
        return ExitKind.STOPPED if life.is_stopping and life.started_at is None else ExitKind.KILLED
    return ExitKind.STOPPED if life.is_stopping else ExitKind.COMPLETED


def _ignored(life: Incarnation, ignore: Ignore) -> Exit:
    if life.is_stopping or life.is_cancelled:
        # It was not needed any more for another reason, which came first.
        return exit_record(life, ExitKind.STOPPED if life.is_stopping else ExitKind.KILLED, life.reason)
    return exit_record(life, ExitKind.IGNORED, message_of(ignore))


def legible(error: BaseException) -> BaseException:
    """Return *error*, or what is in it as a plain group, where its class cannot be split: ``derive`` is a user's."""
    if isinstance(error, BaseExceptionGroup):
        try:
            error.split(BEYOND_US)
        except Exception:  # noqa: BLE001 - see above.
            return BaseExceptionGroup(error.message, list(leaves(error))).with_traceback(error.__traceback__)
    return error


def without(error: BaseException | None, *kinds: type[BaseException]) -> BaseException | None:
    """Return *error* without what is of *kinds*, at any depth of groups."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(kinds)[1]
    return None if isinstance(error, kinds) else error


def only(error: BaseException | None, *kinds: type[BaseException]) -> BaseException | None:
    """Return what of *error* is of *kinds*, at any depth of groups."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(kinds)
    return error if isinstance(error, kinds) else None


def leaf(error: BaseException | None, *kinds: type[BaseException]) -> BaseException | None:
    """Find the first exception of *kinds* in groups of any depth."""
    found = only(error, *kinds)
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def joined(message: str, *errors: BaseException | None) -> BaseException | None:
    """Join what went wrong in several places, as a nursery would."""
    wrong = [error for error in errors if error is not None]
    return BaseExceptionGroup(message, wrong) if len(wrong) > 1 else next(iter(wrong), None)
