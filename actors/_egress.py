"""The way out: which HTTP proxy of this machine's environment lies between here and a server."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


class BadProxy(ValueError):
    """The environment names a proxy that cannot be used; says which variable, and never what is in it."""


def proxy_of(url: str) -> str | None:
    """Return the proxy on the way to *url*: ``HTTP_PROXY`` or ``HTTPS_PROXY`` by its scheme, else ``ALL_PROXY``.

    None where there is none, where ``NO_PROXY`` has the host or a domain above it, and to this machine itself, which no
    proxy elsewhere reaches. The variables may be in lower case, which then counts. macOS has settings too.

    Raises:
        BadProxy: It is no URL of an HTTP proxy.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    variable = parts.scheme if proxies.get(parts.scheme) else "all"
    proxy, host = proxies.get(variable), parts.hostname or ""
    if not proxy or _is_here(host) or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(proxy).scheme not in {"http", "https"}:
        raise BadProxy(f"{variable.upper()}_PROXY names no HTTP proxy; add the server's host to NO_PROXY to go without")
    return proxy


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
