"""Logging in to a tool server over HTTP: the SDK's OAuth, one login at a time, secrets read anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import attrs
import httpx2
import trio
from mcp.client.auth import OAuthClientProvider, OAuthFlowError
from mcp.client.auth.extensions.client_credentials import SignedJWTParameters
from mcp.client.auth.utils import extract_field_from_www_auth, issuers_match
from mcp.shared.auth import JWT_BEARER_GRANT_TYPE, OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

from actors._environment import resolved
from actors._mcp_person import Person, PersonProvider
from actors._private_file import write_private
from agentrt.config.oauth import OAuthConfig
from agentrt.policy import Failure, FailureKind, SendState
from agentrt.policy.failures import classify_status, parse_retry_after
from agentrt.resilience import CallFailed
from agentrt.resilience.classify import network_failure

_UNAUTHORIZED, _FORBIDDEN, _THROTTLED, _SERVER_ERROR = 401, 403, 429, 500
#: Seconds between two looks whether a person has logged in.
_LOOK = 1.0
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

Report = Callable[..., object]


class Login:
    """The access token for one server; it outlives the links to it.

    Args:
        url: The server's endpoint.
        config: How to get a token.
        limit: Seconds for each request to the authorization server.
        person: Who can be asked; nobody at night.

    Attributes:
        report: Called with an event's kind and fields.
    """

    def __init__(self, url: str, config: OAuthConfig, limit: float, person: Person | None = None) -> None:
        self.report: Report = lambda _kind, **_fields: None
        self._config = config
        self._provider: _Provider | PersonProvider
        if config.login_file is not None:
            self._provider = PersonProvider(url, config, person, self._tell)
        else:
            self._provider = _Provider(url, config, self._tell)
        self._limit = limit
        self._lock = trio.Lock()
        self._passing: Failure | None = None

    @property
    def authorization(self) -> str | None:
        """What goes with each request; None where there is no token, or it has expired."""
        context = self._provider.context
        if context.current_tokens is None or not context.is_token_valid():
            return None
        return f"Bearer {context.current_tokens.access_token}"

    async def wait_for_person(self) -> None:
        """Return when a person has logged in, where a person's login is what this is."""
        while not self._provider.is_changed():  # noqa: ASYNC110 - another program writes it.
            await trio.sleep(_LOOK)

    def is_wanted(self, refusal: httpx2.Response) -> bool:
        """Whether the server refused a request for want of a token, or of one that allows more."""
        if refusal.status_code == _FORBIDDEN:
            return extract_field_from_www_auth(refusal, "error") == "insufficient_scope"
        return refusal.status_code == _UNAUTHORIZED

    async def renew(self, request: httpx2.Request, refusal: httpx2.Response) -> None:
        """Get another token than the one that *request* was refused with.

        Raises:
            CallFailed: It did not work; the request was not acted on.
        """
        tried = request.headers.get("authorization")
        async with self._lock:
            if self.authorization not in (None, tried):
                # Somebody else was refused as well, and was here before.
                return
            try:
                async with httpx2.AsyncClient(timeout=self._limit) as client:
                    await self._walk(client, request, refusal, tried)
            except CallFailed:
                raise
            except Exception as error:
                # A key that is none, an answer that is no JSON: whatever it is, it is this login's failure. Where
                # somebody who was asked for the way had a bad moment, it is that.
                raise CallFailed(self._passing or self._failure(error)) from error
        issuer = self._config.issuer or self._provider.context.auth_server_url
        self._tell("mcp_logged_in", issuer=issuer, expires_in=self._provider.expires_in)

    def _tell(self, kind: str, **fields: object) -> None:
        self.report(kind, **fields)

    async def _walk(
        self, client: httpx2.AsyncClient, request: httpx2.Request, refusal: httpx2.Response, tried: str | None
    ) -> None:
        """Let the SDK do what it does on a refusal, but for *request*, which is somebody else's to send again."""
        self._passing = None
        self._provider.prepare(refusal)
        async with aclosing(self._provider.async_auth_flow(request)) as flow:
            asked = await anext(flow)
            was_refused = False
            with suppress(StopAsyncIteration):
                while True:
                    if asked is not request:
                        answer = self._checked(await client.send(asked))
                    elif was_refused or self.authorization not in (None, tried):
                        return
                    else:
                        was_refused, answer = True, refusal
                    asked = await flow.asend(answer)

    def _checked(self, answer: httpx2.Response) -> httpx2.Response:
        if answer.status_code != _THROTTLED and answer.status_code < _SERVER_ERROR:
            return answer
        after = parse_retry_after(answer.headers.get("retry-after"), time.time())
        failure = classify_status(answer.status_code, retry_after=after)
        reason = f"cannot log in: {answer.url}: {failure.reason}"
        self._passing = attrs.evolve(failure, sent=SendState.NOT_SENT, reason=reason)
        if answer.request.method == "POST":
            raise CallFailed(self._passing)
        # There are several places that say the way to a token, and one of them is enough.
        return answer

    def _failure(self, error: Exception) -> Failure:
        failure = network_failure(error) or Failure(FailureKind.AUTH, SendState.NOT_SENT, str(error) or repr(error))
        where = f" at {self._config.issuer}" if self._config.issuer is not None else ""
        reason = f"cannot log in{where}: {failure.reason}"
        return attrs.evolve(failure, sent=SendState.NOT_SENT, reason=reason)


