"""Handlers by the class of the message: which method gets what, and what cannot be."""

from __future__ import annotations

from dataclasses import dataclass

import attrs
import pytest
from kernel_kit import AT_ONCE, Boom, open_runtime, quiet, tree

from agentrt.kernel import Actor, ActorDied, ChildSpec, Request, UnexpectedMessage, handles


@attrs.frozen
class Deposit(Request[int]):
    amount: int


@attrs.frozen
class Balance(Request[int]):
    pass


@attrs.frozen
class Note:
    text: str


@attrs.frozen
class Urgent(Note):
    pass


@attrs.frozen
class Shout(Urgent):
    pass


class Account(Actor[Deposit | Balance | Note]):
    def __init__(self) -> None:
        self.total = 0

    @handles(Deposit)
    async def deposit(self, message: Deposit) -> int:
        if message.amount < 0:
            raise Boom("negative")
        self.total += message.amount
        return self.total

    @handles(Balance)
    async def balance(self, message: Balance) -> int:
        return self.total

    @handles(Note)
    async def note(self, message: Note) -> str:
        return f"note {message.text}"


async def told(actor: type[Actor], *messages: object) -> list[object]:
    """Start an actor of that class and collect its answers."""
    async with open_runtime(tree(ChildSpec(id="a", factory=actor, backoff=AT_ONCE))) as runtime:
        return [await runtime.ref("top/a").call(message) for message in messages]


async def test_each_message_goes_to_the_method_of_its_class(autojump_clock) -> None:
    assert await told(Account, Deposit(5), Note("x"), Deposit(2), Balance()) == [5, "note x", 7, 7]


async def test_a_restarted_actor_handles_with_its_own_state(autojump_clock) -> None:
    """The methods are those of the new instance."""
    async with open_runtime(tree(ChildSpec(id="a", factory=Account, backoff=AT_ONCE))) as runtime:
        ref = runtime.ref("top/a")
        assert await ref.call(Deposit(5)) == 5
        with pytest.raises(ActorDied, match="negative"):
            await ref.call(Deposit(-1))
        assert await ref.call(Balance()) == 0


async def test_the_most_specific_class_wins(autojump_clock) -> None:
    """A subclass without a method of its own goes to that of its nearest base, in whatever order they are met."""

    class Reader(Account):
        @handles(Urgent)
        async def urgent(self, message: Urgent) -> str:
            return f"urgent {message.text}"

    assert await told(Reader, Note("a"), Urgent("b"), Shout("c")) == ["note a", "urgent b", "urgent c"]
    assert await told(Reader, Shout("c"), Urgent("b"), Note("a")) == ["urgent c", "urgent b", "note a"]
    assert await told(Account, Shout("c"), Shout("c")) == ["note c", "note c"]


async def test_a_class_that_was_met_without_a_method_does_not_stand_for_its_subclasses(autojump_clock) -> None:
    """What one message found does not decide for another whose other base has a method."""

    class Tagged:
        pass

    class TaggedNote(Tagged, Note):
        pass

    class Reader(Account):
        async def handle(self, message: object) -> str:
            return "rest"

    assert await told(Reader, Tagged(), TaggedNote("x")) == ["rest", "note x"]


async def test_what_no_method_handles_goes_to_handle(autojump_clock) -> None:
    """By default it is refused, with the message's class; overridden, it takes the rest."""

    class Open(Account):
        async def handle(self, message: object) -> object:
            return ("rest", message)

    assert await told(Open, "x", Deposit(1), 3) == [("rest", "x"), 1, ("rest", 3)]
    with pytest.raises(UnexpectedMessage, match="top/a has no handler for str"):
        await told(Account, "x")


async def test_methods_are_inherited_and_overridden(autojump_clock) -> None:
    """With the decorator or without; and the base class handles as before."""

    class Doubled(Account):
        async def deposit(self, message: Deposit) -> int:
            return await super().deposit(Deposit(2 * message.amount))

        @handles(Note)
        async def note(self, message: Note) -> str:
            return "overridden"

    class Fresh(Doubled):
        @handles(Balance)
        async def anew(self, message: Balance) -> int:
            return -1

    assert await told(Doubled, Deposit(5), Note("x"), Balance()) == [10, "overridden", 10]
    assert await told(Fresh, Deposit(5), Balance()) == [10, -1]
    assert await told(Account, Deposit(5), Note("x"), Balance()) == [5, "note x", 5]


