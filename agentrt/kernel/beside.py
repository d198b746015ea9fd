"""Tasks beside an actor: a nursery of its own, opened with the first task that it spawns.

Most actors spawn none, and a nursery costs as much as the rest of a small actor. It stands in a task of its own, so
that it can be opened at any time; the incarnation waits for that task before it ends, as it would for a nursery.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import trio


class Beside:
    """The tasks that one incarnation spawned.

    Args:
        on_failed: Called when one of them raised, after the others were cancelled.
        on_cut: Called with what leaves them, cancellations included, before the scope takes those.

    Attributes:
        error: What left them, as a nursery raises it; None while they live, and where nothing did.
        scope: Around all of them.
        task: The one that keeps the nursery.
    """

    def __init__(self, on_failed: Callable[[], None], on_cut: Callable[[BaseException], None]) -> None:
        self.error: BaseException | None = None
        self.scope = trio.CancelScope()
        self.task: trio.lowlevel.Task | None = None
        self._on_failed = on_failed
        self._on_cut = on_cut
        self._to_start: list[Callable[[trio.Nursery], None]] = []
        self._nursery: trio.Nursery | None = None
        self._is_over = trio.Event()

    def spawn(self, function: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
        """Start a task, in the context of whoever asks for it.

        Raises:
            RuntimeError: One of them failed, or they were ended; nothing more is started.
        """
        if self._is_over.is_set():
            raise RuntimeError("the actor ends, because a task of its own failed or it is done; it can spawn no more")
        context = contextvars.copy_context()

        def start(nursery: trio.Nursery) -> None:
            context.run(nursery.start_soon, function, *args)

        if self._nursery is None:
            self._to_start.append(start)
        else:
            start(self._nursery)

    async def live(self) -> None:
        """Keep the nursery open until it is cancelled, or one of its tasks fails; run beside the incarnation."""
        self.task = trio.lowlevel.current_task()
        try:
            with self.scope:
                try:
                    await self._keep_open()
                except BaseException as cut:
                    self._on_cut(cut)
                    raise
        except BaseException as error:  # noqa: BLE001, ASYNC103 - the incarnation sorts it, and raises what is not ours.
            self.error = error
        finally:
            self._nursery = None
            self._is_over.set()
        if self.error is not None:
            self._on_failed()

    async def _keep_open(self) -> None:
        async with trio.open_nursery() as nursery:
            for start in self._to_start:
                start(nursery)
            self._to_start.clear()
            self._nursery = nursery
            await trio.sleep_forever()

    async def end(self, reason: str) -> None:
        """Cancel them all and wait until they ended."""
        self.scope.cancel(reason=reason)
        with trio.CancelScope(shield=True):
            await self._is_over.wait()
