"""A person's login to a tool server over HTTP: agreed to in a browser by day, kept in a file, refreshed at night."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import attrs
import httpx2
from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider, OAuthFlowError
from mcp.client.auth.utils import extract_scope_from_www_auth, issuers_match, union_scopes
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken
from pydantic import AnyUrl, ValidationError

from actors._environment import resolved
from actors._private_file import write_private
from agentrt.config.oauth import OAuthConfig

Report = Callable[..., object]
_FORBIDDEN = 403
#: What the client that registers itself says where a browser is to come back to; a login replaces it by a real one.
_NOWHERE = "http://127.0.0.1/callback"


class Person(Protocol):
    """Who can be asked to agree to something in a browser."""

    @property
    def redirect_uri(self) -> str:
        """Where the browser comes back to."""
        ...

    async def visit(self, url: str) -> None:
        """Ask for the person's visit to a page."""
        ...

    async def answer(self) -> AuthorizationCodeResult:
        """Wait until the browser came back."""
        ...


class PersonProvider(OAuthClientProvider):
    """The SDK's flow, with what was agreed to before; and the person, where there is one.

    Args:
        url: The server's endpoint.
        config: How to log in.
        person: Who is asked; None at night.
        report: Called with an event's kind and fields.
    """

    def __init__(self, url: str, config: OAuthConfig, person: Person | None, report: Report) -> None:
        assert config.login_file is not None
        self._config = config
        self._person = person
        self._login = KeptLogin(config.login_file, report)
        self._refresh: str | None = None
        self._wants_more = False
        is_document = config.client_id is not None and config.client_id.startswith("https://")
        metadata = OAuthClientMetadata(
            redirect_uris=[AnyUrl(_NOWHERE if person is None else person.redirect_uri)],
            client_name="agentrt",
            scope=config.scope,
        )
        super().__init__(
            url,
            metadata,
            self._login,
            person.visit if person is not None else None,
            person.answer if person is not None else None,
            client_metadata_url=config.client_id if is_document else None,
        )
        self._load(self._login.read())

    @property
    def expires_in(self) -> int | None:
        """Seconds that the token is said to be good for."""
        return self.context.current_tokens.expires_in if self.context.current_tokens is not None else None

    def is_changed(self) -> bool:
        """Whether a person has logged in since, or logs in just now."""
        return self._login.is_changed()

    def prepare(self, refusal: httpx2.Response) -> None:
        """Look at what is kept: a person may have logged in anew since.

        Raises:
            OAuthFlowError: Nobody did, and nobody can be asked.
            SecretError: The client's secret is not there.
        """
        kept = self._login.read()
        self.context.client_info = self._registered() or kept.client
        if self._person is not None:
            return
        self._wants_more = refusal.status_code == _FORBIDDEN
        if self._wants_more:
            self._login.want(extract_scope_from_www_auth(refusal))
        self._load(kept)
        if self.context.current_tokens is None:
            raise OAuthFlowError(f"nobody has logged in yet: {_ASK}")

    def _load(self, kept: Kept) -> None:
        if self._person is None and kept.tokens is not None:
            # The SDK would take the refresh token to a guessed address; it gets it when it knows the right one.
            self._refresh = kept.tokens.refresh_token
            self.context.current_tokens = kept.tokens.model_copy(update={"refresh_token": None})
            self.context.token_expiry_time = kept.expires_at

    def _registered(self) -> OAuthClientInformationFull | None:
        identity, secret = self._config.client_id, self._config.client_secret
        if identity is None or self.context.client_metadata_url is not None:
            return None
        return OAuthClientInformationFull(
            client_id=identity,
            client_secret=None if secret is None else resolved(secret),
            redirect_uris=self.context.client_metadata.redirect_uris,
            token_endpoint_auth_method="none" if secret is None else f"client_secret_{self._config.client_auth}",
        )

    async def _initialize(self) -> None:
        self._initialized = True

    async def _perform_authorization(self) -> httpx2.Request:
        metadata, issuer = self.context.oauth_metadata, self._config.issuer
        if issuer is not None and (metadata is None or not issuers_match(str(metadata.issuer), issuer)):
            raise OAuthFlowError("it is not the authorization server that the tool server names")
        if self._person is not None:
            wanted = union_scopes(self.context.client_metadata.scope, self._login.read().wanted)
            self.context.client_metadata.scope = wanted
            return await super()._perform_authorization()
        if self._wants_more:
            raise OAuthFlowError(f"the server wants more than was agreed to: {_ASK}")
        if self._refresh is None:
            raise OAuthFlowError(f"the login is over: {_ASK}")
        scope = self.context.current_tokens.scope if self.context.current_tokens is not None else None
        self.context.client_metadata.scope = scope
        self.context.current_tokens = OAuthToken(access_token="", refresh_token=self._refresh, scope=scope)
        return await self._refresh_token()

    async def _handle_token_response(self, response: httpx2.Response) -> None:
        if self._person is None and response.is_client_error:
            self.context.clear_tokens()
            raise OAuthFlowError(f"the login is not good any more: {_ASK}")
        await super()._handle_token_response(response)


