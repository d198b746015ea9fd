"""Users' mistakes that type checkers must find; checked by test_typing.py, never run.

A line that ends in ``# E: a b`` is an error to both checkers: of the code ``a`` to mypy, of the rules ``b`` to pyright.
All other lines are in order.
"""

from __future__ import annotations

import attrs

from agentrt import resilient
from agentrt.kernel import Actor, ActorRef, ChildSpec, Request, StartChild, handles, open_runtime
from agentrt.kernel import SupervisorSpec as Tree


@attrs.frozen
class Deposit(Request[int]):
    amount: int


@attrs.frozen
class Withdraw(Request[int]):
    amount: int


@attrs.frozen
class Name(Request[str]):
    pass


@attrs.frozen
class Note:
    text: str


class Account(Actor[Deposit | Note]):
    @handles(Deposit)
    async def deposit(self, message: Deposit) -> int:
        return message.amount

    @handles(Note)
    async def note(self, message: Note) -> str:
        return message.text

    async def on_start(self) -> None:
        self.send_after(1.0, Withdraw(1))  # E: arg-type reportArgumentType
        self.send_every(1.0, "tick")  # E: arg-type reportArgumentType
        self.spawn(self.beside, "one")  # E: arg-type reportArgumentType
        self.spawn(self.beside)  # E: arg-type reportArgumentType
        await self.ref.call(Name())  # E: arg-type reportCallIssue,reportArgumentType

    async def beside(self, number: int) -> None:
        await self.deposit(Withdraw(number))  # E: arg-type reportArgumentType


class Wrong(Actor[Deposit | Withdraw | Name | Note]):
    @handles(Deposit)  # E: arg-type reportArgumentType
    async def answers_something_else(self, message: Deposit) -> str:
        return "five"

    @handles(Deposit)  # E: arg-type reportArgumentType
    async def takes_something_else(self, message: Withdraw) -> int:
        return message.amount

    @handles(Note)  # E: arg-type reportArgumentType
    async def takes_another_plain_message(self, message: Name) -> None:
        pass

    @handles(Note)  # E: arg-type reportArgumentType
    @handles(Deposit)
    async def takes_one_of_two(self, message: Deposit) -> int:
        return 1

    @handles(Name)  # E: arg-type reportArgumentType
    @handles(Withdraw)
    async def has_one_answer_for_two(self, message: Name | Withdraw) -> int:
        return 1

    @handles(Note)  # E: arg-type reportArgumentType
    def is_not_async(self, message: Note) -> None:
        pass

    @handles(Note)  # E: arg-type reportArgumentType
    async def takes_nothing(self) -> None:
        pass


class Overrides(Account):
    async def deposit(self, message: Deposit) -> str:  # E: override reportIncompatibleMethodOverride
        return "five"

    async def note(self, message: Withdraw) -> str:  # E: override reportIncompatibleMethodOverride
        return "note"


class Handles(Actor[Deposit]):
    async def handle(self, message: Withdraw) -> object:  # E: override reportIncompatibleMethodOverride
        return message


async def ask(ref: ActorRef[Deposit | Note]) -> None:
    text: str = await ref.call(Deposit(5))  # E: assignment reportAssignmentType
    await ref.call(Withdraw(5))  # E: arg-type reportCallIssue,reportArgumentType
    await ref.call("deposit")  # E: call-overload reportCallIssue,reportArgumentType
    await ref.cast(Withdraw(5))  # E: arg-type reportArgumentType
    ref.cast_nowait(Name())  # E: arg-type reportArgumentType
    await ref.call(Deposit("five"))  # E: arg-type reportArgumentType
    await ref.call(Deposit(len(text)), timeout="5s")  # E: call-overload reportCallIssue,reportArgumentType


def narrow(ref: ActorRef[Deposit]) -> ActorRef[Deposit | Note]:
    return ref  # E: return-value reportReturnType


async def find() -> None:
    child: ChildSpec[Note] = ChildSpec(id="a", factory=Account)  # E: arg-type reportAssignmentType
    async with open_runtime(Tree(id="top", children=(child,))) as runtime:
        await runtime.ref("top/a", Account).cast(Name())  # E: arg-type reportArgumentType
        started = await runtime.ref("top").call(StartChild(ChildSpec(id="b", factory=Account)))
        assert started is not None
        await started.cast(Withdraw(1))  # E: arg-type reportArgumentType
        runtime.ref("top/a", Note)  # E: arg-type reportArgumentType


@resilient(idempotent=True)
async def store(key: str) -> int:
    return len(key)


async def use_what_is_resilient() -> None:
    await store(7)  # E: arg-type reportArgumentType
    text: str = await store("key")  # E: assignment reportAssignmentType
    resilient(store, retries=3)  # E: call-overload reportCallIssue
    assert text
