"""Lines out of a stream of bytes, and the last words of a server."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors._environment import server_environment
from actors._stdio import LastWords, LineSplitter


@given(st.lists(st.binary(max_size=20)), st.integers(1, 7))
def test_lines_do_not_depend_on_how_the_bytes_arrive(lines, size):
    """Whatever the chunks, the lines are those between the newlines."""
    stream = b"".join(line + b"\n" for line in lines)
    splitter = LineSplitter(1000, dropped=pytest.fail)
    found = [line for start in range(0, len(stream), size) for line in splitter.feed(stream[start : start + size])]
    assert found == stream.split(b"\n")[:-1]


@given(st.lists(st.integers(0, 30), max_size=20), st.integers(1, 40))
def test_a_line_over_the_limit_is_dropped_and_its_neighbours_are_not(sizes, size):
    """Exactly the lines above the limit are missing, each reported once."""
    dropped: list[int] = []
    splitter = LineSplitter(10, dropped=dropped.append)
    stream = b"".join(b"x" * length + b"\n" for length in sizes)
    found = [line for start in range(0, len(stream), size) for line in splitter.feed(stream[start : start + size])]
    assert [len(line) for line in found] == [length for length in sizes if length <= 10]
    assert len(dropped) == len([length for length in sizes if length > 10])


def test_last_words_are_twenty_lines_at_most():
    """The end counts."""
    words = LastWords(None)
    for number in range(50):
        words.feed(f"line {number}\n".encode())
    assert words.text().splitlines() == [f"line {number}" for number in range(30, 50)]


def test_last_words_are_eight_kibibytes_at_most():
    """One endless line is cut at its front."""
    words = LastWords(None)
    words.feed(b"a" * 100_000)
    words.feed(b"end")
    assert words.text() == "a" * (8192 - 3) + "end"


def test_bytes_that_are_no_text_do_no_harm():
    """A bad byte costs a character."""
    words = LastWords(None)
    words.feed(b"caf\xe9\n")
    assert words.text() == "caf\ufffd"


def test_the_log_is_bounded(tmp_path):
    """A flood of stderr fills no disk: past 1 MiB a new file begins, and one old one is kept."""
    log = tmp_path / "logs" / "tools.log"
    words = LastWords(log)
    for _ in range(40):
        words.feed(b"x" * 64 * 1024)
    words.feed(b"last\n")
    words.close()
    assert sorted(path.name for path in log.parent.iterdir()) == ["tools.log", "tools.log.1"]
    assert sum(path.stat().st_size for path in log.parent.iterdir()) <= 2 * 1024 * 1024 + 2 * 64 * 1024
    assert log.read_bytes().endswith(b"last\n")


def test_a_log_that_cannot_be_written_is_given_up(tmp_path):
    """The server does not suffer for its log."""
    (tmp_path / "file").write_text("")
    words = LastWords(tmp_path / "file" / "tools.log")
    words.feed(b"hello\n")
    words.feed(b"again\n")
    assert words.text() == "hello\nagain"


def test_a_server_s_environment_takes_secrets_by_reference(monkeypatch, tmp_path):
    """What stands in the configuration is a reference; the value is read when the server is started."""
    (tmp_path / "token").write_text("from a file\n")
    monkeypatch.setenv("ARCHIVE_KEY", "from the environment")
    configured = {"KEY": "env:ARCHIVE_KEY", "TOKEN": f"file:{tmp_path / 'token'}", "MODE": "plain: as it stands"}
    found = server_environment(configured)
    assert {name: found[name] for name in configured} == {
        "KEY": "from the environment",
        "TOKEN": "from a file",
        "MODE": "plain: as it stands",
    }


def test_a_server_finds_the_python_that_runs_the_fleet(monkeypatch):
    """``python -m some_server`` is the one beside which the server is installed; a configured PATH wins."""
    monkeypatch.setenv("PATH", "/usr/bin")
    assert server_environment({})["PATH"] == f"{Path(sys.executable).parent}{os.pathsep}/usr/bin"
    assert server_environment({"PATH": "/opt"})["PATH"] == "/opt"
