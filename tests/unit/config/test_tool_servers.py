"""Tool servers: one transport each, one owner each, and no secret where it can be read."""

from __future__ import annotations

import pytest

from agentrt.config import SERVER_BREAKER, ServerPolicies, server_policies, servers_of

LOGIN = "issuer = 'https://auth', client_id = 'me'"
ARCHIVE = "mcp = ['archive']\n[mcp.global.archive]\n"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("call_timeout = '5s'", "7: mcp.global.archive: neither command nor url says what this tool server is; write"),
        (
            "command = ['a']\nurl = 'http://a/mcp'",
            "9: mcp.global.archive.url: command and url exclude each other; leave",
        ),
        (
            "url = 'http://a/mcp'\nenv = { A = 'b' }",
            "9: mcp.global.archive.env: means nothing for a server that is given by",
        ),
        (
            "url = 'http://a/mcp'\ncwd = 'a'",
            "9: mcp.global.archive.cwd: means nothing for a server that is given by url",
        ),
        (
            "command = ['a']\ntoken = 'env:A'",
            "9: mcp.global.archive.token: means nothing for a server that is given by",
        ),
        (
            f"command = ['a']\noauth = {{ {LOGIN}, client_secret = 'env:A' }}",
            "9: mcp.global.archive.oauth: means nothing for a server that is given by",
        ),
        (
            f"url = 'http://a'\noauth = {{ {LOGIN} }}",
            "9: mcp.global.archive.oauth: nothing proves who asks for a token; add client_secret",
        ),
        (
            f"url = 'http://a'\noauth = {{ {LOGIN}, private_key = 'env:A', assertion = 'env:B' }}",
            "9: mcp.global.archive.oauth.assertion: 'private_key' and 'assertion' exclude each other; leave",
        ),
        (
            "url = 'http://a'\noauth = { issuer = 'https://auth', client_secret = 'env:A' }",
            "9: mcp.global.archive.oauth: 'client_id' is missing; add client_id, or login_file for a person's login",
        ),
        (
            "url = 'http://a'\noauth = { client_id = 'me', assertion = 'env:A' }",
            "9: mcp.global.archive.oauth: 'issuer' is missing; add issuer",
        ),
        (
            f"url = 'http://a'\noauth = {{ {LOGIN}, refresh_token = 'env:A', login_file = 'b' }}",
            "9: mcp.global.archive.oauth.login_file: 'refresh_token' and 'login_file' exclude each other; leave",
        ),
        (
            f"url = 'http://a'\noauth = {{ {LOGIN}, client_secret = 'env:C', assertion = 'env:A', login_file = 'b' }}",
            "9: mcp.global.archive.oauth.login_file: 'assertion' and 'login_file' exclude each other; leave",
        ),
        (
            "url = 'http://a'\noauth = { client_secret = 'env:A', login_file = 'b' }",
            "9: mcp.global.archive.oauth.client_secret: 'client_secret' stands without 'client_id'; add client_id",
        ),
        (
            f"url = 'http://a'\ntoken = 'env:A'\noauth = {{ {LOGIN}, assertion = 'env:B' }}",
            "10: mcp.global.archive.oauth: there are two ways to log in: with oauth, and with a token of one's own",
        ),
        (
            "url = 'http://a'\noauth = { issuer = 'auth', client_id = 'me', assertion = 'env:B' }",
            "9: mcp.global.archive.oauth.issuer: not the URL of an authorization server; write",
        ),
        (
            f"url = 'http://a'\noauth = {{ {LOGIN}, client_secret = 'abc' }}",
            "9: mcp.global.archive.oauth.client_secret: a secret is given by reference only; write",
        ),
        ("url = 'ftp://a'", "8: mcp.global.archive.url: not the URL of a tool server; write"),
        ("url = 'http://'", "8: mcp.global.archive.url: not the URL of a tool server; write"),
        ("url = 'http://me:pass@a/mcp'", "8: mcp.global.archive.url: a secret is given by reference only; take it out"),
        ("url = 'http://a'\ntoken = 'abc'", "9: mcp.global.archive.token: a secret is given by reference only; write"),
        (
            "url = 'http://a'\nheaders = { Authorization = 'Bearer abc' }",
            '9: mcp.global.archive.headers: the header "Authorization" holds a secret, which is given by',
        ),
        (
            "url = 'http://a'\nheaders = { 'a b' = 'c' }",
            '9: mcp.global.archive.headers: not the name of a header: "a b"',
        ),
        (
            'url = "http://a"\nheaders = { a = "b\\nc" }',
            '9: mcp.global.archive.headers: the header "a" must be one line',
        ),
        (
            "command = ['a']\nretry = 'net'",
            '9: mcp.global.archive.retry: there is no retry policy "net"; add [policies.',
        ),
        (
            "command = ['a']\nbreaker = 'x'",
            '9: mcp.global.archive.breaker: there is no breaker policy "x"; add [policies.',
        ),
        ("command = ['a']\nbulkhead = 'x'", '9: mcp.global.archive.bulkhead: there is no bulkhead policy "x"; add'),
        (
            "command = ['a']\nrestart = 'x'",
            '9: mcp.global.archive.restart: there is no server restart policy "x"; add [policies.server_restart.x]',
        ),
        (
            "command = ['uv', 'run', 'agentrt', 'mcp', 'guard', '--', 'archive']",
            "8: mcp.global.archive.command: the server would have two owners: the guard restarts it, and so does",
        ),
        ("command = []", "8: mcp.global.archive.command: must name a program; write"),
    ],
)
def test_each_mistake_says_where_and_what_to_do(mistakes_in, lines, said):
    """One each, and no secret is repeated."""
    (found,) = mistakes_in(ARCHIVE + lines)
    assert found.startswith(f"config.toml:{said}")
    assert "abc" not in found
    assert "pass" not in found


