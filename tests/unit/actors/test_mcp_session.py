"""A tool server's owner and the session's calls, in virtual time: the SDK's real client over a server in memory."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from mcp_kit import Plan, World, until

from actors.mcp_session import McpToolSession
from agentrt.ports import ToolDefinition, ToolError


async def test_a_started_server_is_ready_and_names_its_tools(autojump_clock):
    """Ready means: handshake done and tools listed."""
    async with World().run() as world:
        await world.session.wait_ready()
        assert world.session.reason == "ready"
        assert world.session.tools == ("echo", "sleep", "work", "die")
        assert world.session.pid == 100
        assert await world.session.call("echo", {"text": "hi"}) == "hi"
    started = world.named("mcp_server_started")[0]
    assert {"server": "tools", "pid": 100, "attempt": 1}.items() <= started.fields.items()


async def test_a_dead_server_is_restarted_at_once(autojump_clock):
    """The first restart waits for nothing, and its event leads back to the exit."""
    async with World(Plan(lifetime=100)).run() as world:
        await until(lambda: len(world.servers) == 2)
        await world.session.wait_ready()
    assert world.gaps == [100.0]
    exited = world.named("mcp_server_exited")[0]
    restarted = world.named("mcp_server_restarted")[0]
    assert restarted.cause == exited.id
    assert (restarted.fields["attempt"], restarted.fields["backoff"]) == (1, 0.0)
    expected = {"exit_code": 1, "stderr": "starting\nout of luck", "uptime": 100.0, "attempt": 1}
    assert expected.items() <= exited.fields.items()


async def test_a_server_that_dies_soon_after_each_start_is_held_back(autojump_clock):
    """At once, then 2 s doubling to 60 s, up to 20 % less; from the tenth failure on minutes, and it never gives up."""
    async with World(then=Plan(lifetime=1.0)).run() as world:
        await until(lambda: len(world.servers) == 13)
    pauses = [gap - 1.0 for gap in world.gaps]
    for pause, longest in zip(pauses, [0, 2, 4, 8, 16, 32, 60, 60, 60], strict=False):
        assert longest * 0.8 - 0.001 <= pause <= longest + 0.001
    assert all(pause >= 240 for pause in pauses[9:])
    assert [event.fields["attempt"] for event in world.named("mcp_server_failing")] == [10, 11, 12]


async def test_an_answered_call_is_a_good_start(autojump_clock):
    """A good start resets the backoff: a server that works and dies is restarted at once, each time."""
    async with World(then=Plan(lifetime=1.0)).run() as world:
        for count in range(1, 6):
            await until(lambda count=count: len(world.servers) == count)
            await world.session.call("echo")
        await until(lambda: len(world.servers) == 6)
    assert world.gaps == [1.0] * 5


async def test_a_command_that_is_not_there_is_tried_again(autojump_clock):
    """What a server needs may come back, so not even a missing command is given up; the reason names it."""
    missing = Plan(error=FileNotFoundError(2, "No such file or directory"))
    async with World(missing, missing, missing).run() as world:
        await trio.sleep(1)
        assert not world.session.is_ready
        assert world.session.reason.startswith("cannot start 'tools': No such file or directory; started again in ")
        await world.session.wait_ready()
    assert world.named("mcp_server_exited")[0].fields["exit_code"] is None
    assert world.named("mcp_server_failing")[0].fields["probably_permanent"] is True


async def test_a_folder_that_is_not_there_is_named(autojump_clock, tmp_path):
    """The system says the same of a program that is missing."""
    missing = Plan(error=FileNotFoundError(2, "No such file or directory"))
    async with World(then=missing, cwd=tmp_path / "gone").run() as world:
        await trio.sleep(1)
        assert f"cannot start 'tools' in {tmp_path}/gone: No such file or directory" in world.session.reason


async def test_a_server_that_exits_at_start_says_why(autojump_clock):
    """The exit code and the end of stderr stand in the event, and the last line in the reason."""
    async with World(then=Plan(exit_at_start=78)).run() as world:
        await trio.sleep(3)
        said = "handshake failed: Connection closed, it exited with code 78 (out of luck); started again in "
        assert world.session.reason.startswith(said)
    fields = world.named("mcp_server_exited")[0].fields
    assert (fields["exit_code"], fields["stderr"]) == (78, "starting\nout of luck")


async def test_the_reason_says_how_long_it_still_is_to_the_next_start(autojump_clock):
    """At each look: what is told once, when it begins, is soon wrong by minutes."""
    missing = Plan(error=FileNotFoundError(2, "No such file or directory"))
    async with World(then=missing).run() as world:
        await until(lambda: world.named("mcp_server_failing"))
        await trio.sleep(0.1)

        def seconds() -> float:
            return float(world.session.reason.rpartition(" in ")[2].removesuffix(" s"))

        before = seconds()
        await trio.sleep(100)
        assert 100.0 == pytest.approx(before - seconds(), abs=0.11)


async def test_a_server_that_starts_again_says_how_it_failed_before(autojump_clock):
    """Else whoever looks while it starts learns nothing."""
    async with World(then=Plan(start_delay=100.0), start_timeout=5.0).run() as world:
        await trio.sleep(4)
        assert "starting" == world.session.reason
        await trio.sleep(4)
        assert "starting; before that: not ready within 5 s of its start (out of luck)" == world.session.reason


async def test_a_server_that_does_not_get_ready_is_replaced(autojump_clock):
    """Handshake and tool list have the start timeout in all."""
    async with World(Plan(start_delay=100.0), start_timeout=5.0).run() as world:
        await until(lambda: world.named("mcp_server_exited"))
        assert world.named("mcp_server_exited")[0].fields["reason"] == "not ready within 5 s of its start"
        await world.session.wait_ready()
    assert world.gaps == [5.0]


async def test_a_server_that_exits_on_an_unknown_method_is_started_in_the_old_way(autojump_clock):
    """Some servers die of the probe for the new protocol; they are respawned without it, and not probed again."""
    async with World(then=Plan(on_discover="exit")).run() as world:
        await world.session.wait_ready()
        assert len(world.servers) == 2
        await world.session.call("echo")
        world.servers[-1].die(1)
        await until(lambda: len(world.servers) == 3)
        await world.session.wait_ready()
    assert [server.seen[0] for server in world.servers] == ["server/discover", "initialize", "initialize"]


async def test_a_server_that_ignores_an_unknown_method_costs_its_wait_once(autojump_clock):
    """The probe's ten seconds are spent at the first start only."""
    async with World(then=Plan(on_discover="ignore")).run() as world:
        await world.session.wait_ready()
        assert trio.current_time() - world.starts[0] == pytest.approx(10.0)
        world.servers[0].die(1)
        await until(lambda: len(world.servers) == 2)
        await world.session.wait_ready()
        assert trio.current_time() - world.starts[1] < 1.0


