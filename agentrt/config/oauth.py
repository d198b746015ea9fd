"""How a session logs in to a tool server over HTTP where nobody is there to be asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import attrs

from agentrt.config.fields import issuer, not_empty, required
from agentrt.config.problems import Fault, KeyPath
from agentrt.config.scalars import Secret

#: What proves who asks, each by its key.
PROOFS = ("client_secret", "private_key", "refresh_token", "assertion")
#: Proofs that may stand together.
_TOGETHER = ({"client_secret", "refresh_token"}, {"client_secret", "assertion"})


@attrs.frozen(kw_only=True)
class OAuthConfig:
    """``[mcp.global.SERVER.oauth]``, and the same in the other scopes.

    What is given decides on the grant: a *refresh_token*, an *assertion*, or else the client's own credentials.
    """

    #: The authorization server that the credentials are of; nobody else gets them.
    issuer: str = required("https://auth.example.org", validator=issuer)
    client_id: str = required("newsroom", validator=not_empty)
    client_secret: Secret | None = None
    #: How the secret is sent: in a header, ``basic``, or in the request, ``post``.
    client_auth: Literal["basic", "post"] = "basic"
    #: In place of a secret: a private key as PEM, which signs who the client is (``private_key_jwt``).
    private_key: Secret | None = None
    key_algorithm: Literal["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "EdDSA"] = "ES256"
    #: What a person got by logging in. One that takes its place is written to its file.
    refresh_token: Secret | None = None
    #: A JWT of the platform that the fleet runs on (workload identity), read at each login.
    assertion: Secret | None = None
    #: What is asked for where the server does not say what it wants, separated by spaces.
    scope: str | None = None


def oauth_faults(path: KeyPath, oauth: OAuthConfig) -> Iterator[Fault]:
    """Find a login without a proof, and proofs that exclude each other."""
    given = [key for key in PROOFS if getattr(oauth, key) is not None]
    if not given:
        hint = 'add client_secret = "env:NAME", or private_key, refresh_token or assertion'
        yield Fault(path, "nothing proves who asks for a token", hint)
    elif len(given) > 1 and set(given) not in _TOGETHER:
        message = f"{given[0]!r} and {given[-1]!r} exclude each other"
        yield Fault((*path, given[-1]), message, "leave one of them out")
