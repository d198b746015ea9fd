"""A registry over HTTP of a few lines: entries are put, deleted and listed; a file says how it misbehaves."""

from __future__ import annotations

import argparse
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--trouble", type=Path, required=True, help="while it is there: a status to answer with, or 'hang'")
parser.add_argument("--token", help="the only bearer token that is let in")
options = parser.parse_args()
entries: dict[str, Any] = {}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """List what there is."""
        self.answer(200, json.dumps(entries).encode())

    def do_PUT(self) -> None:
        """Take an entry."""
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.is_well():
            entries[self.path] = json.loads(body)
            self.answer(204)

    def do_DELETE(self) -> None:
        """Remove an entry."""
        if self.is_well():
            self.answer(204 if entries.pop(self.path, None) else 404)

    def is_well(self) -> bool:
        """Whether it does what it is asked."""
        if options.token and self.headers.get("authorization") != f"Bearer {options.token}":
            self.answer(401)
            return False
        trouble = options.trouble.read_text() if options.trouble.exists() else ""
        if trouble == "hang":
            time.sleep(600)
        if trouble:
            self.answer(int(trouble))
        return not trouble

    def answer(self, status: int, body: bytes = b"") -> None:
        """Answer."""
        self.send_response(status)
        if status != 204:
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Ends with its process."""

    daemon_threads = True


Server(("127.0.0.1", options.port), Handler).serve_forever()
