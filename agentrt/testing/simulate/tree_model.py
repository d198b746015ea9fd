"""Check of what supervisors do: the log is replayed through naive models, and every decision is held to theirs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from agentrt.kernel import Event
from agentrt.testing.simulate.child_record import FINAL, Record
from agentrt.testing.simulate.messages import GIVEN_UP
from agentrt.testing.simulate.plan import Admin, Ending, Verb
from agentrt.testing.simulate.supervisor_model import SupervisorModel, Verdict
from agentrt.testing.simulate.world import Message, Note, Violation, World

#: Answers that say that nothing was changed.
_TURNED_AWAY = frozenset(
    {"AlreadyPresent", "AlreadyStarted", "ChildRestarting", "ChildRunning", "NoSuchChild", "TooManyChildren"}
)
_CHANGES = frozenset({Verb.START, Verb.TERMINATE, Verb.RESTART, Verb.REVIVE, Verb.DELETE})


class Replay:
    """One run that is over, replayed."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._models = {path: SupervisorModel(plan, path) for path, plan in world.supervisors().items()}
        self._verdicts = _verdicts(world)
        self._begun = {life.begun: life for life in world.lives}
        self._lives = {(life.path, life.end): life for life in world.lives}
        self._stops = {life.stop_begun: life for life in world.lives if life.stop_begun is not None}
        self._asked_of: defaultdict[str, list[Message]] = defaultdict(list)
        self._was_killed = False
        self._steps: dict[str, Callable[[Any, int], Iterator[Violation]]] = {
            "starting": self._starting,
            "stopping": self._stopping,
            "actor_started": self._started,
            "actor_crashed": self._ended,
            "actor_exited": self._ended,
            "send": self._sent,
            "tree up": self._tree_up,
            "calm": self._calm,
            "tree failed": self._tree_failed,
            "stopping all": self._stopping_all,
        }

    @property
    def checked(self) -> int:
        """How many verdicts were held to the models."""
        return sum(model.checked for model in self._models.values())

    @property
    def unchecked(self) -> int:
        """How many verdicts were not, because the log leaves something open."""
        return sum(model.unchecked for model in self._models.values())

    def run(self) -> Iterator[Violation]:
        """Give what is not as the models want it."""
        for place, entry in enumerate(self._world.log):
            if (step := self._steps.get(entry.kind)) is not None:
                yield from step(entry, place)

    def _find(self, path: str) -> tuple[SupervisorModel | None, Record | None]:
        above, _, name = path.rpartition("/")
        model = self._models.get(above)
        return model, model.records.get(name) if model is not None else None

    # What happens

    def _starting(self, note: Note, place: int) -> Iterator[Violation]:
        model, record = self._find(note.path)
        if model is None:
            return
        life = self._begun[place]
        if record is None and not model.is_unsure and life.plan.id not in model.awaited:
            yield Violation("who is down stays down", f"{life} starts, and nobody asked for it")
        if record is None or (record.plan is not life.plan and _may_be_replaced(record)):
            record = model.take_in(life.plan)
        yield from model.starting(record, note.time)

    def _stopping(self, note: Note, place: int) -> Iterator[Violation]:
        model, record = self._find(note.path)
        life = self._stops[place]
        # A zombie that comes so far is nobody's business any more.
        if model is not None and record is not None and (life.end is None or life.end > place):
            yield from model.stopping(record, life)

    def _started(self, event: Event, _place: int) -> Iterator[Violation]:
        if event.path in self._models:
            self._models[event.path].is_up = True
        model, record = self._find(event.path)
        if model is not None and record is not None:
            yield from model.started(record, event.time)

    def _ended(self, event: Event, place: int) -> Iterator[Violation]:
        model, record = self._find(event.path)
        if model is not None and record is not None:
            life = self._lives.get((event.path, place))
            yield from model.ended(record, event, self._verdicts[event.id], life)
        if (own := self._models.get(event.path)) is not None:
            yield from _ends_for_a_reason(own, event.path, event.fields["exit"], event.fields["error"])
            own.begin_life()
            if any(
                message.ended_at is None or message.ended_at >= event.time for message in self._asked_of[event.path]
            ):
                # It may still wait to be taken.
                own.lose_track()

    # What is asked for

    def _sent(self, note: Note, _place: int) -> Iterator[Violation]:
        message, model = self._world.messages[note.fields["number"]], self._models.get(note.path)
        if message.admin is None or model is None or message.admin.verb not in _CHANGES:
            return
        at_once = message.ended_at == message.sent_at
        if message.outcome in _TURNED_AWAY or (message.outcome == "ActorDied" and at_once):
            return
        self._asked_of[note.path].append(message)
        if not model.is_up:
            model.lose_track()
        else:
            is_doubtful = message.outcome == "Refusal" or (message.outcome in GIVEN_UP and at_once)
            self._asked(model, message.admin, note.time, is_doubtful=is_doubtful)
        yield from ()

    def _asked(self, model: SupervisorModel, admin: Admin, now: float, *, is_doubtful: bool) -> None:
        if admin.child is not None and admin.id in model.records:
            # It was not turned away, so the one that is there will be gone by then.
            model.awaited.add(admin.id)
        elif admin.child is not None:
            model.take_in(admin.child)
        if (record := model.records.get(admin.id)) is None:
            return
        if is_doubtful or (admin.verb is Verb.REVIVE and record.is_wanted):
            model.leave_open(record)
        elif admin.verb in {Verb.RESTART, Verb.REVIVE}:
            model.asked_to_restart(record, now)
        elif admin.verb is not Verb.START:
            model.asked_to_terminate(record, now, forget=admin.verb is Verb.DELETE)

    # The run

    def _tree_up(self, note: Note, _place: int) -> Iterator[Violation]:
        self._models[note.path].is_up = True
        yield from ()

    def _tree_failed(self, note: Note, _place: int) -> Iterator[Violation]:
        root = self._models[note.path]
        if root.is_up and not self._was_killed:
            yield from _ends_for_a_reason(root, note.path, note.fields["exit"], note.fields["error"])

    def _stopping_all(self, note: Note, _place: int) -> Iterator[Violation]:
        self._was_killed = note.fields["how"] in {Ending.KILL.value, Ending.CANCEL.value}
        yield from ()

    def _calm(self, _note: Note, _place: int) -> Iterator[Violation]:
        seen = self._world.calm
        assert seen is not None
        for path, model in self._models.items():
            if all(seen.get(above) == "running" for above in _line(path)):
                yield from model.goes_on()
                for record in model.records.values():
                    if record.is_sure:
                        yield from _is_where_it_should_be(record, seen.get(record.path))
                known = {record.path for record in model.records.values()}
                if strangers := [one for one in seen if one.rpartition("/")[0] == path and one not in known]:
                    yield Violation("the tree keeps its shape", f"{strangers} should be gone")


