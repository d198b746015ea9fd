"""How a session logs in to a tool server over HTTP where nobody is there to be asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import attrs

from agentrt.config.fields import issuer
from agentrt.config.problems import Fault, KeyPath
from agentrt.config.scalars import Secret

#: Who asks.
IDENTITY = ("issuer", "client_id")
#: What proves who asks, each by its key.
PROOFS = ("client_secret", "private_key", "refresh_token", "assertion", "login_file")
#: Proofs that may stand beside the client's secret.
_WITH_SECRET = ({"refresh_token"}, {"assertion"}, {"login_file"})


@attrs.frozen(kw_only=True)
class OAuthConfig:
    """``[mcp.global.SERVER.oauth]``, and the same in the other scopes.

    What is given decides on the grant: a *login_file*, a *refresh_token*, an *assertion*, or else the client's own
    credentials.
    """

    #: The authorization server that the credentials are of; nobody else gets them.
    issuer: str | None = attrs.field(default=None, validator=issuer)
    client_id: str | None = None
    client_secret: Secret | None = None
    #: How the secret is sent: in a header, ``basic``, or in the request, ``post``.
    client_auth: Literal["basic", "post"] = "basic"
    #: In place of a secret: a private key as PEM, which signs who the client is (``private_key_jwt``).
    private_key: Secret | None = None
    key_algorithm: Literal["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "EdDSA"] = "ES256"
    #: What a person got by logging in elsewhere. One that takes its place is written to its file.
    refresh_token: Secret | None = None
    #: A JWT of the platform that the fleet runs on (workload identity), read at each login.
    assertion: Secret | None = None
    #: Where ``agentrt mcp login`` keeps what a person agreed to in a browser, and the session what became of it.
    login_file: Path | None = None
    #: What is asked for where the server does not say what it wants, separated by spaces.
    scope: str | None = None


def oauth_faults(path: KeyPath, oauth: OAuthConfig) -> Iterator[Fault]:
    """Find a login without a proof, proofs that exclude each other, and what a login without a person has to say."""
    given = [key for key in PROOFS if getattr(oauth, key) is not None]
    if not given:
        hint = 'add client_secret = "env:NAME", or one of private_key, refresh_token, assertion and login_file'
        yield Fault(path, "nothing proves who asks for a token", hint)
    elif len(given) > 1 and not (given[0] == "client_secret" and set(given[1:]) in _WITH_SECRET):
        message = f"{given[-2]!r} and {given[-1]!r} exclude each other"
        yield Fault((*path, given[-1]), message, "leave one of them out")
    # A person sees where the browser leads, and a client of which nothing is said registers itself there.
    for key in IDENTITY if oauth.login_file is None else ():
        if getattr(oauth, key) is None:
            yield Fault(path, f"{key!r} is missing", f"add {key}, or login_file for a person's login")
    if oauth.client_secret is not None and oauth.login_file is not None and oauth.client_id is None:
        yield Fault((*path, "client_secret"), "'client_secret' stands without 'client_id'", "add client_id")
