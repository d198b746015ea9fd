"""Loading a configuration, and the text of every mistake that the file as a whole can have."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from agentrt.config import ConfigError, Problem, load, model
from agentrt.config.hooks import key_of, make_converter

QUICKSTART = """\
schema = 1

[fleet]
name = "newsroom"

[agents.editor]
class = "newsroom:Editor"
role = "manager"
mcp = ["archive"]

[agents.writer]
class = "newsroom:Writer"
manager = "editor"
fallback = "editor"
task_timeout = "30m"
progress_timeout = "5m"
options = { style = "dry", nested = { any = [1, "two"] } }

[mcp.global.archive]
command = ["python", "-m", "archive_server"]
memory_limit = "200MB"
"""


def test_a_configuration_without_mistakes_is_loaded(load_text, tmp_path):
    """Values are in seconds and bytes, and the folder is absolute."""
    loaded = load_text(QUICKSTART)
    writer = loaded.config.agents["writer"]
    assert (writer.class_, writer.task_timeout, writer.progress_timeout) == ("newsroom:Writer", 1800.0, 300.0)
    assert writer.options == {"style": "dry", "nested": {"any": [1, "two"]}}
    assert loaded.config.mcp.global_["archive"].command == ("python", "-m", "archive_server")
    assert loaded.config.mcp.global_["archive"].memory_limit == 200_000_000
    assert (loaded.file, loaded.folder) == (Path("config.toml"), tmp_path)
    assert loaded.warnings == ()


def test_what_the_file_leaves_out_has_its_default(load_more):
    """A minimal file is that of the defaults."""
    loaded = load_more()
    assert loaded.config.inbox.redelivery == (60.0, 300.0, 900.0)
    assert loaded.config.memory.server_limit == 140_000_000
    assert loaded.config.fleet.state_dir == Path(".agentrt")


def test_five_mistakes_are_reported_at_once_each_with_its_line(mistakes):
    """Nobody has to mend one mistake to learn of the next: keys, types, values, references and combinations."""
    text = """\
    schema = 1

    [fleet]
    name = "newsroom"
    drain_timeout = 30

    [agents.editor]
    class = "newsroom:Editor"
    # A comment, and
    mcp = [
        "archive",
    ]
    task_timout = "5m"
    fallback = "writer"

    [agents.writer]
    class = "newsroom:Writer"
    fallback = "editor"
    progress_timeout = "1h"
    """
    assert mistakes(text) == [
        'config.toml:5: fleet.drain_timeout: a duration needs a unit, got 30; write "30s" for seconds',
        (
            'config.toml:11: agents.editor.mcp[0]: the tool server "archive" is not configured at any scope; '
            "searched mcp.agents.editor, mcp.roles (the agent has no role) and mcp.global; add [mcp.global.archive]"
        ),
        'config.toml:13: agents.editor.task_timout: unknown key; did you mean "task_timeout"?',
        (
            "config.toml:14: agents.editor.fallback: the fallbacks form a cycle: editor -> writer -> editor; "
            "leave one of them out"
        ),
        (
            "config.toml:19: agents.writer.progress_timeout: progress_timeout (1h) must be less than task_timeout "
            "(30m by default): else a task is over before it can count as stuck; "
            "raise task_timeout or lower progress_timeout"
        ),
    ]


def test_an_error_carries_its_problems_as_values(load_text):
    """Machines read the parts that people read as text."""
    with pytest.raises(ConfigError) as caught:
        load_text('schema = 1\n[fleet]\nname = "x"\nnam = 1\n[agents.a]\nclass = "a:B"\n')
    assert caught.value.problems == (Problem("config.toml", 4, "fleet.nam", "unknown key", 'did you mean "name"?'),)


def test_problems_stand_in_the_order_of_lines(load_text):
    """Whatever order they were found in."""
    with pytest.raises(ConfigError) as caught:
        load_text("schema = 2\n[bus]\nx = 1\n[fleet]\n[agents.a]\nzzz = 1\nyyy = 2\n")
    lines = [problem.line for problem in caught.value.problems]
    assert lines == [1, 3, 4, 5, 6, 7]


def test_an_empty_file_is_told_all_that_it_needs(mistakes):
    """What is missing says what to add."""
    assert mistakes("") == [
        "config.toml:1: agents: missing; add a table [agents.editor]",
        "config.toml:1: fleet: missing; add a table [fleet]",
        "config.toml:1: schema: missing; add schema = 1",
    ]


def test_a_missing_key_has_the_line_of_its_table(mistakes):
    """The header of the table, also where a subtable came first."""
    text = """\
    schema = 1
    [fleet]
    [agents.editor.options]
    tone = "dry"
    [agents.editor]
    """
    assert mistakes(text) == [
        'config.toml:2: fleet.name: missing; add name = "newsroom"',
        'config.toml:5: agents.editor.class: missing; add class = "newsroom:Editor"',
    ]


def test_every_required_key_has_an_example_that_is_valid():
    """The example is shown to people, and stands in for what is missing while the rest is checked."""
    converter = make_converter()
    found = set()
    for cls in filter(attrs.has, vars(model).values()):
        for attribute in attrs.fields(attrs.resolve_types(cls)):
            if attribute.default is attrs.NOTHING:
                example = converter.structure(attribute.metadata["example"], attribute.type)
                if attribute.validator is not None:
                    attribute.validator(None, attribute, example)
                found.add((cls.__name__, key_of(attribute)))
    assert found == {
        ("FleetConfig", "name"),
        ("AgentConfig", "class"),
        ("ConnectionConfig", "kind"),
        ("Config", "schema"),
        ("Config", "fleet"),
        ("Config", "agents"),
    }


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    """No traceback for a wrong path."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "nowhere.toml", {})
    assert str(caught.value) == f"{tmp_path}/nowhere.toml: there is no such file; write one, or name another"


