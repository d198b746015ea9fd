"""The mailbox against a model of it, and under senders and readers of which any may be cancelled at any time."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from trio.testing import MockClock

from agentrt.kernel import MailboxFull, MailboxSpec, Overflow
from agentrt.kernel.cell import Counts
from agentrt.kernel.mailbox import Mailbox
from agentrt.kernel.messages import Envelope, Stage


class Target:
    def __init__(self) -> None:
        self.counts = Counts()


class MailboxMachine(RuleBasedStateMachine):
    """The model is a list of what waits, of which the first ``capacity`` have room and the rest are calls without."""

    @initialize(capacity=st.integers(1, 3), overflow=st.sampled_from([Overflow.BLOCK, *Overflow]))
    def build(self, capacity: int, overflow: Overflow) -> None:
        self.capacity, self.overflow = capacity, overflow
        self.mailbox = Mailbox(MailboxSpec(capacity=capacity, overflow=overflow))
        self.waiting: list[Envelope] = []
        self.calls: list[Envelope] = []
        self.control: list[int] = []
        self.dropped = self.rejected = self.sent = 0

    def envelope(self) -> Envelope:
        self.sent += 1
        return Envelope(self.sent, Target())

    @rule()
    def send(self) -> None:
        one = self.envelope()
        if self.mailbox.accept(one):
            assert len(self.waiting) < self.capacity
            assert self.overflow is Overflow.BLOCK
        elif len(self.waiting) < self.capacity:
            assert self.mailbox.put_nowait(one) is False
        elif self.overflow is Overflow.DROP_OLDEST:
            assert self.mailbox.put_nowait(one) is True
            self.dropped += 1
            assert self.waiting.pop(0).stage is Stage.SETTLED
        else:
            with pytest.raises(MailboxFull):
                self.mailbox.put_nowait(one)
            self.rejected += 1
            return
        self.waiting.append(one)

    @precondition(lambda self: self.overflow is Overflow.BLOCK)
    @rule(count=st.integers(1, 4))
    def call(self, count: int) -> None:
        for _ in range(count):
            one = self.envelope()
            assert self.mailbox.put_call(one) is False
            self.waiting.append(one)
            self.calls.append(one)

    @rule(item=st.integers())
    def send_control(self, item: int) -> None:
        self.mailbox.put_control(item)
        self.control.append(item)

    @rule()
    def take(self) -> None:
        expected = self.control.pop(0) if self.control else self.waiting.pop(0) if self.waiting else None
        assert self.mailbox.pop() is expected

    @precondition(lambda self: any(one in self.waiting for one in self.calls))
    @rule(which=st.integers(0, 9))
    def give_up(self, which: int) -> None:
        calls = [one for one in self.calls if one in self.waiting]
        one = calls[which % len(calls)]
        one.stage = Stage.SETTLED
        self.mailbox.discard(one)
        self.waiting.remove(one)

    @rule()
    def close(self) -> None:
        assert self.mailbox.close(lambda: RuntimeError("closed")) == len(self.waiting)
        assert all(one.stage is Stage.SETTLED for one in self.waiting)
        assert self.mailbox.accept(self.envelope()) is False
        self.waiting, self.control = [], []
        self.mailbox.open()

    @invariant()
    def the_counts_are_right(self) -> None:
        if not hasattr(self, "mailbox"):
            return
        statistics = self.mailbox.statistics()
        assert len(self.mailbox) == len(self.waiting)
        assert statistics.waiting == min(len(self.waiting), self.capacity)
        assert statistics.blocked_senders == max(0, len(self.waiting) - self.capacity)
        assert (statistics.dropped, statistics.rejected) == (self.dropped, self.rejected)
        # What was settled in the queue does not pile up.
        assert len(self.mailbox._messages) <= 2 * self.capacity


TestMailboxModel = MailboxMachine.TestCase
TestMailboxModel.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


@given(
    capacity=st.integers(1, 3),
    senders=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4), st.integers(0, 12)), min_size=1, max_size=6),
    pauses=st.lists(st.integers(0, 2), min_size=1, max_size=5),
    schedule=st.random_module(),
)
@settings(max_examples=60, deadline=None)
def test_no_message_is_lost_or_doubled(capacity, senders, pauses, schedule) -> None:
    """A put that returned was put, once and in its sender's order; one that was cancelled was not."""

    async def main() -> None:
        mailbox = Mailbox(MailboxSpec(capacity=capacity))
        put, got = [], []

        async def send(name: int, start: int, count: int, patience: int) -> None:
            with trio.move_on_after(patience):
                await trio.sleep(start)
                for number in range(count):
                    await mailbox.put(Envelope((name, number), Target()))
                    put.append((name, number))

        async def read() -> None:
            turn = 0
            while True:
                item = mailbox.pop()
                if item is None:
                    await mailbox.wait()
                    continue
                got.append(item.message)
                assert mailbox.statistics().waiting <= capacity
                await trio.sleep(pauses[turn % len(pauses)])
                turn += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            async with trio.open_nursery() as sending:
                for name, (start, count, patience) in enumerate(senders):
                    sending.start_soon(send, name, start, count, patience)
            await trio.sleep(100)
            nursery.cancel_scope.cancel()
        assert Counter(got) == Counter(put)
        for name in range(len(senders)):
            assert [message for message in got if message[0] == name] == [one for one in put if one[0] == name]

    trio.run(main, clock=MockClock(autojump_threshold=0))
