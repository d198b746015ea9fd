"""The mailbox against a model of it, and under senders, readers and crashes in any order."""

from __future__ import annotations

import contextlib
from collections import Counter

import attrs
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from kernel_kit import AT_ONCE, Boom, open_runtime, quiet, tree
from mailbox_kit import Asked, Target, cast
from trio.testing import MockClock

from agentrt.kernel import (
    Actor,
    ActorDied,
    Budget,
    CallTimeout,
    ChildSpec,
    MailboxFull,
    MailboxSpec,
    Overflow,
    RestartChild,
    StartFailed,
    StashFull,
)
from agentrt.kernel.mailbox import Mailbox
from agentrt.kernel.messages import Cast, Envelope, Stage


@attrs.frozen
class Message:
    number: int


@attrs.frozen
class First(Message):
    pass


@attrs.frozen
class Second(Message):
    pass


KINDS = (First, Second, Message)
OVERFLOWS = st.sampled_from([Overflow.BLOCK, *Overflow])


class MailboxMachine(RuleBasedStateMachine):
    """The model: a list per lane of what has room, one of what waits for it, the stash, and what was taken out."""

    @initialize(
        capacity=st.integers(1, 3),
        overflow=OVERFLOWS,
        priorities=st.sampled_from([(), (First,), (First, Second)]),
        stash=st.integers(0, 3),
    )
    def build(self, capacity: int, overflow: Overflow, priorities: tuple[type, ...], stash: int) -> None:
        self.spec = MailboxSpec(capacity=capacity, overflow=overflow, priorities=priorities, stash=stash)
        self.owner = Target()
        self.mailbox = Mailbox(self.spec, self.owner)
        # Casts that lie in the mailbox as they are, for which the model has envelopes all the same.
        self.bare: list[Envelope] = []
        self.lanes: list[list[Envelope]] = [[] for _ in range(1 + len(priorities))]
        self.lines: list[list[Envelope]] = [[] for _ in self.lanes]
        self.stashed: list[Envelope] = []
        self.taken: list[Envelope] = []
        self.given_up: list[Envelope] = []
        self.control: list[object] = []
        self.dropped = self.rejected = self.received = self.sent = 0

    # The model

    def rank(self, envelope: Envelope) -> int:
        kinds = [kind for kind in self.spec.priorities if isinstance(envelope.message, kind)]
        return self.spec.priorities.index(kinds[0]) if kinds else len(self.spec.priorities)

    @property
    def fill(self) -> int:
        return sum(map(len, self.lanes))

    @property
    def blocked(self) -> int:
        return sum(map(len, self.lines))

    def let_in(self, envelope: Envelope) -> None:
        self.lanes[self.rank(envelope)].append(envelope)
        self.received += 1

    def let_in_blocked(self) -> None:
        while self.blocked and self.fill < self.spec.capacity:
            line = next(line for line in self.lines if line)
            self.let_in(line.pop(0))

    def droppable(self, newcomer: Envelope) -> list[Envelope] | None:
        lanes = [lane for rank, lane in enumerate(self.lanes) if rank >= self.rank(newcomer) and lane]
        return lanes[-1] if lanes and self.spec.overflow is Overflow.DROP_OLDEST else None

    def envelope(self, kind: type[Message], *, is_call: bool) -> Envelope:
        self.sent += 1
        return Asked(kind(self.sent)) if is_call else cast(kind(self.sent))

    def put(self, one: Envelope) -> None:
        """Put it where the sender does not wait."""
        lane = self.droppable(one)
        if self.fill < self.spec.capacity:
            assert self.mailbox.put_nowait(one) is False
        elif lane is not None:
            assert self.mailbox.put_nowait(one) is True
            oldest = lane.pop(0)
            assert not isinstance(oldest, Asked) or isinstance(oldest.outcome.error, MailboxFull)
            self.dropped += 1
        else:
            with pytest.raises(MailboxFull):
                self.mailbox.put_nowait(one)
            self.rejected += 1
            return
        self.let_in(one)

    def living_calls(self) -> list[Asked]:
        places = [*self.lanes, *self.lines, self.stashed]
        return [one for place in places for one in place if isinstance(one, Asked)]

    # Senders

    @rule(kind=st.sampled_from(KINDS))
    def send(self, kind: type[Message]) -> None:
        one = self.envelope(kind, is_call=False)
        is_simple = self.spec.overflow is Overflow.BLOCK and not self.spec.priorities
        has_room = is_simple and self.fill < self.spec.capacity
        assert self.mailbox.accept(one.message) is has_room
        if has_room:
            self.bare.append(one)
            self.let_in(one)
        else:
            self.put(one)

    @rule(kind=st.sampled_from(KINDS), count=st.integers(1, 4))
    def call(self, kind: type[Message], count: int) -> None:
        for _ in range(count):
            one = self.envelope(kind, is_call=True)
            if self.spec.overflow is not Overflow.BLOCK:
                self.put(one)
            else:
                assert self.mailbox.put_call(one) is False
                if self.fill < self.spec.capacity:
                    self.let_in(one)
                else:
                    self.lines[self.rank(one)].append(one)

    @rule(kind=st.sampled_from(KINDS), is_call=st.booleans())
    def send_extra(self, kind: type[Message], is_call: bool) -> None:  # noqa: FBT001 - drawn.
        one = self.envelope(kind, is_call=is_call)
        self.mailbox.put_extra(one)
        self.let_in(one)

    @rule(item=st.builds(object), first=st.booleans())
    def send_control(self, item: object, first: bool) -> None:  # noqa: FBT001 - drawn.
        if first:
            self.mailbox.put_control(item, before_all=True)
            self.control.insert(0, item)
        else:
            self.mailbox.put_control(item)
            self.control.append(item)

    @precondition(lambda self: self.control)
    @rule(which=st.integers(0, 9))
    def take_back_control(self, which: int) -> None:
        self.mailbox.take_back(self.control.pop(which % len(self.control)))

    @precondition(lambda self: self.living_calls())
    @rule(which=st.integers(0, 99))
    def give_up(self, which: int) -> None:
        calls = self.living_calls()
        one = calls[which % len(calls)]
        one.give_up(self.mailbox)
        self.given_up.append(one)
        for place in (*self.lanes, *self.lines, self.stashed):
            if one in place:
                place.remove(one)
        self.let_in_blocked()

    # The reader

    @rule()
    def take(self) -> None:
        if self.control:
            assert self.mailbox.pop() is self.control.pop(0)
            return
        lane = next((lane for lane in self.lanes if lane), None)
        expected = lane.pop(0) if lane is not None else None
        taken = self.mailbox.pop()
        if expected in self.bare:
            self.bare.remove(expected)
            assert (type(taken), taken.message, taken.target) == (Cast, expected.message, self.owner)
            expected = taken
        assert taken is expected
        if expected is not None:
            expected.move(Stage.IN_HAND)
            self.taken.append(expected)
            self.let_in_blocked()

    @precondition(lambda self: self.taken)
    @rule()
    def set_aside(self) -> None:
        one = self.taken[-1]
        if len(self.stashed) < self.spec.stash:
            self.mailbox.stash(one)
            self.stashed.append(self.taken.pop())
        else:
            with pytest.raises(StashFull):
                self.mailbox.stash(one)

    @rule()
    def unstash(self) -> None:
        assert self.mailbox.unstash() == len(self.stashed)
        for one in reversed(self.stashed):
            self.lanes[self.rank(one)].insert(0, one)
        self.stashed = []

    @precondition(lambda self: self.taken)
    @rule()
    def put_back(self) -> None:
        one = self.taken.pop()
        self.mailbox.put_back(one)
        self.lanes[self.rank(one)].insert(0, one)

    @rule(data=st.data())
    def take_out(self, data: st.DataObject) -> None:
        """Only what is stashed or has room can be there; what was given up, or is taken, is not."""
        here = [one for place in (*self.lanes, self.stashed) for one in place if one not in self.bare]
        if not (here or self.taken or self.given_up):
            return
        one = data.draw(st.sampled_from([*here, *self.taken, *self.given_up]), label="envelope")
        assert self.mailbox.take_out(one) is (one in here)
        for place in (*self.lanes, self.stashed):
            if one in place:
                place.remove(one)
        self.let_in_blocked()

    # Its end

    @rule()
    def close(self) -> None:
        left = [one for place in (*self.lanes, *self.lines, self.stashed) for one in place]
        assert self.mailbox.close(lambda: RuntimeError("closed")) == len(left)
        mine = [one for one in left if one in self.bare or one.target is self.owner]
        assert self.owner.counts.undelivered == len(mine)
        assert {one.target.counts.undelivered for one in left if one not in mine} <= {1}
        self.owner.counts.undelivered = 0
        self.bare.clear()
        assert self.mailbox.accept(Message(0)) is False
        for place in (*self.lanes, *self.lines, self.stashed, self.control):
            place.clear()
        self.mailbox.open()

    @invariant()
    def the_counts_are_right(self) -> None:
        if not hasattr(self, "mailbox"):
            return
        statistics = self.mailbox.statistics()
        assert len(self.mailbox) == self.fill + self.blocked + len(self.stashed)
        assert statistics.waiting == self.fill
        assert statistics.blocked_senders == self.mailbox.blocked == self.blocked
        assert statistics.stashed == len(self.stashed)
        assert (statistics.dropped, statistics.rejected) == (self.dropped, self.rejected)
        assert statistics.received == self.received
        # What was settled while it waited does not pile up.
        slots = len(self.mailbox.messages) + self.mailbox.urgent - len(self.control)
        assert slots - self.fill <= self.spec.capacity