_ASK = "a person has to run `agentrt mcp login`"


@attrs.frozen
class Kept:
    """What stands in the file of a login."""

    client: OAuthClientInformationFull | None = None
    tokens: OAuthToken | None = None
    expires_at: float | None = None
    #: What the server asked for at night, to be agreed to at the next login.
    wanted: str | None = None


class KeptLogin:
    """The SDK's storage, in a file for this user alone.

    Args:
        path: The file.
        report: Called with an event's kind and fields.
    """

    def __init__(self, path: Path, report: Report) -> None:
        self._path = path
        self._report = report
        #: What could not be written.
        self._unwritten: Kept | None = None
        self._seen: int | None = None

    def is_changed(self) -> bool:
        """Whether somebody else changed it since it was last read or written here."""
        return self._age() != self._seen

    def _age(self) -> int | None:
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return None

    def read(self) -> Kept:
        """Return what is kept; nothing where there is no file, or it holds something else."""
        if self._unwritten is not None:
            return self._unwritten
        # Before it is read: what is written meanwhile is a change, then.
        self._seen = self._age()
        try:
            found = json.loads(self._path.read_bytes())
            return Kept(
                None if found["client"] is None else OAuthClientInformationFull.model_validate(found["client"]),
                None if found["tokens"] is None else OAuthToken.model_validate(found["tokens"]),
                found["expires_at"],
                found["wanted"],
            )
        except (OSError, ValueError, LookupError, TypeError, ValidationError):
            return Kept()

    def port(self) -> int:
        """Return the port of loopback that the registered client's browser comes back to; 0 where there is none yet."""
        client = self.read().client
        places = client.redirect_uris or [] if client is not None else []
        return next((place.port for place in places if place.port is not None), 0)

    def want(self, scope: str | None) -> None:
        """Keep what the next login has to ask for."""
        kept = self.read()
        wanted = union_scopes(kept.wanted, scope)
        if wanted != kept.wanted:
            self._write(attrs.evolve(kept, wanted=wanted))

    async def get_tokens(self) -> OAuthToken | None:
        return self.read().tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        kept = self.read()
        if tokens.refresh_token is None and kept.tokens is not None:
            # It is good for more than once, where it is not replaced.
            tokens = tokens.model_copy(update={"refresh_token": kept.tokens.refresh_token})
        expires_at = None if tokens.expires_in is None else time.time() + tokens.expires_in
        self._write(attrs.evolve(kept, tokens=tokens, expires_at=expires_at))

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.read().client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        # What another client was given is of no use to this one.
        self._write(Kept(client_info, wanted=self.read().wanted))

    def _write(self, kept: Kept) -> None:
        text: dict[str, Any] = {
            "client": None if kept.client is None else kept.client.model_dump(mode="json", exclude_none=True),
            "tokens": None if kept.tokens is None else kept.tokens.model_dump(mode="json", exclude_none=True),
            "expires_at": kept.expires_at,
            "wanted": kept.wanted,
        }
        try:
            write_private(self._path, json.dumps(text))
        except OSError as error:
            self._unwritten = kept
            # It goes on with what is in memory; the next start will not.
            self._report("mcp_login_write_failed", file=str(self._path), error=error.strerror or str(error))
        else:
            self._unwritten = None
            self._seen = self._age()
