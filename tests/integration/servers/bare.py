"""A server of a few lines without an SDK, for what the SDK's servers never do; its argument says what."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

behaviour = sys.argv[1]


def write(line: str) -> None:
    """Write one line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def result(method: str, params: dict[str, object]) -> object:
    """Answer one request of the protocol of 2025-11-25."""
    if method == "initialize":
        info = {"name": "bare", "version": "1"}
        return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        return {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}
    if method == "tools/call":
        return {"content": [{"type": "text", "text": params["arguments"]["text"]}]}
    return {}


for request in map(json.loads, sys.stdin):
    if request["method"] == "server/discover":
        if behaviour == "exits-on-discover":
            sys.exit("what is server/discover?")
        write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -32601, "message": "unknown"}}))
        continue
    if request["method"] == "tools/call":
        if behaviour == "huge-line":
            write('{"x": "' + "x" * (33 * 1024 * 1024) + '"}')
        if behaviour == "crash-under-grandchild":
            # It leaves the group, so only the exit of its parent tells that the session is over.
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)"], start_new_session=True)
            os._exit(9)
        if behaviour == "closes-stdout":
            os.close(1)
            time.sleep(600)
        if behaviour == "dies-when-told" and (folder := Path(request["params"]["arguments"]["text"])).is_dir():
            (folder / "busy").touch()
            while not (folder / "go").exists():
                time.sleep(0.01)
            os._exit(9)
        if behaviour == "effects":
            with Path(sys.argv[2]).open("a") as file:
                file.write(request["params"]["arguments"]["text"] + "\n")
        if behaviour == "floods-stderr":
            sys.stderr.write(("x" * 1023 + "\n") * 5000)
    if "id" in request:
        answer = result(request["method"], request.get("params", {}))
        write(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": answer}))