TestMailboxModel = MailboxMachine.TestCase
TestMailboxModel.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)


@given(
    spec=st.builds(
        MailboxSpec, capacity=st.integers(1, 3), priorities=st.sampled_from([(), (First,), (First, Second)])
    ),
    senders=st.lists(
        st.tuples(st.sampled_from(KINDS), st.integers(0, 5), st.integers(1, 4), st.integers(0, 12)),
        min_size=1,
        max_size=6,
    ),
    pauses=st.lists(st.integers(0, 2), min_size=1, max_size=5),
    schedule=st.random_module(),
)
@settings(max_examples=100, deadline=None)
def test_no_message_is_lost_or_doubled(spec, senders, pauses, schedule) -> None:
    """A put that returned was put, once and in its sender's order; one that was cancelled was not."""

    async def main() -> None:
        mailbox = Mailbox(spec, Target())
        put: list[tuple[int, Message]] = []
        got: list[tuple[int, Message]] = []

        async def send(name: int, kind: type[Message], start: int, count: int, patience: int) -> None:
            with trio.move_on_after(patience):
                await trio.sleep(start)
                for number in range(count):
                    message = kind(100 * name + number)
                    await mailbox.put(cast(message))
                    put.append((name, message))

        async def read() -> None:
            turn = 0
            while True:
                item = mailbox.pop()
                if item is None:
                    await mailbox.wait()
                    continue
                got.append((item.message.number // 100, item.message))
                assert mailbox.statistics().waiting <= spec.capacity
                await trio.sleep(pauses[turn % len(pauses)])
                turn += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            async with trio.open_nursery() as sending:
                for name, sender in enumerate(senders):
                    sending.start_soon(send, name, *sender)
            await trio.sleep(100)
            nursery.cancel_scope.cancel()
        assert Counter(got) == Counter(put)
        for name in range(len(senders)):
            assert [one for one in got if one[0] == name] == [one for one in put if one[0] == name]

    trio.run(main, clock=MockClock(autojump_threshold=0))


@attrs.define(eq=False)
class Job:
    """A message that says what its handling does, and knows what became of it.

    Args:
        crashes: How many of its handlings crash.
        takes: Seconds that each takes before that.
        stashed: How often it is set aside first.
        patience: For a call: seconds until its sender gives up; a cast has none.
    """

    crashes: int = 0
    takes: int = 0
    stashed: int = 0
    patience: float | None = None
    outcome: object = None
    begun: int = 0
    crashed: int = 0
    failed: int = 0
    ended: int = 0

    def with_patience_longer_by(self, seconds: float) -> Job:
        return attrs.evolve(self, patience=self.patience + seconds if self.patience is not None else None)


class UrgentJob(Job):
    """One that goes first."""


class Worker(Actor):
    """Does jobs."""

    async def handle(self, message: Job) -> Job:
        if message.stashed:
            message.stashed -= 1
            self.stash()
            self.spawn(self.come_back_to_it)
            return message
        message.begun += 1
        await trio.sleep(message.takes)
        if message.crashed < message.crashes:
            message.crashed += 1
            raise Boom("as told")
        message.ended += 1
        return message

    async def come_back_to_it(self) -> None:
        await trio.sleep(1)
        self.unstash_all()


def jobs(kind: type[Job]) -> st.SearchStrategy[Job]:
    return st.builds(
        kind,
        crashes=st.sampled_from([0, 0, 0, 1, 2, 3]),
        takes=st.integers(0, 3),
        stashed=st.sampled_from([0, 0, 1, 2]),
        patience=st.sampled_from([None, None, 2, 5, 50]),
    )


@given(
    mailbox=st.builds(
        MailboxSpec,
        capacity=st.integers(1, 4),
        overflow=OVERFLOWS,
        priorities=st.sampled_from([(), (UrgentJob,)]),
        redeliveries=st.integers(0, 2),
    ),
    work=st.lists(st.tuples(st.integers(0, 6), jobs(Job) | jobs(UrgentJob)), min_size=1, max_size=12),
    disturbances=st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["restart", "fail"])), max_size=4),
    schedule=st.random_module(),
)
@settings(max_examples=200, deadline=None)
def test_every_message_has_exactly_one_outcome(mailbox, work, disturbances, schedule) -> None:
    """Through crashes, restarts, stashing and full mailboxes, and the counts add up to what was sent.

    A cast that was let in is handled to its end once, or quarantined after exactly ``redeliveries`` + 1 crashes, or has
    failed where nothing is redelivered, or was dropped from a full mailbox. A call is never begun twice.
    """
    # Nobody gives up at the very moment at which his message is handled.
    work = [(start, job.with_patience_longer_by(0.01 * number)) for number, (start, job) in enumerate(work, 1)]

    async def main() -> None:
        often = Budget(1000, 1)
        spec = ChildSpec(id="a", factory=Worker, backoff=AT_ONCE, budget=often, shutdown=1, mailbox=mailbox)
        async with open_runtime(tree(spec, budget=often)) as runtime:
            ref = runtime.ref("top/a")

            async def send(start: int, job: Job) -> None:
                await trio.sleep(start)
                try:
                    if job.patience is None:
                        job.outcome = await ref.cast(job)
                    else:
                        job.outcome = await ref.call(job, timeout=job.patience)
                except (ActorDied, CallTimeout, MailboxFull) as error:
                    job.outcome = error

            async def disturb(start: int, kind: str) -> None:
                await trio.sleep(start)
                if kind == "restart":
                    # It may be made to fail while it starts; then it is started once more.
                    with contextlib.suppress(StartFailed):
                        await runtime.ref("top").call(RestartChild("a", stop_first=True))
                else:
                    envelope = ref.incarnation.serving.in_hand
                    if envelope is not None:
                        # The actor may be on its way out already, and then this does nothing.
                        envelope.message.failed += 1
                    ref.incarnation.fail(Boom("from outside"))

            # Nobody may wait for ever.
            with trio.fail_after(10_000):
                async with trio.open_nursery() as nursery:
                    for one in work:
                        nursery.start_soon(send, *one)
                    for one in disturbances:
                        nursery.start_soon(disturb, *one)
            await trio.sleep(1000)
            await quiet()
            statistics = ref.statistics()
            assert (len(ref._cell.mailbox), ref._cell.mailbox.urgent) == (0, 0)
            quarantined = {id(poison.message) for poison in ref.quarantine()}
        counts, dropped = statistics.counts, statistics.mailbox.dropped
        outcomes = [getattr(counts, field.name) for field in attrs.fields(type(counts))]
        assert sum(outcomes) + dropped + statistics.mailbox.rejected == len(work)
        kinds: Counter[str] = Counter(became_of(job, mailbox.redeliveries, quarantined) for _, job in work)
        assert kinds["answered"] == counts.answered
        assert kinds["quarantined"] == counts.quarantined == len(quarantined)
        assert kinds["expired"] == counts.expired
        assert kinds["full"] == statistics.mailbox.rejected
        # Of casts that failed without a crash of their own and of those that were dropped, nobody was told which.
        assert kinds["failed"] + kinds["dropped call"] + kinds["lost"] == counts.failed + dropped

    trio.run(main, clock=MockClock(autojump_threshold=0))


def became_of(job: Job, redeliveries: int, quarantined: set[int]) -> str:
    """Say what became of a job, from what its handler and its sender saw."""
    assert job.ended <= 1
    if job.patience is not None:
        return became_of_call(job)
    if isinstance(job.outcome, MailboxFull):
        assert job.begun == 0
        return "full"
    if id(job) in quarantined:
        assert job.ended == 0
        assert job.crashed <= redeliveries + 1 <= job.crashed + job.failed
        return "quarantined"
    if job.ended:
        assert job.crashed == job.crashes <= redeliveries
        return "answered"
    assert job.crashed <= redeliveries or (redeliveries == 0 and job.crashed == 1)
    return "lost"


def became_of_call(job: Job) -> str:
    assert job.begun <= 1
    match job.outcome:
        case Job():
            assert (job.outcome, job.ended, job.crashed) == (job, 1, 0)
            return "answered"
        case CallTimeout():
            assert job.ended == job.crashed == 0
            return "expired"
        case ActorDied():
            assert job.ended == 0
            return "failed"
        case MailboxFull():
            assert job.begun == 0
            return "dropped call" if "dropped" in str(job.outcome) else "full"
    raise AssertionError(job)
