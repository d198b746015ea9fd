"""Significance against OTP's own rule, which looks at all children each time; and a live supervisor against both."""

from __future__ import annotations

import attrs
import pytest
import trio
from hypothesis import event, given
from hypothesis import strategies as st
from kernel_kit import AT_ONCE, Ends, open_runtime, probe, quiet, states, tree
from trio.testing import MockClock

from agentrt.kernel import (
    AutoShutdown,
    Budget,
    KernelError,
    Restart,
    RestartChild,
    SupervisorSpec,
    TerminateChild,
)
from agentrt.kernel.significance import Significance

NAMES = "abcd"
POLICIES = [AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT]


@attrs.define
class Record:
    """A child as OTP's supervisor has it: its spec's flags, and whether there is a pid."""

    restart: Restart
    significant: bool
    has_pid: bool = True


def otp_shuts_down(policy: AutoShutdown, children: dict[str, Record], ended: str) -> bool:
    """supervisor.erl, do_auto_shutdown/2, for a child that ended by itself and whose pid is gone already."""
    if not children[ended].significant:
        return False
    if policy is AutoShutdown.ANY_SIGNIFICANT:
        return True
    return not any(one.has_pid and one.significant for one in children.values())


FLAGS = st.tuples(st.sampled_from([Restart.TRANSIENT, Restart.TEMPORARY]), st.booleans())
FAMILIES = st.lists(FLAGS, min_size=1, max_size=len(NAMES))
STEPS = st.lists(
    st.tuples(st.sampled_from(["completes", "crashes", "terminate", "restart"]), st.sampled_from(NAMES)), max_size=12
)


@given(st.sampled_from(AutoShutdown), st.lists(st.booleans(), min_size=1, max_size=6), st.data())
def test_the_machine_says_what_a_look_at_all_children_says(policy, significant, data):
    """Whatever comes, goes and ends in between."""
    children = {str(n): Record(Restart.TEMPORARY, flag) for n, flag in enumerate(significant)}
    machine: Significance[str] = Significance(policy)
    for name, child in children.items():
        if child.significant:
            machine.expect(name)
    for _ in range(data.draw(st.integers(0, 10))):
        name = data.draw(st.sampled_from(sorted(children)))
        child = children[name]
        if not child.has_pid:
            child.has_pid = True
            if child.significant:
                machine.expect(name)
        elif data.draw(st.booleans()):
            child.has_pid = False
            machine.dismiss(name)
        else:
            child.has_pid = False
            expected = policy is not AutoShutdown.NEVER and otp_shuts_down(policy, children, name)
            assert expected == machine.ended(name)


@given(policy=st.sampled_from(POLICIES), family=FAMILIES, steps=STEPS, schedule=st.random_module())
def test_a_supervisor_shuts_down_when_otp_does(policy, family, steps, schedule):
    """One step after the other, each with all that follows from it."""
    trio.run(lambda: run_example(policy, family, steps), clock=MockClock(autojump_threshold=0))


async def run_example(policy, family, steps) -> None:
    ends = Ends()
    flags = dict(zip(NAMES, family, strict=False))
    inner = SupervisorSpec(
        id="inner",
        children=tuple(
            ends.child(name, restart=restart, significant=significant, budget=Budget(99, 60))
            for name, (restart, significant) in flags.items()
        ),
        auto_shutdown=policy,
        budget=Budget(99, 60),
        restart=Restart.TRANSIENT,
        backoff=AT_ONCE,
    )
    model = {name: Record(*flag) for name, flag in flags.items()}
    is_up = True
    async with open_runtime(tree(inner, probe("other"))) as runtime:
        for what, name in steps:
            if is_up and name in model:
                is_up = await take(runtime, ends, model, policy, what, name)
                await quiet()
                assert {True: "running", False: "done"}[is_up] == states(runtime)["inner"]
                assert states(runtime)["other"] == "running"
            if is_up:
                living = {one for one, record in model.items() if record.has_pid}
                assert living == {one for one, state in states(runtime, "top/inner").items() if state == "running"}
    event("shut down" if not is_up else "stayed up")


async def take(runtime, ends, model, policy, what, name) -> bool:
    """Do it to the supervisor and to the model; say whether the supervisor is to be up after it."""
    child = model[name]
    if what in {"terminate", "restart"}:
        wanted = what == "restart"
        if wanted and child.restart is Restart.TEMPORARY:
            return True
        message = RestartChild(name) if wanted else TerminateChild(name)
        if wanted and child.has_pid:
            with pytest.raises(KernelError):
                await runtime.ref("top/inner").call(message)
            return True
        await runtime.ref("top/inner").call(message)
        child.has_pid = wanted
    elif child.has_pid:
        ends.end(name, crash=what == "crashes")
        if what == "crashes" and child.restart is Restart.TRANSIENT:
            return True
        child.has_pid = False
        if otp_shuts_down(policy, model, name):
            return False
    if not child.has_pid and child.restart is Restart.TEMPORARY:
        del model[name]
    return True
