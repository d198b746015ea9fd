"""Connections in the configuration: each mistake says where it is and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentrt import Agent

USE = "connections = ['feed']\n[connections.feed]\nkind = 'websocket'\n"


def test_a_websocket_has_defaults(load_more):
    """The figures of the health of connections."""
    feed = load_more(USE + "url = 'wss://feed.example/v1'\ntoken = 'env:FEED'").config.connections["feed"]
    assert (15.0, 2.0, 5.0) == (feed.connect_timeout, feed.probe_interval, feed.probe_limit)
    assert (16 * 1024 * 1024, 60.0, 1024 * 1024) == (feed.send_buffer, feed.send_age, feed.receive_buffer)
    assert "feed.example" not in repr(feed)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "7: connections.feed: a websocket needs a url; add url ="),
        ("url = 'https://x/'", "9: connections.feed.url: not the URL of a WebSocket; write"),
        ("url = 'ws://x/a b'", "9: connections.feed.url: not the URL of a WebSocket; write"),
        ("url = 'wss://me:pass@x/'", "9: connections.feed.url: a secret is given by reference only; take it out of"),
        ("url = 'ws://x'\ntoken = 'abc'", "10: connections.feed.token: a secret is given by reference only"),
        ("url = 'ws://x'\nheaders = { Cookie = 'abc' }", '10: connections.feed.headers: the header "Cookie" holds'),
        ("url = 'ws://x'\nsubprotocols = ['a b']", "10: connections.feed.subprotocols: not the name of a subprotocol"),
        (
            "url = 'ws://x'\nresume = 'resume'",
            '10: connections.feed.resume: must look like "module:function", got "resume"',
        ),
        ("url = 'ws://x'\noptions = { a = 1 }", "10: connections.feed.options: means nothing for a connection of kind"),
        ("url = 'ws://x'\ntls_cert = 'c.pem'", "10: connections.feed.tls_cert: 'tls_cert' stands without 'tls_key'"),
        ("url = 'ws://x'\nprobe_limit = '1s'", "10: connections.feed.probe_limit: probe_interval (2s by default) must"),
        ("url = 'ws://x'\nsubprotocol = 'a'", "10: connections.feed.subprotocol: unknown key; did you mean"),
    ],
)
def test_each_mistake_says_where_and_what_to_do(mistakes_in, lines, said):
    """One each, and no secret is repeated."""
    (found,) = mistakes_in(USE + lines)
    assert found.startswith(f"config.toml:{said}")
    assert "abc" not in found
    assert "pass@" not in found


def test_an_unknown_kind_is_refused(mistakes_in):
    """With the nearest one, or with what kinds there are."""
    (near,) = mistakes_in(USE.replace("websocket", "websockets"))
    assert 'there is no kind of connection "websockets"; did you mean "websocket"?' in near
    (far,) = mistakes_in(USE.replace("websocket", "amqp"))
    assert '"module:Class" for a client of your own' in far


def test_a_client_of_your_own_takes_options_and_no_url(mistakes_in, load_more):
    """What only a WebSocket has means nothing there."""
    own = USE.replace("websocket", "quotes:Quotes")
    (found,) = mistakes_in(own + "url = 'ws://x'")
    assert "connections.feed.url: means nothing for a connection of kind" in found
    assert "put it into options" in found
    (hook,) = mistakes_in(own + "resume = 'trading:resume'")
    assert "connections.feed.resume: means nothing for a connection of kind" in hook
    assert {"room": 1} == load_more(own + "options = { room = 1 }").config.connections["feed"].options


def test_a_connection_that_is_not_there_is_named(mistakes_in):
    """With the nearest one that is, or the table to add."""
    (near,) = mistakes_in("connections = ['feeds']\n[connections.feed]\nkind = 'websocket'\nurl = 'ws://x'\n")
    assert 'agents.editor.connections[0]: there is no connection "feeds"; did you mean "feed"?' in near
    (far,) = mistakes_in("connections = ['feed']")
    assert 'there is no connection "feed"; add [connections.feed]' in far
    (twice,) = mistakes_in("connections = ['feed', 'feed']\n[connections.feed]\nkind = 'websocket'\nurl = 'ws://x'\n")
    assert 'agents.editor.connections[1]: "feed" stands here twice; leave it out once' in twice


def test_a_connection_that_nobody_uses_is_a_warning(load_more):
    """It is right, and probably not meant."""
    (warning,) = load_more("[connections.feed]\nkind = 'websocket'\nurl = 'ws://x'\n").warnings
    assert "no agent uses this connection" in str(warning)


def test_the_class_of_a_client_of_your_own_is_checked(mistakes_in, load_more, tmp_path):
    """It has to be there, and to be an adapter."""
    own = USE.replace("websocket", "quotes_here:Quotes").replace("newsroom", "quotes_here")
    Path("newsroom.py").write_text(
        "from agentrt import Agent\nclass Editor(Agent):\n    async def handle(self, task): ...\n"
    )
    Path("quotes_here.py").write_text("class Quotes:\n    pass\n")
    (found,) = mistakes_in(own, check_classes=True, base=Agent)
    assert 'connections.feed.kind: "quotes_here:Quotes" is not a subclass of ClientAdapter' in found
