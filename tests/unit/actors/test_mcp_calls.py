"""What a session makes of its calls, in virtual time: bounds, breaker, retries, and what it is configured to do."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from mcp_kit import Plan, World, until

from agentrt.config import ServerPolicies
from agentrt.policy import Breaker, Bulkhead, RetryBudget, RetryPolicy
from agentrt.ports import ToolError


async def failure(world: World, tool: str, arguments: dict[str, Any] | None = None, **more: Any) -> ToolError:
    with pytest.raises(ToolError) as caught:
        await world.session.call(tool, arguments, **more)
    return caught.value


async def test_calls_fail_at_once_while_the_server_is_down_where_that_is_configured(autojump_clock):
    """Nothing is waited for and nothing tried again; the reason is the server's own."""
    async with World(then=Plan(exit_at_start=3), when_down="fail").run() as world:
        await trio.sleep(1)
        began = trio.current_time()
        error = await failure(world, "echo")
        assert (0.0, "transient", "not_sent", 1) == (
            trio.current_time() - began,
            error.kind,
            error.sent,
            error.attempt,
        )
        assert "the server is down: handshake failed" in str(error)
    assert [] == world.named("tool_call_retried")


@pytest.mark.parametrize("hint", ["readOnlyHint", "idempotentHint"])
@pytest.mark.parametrize("trusted", [True, False])
async def test_a_tool_that_the_server_calls_repeatable_is_repeated(autojump_clock, hint, trusted):
    """By its annotations, unless the configuration says that they are not to be trusted."""
    plan = Plan(annotations={"sleep": {hint: True}})
    async with World(then=plan, trust_annotations=trusted).run() as world:
        await world.session.wait_ready()
        async with trio.open_nursery() as nursery:

            async def die() -> None:
                await trio.sleep(1)
                world.servers[0].die(9)

            nursery.start_soon(die)
            if trusted:
                assert "from 101" == await world.session.call("sleep", {"seconds": 5})
            else:
                error = await failure(world, "sleep", {"seconds": 5})
                assert ("transient", "sent") == (error.kind, error.sent)


async def test_an_error_carries_all_that_is_known(autojump_clock):
    """Kind, server, tool, attempt, whether it may have happened, and the cause."""
    async with World().run() as world:
        error = await failure(world, "echo", {"error": -32603}, idempotent=True)
    assert ("transient", "tools", "echo", 5) == (error.kind, error.server, error.tool, error.attempt)
    assert (True, "sent", "as you wish") == (error.may_have_happened, error.sent, str(error).partition(": ")[2])
    assert error.cause is not None
    retried = [event.fields for event in world.named("tool_call_retried")]
    assert [1, 2, 3, 4] == [fields["attempt"] for fields in retried]
    assert {"tool": "echo", "server": "tools", "error": "as you wish"}.items() <= retried[0].items()


async def test_calls_in_hand_are_bounded_and_the_others_wait_their_turn(autojump_clock):
    """The server has no more of them than may be; what finds no room to wait is refused at once, as throttled."""
    policies = ServerPolicies(bulkhead=Bulkhead(max_concurrent=2, max_queued=2))
    async with World(policies=policies).run() as world:
        await world.session.wait_ready()
        answers: list[str] = []

        async def call(number: int) -> None:
            answers.append(await world.session.call("sleep", {"seconds": 1, "text": str(number)}))

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(call, number)
            await trio.sleep(0.5)
            assert 2 == world.session.desk.calls
            error = await failure(world, "echo")
            assert ("throttled", "not_sent") == (error.kind, error.sent)
            assert "2 calls in hand and 2 waiting" in str(error)
    assert {"0", "1", "2", "3"} == set(answers)
    assert [] == world.named("tool_call_retried")


