"""A naive model of one supervisor: from what happened to its children, what it has to do next."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from agentrt.kernel import AutoShutdown, Event, Restart, Strategy, WhenExhausted
from agentrt.testing.simulate.budget_model import ROUNDED, SharedRestarts, delay_is_right
from agentrt.testing.simulate.child_record import FINAL, LIVES, NOT_UP, Record, Status
from agentrt.testing.simulate.plan import ActorPlan, SupervisorPlan
from agentrt.testing.simulate.world import Life, Violation


@attrs.define(eq=False)
class Verdict:
    """What the kernel decided about a child that ended: its events, and what each says."""

    restarting: Event | None = None
    gave_up: Event | None = None
    escalated: Event | None = None
    shut_down: Event | None = None

    @property
    def is_start_failure(self) -> bool:
        """Whether the supervisor itself could not start."""
        return self.escalated is not None and self.escalated.fields["error"] == "StartFailed"

    @property
    def is_judgement(self) -> bool:
        """Whether the budgets had a say in it."""
        return not (self.restarting is self.gave_up is self.escalated is None)


class SupervisorModel:
    """One supervisor over all its lives.

    Attributes:
        records: Its children, in start order.
        is_up: Its own start hook returned.
        ends_at: When it escalated, or shut down by itself.
        awaited: Names under which it was asked for a child while another of that name was still there.
        is_unsure: The log leaves open what its own budget counted in this life.
        checked: How many verdicts were held to the model; *unchecked* is how many were not, for lack of knowledge.
    """

    def __init__(self, plan: SupervisorPlan, path: str) -> None:
        self.plan = plan
        self.path = path
        self.checked = self.unchecked = 0
        self.begin_life()

    def begin_life(self) -> None:
        """Begin anew: it ended, and will be started again if at all."""
        self.records = {
            child.id: Record.of(child, f"{self.path}/{child.id}", index)
            for index, child in enumerate(self.plan.children)
        }
        self.is_up = self.is_unsure = False
        self.ends_at: float | None = None
        self.awaited: set[str] = set()
        self._unexplained: Event | None = None
        self._restarts = SharedRestarts(self.plan.budget, self.plan.strategy)
        self._taken_in = len(self.records)

    @property
    def is_ending(self) -> bool:
        """Whether it escalated, or shut down by itself."""
        return self.ends_at is not None

    @property
    def _is_grouped(self) -> bool:
        return self.plan.strategy is not Strategy.ONE_FOR_ONE

    # What happens to children

    def starting(self, record: Record, now: float) -> Iterator[Violation]:
        """Take that the start hook of a child begins."""
        if record.is_sure:
            yield from self._may_start(record, now)
            yield from self._is_due(record, now)
            yield from self._is_its_turn(record)
        record.status, record.is_cycled = Status.STARTING, False
        record.happened(now)

    def started(self, record: Record, now: float) -> Iterator[Violation]:
        """Take that a child counts as started."""
        if record.is_sure and isinstance(record.plan, SupervisorPlan):
            # Nothing tells when its start began; it was not before it was due.
            yield from self._may_start(record, record.due)
        record.status, record.was_up, record.is_on_trial = Status.RUNNING, True, False
        record.restarts.watch.start(now)
        record.happened(now)
        self._restarts.is_back(record.index, now)

    def stopping(self, record: Record, life: Life) -> Iterator[Violation]:
        """Take that the stop hook of a child begins."""
        if not (record.is_cycled and self._is_grouped and record.is_sure) or life.is_own_end:
            return
        for other in self.records.values():
            if other.index > record.index and other.is_cycled and other.is_sure and other.status is Status.RUNNING:
                yield Violation("stop order", f"{record.path} stops before {other.path}, which started after it")

    def ended(self, record: Record, event: Event, verdict: Verdict, life: Life | None) -> Iterator[Violation]:
        """Take that a child ended, and hold what was decided against what has to be."""
        record.restarts.watch.stop(event.time)
        was_starting, record.status = record.status is not Status.RUNNING, Status.DOWN
        if verdict.is_start_failure:
            self.ends_at = event.time
            if record.is_sure and (record.was_up or record.is_guest or self.is_up):
                yield Violation("who cannot start fails its parent", f"{event.path} failed to start, but not at first")
        elif verdict.is_judgement:
            yield from self._was_judged(record, event, verdict, life)
        else:
            yield from self._was_left(record, event, verdict, life, was_starting=was_starting)
        if verdict.shut_down is not None:
            self.ends_at = event.time
        record.happened(event.time)

    # Whether it may start

    def goes_on(self) -> Iterator[Violation]:
        """Take that it was not stopped: so it had to do something about each child that ended."""
        if self._unexplained is not None:
            event, self._unexplained = self._unexplained, None
            yield Violation("an end has consequences", f"{event.path} ended at {event.time:g}, and nothing followed")

    def _may_start(self, record: Record, began: float) -> Iterator[Violation]:
        """Take that a child starts, or did: whoever began before an end, or at that moment, may do so to his end."""
        if self._unexplained is not None and self._unexplained.time < began:
            yield from self.goes_on()
        if self.ends_at is not None and self.ends_at < began:
            yield Violation("who ends starts nobody", f"{record.path} starts")
        if not record.is_wanted or record.status in FINAL:
            yield Violation("who is down stays down", f"{record.path} starts, and nobody asked for it")

    def _is_due(self, record: Record, now: float) -> Iterator[Violation]:
        if now < record.due - ROUNDED:
            yield Violation("a restart waits for its backoff", f"{record.path} starts at {now:g}, due {record.due:g}")
        # Where somebody asked for it, nothing is due; and whoever depends on others waits for them too.
        if record.status is Status.WAITING and not self._is_grouped and 0 < record.due < now - ROUNDED:
            yield Violation("a restart comes when it is due", f"{record.path} starts at {now:g}, due {record.due:g}")

    def _is_its_turn(self, record: Record) -> Iterator[Violation]:
        is_first = record.status is Status.FRESH and not record.is_guest and not self.is_up
        for other in self.records.values():
            is_missing = other.index < record.index and other.is_wanted and other.is_sure and other.status in NOT_UP
            if is_missing and (self._is_grouped or (is_first and other.status is Status.FRESH)):
                yield Violation("start order", f"{record.path} starts, and {other.path} is {other.status.value}")

    # What was decided

    def _was_left(
        self, record: Record, event: Event, verdict: Verdict, life: Life | None, *, was_starting: bool
    ) -> Iterator[Violation]:
        """Nothing was decided by the budgets: so there has to be a reason to leave it."""
        now, exit_ = event.time, event.fields["exit"]
        if record.is_cycled and record.is_wanted:
            record.is_cycled, record.status = False, Status.WAITING
        elif record.is_cycled or not record.is_wanted or (life is not None and life.ends_run):
            self._retire(record, now, Status.DOWN)
        elif not record.is_sure:
            # It may come back or not, also where it said that it is not needed: the doubt goes on, until it is started.
            record.status, record.doubt = Status.WAITING, now
            # And nobody can tell whether restarts that took it along grow older meanwhile.
            self.is_unsure = True
        elif exit_ == "ignored":
            self._retire(record, now, Status.IGNORED)
        elif record.is_on_trial and was_starting:
            record.is_forgotten |= record.is_guest and not record.was_up
            self._retire(record, now, Status.DOWN)
        elif True in record.may_be_left(event, life) and exit_ != "stopped":
            yield from self._is_last_straw(record, event, verdict)
            self._retire(record, now, Status.DONE)
        elif not self.is_ending:
            # It may be that the supervisor itself is stopped; then it will start nobody any more.
            self._unexplained = event

    def _was_judged(self, record: Record, event: Event, verdict: Verdict, life: Life | None) -> Iterator[Violation]:
        now = event.time
        if record.is_sure:
            yield from self._may_be_judged(record, event, life)
            yield from self._is_right(record, event, verdict)
        else:
            self.unchecked += 1
        record.restarts.record(now)
        if verdict.gave_up is not None:
            if verdict.escalated is None:
                yield from self._is_last_straw(record, event, verdict)
            self._retire(record, now, Status.EXHAUSTED)
        else:
            self._restarts.record(record.index, now)
        if verdict.escalated is not None:
            self.ends_at = now
        if verdict.restarting is not None:
            record.count_attempt(event, life)
            yield from self._is_delayed(record, verdict.restarting)
            self._take_along(record, now + verdict.restarting.fields["delay"], now)

    def _may_be_judged(self, record: Record, event: Event, life: Life | None) -> Iterator[Violation]:
        what = f"{event.path} {event.fields['exit']} at {event.time:g}, and something was decided about it"
        if event.fields["exit"] == "stopped" or record.is_cycled or not record.is_wanted:
            yield Violation("who is stopped is not judged", what)
        if self.is_ending:
            yield Violation("who ends starts nobody", what)
        if record.may_be_left(event, life) == {True}:
            yield Violation("restart types", f"{what}, though it is {record.plan.restart.value}")

    def _is_right(self, record: Record, event: Event, verdict: Verdict) -> Iterator[Violation]:
        self.checked += 1
        gave_up, escalated = verdict.gave_up is not None, verdict.escalated is not None
        if gave_up not in record.restarts.may_be_spent(event.time):
            seen = "gave up" if gave_up else "was restarted"
            yield Violation("a child's budget", f"{event.path} {seen} at {event.time:g}: {record.restarts}")
        if gave_up:
            if escalated is not (record.plan.when_exhausted is WhenExhausted.ESCALATE):
                yield Violation(
                    "what a spent budget means", f"{event.path} gave up, {self.path} escalated: {escalated}"
                )
        elif not self.is_unsure and escalated not in self._restarts.may_be_spent(event.time):
            seen = "escalated" if escalated else "went on"
            yield Violation("a supervisor's budget", f"{self.path} {seen} at {event.time:g}: {self._restarts}")

    def _is_last_straw(self, record: Record, event: Event, verdict: Verdict) -> Iterator[Violation]:
        """Whether the end of a child for good has to end its supervisor, and did."""
        others = [one for one in self.records.values() if one is not record and one.plan.significant]
        ends = (
            record.plan.significant
            and {
                AutoShutdown.NEVER: False,
                AutoShutdown.ANY_SIGNIFICANT: True,
                AutoShutdown.ALL_SIGNIFICANT: not any(one.is_wanted for one in others),
            }[self.plan.auto_shutdown]
        )
        if not (record.is_sure and all(one.is_sure for one in others)):
            return
        if verdict.shut_down is not None and not ends:
            yield Violation("automatic shutdown", f"{self.path} shut down when {event.path} ended")
        elif ends and verdict.shut_down is None and not self.is_ending:
            # As in _was_left: it may be that it is stopped anyway.
            self._unexplained = event

    def _is_delayed(self, record: Record, restarting: Event) -> Iterator[Violation]:
        attempt, delay = restarting.fields["attempt"], restarting.fields["delay"]
        if record.is_sure and attempt not in record.attempts:
            yield Violation("backoff", f"{record.path} counts attempt {attempt}, not {record.attempts}")
        if not delay_is_right(record.plan.backoff, attempt, delay):
            yield Violation("backoff", f"{record.path} waits {delay:g} s before attempt {attempt}")
        # Where somebody asked for it at this moment, that may come after this, and begins to count anew.
        record.attempts = {attempt} if record.is_sure else {attempt, 0}

    def _take_along(self, record: Record, due: float, now: float) -> None:
        for one in self.records.values():
            is_taken = self._restarts.takes_along(record.index, one.index)
            if not is_taken or not one.is_wanted or one.status in FINAL:
                continue
            if one.doubt == now:
                # Either may have come first: what was asked for, or this.
                self.is_unsure = True
            elif one.may_have_been_started or (one.status is Status.WAITING and one.due <= now + ROUNDED):
                one.doubt, one.due = now, max(one.due, due)
            else:
                one.due = max(one.due, due)
            one.is_cycled = one.status in LIVES
            if not one.is_cycled:
                one.status = Status.WAITING
            elif one.plan.restart is Restart.TEMPORARY:
                one.is_wanted = False
            self._restarts.leaves(one.index, now)

    def _retire(self, record: Record, now: float, status: Status) -> None:
        # Where it was asked for at this moment, that may come after this.
        record.is_open |= record.doubt == now and record.is_wanted
        record.status, record.is_wanted, record.is_cycled, record.is_on_trial = status, False, False, False
        self._restarts.is_back(record.index, now)
        is_kept = record.plan.restart is not Restart.TEMPORARY and not (self.plan.dynamic and record.is_guest)
        if (record.is_forgotten or not is_kept) and self.records.get(record.plan.id) is record:
            del self.records[record.plan.id]

    # What it is asked for

    def take_in(self, plan: ActorPlan) -> Record:
        """Begin the record of a child that came by being asked for."""
        self._taken_in += 1
        record = Record.of(plan, f"{self.path}/{plan.id}", self._taken_in, is_guest=True)
        record.is_open = self.is_unsure
        self.records[plan.id] = record
        return record

    def asked_to_terminate(self, record: Record, now: float, *, forget: bool = False) -> None:
        """Take that it was asked to stop a child."""
        self._asked(record, now, is_wanted=False)
        record.is_forgotten |= forget
        if record.status in FINAL:
            self._retire(record, now, record.status)
        elif record.status in LIVES:
            return
        elif record.due > now + ROUNDED or (record.due != now and not record.may_have_been_started):
            self._retire(record, now, Status.DOWN)
        elif record.status is Status.WAITING:
            # Where it lives, its end will be seen; where it does not, it is away no longer, and nothing says so.
            self.is_unsure = True

    def asked_to_restart(self, record: Record, now: float) -> None:
        """Take that it was asked to restart a child."""
        if record.plan.restart is Restart.TEMPORARY:
            return
        record.is_on_trial |= not record.is_wanted
        self._asked(record, now, is_wanted=True)
        record.restarts.renew(now)
        record.attempts = {0}
        record.due = 0.0
        record.is_cycled = record.status in LIVES
        if not record.is_cycled:
            record.status = Status.WAITING

    def leave_open(self, record: Record) -> None:
        """Take that it may have been asked for something about a child, or not."""
        record.is_open = self.is_unsure = True

    def lose_track(self) -> None:
        """Take that it will do in this life what it was asked for, nobody knows when."""
        self.is_unsure = True
        for record in self.records.values():
            record.is_open = True

    def _asked(self, record: Record, now: float, *, is_wanted: bool) -> None:
        if record.doubt == now and record.is_wanted is not is_wanted:
            record.is_open = True
        record.doubt = now
        record.is_wanted = is_wanted
