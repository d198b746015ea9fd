"""The control socket: requests that are well, and all the others."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from agentrt.cli.control import MAX_CONNECTIONS, MAX_REQUEST, REQUEST_LIMIT, ask, open_control
from agentrt.cli.exits import ExitCode, Failure

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping


async def echo(request: Mapping[str, Any]) -> Any:
    return {"said": request.get("text", "nothing")}


async def fall(_request: Mapping[str, Any]) -> Any:
    raise LookupError("no such thing")


async def hang(_request: Mapping[str, Any]) -> Any:
    await trio.sleep_forever()


@asynccontextmanager
async def control(folder: Path) -> AsyncIterator[str]:
    async with open_control(folder, {"echo": echo, "fall": fall, "hang": hang}) as path:
        yield str(path)


async def request(path: str, data: bytes) -> Any:
    async with await trio.open_unix_socket(path) as stream:
        await stream.send_all(data)
        answer = b""
        async for chunk in stream:
            answer += chunk
    return json.loads(answer)


async def test_a_request_is_answered(tmp_path: Path) -> None:
    """One line in, one line out."""
    async with control(tmp_path) as path:
        answer = await request(path, b'{"do": "echo", "text": "hi"}\n')
    assert {"answer": {"said": "hi"}} == answer


async def test_the_client_gets_what_the_handler_returns(tmp_path: Path) -> None:
    """The two halves of this module speak the same language."""
    async with control(tmp_path) as path:
        assert {"said": "nothing"} == await trio.to_thread.run_sync(
            lambda: ask(path, "echo", health="h", pid=os.getpid())
        )


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"hello\n", "not a JSON object"),
        (b"\xff\xfe\n", "not a JSON object"),
        (b"[" * 50_000 + b"\n", "not a JSON object"),
        (b"[1]\n", "a request is an object"),
        (b'{"do": 1}\n', "a request is an object"),
        (b'{"do": "dance"}\n', "there is no request 'dance', only echo, fall, hang"),
        (b'{"do": "fall"}\n', "LookupError: no such thing"),
        (b"x" * (MAX_REQUEST + 1), f"at most {MAX_REQUEST} bytes"),
    ],
)
async def test_a_bad_request_gets_an_error_and_breaks_nothing(tmp_path: Path, data: bytes, error: str) -> None:
    """The next request is answered as if nothing had been."""
    async with control(tmp_path) as path:
        assert error in (await request(path, data))["error"]
        assert "answer" in await request(path, b'{"do": "echo"}\n')


async def test_a_handler_that_hangs_is_given_up(tmp_path: Path, autojump_clock: Any) -> None:
    """Whoever asks hears of it before the connection ends."""
    async with control(tmp_path) as path:
        assert "it took longer than" in (await request(path, b'{"do": "hang"}\n'))["error"]
    assert trio.current_time() < REQUEST_LIMIT


async def test_a_client_that_says_nothing_is_sent_away(tmp_path: Path, autojump_clock: Any) -> None:
    """As many as fit at once must not keep the next one out for longer than the limit."""
    async with control(tmp_path) as path:
        silent = [await trio.open_unix_socket(path) for _ in range(MAX_CONNECTIONS)]
        with trio.fail_after(REQUEST_LIMIT + 1):
            assert "answer" in await request(path, b'{"do": "echo"}\n')
        for stream in silent:
            await stream.aclose()


async def test_a_client_that_leaves_early_breaks_nothing(tmp_path: Path) -> None:
    """In the middle of its request or before its answer."""
    async with control(tmp_path) as path:
        for data in (b"", b'{"do"', b'{"do": "echo"}\n'):
            async with await trio.open_unix_socket(path) as stream:
                await stream.send_all(data)
        assert "answer" in await request(path, b'{"do": "echo"}\n')


async def test_the_socket_is_for_its_owner_only_and_goes_at_the_end(tmp_path: Path) -> None:
    """Who may write to it may stop the fleet."""
    async with control(tmp_path) as path:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600  # noqa: PTH116 - the async rule forbids the other.
    assert os.listdir(tmp_path) == []  # noqa: PTH208


async def test_a_socket_that_a_killed_run_left_behind_is_no_obstacle(tmp_path: Path) -> None:
    """It is replaced."""
    (tmp_path / "control.sock").touch()
    async with control(tmp_path) as path:
        assert "answer" in await request(path, b'{"do": "echo"}\n')


async def test_a_path_too_long_for_a_socket_moves_to_a_private_folder(tmp_path: Path) -> None:
    """A path of a socket holds about a hundred bytes, and a temporary folder of its own is left by nobody."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    async with control(folder) as path:
        assert "answer" in await request(path, b'{"do": "echo"}\n')
        spare = Path(path).parent
        assert spare != folder
        assert stat.S_IMODE(spare.stat().st_mode) == 0o700
    assert not spare.exists()


async def test_a_folder_that_takes_no_socket_is_said_in_words(tmp_path: Path) -> None:
    """A mistake of a person or a disk is no traceback."""
    with pytest.raises(Failure, match="no such file") as caught:
        async with control(tmp_path / "gone"):
            pass
    assert ExitCode.SYSTEM is caught.value.code


async def test_a_fleet_that_does_not_answer_is_called_blocked(tmp_path: Path) -> None:
    """The system still accepts for it, so the silence is the only sign; health is served beside the loop."""
    async with control(tmp_path) as path:
        with pytest.raises(Failure, match=r"blocks its event loop.*http://127.0.0.1:8080/health/live") as caught:
            # Called in the loop itself: so it is really blocked.
            ask(path, "echo", health="127.0.0.1:8080", pid=os.getpid(), limit=0.05)
    assert ExitCode.NO_ANSWER is caught.value.code


@pytest.fixture
def stopped() -> Iterator[int]:
    """Give the id of a process that is stopped."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    try:
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        yield process.pid
    finally:
        process.kill()
        process.wait()


async def test_a_fleet_whose_process_is_stopped_is_not_called_blocked(tmp_path: Path, stopped: int) -> None:
    """Nothing in its code is wrong: it waits for whoever stopped it."""
    async with control(tmp_path) as path:
        with pytest.raises(Failure, match=f"is stopped.*kill -CONT {stopped}$") as caught:
            ask(path, "echo", health="h", pid=stopped, limit=0.05)
    assert ExitCode.NO_ANSWER is caught.value.code


def test_a_socket_that_nobody_listens_on_is_said_in_words(tmp_path: Path) -> None:
    """It may be gone or left behind."""
    with pytest.raises(Failure, match="no such file") as caught:
        ask(os.fspath(tmp_path / "control.sock"), "ps", health="h", pid=os.getpid())
    assert ExitCode.TRY_LATER is caught.value.code


async def test_an_error_from_the_fleet_reaches_whoever_asked(tmp_path: Path) -> None:
    """With its text."""
    async with control(tmp_path) as path:
        with pytest.raises(Failure, match="LookupError: no such thing"):
            await trio.to_thread.run_sync(lambda: ask(path, "fall", health="h", pid=os.getpid()))