async def test_missing_tools_make_it_not_ready_by_name_until_they_are_there(autojump_clock):
    """A server that lacks an expected tool serves the others, and is asked again at each ping."""
    async with World(Plan(tools=("echo",)), expect_tools=("echo", "search")).run() as world:
        await until(lambda: world.servers and world.session.tools)
        assert not world.session.is_ready
        assert world.session.reason == "does not offer the tools search"
        assert await world.session.call("echo", {"text": "hi"}) == "hi"
        world.servers[0].plan.tools = ("echo", "search")
        await world.session.wait_ready()
    assert len(world.servers) == 1
    assert [event.fields["missing"] for event in world.named("mcp_tools_missing")] == [["search"]]


async def test_a_silent_server_is_not_ready_within_five_seconds_and_replaced(autojump_clock):
    """Two pings in a row without an answer: not ready after the first, killed after the second."""
    async with World().run() as world:
        await world.session.wait_ready()
        await trio.sleep(10.1)
        world.servers[0].freeze()
        frozen_at = trio.current_time()
        await until(lambda: not world.session.is_ready)
        assert trio.current_time() - frozen_at <= 5.0
        assert world.session.reason.startswith("no answer to ping for ")
        await world.session.wait_ready()
        assert trio.current_time() - frozen_at <= 7.0
    unresponsive, exited = world.named("mcp_server_unresponsive")[0], world.named("mcp_server_exited")[0]
    assert exited.cause == unresponsive.id
    assert world.servers[0].returncode == -9


async def test_a_server_that_answers_again_is_ready_again(autojump_clock):
    """One missed ping is no reason to kill."""
    async with World().run() as world:
        await world.session.wait_ready()
        world.servers[0].freeze()
        await until(lambda: not world.session.is_ready)
        world.servers[0].thaw()
        await world.session.wait_ready()
        await trio.sleep(20)
    assert len(world.servers) == 1


async def test_a_server_busy_with_a_call_is_left_alone(autojump_clock):
    """While a call is within its deadline, silence is no sign of death, and no ping is sent."""
    async with World().run() as world:
        await world.session.wait_ready()
        assert await world.session.call("work", {"seconds": 50, "text": "done"}) == "done"
        assert "ping" not in world.servers[0].seen
    assert len(world.servers) == 1
    assert world.named("mcp_server_unresponsive") == []


