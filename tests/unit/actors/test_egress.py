"""Which proxy of the environment lies on the way to a server."""

from __future__ import annotations

import pytest

from actors._egress import BadProxy, proxy_of

PROXY = "http://user:secret@proxy.example:3128"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("http://tools.example/mcp", {}, None),
        ("http://tools.example/mcp", {"HTTP_PROXY": PROXY}, PROXY),
        ("http://tools.example/mcp", {"http_proxy": "proxy.example:3128"}, "http://proxy.example:3128"),
        ("https://tools.example/mcp", {"HTTP_PROXY": PROXY}, None),
        ("https://tools.example/mcp", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://tools.example/mcp", {"ALL_PROXY": PROXY}, PROXY),
        ("http://tools.example/mcp", {"HTTP_PROXY": PROXY, "NO_PROXY": "other.example, tools.example"}, None),
        ("http://tools.example:8000/mcp", {"HTTP_PROXY": PROXY, "NO_PROXY": ".example"}, None),
        ("http://tools.example/mcp", {"HTTP_PROXY": PROXY, "NO_PROXY": "*"}, None),
        ("http://tools.example/mcp", {"HTTP_PROXY": PROXY, "NO_PROXY": "ools.example"}, PROXY),
        ("http://127.0.0.1:8000/mcp", {"HTTP_PROXY": PROXY}, None),
        ("http://[::1]:8000/mcp", {"HTTP_PROXY": PROXY}, None),
        ("http://localhost/mcp", {"HTTP_PROXY": PROXY}, None),
    ],
)
def test_the_proxy_is_what_the_environment_says(
    url: str, environ: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As other programs read it; what is on this machine is reached without one."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert proxy == proxy_of(url)


def test_a_proxy_that_is_none_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Going without it could be what it is there against; its password is nobody's business."""
    monkeypatch.setenv("ALL_PROXY", "socks5://user:secret@proxy.example:1080")
    with pytest.raises(BadProxy, match="ALL_PROXY names no HTTP proxy; add the server's host to NO_PROXY") as caught:
        proxy_of("https://tools.example/mcp")
    assert "secret" not in str(caught.value)
