"""The commands, as far as they go without a fleet that runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from typer.testing import CliRunner, Result

from agentrt.cli.exits import ExitCode
from agentrt.cli.init import fleet_name
from agentrt.cli.main import COMMANDS, app
from agentrt.cli.statedir import hold
from agentrt.config import load

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = """
schema = 1
[fleet]
name = "newsroom"
[agents.editor]
class = "cli_newsroom:Editor"
mcp = ["archive"]
[agents.writer]
class = "cli_newsroom:Editor"
[mcp.global.archive]
command = ["archive"]
"""
MODULE = "from agentrt.agent import Agent\nclass Editor(Agent):\n    async def handle(self, task): return 1\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "config.toml").write_text(CONFIG)
    (tmp_path / "cli_newsroom.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("cli_newsroom", None)


def call(*args: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, args, input=stdin)


def test_the_version_is_that_of_the_installed_package() -> None:
    """There is one place that says it."""
    assert call("--version").output == f"agentrt {version('agentrt')}\n"


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    """It is written down once more, so that the list imports none of them."""
    group = typer.main.get_command(app)
    for name, (_, line) in COMMANDS.items():
        command = group.get_command(None, name)
        below = list(getattr(command, "commands", ()))
        said = f"{command.help.rstrip('.')}: {', '.join(below)}." if below else command.help.partition("\n")[0]
        assert said == line


@pytest.mark.parametrize(
    "args", [["--help"], ["mcp", "--help"], ["config", "--help"], ["export", "--help"]], ids=" ".join
)
def test_no_line_of_a_list_of_commands_is_cut_off(args: list[str]) -> None:
    """In a terminal of the usual width."""
    commands = call(*args).output.partition("Commands:")[2]
    assert commands
    assert "..." not in commands


def test_the_list_of_commands_imports_none_of_them() -> None:
    """So it is there at once."""
    code = "import sys; from agentrt.cli.main import app; app(['--help'], standalone_mode=False); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"agentrt.cli.main", "agentrt.cli.exits"} == {name for name in loaded if name.startswith("agentrt.cli.")}
    assert not {"trio", "rich", "structlog"} & set(loaded)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("args", [["--help"], ["check"], ["check", "--json"]], ids=" ".join)
def test_an_output_that_cannot_be_written_is_a_sentence(folder: Path, args: list[str]) -> None:
    """As where it goes to a file on a disk that is full."""
    command = [sys.executable, "-m", "agentrt", *args]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ExitCode.SYSTEM == done.returncode
    assert "agentrt: the output cannot be written: no space left on device\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_configuration_has_its_usual_name_where_none_is_given(folder: Path) -> None:
    """As every other command takes it."""
    assert call("check").output == call("check", "config.toml").output
    (folder / "config.toml").unlink()
    assert "config.toml: there is no such file" in call("run").stderr


# check


def test_check_says_what_would_run(folder: Path) -> None:
    """In a few lines."""
    result = call("check", "config.toml")
    assert result.exit_code == ExitCode.OK
    assert "fleet    newsroom, state in " in result.output
    assert "agent    editor: cli_newsroom:Editor, tools archive (global)" in result.output
    assert not (folder / ".agentrt").exists()


def test_check_finds_every_problem_at_once(folder: Path) -> None:
    """With the line of each, the classes included."""
    text = CONFIG.replace("cli_newsroom:Editor", "cli_newsroom:Editr", 1).replace(
        "[agents.writer]", "[agents.writer]\nrol = 1"
    )
    (folder / "config.toml").write_text(text)
    result = call("check", "config.toml")
    assert result.exit_code == ExitCode.CONFIG
    assert "the configuration cannot be used (2 problems):" in result.stderr
    assert 'config.toml:6: agents.editor.class: the module "cli_newsroom" has no class "Editr"' in result.stderr
    assert "config.toml:9: agents.writer.rol: unknown key" in result.stderr
    assert result.stdout == ""


def test_check_says_it_in_json_too(folder: Path) -> None:
    """For a pipeline: right or wrong, it is one object on standard output."""
    found = json.loads(call("check", "config.toml", "--json").stdout)
    assert (found["ok"], found["fleet"]["agents"]["editor"]["tools"]) == (True, {"archive": "global"})
    (folder / "config.toml").write_text("schema = 2")
    result = call("check", "config.toml", "--json")
    assert result.exit_code == ExitCode.CONFIG
    assert [problem["key_path"] for problem in json.loads(result.stdout)["problems"]] == ["agents", "fleet", "schema"]


def test_what_modules_print_is_no_part_of_the_answer(folder: Path) -> None:
    """A module of somebody's own may print while it is imported."""
    (folder / "cli_newsroom.py").write_text(f"print('loading')\n{MODULE}")
    result = call("check", "config.toml", "--json")
    assert json.loads(result.stdout)["ok"] is True
    assert result.stderr == "loading\n"


