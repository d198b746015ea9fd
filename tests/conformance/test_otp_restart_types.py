"""Restart types, as OTP's supervisor suite has them: permanent, transient and temporary, by each way to end."""

from __future__ import annotations

import gc
import weakref

import pytest
from conformance_kit import counts, listed, shuts_itself_down, told
from kernel_kit import Ends, crash, loop, node, open_runtime, probe, quiet, states, tree

from agentrt.kernel import (
    Actor,
    AlreadyPresent,
    AlreadyStarted,
    Budget,
    ExitKind,
    Restart,
    RestartChild,
    StartChild,
    Strategy,
    SupervisorSpec,
    TerminateChild,
)

PERMANENT, TRANSIENT, TEMPORARY = Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY
AGAIN, DOWN, GONE = "restarted", "down", "gone"
WAYS = ("normal", "shutdown", "abnormal")


@pytest.mark.parametrize(
    ("restart", "end", "then"),
    [
        (PERMANENT, "normal", AGAIN),
        (PERMANENT, "shutdown", AGAIN),
        (PERMANENT, "abnormal", AGAIN),
        (TRANSIENT, "normal", DOWN),
        (TRANSIENT, "shutdown", DOWN),
        (TRANSIENT, "abnormal", AGAIN),
        (TEMPORARY, "normal", GONE),
        (TEMPORARY, "shutdown", GONE),
        (TEMPORARY, "abnormal", GONE),
    ],
)
async def test_permanent_always_transient_when_abnormal_temporary_never(autojump_clock, restart, end, then) -> None:
    """Case 13: supervisor_SUITE: permanent_normal to temporary_abnormal, nine tests there.

    OTP's exit reason ``shutdown`` is here the end of a supervisor that shut itself down. The spec of a temporary child
    goes with it.
    """
    ends, exits = Ends(), []
    flags = {"restart": restart, "on_exit": exits.append}
    spec = shuts_itself_down("a", ends, **flags) if end == "shutdown" else ends.child("a", **flags)
    supervisors, workers = (1, 0) if end == "shutdown" else (0, 1)
    async with open_runtime(tree()) as runtime:
        top = runtime.ref("top")
        ref = await top.call(StartChild(spec))
        ends.end("done" if end == "shutdown" else "a", crash=end == "abnormal")
        await quiet()
        assert told(exits) == ["a 1 crashed" if end == "abnormal" else "a 1 completed"]
        if then is GONE:
            assert await listed(top) == []
            assert await counts(top) == (0, 0, 0, 0)
        else:
            assert await listed(top) == [("a", "running", True) if then is AGAIN else ("a", "done", False)]
            assert await counts(top) == (1, int(then is AGAIN), supervisors, workers)
        assert ref.statistics().generation == (2 if then is AGAIN else 1)
        assert top.actor.statistics().restarts == int(then is AGAIN)


@pytest.mark.parametrize("restart", list(Restart))
async def test_whom_somebody_terminates_does_not_come_back(autojump_clock, restart) -> None:
    """Case 13: supervisor_SUITE: permanent_shutdown; what is asked for is no end of its own, whatever the type."""
    async with open_runtime(tree(probe("a", restart=restart))) as runtime:
        exit_ = await runtime.ref("top").call(TerminateChild("a"))
        await quiet()
        assert exit_.kind is ExitKind.STOPPED
        assert states(runtime) == ({} if restart is TEMPORARY else {"a": "down"})
        assert runtime.ref("top").actor.statistics().restarts == 0