async def test_mixins_bring_their_methods(autojump_clock) -> None:
    """A class that is no actor may hold handlers; the nearest class in the order of inheritance wins."""

    class Noting:
        @handles(Note)
        async def note_it(self, message: Note) -> str:
            return "mixed in"

    class Both(Noting, Account):
        pass

    class Behind(Account, Noting):
        pass

    assert await told(Both, Note("x"), Deposit(1)) == ["mixed in", 1]
    assert await told(Behind, Note("x")) == ["note x"]


async def test_a_method_may_handle_several_classes(autojump_clock) -> None:
    class Many(Actor[Deposit | Note]):
        @handles(Deposit)
        @handles(Note)
        async def either(self, message: Deposit | Note) -> int:
            return 1 if isinstance(message, Deposit) else 2

    assert await told(Many, Deposit(0), Note("x")) == [1, 2]


def test_two_methods_of_one_class_cannot_handle_the_same() -> None:
    """It is refused where the class is made, with both names."""
    with pytest.raises(TypeError, match=r"Confused handles Note twice: first and second$"):

        class Confused(Actor[Note]):
            @handles(Note)
            async def first(self, message: Note) -> None: ...

            @handles(Note)
            async def second(self, message: Note) -> None: ...


@pytest.mark.parametrize("kind", [Deposit(1), "Deposit", Deposit | Note, list[int], None])
def test_a_handler_is_for_a_class(kind) -> None:
    with pytest.raises(TypeError, match=r"@handles takes the class of a message, not .*; write @handles\(Deposit\)"):
        handles(kind)


@attrs.define
class Loose(Request[int]):
    amount: int


@attrs.frozen(slots=False)
class Dictful(Request[int]):
    amount: int


@dataclass(frozen=True, slots=True)
class Data(Request[int]):
    amount: int


class Plain(Request[int]):
    def __init__(self, amount: int) -> None:
        self.amount = amount


@pytest.mark.parametrize("kind", [Deposit, Loose, Dictful, Data, Plain])
async def test_a_request_is_any_kind_of_class(autojump_clock, kind) -> None:
    """With slots or without, of attrs, a dataclass or plain; the base adds nothing to it."""

    class Adder(Actor):
        async def add(self, message) -> int:
            return message.amount + 1

        add = handles(kind)(add)

    assert await told(Adder, kind(4)) == [5]
    assert hasattr(kind(4), "__dict__") == (kind in {Dictful, Plain})


def test_a_request_with_slots_has_no_room_for_more() -> None:
    """So that a message is as small as its fields."""
    with pytest.raises(AttributeError):
        object.__setattr__(Deposit(1), "other", 2)
    assert Deposit(1) == Deposit(1)


async def test_what_waits_over_a_restart_finds_the_methods_of_the_next_incarnation(autojump_clock) -> None:
    async with open_runtime(tree(ChildSpec(id="a", factory=Account, backoff=AT_ONCE))) as runtime:
        ref = runtime.ref("top/a")
        for message in (Deposit(1), Deposit(-1), Deposit(3)):
            await ref.cast(message)
        await quiet()
        assert await ref.call(Balance()) == 3


async def test_a_ref_is_found_by_path_and_class(autojump_clock) -> None:
    """The class says what the ref takes; where another actor lives, that is an error."""
    async with open_runtime(tree(ChildSpec(id="a", factory=Account))) as runtime:
        assert runtime.ref("top/a", Account) is runtime.ref("top/a")
        assert runtime.ref("top/a", Actor) is runtime.ref("top/a")

        class Other(Actor[Note]):
            pass

        with pytest.raises(TypeError, match="top/a is of class Account, not Other"):
            runtime.ref("top/a", Other)
    assert runtime.ref("top/a", Other).actor is None
