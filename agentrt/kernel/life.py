"""One life of an actor, in its own task: it is made, handles messages or runs, and its end is sorted and reported.

A life owns a cancel scope, and a nursery where it spawned anything; nothing leaves it but the ambient cancellation.
What must end the whole run (KeyboardInterrupt, SystemExit) is handed to the runtime.
"""

from __future__ import annotations

import contextvars
import itertools

import trio

from agentrt.kernel._trio_internals import close_nurseries, is_innermost
from agentrt.kernel.actor import Actor, ActorContext
from agentrt.kernel.beside import Beside
from agentrt.kernel.endings import Remains, exit_of, joined, legible, only, suspect, without
from agentrt.kernel.incarnation import Incarnation
from agentrt.kernel.leash import Leash, start_in_time

#: Restarts in one task without a checkpoint between.
RESTARTS_AT_ONCE = 8


async def live(first: Incarnation) -> None:
    """Be the actor to its end and report how it ended; then be those that follow it at once, one after the other.

    A task costs as much as the rest of a restart. What a life left in the task's context would be seen by the next, so
    one that left anything has no successor here.

    KeyboardInterrupt and SystemExit are handed to the runtime, which ends the run in order.

    Raises:
        trio.Cancelled: The ambient cancellation, after the exit was reported.
    """
    following: Incarnation | None = first
    del first
    while following is not None:
        following = await _live_in_scopes(following)


async def _live_in_scopes(life: Incarnation) -> Incarnation | None:
    """Be *life*, and who follows it, as long as nothing but a fresh scope is to come between; return who comes then."""
    context = trio.lowlevel.current_task().context.copy()
    error: BaseException | None = None
    try:
        _begin(life)
        if _may_rest(life):
            # Without a scope, which costs as much as the rest of a small actor, and most of them wait most of the time.
            await life.serving.wait()
    except BaseException as raised:  # noqa: BLE001, ASYNC103 - sorted below; what is not ours is raised.
        error = legible(raised)
    goes_on = error is None
    while goes_on:
        # It goes on for long, and is not to keep what the handler knew that was cancelled.
        error = None
        left: Incarnation | None = life
        try:
            with trio.CancelScope() as scope:
                left, error = await _live_in(scope, life, context)
        except RuntimeError as misnested:
            # It left a scope of its own open, as an async generator does that was not closed.
            error = joined("it left a cancel scope open, and raised before", misnested, error)
        if left is None:
            return None
        life = left
        # A handler that was cancelled took the scope with it, and nothing else.
        goes_on = life.serving.take_cancelled() and without(error, trio.Cancelled) is None
        if error is None and life.stops_although_cancelled:
            life.is_cancelled, goes_on = False, True
    try:
        if life.beside is not None:
            await _end_beside(life, life.beside, error)
        return _end(life, error, context)
    finally:
        # An exception knows this frame; together they would keep alive all that the actor knew.
        del error
        life.crash = None


async def _live_in(
    scope: trio.CancelScope, life: Incarnation, context: contextvars.Context
) -> tuple[Incarnation | None, BaseException | None]:
    """Be *life*, and those that follow it at once, while *scope* stays as good as new: it costs a tenth of a restart.

    Returns:
        Who did not leave it so, with what that one raised, and is not ended yet; None where all of them are.
    """
    task = trio.lowlevel.current_task()
    for number in itertools.count(1):
        life.scope = scope
        error: BaseException | None = None
        try:
            await _live_once(life, scope)
        except BaseException as raised:  # noqa: BLE001, ASYNC103 - sorted by the caller, or below; what is not ours is raised.
            error = legible(raised)
        if task.child_nurseries:
            error = await _close_nurseries(life, error)
        try:
            if scope.cancel_called or life.beside is not None or not is_innermost(scope, task):
                return life, error
            following = _end(life, error, context)
        finally:
            del error
        if following is None:
            return None, None
        life = following
        task.name = life.name
        if number % RESTARTS_AT_ONCE == 0:
            # Whatever crashes as soon as it starts leaves the others their turn.
            await trio.lowlevel.cancel_shielded_checkpoint()
    raise AssertionError


async def _close_nurseries(life: Incarnation, error: BaseException | None) -> BaseException | None:
    """End the nurseries that *life* opened and did not close, such as a client's; who crashes has no time to."""
    assert life.task is not None
    life.hold_to_its_end()
    left = await close_nurseries(life.task)
    if error is None:
        error = RuntimeError("it ended with a nursery open that it opened; close in on_stop what on_start opens")
    return joined("it failed, and so did a nursery that it left open", error, left)


async def _live_once(life: Incarnation, scope: trio.CancelScope) -> None:
    if life.actor is None:
        _begin(life)
    if life.started_at is None or life.is_cancelled or life.has_failed_beside:
        await _begin_in_scope(life)
        if life.stops_although_cancelled:
            return
    actor = life.actor
    assert actor is not None
    if type(actor).run is not Actor.run or not is_innermost(scope, trio.lowlevel.current_task()):
        # What its start hook left open lies inside this scope, and is not to be cancelled with a handler.
        await _run(life, actor)
    elif not life.is_stopping:
        # A stop ends the reading of the mailbox by itself.
        with life.serving.reading(scope):
            await life.serving.serve(actor)
    if not life.serving.was_cancelled:
        await _end_in_order(life, actor)


