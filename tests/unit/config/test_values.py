"""The text of every mistake that one key by itself can have."""

from __future__ import annotations

from pathlib import Path

import pytest

DURATION = 'write numbers with the units d, h, m, s or ms, the largest first, like "30s" or "1h30m"'
SIZE = 'write a number of bytes, or one with a unit (B, kB, KiB, MB, MiB, GB, GiB, TB, TiB), like "64MiB"'
NAME = "a name has up to 63 lower-case letters, digits and hyphens, and begins with a letter"
SECRET = 'write "env:NAME" or "file:PATH", never the secret itself'
LISTEN = 'write "127.0.0.1:8080" for this machine only, "0.0.0.0:8080" for all addresses'
URL = 'write "nats://host:4222" or "tls://host:4222", several of them with commas between'
KEYS = (
    "schema, fleet, bus, inbox, flood_gate, memory, health, log, registry, policies, actors, mcp, connections, agents"
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # Unknown keys, at every depth.
        ("[buss]", '6: buss: unknown key; did you mean "bus"?'),
        ("[zzz]", f"6: zzz: unknown key; the keys here are {KEYS}"),
        (
            '"a key".b = 1',
            (
                '6: agents.editor."a key": unknown key; the keys here are class, role, mcp, connections, manager, '
                "fallback, critical, task_timeout, progress_timeout, max_concurrent_tasks, breaker, bus, options"
            ),
        ),
        ("class_ = 1", '6: agents.editor.class_: unknown key; did you mean "class"?'),
        ("[policies.retry.net]\nretrys = 1", '7: policies.retry.net.retrys: unknown key; did you mean "retries"?'),
        ("[mcp]\nagent = {}", '7: mcp.agent: unknown key; did you mean "agents"?'),
        ("[policies.brakers.x]", '6: policies.brakers: unknown key; did you mean "breaker"?'),
        (
            "options.x = 1\nlog.level = 1",
            (
                "7: agents.editor.log: unknown key; the keys here are class, role, mcp, connections, manager, "
                "fallback, critical, task_timeout, progress_timeout, max_concurrent_tasks, breaker, bus, options"
            ),
        ),
        # Wrong types.
        ("manager = 1", "6: agents.editor.manager: expected a name as a string, got an integer"),
        ("critical = 1", "6: agents.editor.critical: expected true or false, got an integer"),
        ("max_concurrent_tasks = true", "6: agents.editor.max_concurrent_tasks: expected an integer, got a boolean"),
        ("max_concurrent_tasks = 1.5", "6: agents.editor.max_concurrent_tasks: expected an integer, got a float"),
        (
            'mcp = "archive"',
            '6: agents.editor.mcp: expected an array, got a string; write it in brackets, like ["one", "two"]',
        ),
        ("mcp = [\n'a-b',\n1]", "8: agents.editor.mcp[1]: expected a name as a string, got an integer"),
        ("options = 1979-05-27", "6: agents.editor.options: expected a table, got a date"),
        (
            "task_timeout = 1979-05-27T07:32:00Z",
            ('6: agents.editor.task_timeout: expected a duration, got a date and time; write a string like "30s"'),
        ),
        (
            "task_timeout = 07:32:00",
            ('6: agents.editor.task_timeout: expected a duration, got a time; write a string like "30s"'),
        ),
        ("[[bus]]", "6: bus: expected a table, got an array"),
        ("[policies]\nretry = 1", "7: policies.retry: expected a table, got an integer"),
        ("[agents]\nwriter = 'x'", "7: agents.writer: expected a table, got a string"),
        ("[memory]\nprocess_limit = '90%'", "7: memory.process_limit: expected a number, got a string"),
        (
            "[memory]\nserver_warn = 1.5",
            ('7: memory.server_warn: expected a size, got a float; write a string like "64MiB" or a number of bytes'),
        ),
        ("[fleet.state_dir]", "6: fleet.state_dir: expected a path as a string, got a table"),
        (
            "[mcp.global.a]\ncommand = ['a']\nenv = { TOKEN = 5 }",
            ("8: mcp.global.a.env.TOKEN: expected a string, got an integer"),
        ),
        # Durations.
        (
            "task_timeout = 30",
            '6: agents.editor.task_timeout: a duration needs a unit, got 30; write "30s" for seconds',
        ),
        (
            "task_timeout = 0.5",
            ('6: agents.editor.task_timeout: a duration needs a unit, got 0.5; write "0.5s" for seconds'),
        ),
        (
            "task_timeout = '30'",
            ('6: agents.editor.task_timeout: a duration needs a unit, got "30"; write "30s" for seconds'),
        ),
        ("task_timeout = ''", f'6: agents.editor.task_timeout: not a duration: ""; {DURATION}'),
        ("task_timeout = '30m1h'", f'6: agents.editor.task_timeout: not a duration: "30m1h"; {DURATION}'),
        ("task_timeout = '-5m'", f'6: agents.editor.task_timeout: not a duration: "-5m"; {DURATION}'),
        ("task_timeout = '0s'", '6: agents.editor.task_timeout: must be > 0, got "0s"'),
        (
            f"task_timeout = '{'9' * 320}s'",
            (f'6: agents.editor.task_timeout: too long a duration: "{"9" * 100}..."; {DURATION}'),
        ),
        ("[inbox]\nredelivery = ['1m',\n'soon']", f'8: inbox.redelivery[1]: not a duration: "soon"; {DURATION}'),
        ("[inbox]\nredelivery = []", "7: inbox.redelivery: must not be empty"),
        # Sizes.
        ("[bus]\nmax_store = '64MiBs'", f'7: bus.max_store: not a size: "64MiBs"; {SIZE}'),
        ("[bus]\nmax_store = '64 MiB'", f'7: bus.max_store: not a size: "64 MiB"; {SIZE}'),
        ("[bus]\nmax_store = -1", f'7: bus.max_store: not a size: "-1"; {SIZE}'),
        (
            "[bus]\nmax_store = '1.5B'",
            (f'7: bus.max_store: not a whole number of bytes that 64 bits hold: "1.5B"; {SIZE}'),
        ),
        (
            "[bus]\nmax_store = '9999999999TiB'",
            (f'7: bus.max_store: not a whole number of bytes that 64 bits hold: "9999999999TiB"; {SIZE}'),
        ),
        ("[bus]\nmax_store = 0", "7: bus.max_store: must be > 0, got 0"),
        # Names.
        ("role = 'Manager'", f'6: agents.editor.role: not a name: "Manager"; {NAME}'),
        ("[agents.Writer]\nclass = 'a:B'", f'6: agents.Writer: not a name: "Writer"; {NAME}'),
        (f"role = '{'a' * 64}'", f'6: agents.editor.role: not a name: "{"a" * 64}"; {NAME}'),
        ('role = "a\\n"', f'6: agents.editor.role: not a name: "a\\u000a"; {NAME}'),
        # Bounds.
        ("max_concurrent_tasks = 0", "6: agents.editor.max_concurrent_tasks: must be >= 1, got 0"),
        ("[memory]\nprocess_limit = 1.01", "7: memory.process_limit: must be <= 1, got 1.01"),
        ("[memory]\nprocess_limit = nan", "7: memory.process_limit: expected a finite number, got nan"),
        ("[flood_gate]\nmax_visits = 1", "7: flood_gate.max_visits: must be >= 2, got 1"),
        (
            "[flood_gate]\nmax_hops = 99999999999999999999",
            ("7: flood_gate.max_hops: expected an integer that 64 bits hold, got 99999999999999999999"),
        ),
        (
            f"[flood_gate]\nmax_hops = 0x{'f' * 5000}",
            ("7: flood_gate.max_hops: expected an integer that 64 bits hold, got one of many digits"),
        ),
        (
            f"[memory]\nprocess_limit = 0x{'f' * 5000}",
            ("7: memory.process_limit: expected an integer that 64 bits hold, got one of many digits"),
        ),
        # Choices.
        (
            "[log]\nlevel = 'warn'",
            ('7: log.level: must be one of "debug", "info", "warning", "error", got "warn"; did you mean "warning"?'),
        ),
        ("[log]\nformat = true", '7: log.format: must be one of "auto", "console", "json", got true'),
        ("[log]\nformat = []", '7: log.format: must be one of "auto", "console", "json", got something else'),
        # Classes, addresses, URLs, programs, paths.
        (
            "[agents.writer]\nclass = 'Writer'",
            ('7: agents.writer.class: must look like "module:Class", got "Writer"; for example "newsroom:Editor"'),
        ),
        (
            "[agents.writer]\nclass = 'a.b:C.D'",
            ('7: agents.writer.class: must look like "module:Class", got "a.b:C.D"; for example "newsroom:Editor"'),
        ),
        (
            "[health]\nlisten = '8080'",
            '7: health.listen: must be host:port with a port up to 65535, got "8080"; ' + LISTEN,
        ),
        (
            "[health]\nlisten = 'a:65536'",
            '7: health.listen: must be host:port with a port up to 65535, got "a:65536"; ' + LISTEN,
        ),
        (
            "[health]\nlisten = '::1:80'",
            '7: health.listen: must be host:port with a port up to 65535, got "::1:80"; ' + LISTEN,
        ),
        ("[bus]\nurl = 'http://user:hunter2@x'", f"7: bus.url: not the URL of a NATS server; {URL}"),
        ("[bus]\nurl = 'nats://a:4222,nats://b:x'", f"7: bus.url: not the URL of a NATS server; {URL}"),
        ("[bus]\nurl = ''", f"7: bus.url: not the URL of a NATS server; {URL}"),
        (
            "[mcp.global.a]\ncommand = []",
            (
                "7: mcp.global.a.command: must name a program; write it as a list, like "
                '["python", "-m", "archive_server"]'
            ),
        ),
        (
            "[mcp.global.a]\ncommand = ['']",
            (
                "7: mcp.global.a.command: must name a program; write it as a list, like "
                '["python", "-m", "archive_server"]'
            ),
        ),
        ("[mcp.global.a]\ncommand = ['a']\ncwd = ''", '8: mcp.global.a.cwd: not a path: ""'),
        # Secrets, whose value is never repeated.
        ("[bus]\ntoken = 'hunter2'", f"7: bus.token: a secret is given by reference only; {SECRET}"),
        ("[bus]\ntoken = 'env:'", f"7: bus.token: a secret is given by reference only; {SECRET}"),
        (
            "[bus]\npassword = 12345",
            ('7: bus.password: expected a reference to a secret, got an integer; write "env:NAME" or "file:PATH"'),
        ),
    ],
)
def test_a_mistake_says_where_and_what_and_what_to_do(mistakes_in, text, said):
    """Each mistake alone is one line, on the line where it is to be mended."""
    assert mistakes_in(text) == [f"config.toml:{said}"]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("schema = 2", "config.toml:1: schema: must be 1, got 2"),
        ("schema = true", "config.toml:1: schema: must be 1, got true"),
        ("schema = 1.0", "config.toml:1: schema: must be 1, got 1.0"),
        ("", "config.toml:1: schema: missing; add schema = 1"),
    ],
)
def test_there_is_one_schema(mistakes, written, said):
    """A file of another version is not guessed at."""
    text = f"{written}\n[fleet]\nname = 'x'\n[agents.a]\nclass = 'a:B'\n"
    assert mistakes(text) == [said]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("agents = {}", ["config.toml:2: agents: must not be empty"]),
        ("agents = 1", ["config.toml:2: agents: expected a table, got an integer"]),
        (
            "agents = { Editor = { class = 5 } }",
            [
                f'config.toml:2: agents.Editor: not a name: "Editor"; {NAME}',
                "config.toml:2: agents.Editor.class: expected a string, got an integer",
            ],
        ),
    ],
)
def test_a_fleet_needs_agents(mistakes, text, said):
    """What stands in for a damaged part makes no mistakes of its own."""
    assert mistakes(f"schema = 1\n{text}\n[fleet]\nname = 'x'\n") == said


