"""Users' code that type checkers must accept, strictly and as it stands; checked by test_typing.py, never run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, assert_type

import attrs

from agentrt import resilient
from agentrt.kernel import (
    Actor,
    ActorRef,
    ChildSpec,
    Down,
    Exit,
    MailboxSpec,
    Poison,
    Request,
    RestartChild,
    StartChild,
    Supervisor,
    SupervisorSpec,
    TerminateChild,
    Timer,
    handles,
    open_runtime,
)

V = TypeVar("V")


@attrs.frozen
class Deposit(Request[int]):
    amount: int


@attrs.frozen(slots=False)
class Withdraw(Request[int]):
    amount: int


@dataclass(frozen=True, slots=True)
class History(Request[list[str]]):
    last: int = 10


class Close(Request[None]):
    pass


@attrs.frozen
class Note:
    text: str


@attrs.frozen
class LongNote(Note):
    more: str = ""


class Account(Actor[Deposit | Withdraw | History | Close | Note | Down]):
    """Handlers of all kinds: of requests, of plain messages, of several classes, and of the runtime's own."""

    def __init__(self, owner: str = "") -> None:
        self.owner = owner
        self.balance = 0

    @handles(Deposit)
    async def deposit(self, message: Deposit) -> int:
        assert_type(message.amount, int)
        self.balance += message.amount
        return self.balance

    @handles(Withdraw)
    async def withdraw(self, message: Withdraw) -> bool:
        # A bool is an int.
        return await self.deposit(Deposit(-message.amount)) >= 0

    @handles(History)
    async def history(self, message: History) -> list[str]:
        return [str(message.last)]

    @handles(Close)
    async def close(self, message: Close) -> None:
        self.stash()
        assert_type(self.unstash_all(), int)

    @handles(Note)
    async def note(self, message: Note) -> str:
        return message.text

    @handles(Down)
    async def went_down(self, message: Down) -> None:
        assert_type(message.exit, Exit)

    async def on_start(self) -> None:
        assert_type(self.ref, ActorRef[Deposit | Withdraw | History | Close | Note | Down])
        assert_type(self.send_after(1.0, Deposit(1)), Timer)
        self.send_every(1.0, Note("tick"))
        self.spawn(self.beside)
        self.spawn(self.beside_with, 1, "two")

    async def beside(self) -> None:
        pass

    async def beside_with(self, number: int, text: str) -> None:
        pass


class Savings(Account):
    """Overrides, with the decorator and without."""

    async def deposit(self, message: Deposit) -> int:
        return await super().deposit(message) + 1

    @handles(Note)
    async def note(self, message: Note) -> str:
        return await super().note(message)

    @handles(LongNote)
    async def long_note(self, message: LongNote) -> str:
        return message.more


class Both(Actor[Deposit | Withdraw | Note]):
    """One method for several classes keeps its own types."""

    @handles(Deposit)
    @handles(Withdraw)
    async def move(self, message: Deposit | Withdraw) -> int:
        return message.amount

    @handles(Deposit)
    @handles(Note)
    async def wide(self, message: Deposit | Note | str) -> int:
        return 1

    async def use(self) -> None:
        assert_type(await self.move(Withdraw(1)), int)
        assert_type(await self.wide("text"), int)


class Plain(Actor):
    """Of an actor without a type, any message is as good as any other."""

    async def handle(self, message: Any) -> object:
        return message


class Narrow(Actor[str]):
    async def handle(self, message: str) -> int:
        return len(message)


@attrs.frozen
class Put(Request[None], Generic[V]):
    value: V


class Holder(Actor[Put[V]], Generic[V]):
    """An actor that is itself generic."""

    @handles(Put)
    async def put(self, message: Put[V]) -> None:
        self.value = message.value


async def hold(ref: ActorRef[Put[int]]) -> None:
    assert_type(await ref.call(Put(5)), None)


async def ask(ref: ActorRef[Deposit | History | Close | Note]) -> None:
    assert_type(await ref.call(Deposit(5)), int)
    assert_type(await ref.call(History()), list[str])
    assert_type(await ref.call(Close(), timeout=5.0), None)
    # A message that does not say what answers it is answered by anything.
    assert_type(await ref.call(Note("x")), Any)
    await ref.cast(Deposit(5))
    ref.cast_nowait(LongNote("x"))
    assert_type(await ref.wait_gone(), Exit)
    assert_type(ref.quarantine(), tuple[Poison, ...])


async def ask_anybody(ref: ActorRef) -> None:
    assert_type(await ref.call(Deposit(5)), int)
    assert_type(await ref.call("anything"), Any)
    await ref.cast(object())


def narrow(wide: ActorRef[Deposit | Note], untyped: ActorRef) -> list[ActorRef[Deposit]]:
    """Who takes more can stand for who takes less, and an untyped ref for any other, and the other way round."""
    as_untyped: ActorRef = wide
    return [wide, untyped, as_untyped]


def narrow_by_inheritance(ref: ActorRef[Note]) -> ActorRef[LongNote]:
    return ref


async def find(make: Callable[[], Account]) -> None:
    spec = ChildSpec(id="account", factory=Account, mailbox=MailboxSpec(priorities=(Close,), redeliveries=2))
    assert_type(spec, ChildSpec[Deposit | Withdraw | History | Close | Note | Down])
    mixed: list[ChildSpec | SupervisorSpec] = [
        spec,
        ChildSpec(id="made", factory=make),
        ChildSpec(id="owned", factory=lambda: Account("me")),
        ChildSpec(id="plain", factory=Plain),
        ChildSpec(id="narrow", factory=Narrow),
        SupervisorSpec(id="below", children=(ChildSpec(id="x", factory=Narrow), SupervisorSpec(id="y"))),
    ]
    async with open_runtime(SupervisorSpec(id="top", children=tuple(mixed))) as runtime:
        assert_type(runtime.ref("top/narrow"), ActorRef)
        ref = runtime.ref("top/narrow", Narrow)
        assert_type(ref, ActorRef[str])
        await ref.cast("text")
        assert_type(runtime.ref("top/plain", Plain), ActorRef[Any])
        top = runtime.ref("top", Supervisor)
        started = await top.call(StartChild(ChildSpec(id="more", factory=Narrow)))
        assert_type(started, ActorRef[str] | None)
        assert_type(await top.call(TerminateChild("more")), Exit | None)
        assert_type(await top.call(RestartChild("more")), ActorRef | None)
        untyped = await top.call(StartChild(SupervisorSpec(id="below-too")))
        if untyped is not None:
            await untyped.call(StartChild(spec))


async def watch(actor: Account, ref: ActorRef[str]) -> None:
    monitor = actor.monitor(ref)
    actor.link(ref)
    monitor.cancel()


@resilient
async def fetch(url: str, *, limit: int = 10) -> bytes:
    return url.encode()[:limit]


@resilient(idempotent=True, timeout=5.0)
async def store(key: str) -> int:
    return len(key)


@resilient(name="query")
def query(sql: str) -> list[str]:
    return [sql]


async def use_what_is_resilient() -> None:
    assert_type(await fetch("http://archive", limit=3), bytes)
    assert_type(await store("key"), int)
    assert_type(await query("select 1"), list[str])
    assert_type(await resilient(store, timeout=1.0)("key"), int)
    wrapped: Callable[[str], Awaitable[list[str]]] = resilient(query)
    assert_type(await wrapped("select 1"), list[str])
