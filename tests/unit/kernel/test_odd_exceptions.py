"""Exceptions that do not let themselves be looked into: a crash like any other, and never a run that hangs."""

from __future__ import annotations

import pytest
import trio
from kernel_kit import Boom, hello, open_runtime, probe, tree

from agentrt.kernel import Actor, ChildSpec, ExitKind, Ignore
from agentrt.kernel.tracebacks import MESSAGE_KEPT


class Unsplittable(ExceptionGroup):
    """Has a constructor of its own, which ``derive`` calls as another."""

    def derive(self, errors):
        return Unsplittable(self.message, 1, errors)


class NoGroup(ExceptionGroup):
    """Makes something else of its parts."""

    def derive(self, errors):
        return ValueError(errors)


class Unnoted(Exception):
    """Says nothing of its notes."""

    @property
    def __notes__(self):
        raise ValueError("no notes")


def raises(error: BaseException):
    """Make a message: raise *error*."""

    async def message(_: Actor) -> None:
        raise error

    return message


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (Unsplittable("both", [Boom("one"), Boom("two")]), "Boom: one; Boom: two"),
        (ExceptionGroup("all", [NoGroup("both", [Boom("one"), Boom("two")]), Boom("three")]), "Boom: two; Boom: three"),
        (Unnoted("odd"), "Unnoted: <to look into it raised ValueError>"),
    ],
    ids=["it cannot be split", "it becomes something else", "it has no notes"],
)
async def test_an_exception_that_cannot_be_looked_into_is_a_crash(autojump_clock, error, says) -> None:
    """Of the actor that raised it; its sibling is not touched."""
    async with open_runtime(tree(probe("before"), probe("a"))) as runtime:
        ref = runtime.ref("top/a")
        await ref.cast(raises(error))
        assert [await runtime.ref(f"top/{name}").call(hello) for name in ("before", "a")] == ["before 1", "a 2"]
        assert ref._cell.last_exit.kind is ExitKind.CRASHED
        assert says in ref._cell.last_exit.summary()


async def test_what_an_actor_that_is_not_needed_says_is_bounded_and_may_be_nothing(autojump_clock) -> None:
    class Speechless(Ignore):
        def __str__(self) -> str:
            return self.args[1]

    class Needless(Actor):
        def __init__(self, error: Ignore) -> None:
            self.error = error

        async def on_start(self) -> None:
            raise self.error

    errors = {"a": Ignore("x" * 10 * MESSAGE_KEPT), "b": Speechless()}
    specs = [ChildSpec(id=name, factory=lambda error=error: Needless(error)) for name, error in errors.items()]
    async with open_runtime(tree(*specs)) as runtime:
        exits = [runtime.ref(f"top/{name}")._cell.last_exit for name in errors]
    assert [exit_.kind for exit_ in exits] == [ExitKind.IGNORED] * 2
    assert len(exits[0].reason) < MESSAGE_KEPT + 100
    assert exits[1].reason == "<its __str__ raised IndexError>"


async def test_a_life_whose_end_cannot_be_told_ends_the_run(autojump_clock) -> None:
    """With what was in the way. It is given up, or its supervisor would wait for ever to hear of it."""

    class Leaves(Exception):
        def __str__(self) -> str:
            raise SystemExit(3)

    with pytest.RaisesGroup(SystemExit, allow_unwrapped=True, flatten_subgroups=True), trio.fail_after(1000):
        async with open_runtime(tree(probe("before"), probe("a"))) as runtime:
            await runtime.ref("top/a").cast(raises(Leaves()))
            await trio.sleep_forever()