def test_check_warns_of_what_nobody_uses(folder: Path) -> None:
    """It is not wrong, so it is no failure."""
    (folder / "config.toml").write_text(f"{CONFIG}\n[policies.retry.gentle]\n")
    result = call("check", "config.toml")
    assert result.exit_code == ExitCode.OK
    assert "warning: config.toml:13: policies.retry.gentle" in result.stderr
    assert 'warning: config.toml:11: mcp.global.archive.command: there is no program "archive"' in result.stderr


def test_no_secret_of_a_url_is_printed(folder: Path) -> None:
    """Such URLs exist, and terminals are recorded."""
    (folder / "config.toml").write_text(f'{CONFIG}\n[bus]\nurl = "nats://me:hunter2@a:4222, nats://b:4222"\n')
    output = call("check", "config.toml").output
    assert "hunter2" not in output
    assert "nats://a:4222, nats://b:4222" in output


# run


def test_run_refuses_a_wrong_configuration_with_every_problem(folder: Path) -> None:
    """Before it touches anything."""
    (folder / "config.toml").write_text("schema = 2")
    result = call("run", "config.toml")
    assert result.exit_code == ExitCode.CONFIG
    assert "agentrt: the configuration cannot be used (3 problems):\nconfig.toml:1: agents: " in result.stderr
    assert not (folder / ".agentrt").exists()


def test_run_refuses_a_state_directory_that_another_run_holds(folder: Path) -> None:
    """And says who does."""
    with hold(folder / ".agentrt"):
        result = call("run", "config.toml")
    assert result.exit_code == ExitCode.TRY_LATER
    assert f"(pid {os.getpid()})" in result.stderr


# ps, tree, stop, send


@pytest.mark.parametrize(
    "args", [("ps",), ("tree", "--json"), ("stop",), ("send", "editor", "{}"), ("outcome", "1234abcd")]
)
def test_without_a_fleet_each_command_says_so(folder: Path, args: tuple[str, ...]) -> None:
    """And how to start one."""
    result = call(*args)
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert result.stderr == f"agentrt: no fleet runs on {folder}/.agentrt; start it with: agentrt run config.toml\n"


@pytest.mark.parametrize("args", [("ps",), ("tree",), ("stop",), ("send", "editor", "{}", "--timeout", "100ms")])
def test_a_fleet_that_is_starting_is_not_called_missing(folder: Path, args: tuple[str, ...]) -> None:
    """Somebody holds the state directory and has not said yet where it can be reached."""
    with hold(folder / ".agentrt"):
        result = call(*args)
    assert result.exit_code == ExitCode.TRY_LATER
    assert "is starting or stopping; try again in a moment" in result.stderr