async def test_those_that_wait_are_bounded_by_bytes(autojump_clock):
    """The size is that of their arguments, as JSON."""
    size = len(json.dumps({"text": "x" * 100}))
    policies = ServerPolicies(bulkhead=Bulkhead(max_concurrent=1, max_queued_bytes=size))
    async with World(policies=policies).run() as world:
        await world.session.wait_ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.session.call, "sleep", {"seconds": 1})
            await trio.sleep(0.1)
            assert "bytes" in str(await failure(world, "echo", {"text": "x" * 101}))
            assert "x" * 100 == await world.session.call("echo", {"text": "x" * 100})


async def test_a_server_that_fails_call_after_call_is_left_alone_for_a_while(autojump_clock):
    """The breaker opens, refuses without sending, and lets a probe through; each change is an event with its reason."""
    policies = ServerPolicies(retry=RetryPolicy(retries=0), breaker=Breaker(3, 10.0))
    async with World(policies=policies).run() as world:
        for _ in range(3):
            await failure(world, "echo", {"error": -32603})
        calls = world.servers[0].seen.count("tools/call")
        error = await failure(world, "echo")
        assert ("transient", "not_sent", True) == (error.kind, error.sent, "breaker of tools is open" in str(error))
        assert calls == world.servers[0].seen.count("tools/call")
        assert "open" == world.session.breaker
        await trio.sleep(10)
        assert "hi" == await world.session.call("echo", {"text": "hi"})
    assert "as you wish" == world.named("tool_breaker_opened")[0].fields["reason"]
    assert 1 == len(world.named("tool_breaker_closed"))


async def test_the_death_of_a_server_opens_no_breaker(autojump_clock):
    """The owner sees to that: ten calls in hand fail, and the next one is answered by the new server."""
    policies = ServerPolicies(breaker=Breaker(3, 300.0))
    async with World(policies=policies).run() as world:
        await world.session.wait_ready()
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(failure, world, "sleep", {"seconds": 60})
            await trio.sleep(1)
            world.servers[0].die(9)
        assert "hi" == await world.session.call("echo", {"text": "hi"})
    assert [] == world.named("tool_breaker_opened")


async def test_a_new_server_gets_a_probe_at_once(autojump_clock):
    """However long the breaker would have waited for the old one."""
    policies = ServerPolicies(retry=RetryPolicy(retries=0), breaker=Breaker(1, 300.0))
    async with World(policies=policies).run() as world:
        await failure(world, "echo", {"error": -32603})
        assert "open" == world.session.breaker
        await world.session.request_restart("it misbehaves")
        assert "hi" == await world.session.call("echo", {"text": "hi"})
        assert "closed" == world.session.breaker


async def test_a_refusal_is_no_reason_to_open(autojump_clock):
    """A caller's mistakes, and errors of a tool, are answers."""
    policies = ServerPolicies(breaker=Breaker(1, 300.0))
    async with World(policies=policies).run() as world:
        for arguments in ({"error": -32602}, {"error": 7}, {"is_error": True, "text": "no page"}):
            await failure(world, "echo", arguments)
        assert "closed" == world.session.breaker


async def test_a_budget_bounds_the_retries_of_a_server(autojump_clock):
    """The call that got none says so."""
    policies = ServerPolicies(budget=RetryBudget(ratio=0.0, minimum=3), breaker=Breaker(99))
    async with World(policies=policies).run() as world:
        errors = [await failure(world, "echo", {"error": -32603}, idempotent=True) for _ in range(3)]
    assert [4, 1, 1] == [error.attempt for error in errors]
    assert "the retry budget is spent" == world.named("tool_call_not_retried")[0].fields["reason"]


async def test_a_tool_that_vanishes_makes_it_not_ready_by_name(autojump_clock):
    """The server says that its tools changed; they are listed anew, and again when it has them back."""
    async with World(expect_tools=("echo", "work")).run() as world:
        await world.session.wait_ready()
        world.servers[0].plan.tools = ("echo",)
        began = trio.current_time()
        await world.servers[0].say("notifications/tools/list_changed")
        await until(lambda: not world.session.is_ready)
        assert trio.current_time() - began < 1.0
        assert "does not offer the tools work" == world.session.reason
        world.servers[0].plan.tools = ("echo", "work")
        await world.session.wait_ready()
    assert 1 == len(world.servers)