@pytest.mark.parametrize("url", ["nats://127.0.0.1:4222", "tls://a,tls://b:4443", "nats://[::1]:4222"])
def test_the_usual_urls_of_nats_are_taken(load_more, url):
    """One or several, with a scheme or without, as the client library takes them."""
    assert load_more(f"[bus]\nurl = '{url}'").config.bus.url == url


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "0.0.0.0:0", "localhost:80", "[::1]:65535"])
def test_the_usual_addresses_are_taken(load_more, listen):
    """Port 0 is any free one."""
    assert load_more(f"[health]\nlisten = '{listen}'").config.health.listen == listen


def test_a_size_may_be_a_number_of_bytes(load_more):
    """As a number or as text."""
    loaded = load_more("[bus]\npublish_buffer = 0\nmax_store = '4096'")
    assert (loaded.config.bus.publish_buffer, loaded.config.bus.max_store) == (0, 4096)


def test_a_whole_number_is_a_float_too(load_more):
    """TOML writes 1 where it means 1.0."""
    limit = load_more("[memory]\nprocess_limit = 1").config.memory.process_limit
    assert (limit, type(limit)) == (1.0, float)


@pytest.mark.parametrize("reference", ["env:NATS_TOKEN", "file:/run/secrets/token"])
def test_a_reference_to_a_secret_is_kept_as_it_is(load_more, reference):
    """It is read when it is used: here neither the variable nor the file is there."""
    assert load_more(f"[bus]\ntoken = '{reference}'").config.bus.token == reference


def test_a_path_is_kept_as_it_is(load_more):
    """Whoever uses it begins in the configuration's folder."""
    loaded = load_more("mcp = ['a']\n[mcp.global.a]\ncommand = ['a']\ncwd = '../tools'")
    assert loaded.config.mcp.global_["a"].cwd == Path("../tools")