@pytest.mark.parametrize(("agent", "hint"), [("editr", 'did you mean "editor"?'), ("x", "there are: editor, writer")])
def test_an_unknown_agent_is_an_error_that_names_those_that_exist(folder: Path, agent: str, hint: str) -> None:
    """Before anything is stored."""
    result = call("send", agent, "{}")
    assert result.exit_code == ExitCode.NO_SUCH_AGENT
    assert f"there is no agent '{agent}' in config.toml; {hint}" in result.stderr


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ('{"a" 1}', "the payload is not JSON: line 1 column 6: Expecting ':' delimiter"),
        ("hello", "the payload is not JSON: line 1 column 1: Expecting value; a text is written with its quotes"),
        ("[NaN]", "the payload is not JSON in UTF-8: there is no NaN in JSON"),
        ("[" * 100_000, "the payload is not JSON in UTF-8: "),
        ("@gone.json", "gone.json cannot be read: no such file or directory"),
        ("@bad.json", "bad.json is not JSON: line 2 column 1: Expecting value"),
        ("@latin.json", "latin.json is not JSON in UTF-8: "),
        ("-", "standard input is not JSON: line 1 column 2: "),
    ],
)
def test_a_payload_that_is_no_json_is_told_with_its_place(folder: Path, payload: str, error: str) -> None:
    """Whether it stands on the command line, in a file or comes in by a pipe."""
    (folder / "bad.json").write_text("\n")
    (folder / "latin.json").write_bytes('"é"'.encode("latin-1"))
    result = call("send", "editor", payload, stdin="{")
    assert result.exit_code == ExitCode.BAD_DATA
    assert f"agentrt: {error}" in result.stderr


@pytest.mark.parametrize(("payload", "stdin"), [("@good.json", None), ("-", '{"topic": "é"}'), ("null", None)])
def test_a_good_payload_comes_from_a_file_a_pipe_or_the_command_line(
    folder: Path, payload: str, stdin: str | None
) -> None:
    """It got past the reading when what is missing is the fleet."""
    (folder / "good.json").write_text("[1]")
    assert call("send", "editor", payload, stdin=stdin).exit_code == ExitCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("send", "editor", "{}", "--timeout", "30"), "a duration needs a unit"),
        (("send", "editor", "{}", "--priority", "urgent"), "'urgent' is not one of 'high', 'normal', 'low'"),
        (("outcome", "../../x"), "a task's id has letters and digits only"),
        (("ps", "--nonsense"), "No such option: --nonsense"),
    ],
)
def test_a_wrong_command_line_is_explained(folder: Path, args: tuple[str, ...], error: str) -> None:
    """With the exit code that means just that."""
    result = call(*args)
    assert result.exit_code == ExitCode.USAGE
    assert error in result.stderr


# init


def test_init_writes_a_configuration_that_check_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fleet has the folder's name, and nothing of the templates' own is left in it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    target = tmp_path / "My Newsroom"
    assert call("init", str(target)).exit_code == ExitCode.OK
    checked = call("check", str(target / "config.toml"))
    sys.modules.pop("greeting", None)
    assert "fleet    my-newsroom, state in " in checked.output
    assert checked.stderr == ""
    assert checked.exit_code == ExitCode.OK
    assert not [path for path in target.iterdir() if "$name" in path.read_text()]


def test_what_init_says_to_do_next_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into a shell, whatever the folder is called."""
    monkeypatch.chdir(tmp_path)
    assert "now: cd 'My Newsroom' && agentrt run config.toml\n" in call("init", "My Newsroom").output


def test_init_touches_no_folder_that_has_something_in_it(folder: Path) -> None:
    """Nobody loses a configuration to it."""
    result = call("init", str(folder))
    assert result.exit_code == ExitCode.EXISTS
    assert "is not empty" in result.stderr
    assert (folder / "config.toml").read_text() == CONFIG


def test_init_on_a_file_is_said_in_words(folder: Path) -> None:
    """No traceback for a mistake of a person."""
    result = call("init", str(folder / "config.toml"))
    assert result.exit_code == ExitCode.EXISTS
    assert "is a file; name a folder" in result.stderr


@pytest.mark.parametrize("name", ["newsroom", "2024 News!", "---", "Ünï", "a" * 80, "x-" * 40, ""])
def test_any_folder_s_name_makes_a_fleet_s_name(name: str, tmp_path: Path) -> None:
    """The configuration takes it, whatever the folder is called."""
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.replace("newsroom", fleet_name(Path("/") / name), 1))
    assert load(config, {}).config.fleet.name == fleet_name(Path("/") / name)