def test_a_server_named_twice_by_one_agent_is_refused(mistakes_in):
    """It would have two owners."""
    assert mistakes_in("mcp = ['archive', 'archive']\n[mcp.global.archive]\ncommand = ['a']") == [
        (
            'config.toml:6: agents.editor.mcp[1]: "archive" stands here twice: one server cannot have two owners; '
            "leave it out once"
        )
    ]


def test_one_server_under_two_names_is_refused(mistakes_in):
    """Also across scopes; what is given other surroundings is another server."""
    same = "mcp = ['a', 'b']\n[mcp.global.a]\ncommand = ['x']\n[mcp.agents.editor.b]\ncommand = ['x']\n"
    (found,) = mistakes_in(same)
    assert 'agents.editor.mcp[1]: "b" is the same server as "a": one server cannot have two owners' in found


def test_what_has_other_surroundings_is_another_server(load_more):
    """The same program with another environment."""
    load_more("mcp = ['a', 'b']\n[mcp.global.a]\ncommand = ['x']\n[mcp.global.b]\ncommand = ['x']\nenv = { A = '1' }\n")


def test_an_exclusive_server_has_one_agent(mistakes_in, load_more):
    """Unless each has a configuration of its own."""
    two = (
        "mcp = ['a']\n[agents.writer]\nclass = 'n:W'\nmcp = ['a']\n[mcp.global.a]\ncommand = ['x']\nexclusive = true\n"
    )
    assert mistakes_in(two) == [
        (
            'config.toml:9: agents.writer.mcp[0]: [mcp.global.a] is exclusive and agent "editor" has it already: it '
            "cannot have two owners; take it from one of them, or give each its own configuration"
        )
    ]
    load_more(two + "[mcp.agents.writer.a]\ncommand = ['x']\n")


def test_a_server_without_policies_has_the_defaults(load_more):
    """Its own breaker opens later than an agent's, and its probe may take as long as a call."""
    config = load_more(ARCHIVE + "command = ['a']\ncall_timeout = '10s'").config
    made = server_policies(config, servers_of(config, "editor")["archive"].value)
    default = ServerPolicies()
    assert (default.retry, default.budget, default.bulkhead, default.restart) == (
        made.retry,
        made.budget,
        made.bulkhead,
        made.restart,
    )
    assert SERVER_BREAKER.failure_threshold == made.breaker.failure_threshold
    assert (0.5, 15.0) == (made.breaker.window.failure_rate, made.breaker.probe_lease)


def test_a_server_has_the_policies_that_it_names(load_more):
    """Every figure of them."""
    config = load_more(
        ARCHIVE
        + """\
        command = ['a']
        retry = 'r'
        breaker = 'b'
        bulkhead = 'h'
        restart = 's'
        [policies.retry.r]
        retries = 1
        budget = 0.5
        budget_minimum = 3
        budget_window = '10s'
        [policies.breaker.b]
        failure_threshold = 7
        slow_rate = 0.3
        slow_call = '2s'
        min_calls = 4
        window = '20s'
        probe_lease = '3s'
        [policies.bulkhead.h]
        max_concurrent = 1
        max_queued = 2
        max_queued_bytes = 3
        max_wait = '4s'
        [policies.server_restart.s]
        initial = '1s'
        maximum = '2s'
        extended = '3s'
        extended_after = 4
        same_failures = 5
        """.replace("        ", "")
    ).config
    made = server_policies(config, servers_of(config, "editor")["archive"].value)
    assert (1, 0.5, 3, 10.0) == (made.retry.retries, made.budget.ratio, made.budget.minimum, made.budget.window)
    window = made.breaker.window
    assert (7, 3.0, 0.0) == (made.breaker.failure_threshold, made.breaker.probe_lease, window.failure_rate)
    assert (0.3, 2.0, 4, 20.0) == (window.slow_rate, window.slow_call, window.min_calls, window.window)
    bulkhead = made.bulkhead
    assert (1, 2, 3, 4.0) == (bulkhead.max_concurrent, bulkhead.max_queued, bulkhead.max_queued_bytes, made.max_wait)
    delays = [made.restart.failed(1.0, "x").delay for _ in range(3)]
    assert [0.0, 1.0, 2.0] == delays
    assert (4, 5) == (made.restart.extended_after, made.restart.same_failures)


@pytest.mark.parametrize(
    "login",
    [
        f"{LOGIN}, client_secret = 'env:A'",
        f"{LOGIN}, private_key = 'file:a', key_algorithm = 'EdDSA'",
        f"{LOGIN}, refresh_token = 'file:a'",
        f"{LOGIN}, refresh_token = 'file:a', client_secret = 'env:A', client_auth = 'post', scope = 'read write'",
        f"{LOGIN}, assertion = 'file:a', client_secret = 'env:A'",
        "login_file = 'a'",
        "login_file = 'a', issuer = 'https://auth', client_id = 'https://me/client.json'",
        "login_file = 'a', client_id = 'me', client_secret = 'env:A'",
    ],
)
def test_a_login_is_proved_in_one_way(load_more, login):
    """A client's secret may stand beside what a person or a platform gave it."""
    loaded = load_more(f"{ARCHIVE}url = 'http://a'\noauth = {{ {login} }}")
    assert loaded.config.mcp.global_["archive"].oauth is not None