@pytest.mark.parametrize("end", ["normal", "abnormal"])
@pytest.mark.parametrize(
    ("strategy", "names"), [(Strategy.ONE_FOR_ALL, ["before", "a", "b"]), (Strategy.REST_FOR_ONE, ["a", "b"])]
)
async def test_a_temporary_bystander_is_not_restarted(autojump_clock, strategy, names, end) -> None:
    """Case 14: supervisor_SUITE: temporary_bystander.

    It goes down with its siblings, does not come back, and is no failure of its supervisor: no unit is spent on it.
    """
    ends, exits = Ends(), []
    specs = [
        ends.child(name, restart=TEMPORARY if name == "bystander" else PERMANENT, on_exit=exits.append)
        for name in ("before", "a", "bystander", "b")
    ]
    family = SupervisorSpec(id="family", children=tuple(specs), strategy=strategy, budget=Budget(1, 300))
    async with open_runtime(tree(family)) as runtime:
        ends.end("a", crash=end == "abnormal")
        await quiet()
        assert states(runtime, "top/family") == {"before": "running", "a": "running", "b": "running"}
        assert [node(runtime, f"top/family/{name}").generation for name in names] == [2] * len(names)
        assert node(runtime, "top/family").generation == 1
        assert runtime.ref("top/family").actor.statistics().restarts == 1
        assert "bystander 1 stopped" in told(exits)


#: What becomes of a name when its child ended in some way, by restart type.
KEPT = {
    PERMANENT: {"kill": AGAIN, "normal": AGAIN, "abnormal": AGAIN, "supervisor": DOWN},
    TRANSIENT: {"kill": AGAIN, "normal": DOWN, "abnormal": AGAIN, "supervisor": DOWN},
    TEMPORARY: {"kill": GONE, "normal": GONE, "abnormal": GONE, "supervisor": GONE},
}


@pytest.mark.parametrize(("restart", "end"), [(restart, end) for restart, row in KEPT.items() for end in row], ids=str)
@pytest.mark.parametrize("strategy", list(Strategy))
async def test_the_spec_of_a_temporary_child_goes_with_it(autojump_clock, strategy, restart, end) -> None:
    """Case 15: supervisor_SUITE: do_not_save_child_specs_for_temporary_children; its name may be used again."""
    ends = Ends()
    spec = ends.child("a", restart=restart)
    async with open_runtime(tree(strategy=strategy)) as runtime:
        top = runtime.ref("top")
        ref = await top.call(StartChild(spec))
        if end == "supervisor":
            await top.call(TerminateChild("a"))
        elif end == "kill":
            ref.incarnation.kill("killed")
        else:
            ends.end("a", crash=end == "abnormal")
        await quiet()
        match KEPT[restart][end]:
            case "restarted":
                with pytest.raises(AlreadyStarted) as taken:
                    await top.call(StartChild(spec))
                assert taken.value.ref is ref
            case "down":
                with pytest.raises(AlreadyPresent):
                    await top.call(StartChild(spec))
                assert await top.call(RestartChild("a")) is ref
            case "gone":
                assert await top.call(StartChild(spec)) is runtime.ref("top/a")
                assert runtime.ref("top/a") is not ref


class Large:
    """Something that a child is started with."""


@pytest.mark.parametrize("restart", [TRANSIENT, TEMPORARY])
@pytest.mark.parametrize("strategy", list(Strategy))
async def test_what_a_temporary_child_was_started_with_is_not_kept(autojump_clock, strategy, restart) -> None:
    """Case 15: supervisor_SUITE: do_not_save_start_parameters_for_temporary_children, simple_one_for_one_corruption.

    One that may be started again has to keep them.
    """
    arguments = []

    def child(number: int):
        large = Large()
        arguments.append(weakref.ref(large))

        async def run(_: Actor, large: Large = large) -> None:
            return

        return loop(f"child{number}", run, restart=restart)

    async with open_runtime(tree(strategy=strategy)) as runtime:
        for number in range(10):
            ref = await runtime.ref("top").call(StartChild(child(number)))
            await ref.wait_gone()
            await quiet()
        ref = None
        gc.collect()
        assert [argument() is None for argument in arguments] == [restart is TEMPORARY] * 10


async def test_a_bystander_that_went_may_be_started_anew(autojump_clock) -> None:
    """Case 14: supervisor_SUITE: temporary_bystander; nothing of it is left in its supervisor's way."""
    async with open_runtime(tree(probe("a"), strategy=Strategy.ONE_FOR_ALL)) as runtime:
        top = runtime.ref("top")
        for _ in range(3):
            await top.call(StartChild(probe("guest", restart=TEMPORARY)))
            await crash(runtime.ref("top/a"))
            assert await listed(top) == [("a", "running", True)]
