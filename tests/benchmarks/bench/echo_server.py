"""A tool server that starts at once: one tool, which says its process. ``FILE`` counts its starts, one letter each.

With ``--crash`` it takes the handshake and dies of the first call.
"""

from __future__ import annotations

import json
import os
import sys

TOOLS = [{"name": "pid", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}}]


def result(request: dict[str, object]) -> dict[str, object]:
    """Answer one request."""
    method, params = request["method"], request.get("params") or {}
    if method == "initialize":
        info = {"name": "echo", "version": "1"}
        # A newer version than it speaks is answered by the newest that it does.
        assert isinstance(params, dict)
        version = min(params["protocolVersion"], "2025-11-25")
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        return {"tools": TOOLS}
    return {"content": [{"type": "text", "text": str(os.getpid())}], "isError": False}


def main() -> None:
    """Serve."""
    with open(sys.argv[1], "a", encoding="ascii") as starts:  # noqa: PTH123 - pathlib would be most of its start.
        starts.write("x")
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue
        if request["method"] == "tools/call" and "--crash" in sys.argv:
            os._exit(1)
        if request["method"] == "server/discover":
            answer = {"error": {"code": -32601, "message": "Method not found"}}
        else:
            answer = {"result": result(request)}
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
