"""A server of a few lines that counts in a file what was done, so that doing it twice is seen."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("file", type=Path)
parser.add_argument("--crash-at-start", action="store_true")
parser.add_argument("--start-seconds", type=float, default=0.0)
parser.add_argument("--modern", action="store_true")
parser.add_argument("--answer-after", type=float, default=0.0, help="seconds between what is done and its answer")
options = parser.parse_args()
TOOLS = [
    {"name": "add", "inputSchema": {"type": "object"}},
    {"name": "look", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
    {"name": "slow", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
    {"name": "hoard", "inputSchema": {"type": "object"}},
    {"name": "stall", "inputSchema": {"type": "object"}},
]
hoard: list[bytearray] = []


def call(name: str, arguments: dict[str, object]) -> str:
    """Do what a tool does."""
    if name in {"slow", "stall"}:
        options.file.with_suffix(".busy").touch()
    if name == "add":
        with options.file.open("a") as file:
            file.write(f"{arguments['what']}\n")
        time.sleep(options.answer_after)
    elif name == "slow":
        time.sleep(float(str(arguments["seconds"])))
    elif name == "hoard":
        hoard.append(bytearray(os.urandom(1024)) * (1024 * int(str(arguments["mib"]))))
    elif name == "stall":
        time.sleep(600)
    return str(os.getpid())


def result(method: str, params: dict[str, object]) -> object:
    """Answer one request."""
    if method == "initialize":
        info = {"name": "counted", "version": "1"}
        return {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        return {"tools": TOOLS}
    if method == "tools/call":
        arguments = params.get("arguments") or {}
        assert isinstance(arguments, dict)
        return {"content": [{"type": "text", "text": call(str(params["name"]), arguments)}]}
    return {}


if options.crash_at_start:
    sys.exit("no database at localhost:1")
time.sleep(options.start_seconds)
sys.stdout.write("counted is listening\n")
initialized = options.modern
for request in map(json.loads, sys.stdin):
    if "id" not in request:
        continue
    initialized = initialized or request["method"] == "initialize"
    answer = (
        {"result": result(request["method"], request.get("params", {}))}
        if initialized
        else {"error": {"code": -32601, "message": "not greeted"}}
    )
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer}) + "\n")
    sys.stdout.flush()
