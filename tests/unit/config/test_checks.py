"""The text of every mistake that lies between keys."""

from __future__ import annotations

import pytest

WARNING = "else the warning never comes before the restart"
SEARCHED = "is not configured at any scope; searched mcp.agents.editor, mcp.roles"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        # Limits.
        (
            "task_timeout = '5m'",
            (
                "6: agents.editor.task_timeout: progress_timeout (5m by default) must be less than task_timeout (5m): "
                "else a task is over before it can count as stuck; raise task_timeout or lower progress_timeout"
            ),
        ),
        (
            "[inbox]\nkeepalive = '1m'",
            (
                "7: inbox.keepalive: keepalive (1m) must be less than ack_wait (1m by default): "
                "else a task is delivered again while it is worked on; raise ack_wait or lower keepalive"
            ),
        ),
        (
            "[bus]\nprobe_limit = '1s'",
            (
                "7: bus.probe_limit: probe_interval (2s by default) must be less than probe_limit (1s): "
                "else the bus is never ready for long; raise probe_limit or lower probe_interval"
            ),
        ),
        # Logins.
        (
            "[bus]\nuser = 'u'\npassword = 'env:P'\ntoken = 'env:T'",
            "9: bus.token: there are two ways to log in: 'user' and 'token'; leave one of them out",
        ),
        (
            "[bus]\ncreds = 'file:a.creds'\nnkey = 'env:N'",
            "7: bus.creds: there are two ways to log in: 'nkey' and 'creds'; leave one of them out",
        ),
        ("[bus]\nuser = 'u'", "7: bus.user: 'user' stands without 'password'; add password, or leave user out"),
        (
            "[bus]\npassword = 'env:P'",
            "7: bus.password: 'password' stands without 'user'; add user, or leave password out",
        ),
        (
            "[bus]\ntls_key = 'k.pem'",
            "7: bus.tls_key: 'tls_key' stands without 'tls_cert'; add tls_cert, or leave tls_key out",
        ),
        (
            "[bus]\nurl = 'nats://a'\n[agents.editor.bus]\nuser = 'u'",
            "9: agents.editor.bus.user: 'user' stands without 'password'; add password, or leave user out",
        ),
        (
            "[agents.editor.bus]\ntoken = 'env:T'",
            (
                "6: agents.editor.bus: a login of its own is of no use on the server that the fleet brings along, "
                "which knows but one; give [bus] url, or leave this out"
            ),
        ),
        (
            "[memory]\nserver_limit = '64MiB'\nserver_warn = '64MiB'",
            (
                "8: memory.server_warn: server_warn (64MiB) must be less than server_limit (64MiB): "
                f"{WARNING}; raise server_limit or lower server_warn"
            ),
        ),
        (
            "mcp = ['a']\n[mcp.global.a]\ncommand = ['a']\nmemory_warn = '150MB'",
            (
                "9: mcp.global.a.memory_warn: mcp.global.a.memory_warn (150MB) must be less than memory.server_limit "
                f"(140MB by default): {WARNING}; raise memory.server_limit or lower mcp.global.a.memory_warn"
            ),
        ),
        (
            "mcp = ['a']\n[mcp.agents.editor.a]\ncommand = ['a']\nmemory_limit = '50MB'",
            (
                "9: mcp.agents.editor.a.memory_limit: memory.server_warn (100MB by default) must be less than "
                f"mcp.agents.editor.a.memory_limit (50MB): {WARNING}; "
                "raise mcp.agents.editor.a.memory_limit or lower memory.server_warn"
            ),
        ),
        (
            "[policies.retry.net]\ninitial = '1m'",
            (
                "7: policies.retry.net.initial: initial (1m) must not be more than maximum (30s by default): "
                "no delay is longer than the maximum; raise maximum or lower initial"
            ),
        ),
        (
            "[policies.restart.slow]\ninitial = '1m'",
            (
                "7: policies.restart.slow.initial: initial (1m) must not be more than maximum (30s by default): "
                "no delay is longer than the maximum; raise maximum or lower initial"
            ),
        ),
        (
            "[policies.breaker.slow]\nrecovery_timeout = '1h1ms'",
            (
                "7: policies.breaker.slow.recovery_timeout: recovery_timeout (1h1ms) must not be more than "
                "max_recovery_timeout (1h by default): the recovery time grows up to the maximum; "
                "raise max_recovery_timeout or lower recovery_timeout"
            ),
        ),
        (
            "[flood_gate]\nself_messages = 6",
            (
                "7: flood_gate.self_messages: self_messages (6) must not be more than self_window (5 by default): "
                "else no loop is ever seen; raise self_window or lower self_messages"
            ),
        ),
        # References.
        ("manager = 'edtor'", '6: agents.editor.manager: there is no agent "edtor"; did you mean "editor"?'),
        ("fallback = 'zzz'", '6: agents.editor.fallback: there is no agent "zzz"; add [agents.zzz]'),
        (
            "breaker = 'quick'",
            '6: agents.editor.breaker: there is no breaker policy "quick"; add [policies.breaker.quick]',
        ),
        (
            "breaker = 'quik'\n[policies.breaker.quick]",
            '6: agents.editor.breaker: there is no breaker policy "quik"; did you mean "quick"?',
        ),
        (
            "mcp = ['a']\n[mcp.roles]\n[mcp.global.a]\ncommand = ['a']\nretry = 'net'",
            '10: mcp.global.a.retry: there is no retry policy "net"; add [policies.retry.net]',
        ),
        (
            "[actors]\ninbox = 'slow'",
            '7: actors.inbox: there is no restart policy "slow"; add [policies.restart.slow]',
        ),
        # Fallbacks.
        (
            "fallback = 'editor'",
            "6: agents.editor.fallback: an agent cannot be its own fallback; name another agent, or leave it out",
        ),
        # Tool servers.
        (
            "mcp = ['archive']",
            (
                f'6: agents.editor.mcp[0]: the tool server "archive" {SEARCHED} (the agent has no role) '
                "and mcp.global; add [mcp.global.archive]"
            ),
        ),
        (
            "role = 'manager'\nmcp = ['archive']",
            (
                f'7: agents.editor.mcp[0]: the tool server "archive" {SEARCHED}.manager and mcp.global; '
                "add [mcp.global.archive]"
            ),
        ),
        (
            "mcp = [\n'archive',\n'archve']\n[mcp.agents.editor.archive]\ncommand = ['a']",
            (
                f'8: agents.editor.mcp[1]: the tool server "archve" {SEARCHED} (the agent has no role) and '
                'mcp.global; did you mean "archive"?'
            ),
        ),
        (
            "[mcp.agents.edtor.a]\ncommand = ['a']",
            '6: mcp.agents.edtor: there is no agent "edtor"; did you mean "editor"?',
        ),
        (
            "role = 'manager'\n[mcp.roles.manger.a]\ncommand = ['a']",
            '7: mcp.roles.manger: no agent has the role "manger"; did you mean "manager"?',
        ),
        (
            "[mcp.roles.manager.a]\ncommand = ['a']",
            (
                '6: mcp.roles.manager: no agent has the role "manager"; add role = "manager" to an agent, '
                "or leave this out"
            ),
        ),
    ],
)
def test_keys_that_contradict_each_other_are_refused(mistakes_in, text, said):
    """One line, at the key that was written."""
    assert mistakes_in(text) == [f"config.toml:{said}"]