async def test_a_call_past_its_deadline_is_followed_by_pings_and_a_stopped_server_found(autojump_clock):
    """A timeout fails the call, and a ping at once, not at the next interval, begins to judge the server."""
    async with World().run() as world:
        await world.session.wait_ready()
        world.servers[0].freeze()
        with pytest.raises(ToolError) as caught:
            await world.session.call("echo", timeout=3.0)
        timed_out_at = trio.current_time()
        assert (caught.value.kind, caught.value.may_have_happened) == ("timeout", True)
        await until(lambda: not world.session.is_ready)
        assert trio.current_time() - timed_out_at <= 2.2
        await world.session.wait_ready()
        assert len(world.servers) == 2


async def test_no_server_is_judged_while_a_call_runs_inside_its_deadline(autojump_clock):
    """Another call that timed out is no reason to kill it in the middle of its work."""
    async with World().run() as world, trio.open_nursery() as nursery:
        await world.session.wait_ready()
        answers: list[str] = []

        async def work() -> None:
            answers.append(await world.session.call("work", {"seconds": 50, "text": "done"}))

        nursery.start_soon(work)
        await trio.sleep(0.1)
        with pytest.raises(ToolError):
            await world.session.call("echo", timeout=3.0)
        await until(lambda: answers)
        assert answers == ["done"]
        await trio.sleep(10)
    assert len(world.servers) == 1
    assert world.named("mcp_server_unresponsive") == []


async def _expect_tool_error(session: McpToolSession, tool: str, arguments: dict[str, Any], timeout: float) -> None:
    with pytest.raises(ToolError):
        await session.call(tool, arguments, timeout=timeout)


async def test_calls_wait_while_the_server_is_restarted(autojump_clock):
    """A call that begins while no server is there waits for the next one, and is no retry."""
    async with World(Plan(lifetime=1.0), Plan(lifetime=1.0)).run() as world:
        await until(lambda: len(world.servers) == 2 and world.servers[1].exited.is_set())
        assert not world.session.is_ready
        assert await world.session.call("echo", {"text": "hi"}) == "hi"
    assert world.named("tool_call_retried") == []


async def test_a_call_without_a_server_ends_at_its_deadline_and_says_why(autojump_clock):
    """Waiting is bounded by the call's own limit; nothing was sent, so nothing can have happened."""
    async with World(then=Plan(exit_at_start=3)).run() as world:
        began = trio.current_time()
        with pytest.raises(ToolError, match=r"no server within 5 s: .*out of luck") as caught:
            await world.session.call("echo", timeout=5.0)
        assert trio.current_time() - began == pytest.approx(5.0)
        assert (caught.value.kind, caught.value.may_have_happened) == ("transient", False)


async def test_a_call_in_hand_at_the_death_is_not_repeated(autojump_clock):
    """It may have happened, and only its caller knows whether twice does harm."""
    async with World().run() as world:
        with pytest.raises(ToolError, match="the server exited with code 5 during the call") as caught:
            await world.session.call("die", {"code": 5})
        assert (caught.value.kind, caught.value.may_have_happened, caught.value.attempt) == ("transient", True, 1)
        await world.session.wait_ready()
    assert world.named("tool_call_retried") == []


@pytest.mark.parametrize("by_config", [True, False])
async def test_an_idempotent_call_is_repeated_after_the_death(autojump_clock, by_config):
    """By argument or by configuration; the retry and the recovery are events."""
    async with World(idempotent=("sleep",) if by_config else ()).run() as world:
        await world.session.wait_ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_die_soon, world)
            answer = await world.session.call("sleep", {"seconds": 5}, idempotent=not by_config)
    assert answer == "from 101"
    retried, recovered = world.named("tool_call_retried")[0], world.named("tool_call_recovered")[0]
    assert {"tool": "sleep", "attempt": 1}.items() <= retried.fields.items()
    assert 0.5 <= retried.fields["wait"] <= 0.65
    assert recovered.fields["attempt"] == 2


async def _die_soon(world: World) -> None:
    await trio.sleep(1)
    world.servers[0].die(9)


async def test_a_call_that_the_dead_server_never_read_is_repeated(autojump_clock):
    """What stayed in the pipe cannot have happened, so it is sent again whatever it is."""
    async with World().run() as world:
        await world.session.wait_ready()
        world.servers[0].reading = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_die_soon, world)
            answer = await world.session.call("echo", {"text": "hi"})
        assert answer == "hi"
    assert len(world.named("tool_call_retried")) == 1


