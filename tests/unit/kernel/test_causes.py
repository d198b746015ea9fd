"""What is kept of an exception: bounded text, and nothing that keeps anything else alive."""

from __future__ import annotations

import gc
import weakref

import attrs
import pytest
import trio
from kernel_kit import AT_ONCE, Boom, open_runtime, quiet, tree

from agentrt.kernel import (
    Actor,
    Budget,
    Cause,
    ChildSpec,
    Exit,
    ExitKind,
    Ignore,
    KernelError,
    Restart,
    RestartChild,
    StartChild,
    SupervisorSpec,
    TerminateChild,
    WhenExhausted,
)
from agentrt.kernel.exits import MESSAGE_SHOWN
from agentrt.kernel.tracebacks import CHAIN_KEPT, MESSAGE_KEPT, NOTES_KEPT
from agentrt.policy.watchdog import Limits


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - it is what the test is about.
        return caught


def test_a_cause_keeps_type_message_and_where_it_was_raised() -> None:
    cause = Cause.of(raised(ValueError("no")))
    assert (cause.type, cause.message, str(cause)) == ("ValueError", "no", "ValueError: no")
    assert cause.traceback.splitlines()[0] == "Traceback (most recent call last):"
    assert "raise error" in cause.traceback
    assert cause.traceback.splitlines()[-1] == "ValueError: no"


def test_a_line_is_a_line() -> None:
    """However many lines the message has, and however long it is; the record keeps more than a line shows."""
    cause = Cause.of(ValueError("1 validation error\n  model\n\n" + "x" * 5000))
    assert str(cause).startswith("ValueError: 1 validation error model xxx")
    assert "\n" not in str(cause)
    assert len(str(cause)) < MESSAGE_SHOWN + 60
    assert MESSAGE_KEPT < len(cause.message) < MESSAGE_KEPT + 60
    assert cause.message.endswith("characters more)")
    assert len(cause.traceback) < MESSAGE_KEPT + 100


def test_a_deep_traceback_keeps_its_innermost_frames() -> None:
    """Where it was raised says more than who asked for it; how many are left out is said."""

    def dig(depth: int) -> None:
        if depth == 0:
            raise Boom("at the bottom")
        dig(depth - 1)

    with pytest.raises(Boom) as caught:
        dig(100)
    lines = Cause.of(caught.value).traceback.splitlines()
    assert "  ... 82 outer frames" == lines[1]
    assert 'raise Boom("at the bottom")' == lines[-2].strip()


def test_a_long_chain_is_cut() -> None:
    """A loop that fails over and over hands on a chain without an end; the traceback tells the cause first."""
    error: Exception | None = None
    for number in range(500):
        later = ValueError(f"attempt {number}")
        later.__context__ = error
        error = later
    cause = Cause.of(error)
    assert list(cause.earlier()) == [f"ValueError: attempt {498 - number}" for number in range(CHAIN_KEPT - 1)]
    assert cause.traceback.index("attempt 498") < cause.traceback.index("attempt 499")
    assert "attempt 490" not in cause.traceback


def test_the_notes_of_an_exception_are_bounded_and_copied() -> None:
    """One may be a whole transcript, and whoever keeps the exception may add more."""
    error = Boom("no")
    error.add_note("x" * (MESSAGE_KEPT + 1))
    for number in range(2 * NOTES_KEPT):
        error.add_note(f"note {number}")
    cause = Cause.of(raised(error))
    text = cause.traceback
    error.__notes__.clear()
    assert cause.traceback == text
    assert "(1 characters more)" in text
    assert text.count("note ") == NOTES_KEPT - 1
    error.__notes__ = 3
    assert "Boom: no" in Cause.of(error).traceback


def test_a_chain_says_only_what_python_would() -> None:
    """``from None`` hides where it came from; a cause goes before a context; nothing comes from nothing."""
    hidden, shown = ValueError("hidden"), ValueError("shown")
    hidden.__context__ = shown.__context__ = KeyError("x")
    hidden.__suppress_context__ = True
    assert list(Cause.of(hidden).earlier()) == []
    assert list(Cause.of(shown).earlier()) == ["KeyError: 'x'"]
    shown.__cause__ = TypeError("y")
    assert list(Cause.of(shown).earlier()) == ["TypeError: y"]
    assert list(Cause("Boom", "made by hand").earlier()) == []


def test_a_group_is_its_parts_without_the_groups_in_between() -> None:
    """The first few of them, and how many more there were."""
    inner = ExceptionGroup("inner", [raised(ValueError(str(number))) for number in range(20)])
    cause = Cause.of(ExceptionGroup("outer", [raised(Boom("first")), inner]))
    shown = "; ".join(["Boom: first", *(f"ValueError: {number}" for number in range(4)), "and 16 more"])
    assert str(cause) == f"ExceptionGroup: {shown}"
    assert cause.traceback.count("raise error") < 20