async def test_a_tool_that_vanishes_without_a_word_is_missed_within_a_minute(autojump_clock):
    """Not every server says so."""
    async with World(expect_tools=("work",)).run() as world:
        await world.session.wait_ready()
        world.servers[0].plan.tools = ("echo",)
        await trio.sleep(61)
        assert "does not offer the tools work" == world.session.reason


async def test_restarts_are_written_to_a_file(autojump_clock, tmp_path):
    """One line each: exit code, attempt, backoff and result, whether it worked or not."""
    log = tmp_path / "logs" / "restarts.jsonl"
    plans = Plan(lifetime=50), Plan(exit_at_start=78), Plan(), Plan()
    async with World(*plans, restart_log=log).run() as world:
        await until(lambda: len(world.servers) == 3 and world.session.is_ready)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(1, 1), (78, 2)] == [(line["exit_code"], line["attempt"]) for line in lines]
    assert 0.0 == lines[0]["backoff"]
    assert 1.6 <= lines[1]["backoff"] <= 2.0
    assert "handshake failed" in lines[0]["result"]
    assert "ready" == lines[1]["result"]
    assert all(line["server"] == "tools" and line["time"] for line in lines)
    assert 1 == len(world.named("mcp_server_restart_failed"))


async def test_a_restart_log_that_cannot_be_written_is_told_once(autojump_clock, tmp_path):
    """The server does not suffer for it."""
    (tmp_path / "file").touch()
    async with World(Plan(lifetime=5), Plan(lifetime=5), restart_log=tmp_path / "file" / "log").run() as world:
        await until(lambda: len(world.servers) == 3 and world.session.is_ready)
    assert 1 == len(world.named("mcp_restart_log_failed"))


async def test_what_is_probably_permanent_is_told_with_code_and_last_words(autojump_clock):
    """After three starts that failed in the same way; the attempts go on every five minutes."""
    async with World(then=Plan(exit_at_start=78)).run() as world:
        await until(lambda: len(world.servers) == 5)
    failing = world.named("mcp_server_failing")
    assert [3, 4] == [event.fields["attempt"] for event in failing[:2]]
    assert (True, 78, "starting\nout of luck") == (
        failing[0].fields["probably_permanent"],
        failing[0].fields["exit_code"],
        failing[0].fields["stderr"],
    )
    assert "probably permanent" in failing[0].fields["reason"]
    assert "exit code 78" in failing[0].fields["reason"]
    assert "out of luck" in failing[0].fields["reason"]
    assert all(gap >= 240 for gap in world.gaps[2:])


async def test_a_server_that_fails_to_start_is_not_asked_again_how_it_wants_to_be_spoken_to(autojump_clock):
    """One that ignores what it does not know would cost ten seconds at each start that follows a bad one."""
    ignores = Plan(on_discover="ignore")
    plans = (ignores, Plan(on_discover="ignore", exit_at_start=1), ignores)
    async with World(*plans).run() as world:
        await world.session.wait_ready()
        world.servers[0].die(1)
        await until(lambda: len(world.servers) == 3 and world.session.is_ready)
    assert ["server/discover", "initialize"] == [world.servers[0].seen[0], world.servers[2].seen[0]]
    assert "server/discover" not in world.servers[1].seen


async def test_a_server_that_says_nothing_in_time_is_spoken_to_in_the_old_way(autojump_clock):
    """Where the time for a start is shorter than the wait for its answer to what it ignores."""
    async with World(then=Plan(on_discover="ignore"), start_timeout=5.0).run() as world:
        await world.session.wait_ready()
    assert 2 == len(world.servers)


@pytest.mark.parametrize(("protocol", "first"), [("2025-11-25", "initialize"), ("auto", "server/discover")])
async def test_the_protocol_may_be_configured(autojump_clock, protocol, first):
    """Then nothing is asked."""
    async with World(protocol=protocol).run() as world:
        await world.session.wait_ready()
    assert first == world.servers[0].seen[0]
