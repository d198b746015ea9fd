"""Origins: whom a server that browsers can reach lets in, so that no web page talks to it behind its user's back."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

import attrs


@attrs.frozen
class OriginPolicy:
    """Say whether a request may come from where it says.

    A browser names the page's origin, except where it takes the page for the server's own; a page whose name was made
    to mean this machine (DNS rebinding) is taken for that, and gives itself away by the ``Host``. So a server on
    loopback answers to names of loopback only. Programs that are no browsers send no origin, and are let in.

    Pure.

    Args:
        origins: Origins that are let in beside those on loopback, such as ``https://app.example``; ``*`` is all.
        is_local: Whether the server listens on loopback only.
    """

    origins: Collection[str] = ()
    is_local: bool = True

    def refusal(self, origin: str | None, host: str | None) -> str | None:
        """Say why a request is refused; None where it is let in.

        Args:
            origin: Its ``Origin``; None where there is none.
            host: Its ``Host``.
        """
        if origin is not None and not self.is_known(origin):
            return f"the origin {origin!r} is not let in"
        if self.is_local and host and not is_loopback(_name_of(f"//{host}")):
            return f"this server is on loopback and does not answer to the name {host!r}"
        return None

    def is_known(self, origin: str) -> bool:
        """Whether pages of this origin are let in."""
        if "*" in self.origins or origin in self.origins:
            return True
        return origin.startswith(("http://", "https://")) and is_loopback(_name_of(origin))


def is_loopback(host: str) -> bool:
    """Whether a host's name or address means this machine."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _name_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
