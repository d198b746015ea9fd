"""The configuration of the proxy."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from agentrt.config import Invalid
from agentrt.config.proxy import BackendConfig, ProxyConfig, backend_of, read_proxy

PAGE = Path(__file__).resolve().parents[3] / "docs" / "mcp-proxy.md"


def test_the_page_has_all_keys_with_their_defaults():
    """The file on it reads, and but for what has to be said it says what holds anyway."""
    found = re.search(r"```toml\n(.+?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    document = tomllib.loads(found[1])
    shown = set(document["proxy"]) | {"tenant_header", "tls_cert", "tls_key"}
    file, faults = read_proxy(document)
    assert () == faults
    assert ProxyConfig() == file.proxy
    assert shown == {field.name for field in ProxyConfig.__attrs_attrs__}
    archive = file.backends["archive"]
    assert BackendConfig(url=archive.url) == archive
    assert set(document["backends"]["archive"]) == {field.name for field in BackendConfig.__attrs_attrs__}
    assert ["archive"] == list(file.tenants["acme"])


@pytest.mark.parametrize(
    ("option", "path", "urls"),
    [
        ("a=http://x/mcp", ("backends", "a"), ["http://x/mcp"]),
        ("t/a=http://x/mcp, http://y/mcp", ("tenants", "t", "a"), ["http://x/mcp", "http://y/mcp"]),
        ("a=http://x/mcp?k=v", ("backends", "a"), ["http://x/mcp?k=v"]),
    ],
)
def test_a_backend_is_an_option(option, path, urls):
    assert (path, {"url": urls}) == backend_of(option)


@pytest.mark.parametrize("option", ["", "a", "=http://x", "a/=http://x", "a/b/c=http://x"])
def test_what_names_no_backend_is_refused(option):
    with pytest.raises(Invalid, match="not a backend"):
        backend_of(option)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "there is nothing to stand before"),
        ('[backends.a]\nurl = ["http://x/mcp", "http://x/mcp"]', "one of the replicas stands here twice"),
        ('[backends.a]\nurl = ["http://me:secret@x/mcp"]', "a secret is given by reference only"),
        ('[backends.a]\nurl = ["http://x/mcp"]\n[tenants.a.b]\nurl = ["http://x/mcp"]', '"a" is a backend, too'),
        ('[proxy]\ntls_cert = "a.pem"', "tls_key is missing: TLS needs both"),
        ('[proxy]\ntls_key = "a.pem"', "tls_cert is missing: TLS needs both"),
        ('[proxy]\norigins = ["app.example"]', 'not an origin: "app.example"'),
        ('[proxy]\norigins = ["https://app.example/x"]', "not an origin"),
        ('[proxy]\ntenant_header = "x tenant"', "not the name of a header"),
        ("[proxy.breaker]\nfailure_rate = 2.0", "must be <= 1, got 2.0"),
    ],
)
def test_mistakes_are_found(text, said):
    _, faults = read_proxy(tomllib.loads(text))
    assert any(said in fault.message for fault in faults), faults
