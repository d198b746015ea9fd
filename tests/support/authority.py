"""A small authorization server that runs in a thread: it gives tokens for what it is told to take, and can refuse."""

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
from urllib.parse import parse_qsl

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
        asked: The requests for tokens that came.
    """

    token_file: Path
    accepts: Callable[[Form, str], bool] = lambda _form, _basic: True
    answers: list[int | str] = attrs.field(factory=list)
    rotates: bool = False
    expires_in: int = 3600
    asked: list[Form] = attrs.field(factory=list)
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
            if self.path != "/.well-known/oauth-authorization-server":
                self.answer(404, {})
                return
            endpoints = {f"{name}_endpoint": f"{state.issuer}/{name}" for name in ("authorization", "token")}
            self.answer(200, {"issuer": state.issuer, **endpoints, "response_types_supported": ["code"]})

        def do_POST(self) -> None:
            form = dict(parse_qsl(self.rfile.read(int(self.headers["content-length"])).decode()))
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
