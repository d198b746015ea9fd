"""A small authorization server that runs in a thread: it gives tokens, sends browsers back, and can refuse."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import attrs

Form = dict[str, str]


@attrs.define
class Authority:
    """What the server of one test does.

    Args:
        token_file: Gets each token that is given, for the tool server to let in.
        accepts: Says whether a request for a token is a good one; it has the form and the client's basic credentials.
        answers: Statuses, or errors of OAuth, with which the next requests are refused.
        rotates: Whether each token comes with another refresh token.
        expires_in: Seconds that a token is said to be good for.
        consents: Whether the person at the browser says yes.
        asked: The requests for tokens that came.
        agreed: What was asked for in a browser.
        registered: The clients that registered themselves.
    """

    token_file: Path
    accepts: Callable[[Form, str], bool] = lambda _form, _basic: True
    answers: list[int | str] = attrs.field(factory=list)
    rotates: bool = False
    expires_in: int = 3600
    consents: bool = True
    asked: list[Form] = attrs.field(factory=list)
    agreed: list[Form] = attrs.field(factory=list)
    registered: list[dict[str, Any]] = attrs.field(factory=list)
    issuer: str = ""

    def token(self, form: Form, basic: str) -> tuple[int, dict[str, Any]]:
        self.asked.append(form)
        if self.answers:
            refusal = self.answers.pop(0)
            return (refusal, {}) if isinstance(refusal, int) else (400, {"error": refusal})
        if not self.accepts(form, basic):
            return 401, {"error": "invalid_client"}
        token = secrets.token_hex(8)
        self.token_file.write_text(token)
        more = {"refresh_token": secrets.token_hex(8)} if self.rotates else {}
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": self.expires_in, **more}


@contextmanager
def authority(token_file: Path) -> Iterator[Authority]:
    """Serve one for as long as a ``with``."""
    state = Authority(token_file)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            page, _, query = self.path.partition("?")
            if page == "/authorization":
                form = dict(parse_qsl(query))
                state.agreed.append(form)
                said = {"code": "c0de"} if state.consents else {"error": "access_denied"}
                back = urlencode({**said, "state": form["state"]})
                self.send_response(302)
                self.send_header("location", f"{form['redirect_uri']}?{back}")
                self.send_header("content-length", "0")
                self.end_headers()
                return
            if self.path != "/.well-known/oauth-authorization-server":
                self.answer(404, {})
                return
            names = ("authorization", "token", "registration")
            endpoints = {f"{name}_endpoint": f"{state.issuer}/{name}" for name in names}
            self.answer(200, {"issuer": state.issuer, **endpoints, "response_types_supported": ["code"]})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            if self.path == "/registration":
                state.registered.append(json.loads(body))
                self.answer(201, {**state.registered[-1], "client_id": f"client-{len(state.registered)}"})
                return
            form = dict(parse_qsl(body))
            scheme, _, basic = self.headers.get("authorization", "").partition(" ")
            self.answer(*state.token(form, base64.b64decode(basic).decode() if scheme == "Basic" else ""))

        def answer(self, status: int, body: dict[str, Any]) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