def test_a_cause_knows_no_class_of_its_exception() -> None:
    """A class made in a function knows what its methods close over."""

    class Big:
        pass

    big = Big()
    gone = weakref.ref(big)

    class Local(Exception):
        def about(self, big: Big = big) -> Big:
            return big

    cause = Cause.of(raised(Local("no")))
    del big, Local
    gc.collect()
    assert gone() is None
    assert str(cause) == "Local: no"


class Big:
    """Something that must not stay."""


@attrs.define(eq=False)
class Story:
    """How an incarnation ends, and what it had in hand then; the test takes it away afterwards."""

    path: str
    big: Big | None = attrs.field(factory=Big)


class Teller(Actor):
    """Ends as its story says, with something big in the frame that it ends in."""

    def __init__(self, story: Story) -> None:
        self.story = story

    def fail(self, where: str) -> None:
        big = self.story.big
        if big is not None and self.story.path == where:
            self.story.big = None
            raise Boom(where)

    async def on_start(self) -> None:
        self.fail("start")
        if self.story.path == "ignore" and self.story.big is not None:
            big, self.story.big = self.story.big, None
            raise Ignore(f"it has {type(big).__name__}")
        if self.story.path == "task":
            self.spawn(self.beside)

    async def beside(self) -> None:
        self.fail("task")

    async def handle(self, message: str) -> None:
        self.fail("message")
        if message == "group":
            big, self.story.big = self.story.big, None
            raise ExceptionGroup("two", [Boom("one"), ValueError(type(big).__name__)])
        if message == "chain":
            try:
                self.story.path = "chain"
                self.fail("chain")
            except Boom as error:
                raise ValueError("over it") from error
        if message in {"hang", "swallow"}:
            big, self.story.big = self.story.big, None
            await self.hang(message, big)

    async def hang(self, message: str, big: Big | None) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            if message == "hang":
                raise
            raise Boom(f"instead, with {type(big).__name__}") from None

    async def on_stop(self) -> None:
        self.fail("stop")


PATHS = {
    "start": ExitKind.CRASHED,
    "ignore": ExitKind.IGNORED,
    "task": ExitKind.CRASHED,
    "message": ExitKind.CRASHED,
    "group": ExitKind.CRASHED,
    "chain": ExitKind.CRASHED,
    "stop": ExitKind.CRASHED_DURING_STOP,
    "hang": ExitKind.KILLED,
    "swallow": ExitKind.CRASHED_DURING_STOP,
    "timed out": ExitKind.TIMED_OUT,
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("when_exhausted", WhenExhausted)
async def test_no_way_to_end_keeps_anything_of_the_actor(autojump_clock, path, when_exhausted) -> None:
    """Each path on which a record is made, also where it goes up: exits, errors and hooks are text only."""
    story = Story(path)
    gone = weakref.ref(story.big)
    exits: list[Exit] = []
    worker = ChildSpec(
        id="a",
        factory=lambda: Teller(story),
        restart=Restart.TEMPORARY if path == "ignore" else Restart.PERMANENT,
        limits=Limits(total=5) if path == "timed out" else Limits(),
        shutdown=1,
        backoff=AT_ONCE,
        budget=Budget(0, 60),
        when_exhausted=when_exhausted,
        on_exit=exits.append,
    )
    inner = SupervisorSpec(id="inner", dynamic=True, backoff=AT_ONCE)
    async with open_runtime(tree(inner)) as runtime:
        try:
            await runtime.ref("top/inner").call(StartChild(worker))
        except KernelError as error:
            # Whoever called holds the error, and no frame of the actor with it.
            failure = error
        else:
            failure = None
            await tell(runtime, path)
        await trio.sleep(10)
        assert exits[0].kind is PATHS[path]
        gc.collect()
        assert (gone(), story.big) == (None, None)
        assert (failure is None) == (path != "start")


async def tell(runtime, path: str) -> None:
    """Have it come to the end that its story has."""
    if path == "ignore":
        return
    message = "hang" if path == "timed out" else path
    if path not in {"task", "stop"}:
        await runtime.ref("top/inner/a").cast(message)
        await quiet()
    if path in {"stop", "hang", "swallow"}:
        await runtime.ref("top/inner").call(TerminateChild("a"))


async def test_callers_who_wait_for_the_same_start_get_an_error_each(autojump_clock) -> None:
    """One exception raised in two tasks would tie their frames together."""

    class Fails(Actor):
        async def on_start(self) -> None:
            await trio.sleep(1)
            if self.generation > 1:
                raise Boom("again")

    errors = []

    async def restart() -> None:
        with pytest.raises(KernelError, match="did not start") as failed:
            await runtime.ref("top").call(RestartChild("a", stop_first=True))
        errors.append(failed.value)

    async with open_runtime(tree(ChildSpec(id="a", factory=Fails))) as runtime, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(restart)
    assert len({id(error) for error in errors}) == 2
