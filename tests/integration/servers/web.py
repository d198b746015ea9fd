"""A tool server over HTTP, of a few lines and without an SDK: a call's arguments say how it misbehaves."""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--era", choices=["2025-11-25", "2026-07-28"], default="2025-11-25")
parser.add_argument(
    "--lost", choices=["plain", "python", "typescript"], default="plain", help="how a lost session is told"
)
parser.add_argument("--effects", type=Path, help="gets a line for each call that was acted on")
parser.add_argument("--token-file", type=Path, help="holds the only bearer token that is let in")
parser.add_argument("--authority", help="the authorization server whose tokens are let in")
parser.add_argument("--stream-until", type=Path, help="GET opens a stream of events until this file is there")
options = parser.parse_args()

sessions: set[str] = set()
INFO = {"name": "web", "version": "1"}
#: Headers that a refusal may have.
SAID = ("retry_after", "www_authenticate")


def result(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    """Answer a request that is no tool call; None where the method is not known."""
    if method == "server/discover" and options.era == "2026-07-28":
        return {"supportedVersions": [options.era], "capabilities": {"tools": {}}, "serverInfo": INFO}
    if method == "initialize" and options.era == "2025-11-25":
        return {"protocolVersion": options.era, "capabilities": {"tools": {}}, "serverInfo": INFO}
    if method == "tools/list":
        hints = {"readOnlyHint": True}
        tools = [{"name": "do"}, {"name": "look", "annotations": hints}]
        return {"tools": [{"inputSchema": {"type": "object"}, **tool} for tool in tools]}
    if method == "ping" and options.era == "2025-11-25":
        return {}
    return None


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    # Else each answer waits for the other side's delayed acknowledgement.
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_OPTIONS(self) -> None:
        """Say that it is there."""
        self.answer(204, b"", "text/plain")

    def do_GET(self) -> None:
        """Say whose tokens are let in; open a stream of events where there is a file to wait for."""
        if self.path == "/.well-known/oauth-protected-resource/mcp" and options.authority:
            resource = f"http://127.0.0.1:{options.port}/mcp"
            body = {"resource": resource, "authorization_servers": [options.authority]}
            self.answer(200, json.dumps(body).encode(), "application/json")
            return
        if options.stream_until is None:
            self.answer(405, b"", "text/plain")
            return
        self.id = None
        self.do_steps({"until": options.stream_until, "then": "cut"})

    def do_DELETE(self) -> None:
        """End a session."""
        sessions.discard(self.headers.get("mcp-session-id", ""))
        self.act("session ended")
        self.answer(204, b"", "text/plain")

    def do_POST(self) -> None:
        """Take one message."""
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if (
            options.token_file
            and self.headers.get("authorization") != f"Bearer {options.token_file.read_text().strip()}"
        ):
            self.answer(401, b"who are you?", "text/plain")
            return
        self.id = message.get("id")
        method, params = message["method"], message.get("params", {})
        headers = {}
        if method == "initialize":
            sessions.add(session := uuid.uuid4().hex)
            headers["mcp-session-id"] = session
        elif options.era == "2025-11-25" and self.headers.get("mcp-session-id") not in sessions:
            self.session_lost()
            return
        if "id" not in message:
            self.answer(202, b"", "text/plain")
        elif method in {"logging/setLevel", "resources/subscribe", "resources/unsubscribe"}:
            self.act(f"{method} {params.get('level', params.get('uri'))}")
            self.reply({"result": {}})
        elif method == "tools/call":
            self.call(params.get("arguments", {}))
        elif (body := result(method, params)) is not None:
            self.reply({"result": self.complete(body)}, headers=headers)
        else:
            self.reply({"error": {"code": -32601, "message": "Method not found"}}, 404)

    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        """Add what the newer protocol wants in each result."""
        if options.era == "2025-11-25":
            return body
        return {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", **body}

    def session_lost(self) -> None:
        """Say so, as servers do."""
        if options.lost == "plain":
            self.answer(404, b"", "text/plain")
        elif options.lost == "python":
            self.reply({"error": {"code": -32600, "message": "Session not found"}}, 404)
        else:
            self.reply({"error": {"code": -32000, "message": "Bad Request: No valid session ID provided"}}, 400)

    def call(self, arguments: dict[str, Any]) -> None:
        """Do what the arguments say."""
        if arguments.get("once") and not Path(arguments["once"]).exists():
            Path(arguments["once"]).touch()
        elif arguments.get("once"):
            arguments = {"text": arguments.get("text", "ok")}
        what = arguments.get("what", "answer")
        if what == "status":
            headers = {name.replace("_", "-"): arguments[name] for name in SAID if name in arguments}
            self.answer(arguments["status"], arguments.get("body", "").encode(), "text/html", headers=headers)
            return
        self.act(arguments.get("text", what))
        getattr(self, f"do_{what}")(arguments)

    def act(self, what: str) -> None:
        """Write down what was done."""
        if options.effects:
            with options.effects.open("a") as file:
                file.write(what + "\n")

    def do_answer(self, arguments: dict[str, Any]) -> None:
        """Behave."""
        time.sleep(arguments.get("seconds", 0))
        content = [{"type": "text", "text": arguments.get("text", "ok")}]
        self.reply({"result": self.complete({"content": content})})

    def do_untyped(self, _: dict[str, Any]) -> None:
        """Answer without saying of what type the result is."""
        self.reply({"result": {"content": [{"type": "text", "text": "untyped"}]}})

    def do_events(self, arguments: dict[str, Any]) -> None:
        """Answer in a stream."""
        content = [{"type": "text", "text": arguments.get("text", "ok")}]
        answer = {"jsonrpc": "2.0", "id": self.id, "result": self.complete({"content": content})}
        self.answer(200, f"event: message\ndata: {json.dumps(answer)}\n\n".encode(), "text/event-stream")

    def do_steps(self, arguments: dict[str, Any]) -> None:
        """Answer in a stream: an event at once, and the answer when a file is there; or break off then."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        progress = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progress": 1}}
        self.chunk(f"event: message\ndata: {json.dumps(progress)}\n\n{arguments.get('half', '')}")
        self.connection.settimeout(0.02)
        while not Path(arguments["until"]).exists():
            try:
                if not self.connection.recv(1):
                    self.act("client gone")
                    return
            except TimeoutError:
                continue
        if arguments.get("then") == "cut":
            return
        content = [{"type": "text", "text": "done"}]
        answer = {"jsonrpc": "2.0", "id": self.id, "result": self.complete({"content": content})}
        self.chunk(f"event: message\ndata: {json.dumps(answer)}\n\n")
        self.chunk("")

    def chunk(self, text: str) -> None:
        """Send a piece of a stream."""
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def do_headers(self, _: dict[str, Any]) -> None:
        """Answer with the headers that came, and with some that are for the next hop only."""
        content = [{"type": "text", "text": json.dumps(dict(self.headers.items()))}]
        body = json.dumps({"jsonrpc": "2.0", "id": self.id, "result": self.complete({"content": content})}).encode()
        hop = {"connection": "x-hop", "x-hop": "mine", "keep-alive": "timeout=5", "x-kept": "yes"}
        self.answer(200, body, "application/json", headers=hop)

    def do_burst(self, arguments: dict[str, Any]) -> None:
        """Refuse as often as is said, and then answer; counted in a file."""
        file = Path(arguments["file"])
        count = len(file.read_text()) if file.exists() else 0
        file.write_text("x" * (count + 1))
        if count < arguments["times"]:
            self.answer(arguments["status"], b"<h1>Bad Gateway</h1>", "text/html")
        else:
            self.do_answer({})

    def do_cut_events(self, _: dict[str, Any]) -> None:
        """End the stream before the answer."""
        self.answer(200, b": nothing\n\n", "text/event-stream")

    def do_error(self, arguments: dict[str, Any]) -> None:
        """Answer with an error of the protocol."""
        self.reply({"error": {"code": arguments["code"], "message": "as you wish"}}, arguments.get("status", 200))

    def do_reset(self, _: dict[str, Any]) -> None:
        """Reset the connection."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def do_close(self, _: dict[str, Any]) -> None:
        """Close the connection without an answer."""
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def do_cut(self, _: dict[str, Any]) -> None:
        """Close it in the middle of the answer."""
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "1000")
        self.end_headers()
        self.wfile.write(b'{"jsonrpc": "2.0", ')
        self.close_connection = True

    def do_garbage(self, _: dict[str, Any]) -> None:
        """Answer in no protocol at all."""
        self.wfile.write(b"hello, who is there?\r\n\r\n")
        self.close_connection = True

    def do_accepted(self, _: dict[str, Any]) -> None:
        """Take the request for a notification."""
        self.answer(202, b"", "text/plain")

    def do_html(self, _: dict[str, Any]) -> None:
        """Answer with a page."""
        self.answer(200, b"<h1>Welcome</h1>", "text/html")

    def do_bad_json(self, _: dict[str, Any]) -> None:
        """Answer with what is no JSON."""
        self.answer(200, b'{"jsonrpc": ', "application/json")

    def do_redirect(self, _: dict[str, Any]) -> None:
        """Send it elsewhere."""
        self.answer(302, b"", "text/plain", headers={"location": "http://192.0.2.1/mcp"})

    def do_forget(self, _: dict[str, Any]) -> None:
        """Lose all sessions, after the answer."""
        sessions.clear()
        self.do_answer({})

    def do_die(self, _: dict[str, Any]) -> None:
        """Kill the whole server."""
        os._exit(9)

    def reply(self, body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Answer in JSON-RPC."""
        text = json.dumps({"jsonrpc": "2.0", "id": self.id, **body}).encode()
        self.answer(status, text, "application/json", headers=headers)

    def answer(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        """Answer in HTTP."""
        self.send_response(status)
        self.send_header("content-type", kind)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if status != 204:
            self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Ends with its process, whatever its connections do."""

    daemon_threads = True
    request_queue_size = 128


Server(("127.0.0.1", options.port), Handler).serve_forever()