def test_a_directory_is_not_a_file(tmp_path):
    """Naming the folder is a common slip."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, {})
    assert str(caught.value) == f"{tmp_path}: this is a directory; name the file in it, usually config.toml"


def test_a_path_through_a_file_is_unreadable(tmp_path):
    """The system's own words say why."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "file" / "config.toml", {})
    assert str(caught.value) == f"{tmp_path}/file/config.toml: cannot be read: Not a directory"


def test_a_file_that_is_not_utf8_is_told_where(tmp_path):
    """The line of the first wrong byte."""
    path = tmp_path / "config.toml"
    path.write_bytes(b'schema = 1\nname = "caf\xe9"\n')
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert str(caught.value) == f"{path}:2: not UTF-8: the byte 0xe9 at offset 22; save the file as UTF-8"


def test_a_byte_order_mark_does_no_harm(load_more):
    """Some editors write one."""
    assert load_more().config.fleet.name == "newsroom"
    path = Path("config.toml")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(path, {}).config.fleet.name == "newsroom"


def test_lines_are_right_with_line_ends_of_windows(tmp_path):
    """A carriage return is no line of its own."""
    path = tmp_path / "config.toml"
    path.write_bytes(b'schema = 1\r\n[fleet]\r\nname = "x"\r\nnope = 1\r\n[agents.a]\r\nclass = "a:B"\r\n')
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert [problem.line for problem in caught.value.problems] == [4]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "schema 1\n",
            "config.toml:1: not valid TOML: Expected '=' after a key in a key/value pair (column 8)",
        ),
        (
            'schema = 1\n[fleet]\nname = "newsroom\n',
            "config.toml:3: not valid TOML: Illegal character '\\n' (column 17)",
        ),
        (
            "schema = 1\n\n[fleet\n",
            "config.toml:3: not valid TOML: Expected ']' at the end of a table declaration (column 7)",
        ),
        (
            'a = """\nno end\n\n',
            "config.toml:2: not valid TOML: Unterminated string (at the end of the file)",
        ),
        (
            "schema = 1\n[inbox]\nack_wait = 30s\n",
            (
                "config.toml:3: not valid TOML: Expected newline or end of document after a statement (column 14); "
                'durations and sizes are strings: write "30s"'
            ),
        ),
        (
            "[bus]\n[bus]\n",
            "config.toml:2: not valid TOML: Cannot declare ('bus',) twice (column 5)",
        ),
    ],
)
def test_a_syntax_error_is_one_problem_with_its_line(mistakes, text, said):
    """The parser's own words, and the column with them."""
    assert mistakes(text) == [said]


def test_tables_within_tables_without_end_are_refused(mistakes):
    """The parser's recursion is no crash of ours."""
    assert mistakes("a = " + "[" * 5000 + "]" * 5000) == [
        "config.toml: not usable TOML: arrays or tables are nested too deeply"
    ]


def test_a_number_of_thousands_of_digits_is_refused(mistakes):
    """Python does not read it, and says so in another way than of a syntax error."""
    (said,) = mistakes("a = " + "9" * 5000)
    assert said.startswith("config.toml: not valid TOML: Exceeds the limit")


def test_what_nobody_uses_is_a_warning(load_more):
    """It is not wrong, and probably not meant: the scopes are those of the agents that name the server."""
    loaded = load_more(
        """\
        role = "manager"
        mcp = ["archive"]
        breaker = "quick"
        [agents.writer]
        class = "newsroom:Writer"
        [mcp.global.archive]
        command = ["archive"]
        [mcp.global.search]
        command = ["search"]
        [mcp.roles.manager.archive]
        command = ["archive"]
        [mcp.agents.writer.archive]
        command = ["archive"]
        [mcp.agents.editor.archive]
        command = ["archive"]
        [policies.breaker.quick]
        [policies.breaker.slow]
        [policies.retry.never]
        """
    )
    unused = "no agent uses this tool server; add"
    assert [str(warning) for warning in loaded.warnings] == [
        f'config.toml:13: mcp.global.search: {unused} "search" to the mcp of an agent',
        f'config.toml:17: mcp.agents.writer.archive: {unused} "archive" to the mcp of an agent',
        "config.toml:22: policies.breaker.slow: nothing refers to this policy",
        "config.toml:23: policies.retry.never: nothing refers to this policy",
    ]