class _Provider(OAuthClientProvider):
    """The SDK's flow, with a grant that needs nobody."""

    def __init__(self, url: str, config: OAuthConfig, report: Report) -> None:
        assert config.issuer is not None
        assert config.client_id is not None
        self._config = config
        self._issuer, self._client_id = config.issuer, config.client_id
        self._kept = _RefreshToken(config, report)
        grants = ["refresh_token" if config.refresh_token is not None else "client_credentials"]
        metadata = OAuthClientMetadata(
            redirect_uris=None, grant_types=grants, token_endpoint_auth_method=_method(config), scope=config.scope
        )
        super().__init__(url, metadata, self._kept)

    @property
    def expires_in(self) -> int | None:
        """Seconds that the token is said to be good for."""
        return self.context.current_tokens.expires_in if self.context.current_tokens is not None else None

    def is_changed(self) -> bool:
        """Never: it needs nobody."""
        return False

    def prepare(self, refusal: httpx2.Response) -> None:
        """Do nothing: whatever the refusal, a token is asked for in the same way."""

    async def _initialize(self) -> None:
        self.context.current_tokens = None
        self.context.client_info = self._client()
        self._initialized = True

    def _client(self) -> OAuthClientInformationFull:
        secret = self._config.client_secret
        return OAuthClientInformationFull(
            client_id=self._client_id,
            client_secret=None if secret is None else resolved(secret),
            token_endpoint_auth_method=_method(self._config),
        )

    def _select_authorization_server(self, advertised: list[str]) -> str:
        for server in advertised:
            if issuers_match(server, self._issuer):
                return server
        raise OAuthFlowError(f"the server wants tokens of {', '.join(advertised)}")

    async def _perform_authorization(self) -> httpx2.Request:
        metadata = self.context.oauth_metadata
        if metadata is None or not issuers_match(str(metadata.issuer), self._issuer):
            # Nobody but the one that is configured gets the credentials, whatever the server says.
            self.context.oauth_metadata = None
            raise OAuthFlowError("it does not say of itself where tokens are asked for")
        # A secret that was rotated is read anew.
        self.context.client_info = self._client()
        data, headers = self.context.prepare_token_auth(
            {"client_id": self._client_id, **await self._grant(str(metadata.issuer))},
            {"Content-Type": "application/x-www-form-urlencoded"},
        )
        if self.context.should_include_resource_param(self.context.protocol_version):
            data["resource"] = self.context.get_resource_url()
        # Kept there, too: it is what a token that says nothing of its scope was given for.
        scope = self.context.client_metadata.scope = self._scope()
        if scope is not None:
            data["scope"] = scope
        return httpx2.Request("POST", self._get_token_endpoint(), data=data, headers=headers)

    def _scope(self) -> str | None:
        if self._config.refresh_token is not None:
            # It must not be more than was agreed to; without it, it is just that.
            return self._config.scope
        return self.context.client_metadata.scope or self._config.scope

    async def _grant(self, audience: str) -> dict[str, str]:
        config = self._config
        if config.refresh_token is not None:
            return {"grant_type": "refresh_token", "refresh_token": self._kept.read()}
        if config.assertion is not None:
            return {"grant_type": JWT_BEARER_GRANT_TYPE, "assertion": resolved(config.assertion)}
        if config.private_key is None:
            return {"grant_type": "client_credentials"}
        parameters = SignedJWTParameters(
            issuer=self._client_id,
            subject=self._client_id,
            signing_key=resolved(config.private_key),
            signing_algorithm=config.key_algorithm,
        )
        assertion = await parameters.create_assertion_provider()(audience)
        return {
            "grant_type": "client_credentials",
            "client_assertion": assertion,
            "client_assertion_type": _ASSERTION_TYPE,
        }


def _method(config: OAuthConfig) -> Any:
    if config.private_key is not None:
        return "private_key_jwt"
    return "none" if config.client_secret is None else f"client_secret_{config.client_auth}"


class _RefreshToken:
    """The refresh token, which may be replaced at each use; the SDK's storage, of which it is all that is kept."""

    def __init__(self, config: OAuthConfig, report: Report) -> None:
        self._reference = config.refresh_token
        self._report = report
        self._used = ""
        #: One that took the place of the configured one and could not be written there.
        self._newer: str | None = None

    def read(self) -> str:
        """Return the one to use next.

        Raises:
            SecretError: It is not there.
        """
        assert self._reference is not None
        self._used = self._newer or resolved(self._reference)
        return self._used

    async def get_tokens(self) -> OAuthToken | None:
        return None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        if self._reference is None or tokens.refresh_token in (None, self._used):
            return
        self._newer = self._used = str(tokens.refresh_token)
        kind, _, path = self._reference.partition(":")
        if kind != "file":
            return
        try:
            write_private(Path(path), self._newer)
        except OSError as error:
            # It goes on with the one in memory; the next start will not.
            self._report("mcp_refresh_token_write_failed", file=path, error=error.strerror or str(error))
        else:
            self._newer = None

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return None

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Do nothing: the client is configured."""