def _may_be_replaced(record: Record) -> bool:
    """Whether another child may have taken its place, without a word of it in the log."""
    return not record.is_sure or (record.is_guest and not record.was_up)


def _is_where_it_should_be(record: Record, seen: str | None) -> Iterator[Violation]:
    expected = "running" if record.is_wanted else record.status.value if record.status in FINAL else "down"
    if seen != expected:
        yield Violation("the tree keeps its shape", f"{record.path} is {seen} when all is calm, not {expected}")


def _ends_for_a_reason(model: SupervisorModel, path: str, exit_: str, error: str | None) -> Iterator[Violation]:
    """It escalates, shuts down by itself, or shares the failure of somebody who is linked to it."""
    is_own_end = exit_ in {"crashed", "completed"} and not str(error).startswith("LinkBroken")
    if is_own_end and not model.is_ending:
        yield Violation("a supervisor ends for a reason", f"{path} {exit_}: {error}")


def _line(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition("/")[0]


def _verdicts(world: World) -> defaultdict[int, Verdict]:
    """Find the decision about each exit, by the number of its event."""
    verdicts: defaultdict[int, Verdict] = defaultdict(Verdict)
    gave_up_over: dict[int, int] = {}
    for entry in world.log:
        if not isinstance(entry, Event) or entry.cause is None:
            continue
        # Either over an exit, or over a child that gave up over one.
        verdict = verdicts[gave_up_over.get(entry.cause, entry.cause)]
        if entry.kind == "actor_restarting":
            verdict.restarting = entry
        elif entry.kind == "actor_gave_up":
            verdict.gave_up = entry
            gave_up_over[entry.id] = entry.cause
        elif entry.kind == "supervisor_escalated":
            verdict.escalated = entry
        elif entry.kind == "supervisor_auto_shutdown":
            verdict.shut_down = entry
    return verdicts
