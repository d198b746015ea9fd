"""The window of a supervisor's budget against a naive model that counts second by second."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from agentrt.kernel.spec import Budget, Strategy
from agentrt.kernel.window import RestartWindow, takes_along
from agentrt.policy.intensity import Verdict

PLACES = range(4)
STEPS = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["restart", "leave", "settle", "ask"]), st.sampled_from(PLACES)),
    max_size=40,
)


class Model:
    """Keeps the whole history: when each restart was, and who was away in which second."""

    def __init__(self, budget: Budget, strategy: Strategy) -> None:
        self.budget, self.strategy = budget, strategy
        self.restarts: list[tuple[int, int]] = []
        self.away_in: list[set[int]] = []
        self.away: set[int] = set()

    def pass_time(self, seconds: int) -> None:
        self.away_in += [set(self.away) for _ in range(seconds)]

    def counted(self) -> int:
        return sum(self._age(origin, then) <= self.budget.max_seconds for origin, then in self.restarts)

    def _age(self, origin: int, then: int) -> int:
        """Seconds in which nobody whom the restart took along was away."""
        return sum(not any(takes_along(self.strategy, origin, place) for place in away) for away in self.away_in[then:])


@given(st.integers(0, 4), st.integers(1, 8), st.sampled_from(Strategy), STEPS)
def test_the_window_counts_what_the_history_says(max_restarts, max_seconds, strategy, steps):
    """Whoever leaves and comes back, in whatever order, and however often that is said."""
    budget = Budget(max_restarts, max_seconds)
    window, model, now = RestartWindow(budget, strategy), Model(budget, strategy), 0
    for gap, step, place in steps:
        now += gap
        model.pass_time(gap)
        if step == "restart":
            model.restarts.append((place, now))
            expected = Verdict.GIVE_UP if model.counted() > max_restarts else Verdict.RESTART
            assert expected is window.record(place, now)
        elif step == "leave":
            model.away.add(place)
            window.leave(place, now)
        elif step == "settle":
            model.away.discard(place)
            window.settle(place, now)
        assert max(0, max_restarts - model.counted()) == window.restarts_left(now)


@given(st.sampled_from(Strategy), st.integers(0, 4), st.integers(1, 8), st.integers(0, 300), st.integers(0, 300))
def test_a_crash_loop_always_spends_its_budget(strategy, max_restarts, max_seconds, stopping, backoff):
    """OTP's trap: however long each cycle takes, and however slowly the siblings stop, the window does not slide away.

    The child and two siblings after it go down together where the strategy says so, and crash as soon as they are up.
    """
    window, now, verdicts = RestartWindow(Budget(max_restarts, max_seconds), strategy), 0, []
    group = [place for place in (1, 2, 3) if takes_along(strategy, 1, place)]
    for _ in range(max_restarts + 1):
        verdicts.append(window.record(1, now))
        for place in group:
            window.leave(place, now)
        for place in group:
            now += stopping + backoff
            window.settle(place, now)
    assert [Verdict.RESTART] * max_restarts + [Verdict.GIVE_UP] == verdicts


@given(st.integers(1, 4), st.integers(1, 8), st.integers(0, 40))
def test_a_child_that_is_away_for_ever_keeps_no_other_childs_restarts(max_restarts, max_seconds, crashes):
    """Under one_for_one: its siblings may crash as often as the window lets, for as long as they like."""
    window, now = RestartWindow(Budget(max_restarts + 1, max_seconds), Strategy.ONE_FOR_ONE), 0
    window.record(0, now)
    window.leave(0, now)
    for _ in range(crashes):
        now += max_seconds + 1
        for _ in range(max_restarts):
            assert Verdict.RESTART is window.record(1, now)
            window.leave(1, now)
            window.settle(1, now)


@given(st.sampled_from(Strategy), st.integers(0, 9), st.integers(0, 9))
def test_strategies_are_what_otp_says(strategy, origin, place):
    """One, those that were started after it too, or all."""
    expected = {"one_for_one": place == origin, "rest_for_one": place >= origin, "one_for_all": True}
    assert expected[strategy.value] == takes_along(strategy, origin, place)


@given(begun=st.floats(0.0, 1e5), max_seconds=st.floats(0.1, 60.0))
@example(begun=58.27835245697188, max_seconds=5.0)
def test_a_restart_that_is_exactly_as_old_as_the_window_is_looked_at_once(begun, max_seconds):
    """Sums of floats round; whatever comes of that, the window is not asked about one moment for ever."""
    window = RestartWindow(Budget(1, max_seconds), Strategy.ONE_FOR_ONE)
    window.record(0, begun)
    assert window.restarts_left(begun + max_seconds) in {0, 1}
    assert window.restarts_left(begun + 2 * max_seconds + 1) == 1