@pytest.mark.parametrize(
    ("arguments", "kind", "attempts"),
    [
        ({"error": -32602}, "permanent", 1),
        ({"error": -32022}, "permanent", 1),
        ({"error": -32603}, "transient", 5),
        ({"error": -32001}, "transient", 5),
        ({"error": 7}, "tool", 1),
        ({"is_error": True, "text": "no such page"}, "tool", 1),
    ],
)
async def test_only_passing_failures_are_tried_again(autojump_clock, arguments, kind, attempts):
    """The server's own trouble passes; a refusal and a tool's error do not."""
    async with World().run() as world:
        with pytest.raises(ToolError) as caught:
            await world.session.call("echo", arguments, idempotent=True)
    assert (caught.value.kind, caught.value.attempt) == (kind, attempts)
    assert len(world.named("tool_call_retried")) == attempts - 1


async def test_an_unknown_tool_is_refused_after_a_second_look(autojump_clock):
    """Servers may add tools; a name that is not there even then is permanent, and the message lists what is."""
    async with World(Plan(tools=("echo",))).run() as world:
        await world.session.wait_ready()
        with pytest.raises(ToolError, match="no such tool; the server offers echo") as caught:
            await world.session.call("search")
        assert caught.value.kind == "permanent"
        world.servers[0].plan.tools = ("echo", "search")
        assert await world.session.call("search", {"text": "found"}) == "found"


async def test_a_requested_restart_lets_the_call_in_hand_finish(autojump_clock):
    """New calls wait and are answered by the new server; the restart is no failure and waits for nothing."""
    async with World().run() as world, trio.open_nursery() as nursery:
        await world.session.wait_ready()
        answers: list[str] = []

        async def call(tool: str, arguments: dict[str, Any]) -> None:
            answers.append(await world.session.call(tool, arguments))

        nursery.start_soon(call, "sleep", {"seconds": 5})
        await trio.sleep(1)
        nursery.start_soon(world.session.request_restart, "it holds 200 MiB")
        await trio.sleep(1)
        assert world.session.reason == "restarts: it holds 200 MiB"
        nursery.start_soon(call, "echo", {})
        await until(lambda: len(answers) == 2)
    assert answers == ["from 100", "from 101"]
    exited = world.named("mcp_server_exited")[0].fields
    assert (exited["attempt"], exited["backoff"], exited["exit_code"]) == (0, 0.0, -9)


async def test_a_requested_restart_waits_no_longer_than_its_bound(autojump_clock):
    """A call that does not finish is cut off, and told so."""
    async with World().run() as world, trio.open_nursery() as nursery:
        await world.session.wait_ready()
        nursery.start_soon(_expect_tool_error, world.session, "sleep", {"seconds": 1000}, 2000.0)
        await trio.sleep(1)
        began = trio.current_time()
        await world.session.request_restart("leak", finish_within=30.0)
        assert trio.current_time() - began == pytest.approx(30.0)


async def test_after_the_stop_the_session_is_down(autojump_clock):
    """A handle whose actor is gone says so."""
    async with World().run() as world:
        await world.session.wait_ready()
    assert (world.session.is_ready, world.session.reason, world.session.pid) == (False, "stopped", None)
    assert world.servers[0].returncode == -15


async def test_a_session_tells_what_a_model_has_to_know_of_a_tool(autojump_clock):
    """Its arguments stand there as the server wrote them, keywords and all."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "$defs": {"a": {}}, "if": {}}
    async with World(Plan(tools=("echo",), schema=schema)).run() as world:
        await world.session.wait_ready()
        assert world.session.definitions == (ToolDefinition("echo", "", schema),)


FORM = {"type": "object", "properties": {"name": {"type": "string", "default": "Ada"}}}


@pytest.mark.parametrize(
    ("params", "reply", "told"),
    [
        ({"requestedSchema": FORM}, {"action": "accept", "content": {"name": "Ada"}}, "defaults"),
        ({"requestedSchema": FORM | {"required": ["age"]}}, {"action": "decline"}, "declined"),
        ({"mode": "url", "url": "http://127.0.0.1/", "elicitationId": "1"}, {"action": "decline"}, "declined"),
    ],
)
async def test_a_form_is_answered_with_its_defaults_where_that_is_configured(params, reply, told, autojump_clock):
    """Each answer is told; a page that a person would have to visit is declined."""
    async with World(elicitation="defaults").run() as world:
        await world.session.wait_ready()
        answer = await world.servers[0].ask("elicitation/create", {"message": "Who?", **params})
    assert {"result": reply} == answer
    event = world.named("mcp_input_requested")[0]
    assert {"server": "tools", "message": "Who?", "answer": told}.items() <= event.fields.items()


async def test_a_server_is_told_that_nobody_answers_forms(autojump_clock):
    """Unless it is configured otherwise."""
    async with World().run() as world:
        await world.session.wait_ready()
        answer = await world.servers[0].ask("elicitation/create", {"message": "Who?", "requestedSchema": FORM})
    assert answer["error"]["code"] == -32600