def test_a_drain_ends_before_the_platform_kills(mistakes):
    """Also where the two are equal."""
    text = """\
    schema = 1
    [fleet]
    name = "newsroom"
    kill_timeout = "10s"
    [agents.editor]
    class = "newsroom:Editor"
    """
    assert mistakes(text) == [
        (
            "config.toml:4: fleet.kill_timeout: drain_timeout (10s by default) must be less than kill_timeout (10s): "
            "else the platform kills the fleet while it drains; raise kill_timeout or lower drain_timeout"
        )
    ]


@pytest.mark.parametrize(
    "text",
    [
        "[policies.retry.net]\ninitial = '30s'",
        "[policies.breaker.slow]\nrecovery_timeout = '1h'",
        "[flood_gate]\nself_messages = 5",
        "task_timeout = '5m1ms'",
        "[memory]\nserver_warn = 139999999",
        (
            "mcp = ['a']\n[memory]\nserver_warn='1GB'\nserver_limit='2GB'\n"
            "[mcp.global.a]\ncommand = ['a']\nmemory_warn = '1MB'\nmemory_limit = '2MB'"
        ),
    ],
)
def test_what_just_fits_is_taken(load_more, text):
    """The bounds are where they are said to be."""
    assert load_more(text).config.schema == 1


def test_a_cycle_of_managers_says_what_managers_have_to_do_with_it(mistakes_in):
    """Nobody wrote the word fallback."""
    said = mistakes_in('[agents.b]\nclass = "n:B"\nmanager = "c"\n[agents.c]\nclass = "n:C"\nmanager = "b"')
    assert said == [
        (
            "config.toml:8: agents.b.manager: the fallbacks form a cycle: b -> c -> b; "
            "name another fallback: where there is none it is the manager"
        )
    ]


