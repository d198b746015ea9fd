"""Environment variables that operators set already."""

from __future__ import annotations

import pytest

ALL = {
    "NATS_URL": "nats://bus:4222",
    "AGENT_REGISTRY_URL": "http://registry/agents",
    "MCP_REGISTRY_URL": "https://registry/servers",
    "MCP_RSS_WARN_MB": "50",
    "MCP_RSS_LIMIT_MB": "60.5",
    "MCP_MEMORY_CHECK_INTERVAL": "10",
}
KEYS = ("bus.url", "registry.url", "registry.mcp_url", "memory.server_warn", "memory.server_limit", "memory.interval")


def test_variables_count_where_the_file_says_nothing(load_more):
    """Megabytes are of 1000 kB each, the interval is in seconds."""
    loaded = load_more(environ=ALL)
    memory = loaded.config.memory
    assert loaded.config.bus.url == "nats://bus:4222"
    assert (memory.server_warn, memory.server_limit, memory.interval) == (50_000_000, 60_500_000, 10.0)
    assert loaded.sources == dict.fromkeys(KEYS, "environment")


def test_the_file_wins_over_variables_even_malformed_ones(load_more):
    """A variable that does not count is not looked at."""
    text = """\
    [bus]
    url = "nats://mine"
    [memory]
    server_warn = "1MB"
    server_limit = "2MB"
    interval = "3s"
    [registry]
    url = "http://mine/agents"
    mcp_url = "http://mine/servers"
    """
    loaded = load_more(text, dict.fromkeys(ALL, "junk://"))
    memory = loaded.config.memory
    assert loaded.config.bus.url == "nats://mine"
    assert (memory.server_warn, memory.server_limit, memory.interval) == (1_000_000, 2_000_000, 3.0)
    assert loaded.sources == dict.fromkeys(KEYS, "file")


def test_an_empty_variable_is_not_set(load_more):
    """As templates of deployments leave them."""
    loaded = load_more(environ=dict.fromkeys(ALL, " "))
    assert loaded.config.bus.url is None
    assert loaded.sources == dict.fromkeys(KEYS, "default")


def test_file_environment_and_default_mix_key_by_key(load_more):
    """A table in the file does not shut out the variables of its other keys."""
    loaded = load_more("[memory]\nserver_warn = '10MB'", {"MCP_RSS_LIMIT_MB": "20"})
    assert loaded.config.memory.server_limit == 20_000_000
    assert [loaded.sources[key] for key in KEYS] == [*["default"] * 3, "file", "environment", "default"]


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        (
            "NATS_URL",
            "redis://user:hunter2@bus",
            (
                'not the URL of a NATS server; write "nats://host:4222" or "tls://host:4222", several of them with '
                "commas between"
            ),
        ),
        ("MCP_RSS_WARN_MB", "100MB", 'expected a number of megabytes, got "100MB"'),
        ("MCP_RSS_LIMIT_MB", "-1", 'expected a number of megabytes, got "-1"'),
        ("MCP_RSS_LIMIT_MB", "0", 'must be > 0, got "0MB"'),
        ("MCP_MEMORY_CHECK_INTERVAL", "soon", 'expected a number of seconds, got "soon"'),
        ("MCP_MEMORY_CHECK_INTERVAL", "0", 'must be > 0, got "0s"'),
        (
            "MCP_RSS_WARN_MB",
            "140",
            (
                "server_warn (140MB) must be less than server_limit (140MB by default): "
                "else the warning never comes before the restart; raise server_limit or lower server_warn"
            ),
        ),
    ],
)
def test_a_malformed_variable_is_named(mistakes_in, variable, text, said):
    """It has no line, and a URL is not repeated."""
    assert mistakes_in("", {variable: text}) == [f"environment: {variable}: {said}"]


def test_variables_are_reported_after_the_file(mistakes_in):
    """All at once."""
    assert mistakes_in("[memory]\nintervall = 1", {"MCP_RSS_LIMIT_MB": "x"}) == [
        'config.toml:7: memory.intervall: unknown key; did you mean "interval"?',
        'environment: MCP_RSS_LIMIT_MB: expected a number of megabytes, got "x"',
    ]


def test_a_malformed_variable_has_no_echo(mistakes_in):
    """The default that stands for it is not compared with what the file says."""
    assert mistakes_in("[memory]\nserver_warn = '1GB'", {"MCP_RSS_LIMIT_MB": "x"}) == [
        'environment: MCP_RSS_LIMIT_MB: expected a number of megabytes, got "x"'
    ]


def test_a_section_that_is_no_table_takes_no_variable(mistakes_in):
    """It has its own mistake."""
    assert mistakes_in("[[memory]]", ALL) == ["config.toml:6: memory: expected a table, got an array"]