def _begin(life: Incarnation) -> None:
    """Make the actor, which counts as started where it has no start hook; nothing where it is not to begin at all."""
    life.task = trio.lowlevel.current_task()
    if life.is_cancelled:
        return
    made = life.cell.runtime.factory_of(life.child.spec)()
    if not isinstance(made, Actor):
        raise TypeError(f"the factory of {life.cell.path} made {made!r}, which is no Actor")
    if isinstance(getattr(made, "context", None), ActorContext):
        raise TypeError(f"the factory of {life.cell.path} gave {made!r}, which lives or lived already; make a new one")
    life.actor = actor = made
    actor.context = ActorContext(life.cell, life)
    if type(actor).on_start is Actor.on_start:
        _has_started(life)


def _may_rest(life: Incarnation) -> bool:
    """Whether all that there is to do is to wait for the first message."""
    if life.started_at is None or life.is_stopping or life.is_cancelled or life.cell.mailbox.has_news:
        return False
    assert life.actor is not None
    return type(life.actor).run is Actor.run


def _has_started(life: Incarnation) -> None:
    life.started_at = life.last_progress = life.cell.runtime.timers.now()
    if (limits := life.child.spec.limits).is_set:
        life.leash = Leash(life, limits)
    if life.exit is None:
        life.owner.has_started(life)


async def _begin_in_scope(life: Incarnation) -> None:
    """Start the actor by its hook; one that was cancelled, or is to be, does not get any further."""
    if life.is_cancelled:
        life.cancel(life.reason)
        await trio.lowlevel.checkpoint()
    if life.has_failed_beside:
        life.cancel_for_failure_beside()
        await trio.lowlevel.checkpoint()
    assert life.actor is not None
    await start_in_time(life, life.actor, life.child.spec.start_timeout)
    _has_started(life)


async def _end_beside(life: Incarnation, beside: Beside, error: BaseException | None) -> None:
    """End what it spawned, and wait for that."""
    if error is not None and not life.is_stopping:
        # Nobody else bounds what it leaves behind; a stop has its grace.
        life.crash = without(error, trio.Cancelled)
        life.hold_to_its_end()
    # The caller lets go of it.
    del error
    await beside.end(life.reason_text("it ended"))


async def _run(life: Incarnation, actor: Actor) -> None:
    if actor.stops_itself:
        life.result = await actor.run()
        return
    with trio.CancelScope() as life.run_scope:
        if life.is_stopping:
            life.cancel_run(life.reason)
        try:
            life.result = await actor.run()
        except BaseException as error:
            suspect(life, error)
            raise


async def _end_in_order(life: Incarnation, actor: Actor) -> None:
    if not life.is_stopping:
        timers, grace = life.cell.runtime.timers, life.child.spec.own_grace
        life.end_timer = timers.at(timers.now() + grace, life.kill, f"its stop took longer than {grace:g} s")
    await actor.on_stop()


def _end(life: Incarnation, error: BaseException | None, context: contextvars.Context) -> Incarnation | None:
    """Sort what came of it, record it and tell whoever has to know; return who follows in this task, if one does.

    Raises:
        BaseException: What is beyond us.
    """
    beside = life.beside.error if life.beside is not None else None
    if life.is_cancelled or beside is not None:
        # It was cancelled by its supervisor, or because one of its own tasks failed.
        left = without(error, trio.Cancelled)
        life.was_cut = life.is_cancelled and error is not None and left is None
        suspect(life, error)
        error = left
    if beside is not None:
        error = joined("the actor and a task of its own failed", error, beside)
    remains = Remains.of(error)
    if remains.beyond_us is not None and not _is_run_over(life):
        # A cancellation of a scope that it left open, or one that it kept and raised again, is its own affair.
        remains = remains._replace(beyond_us=only(remains.beyond_us, trio.TrioInternalError))
        life.reason = life.reason or "it raised a cancellation that was not meant for it"
    # Before it is over: what cannot even be said of it is given up, as is all that does not end.
    exit_ = exit_of(life, remains) if life.zombie is None else life.zombie
    life.is_over = True
    life.scope = None
    for pending in (life.leash, life.end_timer, life.last_resort):
        if pending is not None:
            pending.cancel()
    life.leash = None
    if life.zombie is not None:
        life.cell.runtime.zombie_ended(life, life.zombie)
    else:
        life.serving.lose_in_hand(exit_)
        life.leaves_task = remains.ends_run is None and remains.beyond_us is None and _left_alone(life, context)
        life.tell(exit_)
        life.leaves_task = False
    # They know each other: what the actor knew goes now, and not when the collector comes by.
    life.kind, life.actor = type(life.actor).__name__ if life.actor is not None else "", None
    if remains.ends_run is not None:
        life.cell.runtime.end_run(remains.ends_run)
    if remains.beyond_us is not None:
        raise remains.beyond_us
    return life.successor


def _is_run_over(life: Incarnation) -> bool:
    """Whether all that runs is cancelled, or thrown away from outside, so that what leaves this task is not its own."""
    try:
        is_running = trio.lowlevel.current_task() is life.task
    except RuntimeError:
        is_running = False
    return not is_running or life.cell.runtime.nursery.cancel_scope.cancel_called


def _left_alone(life: Incarnation, context: contextvars.Context) -> bool:
    """Whether the task's context is as it was when this life began."""
    assert life.task is not None
    try:
        return life.task.context == context
    except Exception:  # noqa: BLE001 - a context variable's value may compare as it likes.
        return False
