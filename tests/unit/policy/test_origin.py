"""Whom a server that browsers can reach lets in."""

from __future__ import annotations

import pytest

from agentrt.policy.origin import OriginPolicy, is_loopback


@pytest.mark.parametrize(
    ("origin", "host", "is_in"),
    [
        (None, "127.0.0.1:8090", True),
        (None, "localhost:8090", True),
        (None, "[::1]:8090", True),
        (None, None, True),
        (None, "rebound.example:8090", False),
        (None, "127.0.0.1.evil.example", False),
        (None, "[bad", False),
        ("http://localhost:6274", "127.0.0.1", True),
        ("https://127.0.0.1", "127.0.0.1", True),
        ("https://app.example", "127.0.0.1", True),
        ("https://app.example:444", "127.0.0.1", False),
        ("http://app.example", "127.0.0.1", False),
        ("https://localhost.evil.example", "127.0.0.1", False),
        ("http://evil.example@localhost", "127.0.0.1", True),
        ("null", "127.0.0.1", False),
        ("", "127.0.0.1", False),
        ("file://localhost", "127.0.0.1", False),
        ("http://[", "127.0.0.1", False),
    ],
)
def test_who_is_let_in_by_a_server_on_loopback(origin, host, is_in):
    """Programs, pages of this machine and those that are named; none that got here by a name of its own."""
    policy = OriginPolicy(["https://app.example"])
    assert is_in is (policy.refusal(origin, host) is None)


def test_a_server_for_others_answers_to_any_name():
    policy = OriginPolicy(is_local=False)
    assert None is policy.refusal(None, "proxy.example")
    assert "the origin 'https://evil.example' is not let in" == policy.refusal("https://evil.example", "proxy.example")


def test_a_star_lets_all_pages_in():
    assert None is OriginPolicy(["*"]).refusal("null", "localhost")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("LOCALHOST", True), ("0.0.0.0", False), ("", False)],
)
def test_what_means_this_machine(host, expected):
    assert expected is is_loopback(host)