def test_a_cycle_of_fallbacks_is_named_once(mistakes_in):
    """An agent whose fallback leads into a cycle is not part of it, and two cycles are two mistakes."""
    text = """\
    fallback = "b"
    [agents]
    b = { class = "x:B", fallback = "c" }
    c = { class = "x:C", fallback = "b" }
    d = { class = "x:D", fallback = "e" }
    e = { class = "x:E", fallback = "f" }
    f = { class = "x:F", fallback = "d" }
    """
    assert mistakes_in(text) == [
        "config.toml:8: agents.b.fallback: the fallbacks form a cycle: b -> c -> b; leave one of them out",
        "config.toml:10: agents.d.fallback: the fallbacks form a cycle: d -> e -> f -> d; leave one of them out",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("task_timeout = 60", 6),
        ("breaker = 'x'\n[policies]\nbreaker = 1", 8),
        ("breaker = 'x'\n[policies.breaker.x]\nrecovery_timeout = 'x'", 8),
        ("fallback = 'b'\n[agents.b]\nclass = 1", 8),
        ("manager = 'b'\n[agents]\nb = 1", 8),
        ("mcp = ['a']\n[mcp]\nglobal = 1", 8),
        ("mcp = ['a']\n[mcp.global.a]\ncommand = 1", 8),
        ("mcp = ['a']\nrole = 'Boss'\n[mcp.roles.boss.a]\ncommand = ['a']", 7),
        ("role = 'Boss'\n[mcp.roles.boss.a]\ncommand = ['a']", 6),
        ("[memory]\nserver_limit = 'x'\nserver_warn = '1TB'", 7),
    ],
)
def test_a_mistake_has_no_echo(load_more, mistakes_in, text, line):
    """What is damaged is reported for itself, not again by those who refer to it."""
    (said,) = mistakes_in(text)
    assert said.startswith(f"config.toml:{line}: ")


def test_mistakes_between_keys_are_found_although_a_required_key_is_missing(mistakes):
    """The checks go on with what there is."""
    text = """\
    [fleet]
    [agents.editor]
    fallback = "editor"
    task_timeout = "1m"
    """
    assert [line.partition(": ")[2].partition(": ")[0] for line in mistakes(text)] == [
        "fleet.name",
        "schema",
        "agents.editor.class",
        "agents.editor.fallback",
        "agents.editor.task_timeout",
    ]
