"""The MCP servers that are killed: real ones, each with calls to make, and a way to see what was really done."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).resolve().parents[2]
#: What is installed for these servers alone.
FOLDER = ROOT / ".venv" / "mcp-servers"
PYTHON = str(FOLDER / "bin" / "python")
NPM = (
    "@modelcontextprotocol/server-everything@2026.8.31",
    "@modelcontextprotocol/server-filesystem@2026.8.31",
    "@modelcontextprotocol/server-memory@2026.8.31",
    "@modelcontextprotocol/server-sequential-thinking@2026.8.31",
)
PYPI = ("mcp-server-time==2026.10.19", "mcp-server-git==2026.10.19", "mcp-server-fetch==2026.10.24")
COUNTED = ROOT / "tests" / "integration" / "servers" / "counted.py"


def install() -> None:
    """Install what is pinned above, unless it is there.

    Raises:
        subprocess.CalledProcessError: It cannot be.
    """
    stamp, wanted = FOLDER / "installed", "\n".join((*NPM, *PYPI))
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    for command in (
        ("npm", "install", "--prefix", str(FOLDER), "--ignore-scripts", "--no-audit", "--no-fund", "--silent", *NPM),
        (sys.executable, "-m", "venv", str(FOLDER)),
        (PYTHON, "-m", "pip", "install", "--quiet", *PYPI),
    ):
        subprocess.run(command, check=True, stderr=subprocess.PIPE)
    stamp.write_text(wanted, encoding="utf-8")


@attrs.frozen
class Job:
    """One call.

    Args:
        tool: What is called.
        arguments: With what.
        effect: Under which name its effect is counted; empty where doing it again changes nothing, or nobody can tell.
    """

    tool: str
    arguments: Mapping[str, Any]
    effect: str = ""


class Subject:
    """One server, with a folder of its own.

    Args:
        folder: Where it keeps what it keeps.
        python: The interpreter that has it, where it is written in Python.
    """

    #: Variables that it needs.
    env: Mapping[str, str] = {}

    def __init__(self, folder: Path, python: str = PYTHON) -> None:
        self.folder = folder
        self.python = python

    @property
    def command(self) -> tuple[str, ...]:
        """How it is started."""
        raise NotImplementedError

    def job(self, text: str, number: int) -> Job:
        """Make the call of that number; *text* is said once in a run."""
        raise NotImplementedError

    def effects(self) -> Counter[str]:
        """Count what was done, by the name of its effect."""
        return Counter()


def _npm(program: str) -> str:
    return str(FOLDER / "node_modules" / ".bin" / f"mcp-server-{program}")


class Counted(Subject):
    """The tests' own: it writes down each call of *add*, and dies between that and the answer more often than not."""

    @property
    def command(self) -> tuple[str, ...]:
        return sys.executable, str(COUNTED), str(self.folder / "done"), "--answer-after", "0.01"

    def job(self, text: str, number: int) -> Job:
        return Job("add", {"what": text}, text) if number % 2 else Job("look", {})

    def effects(self) -> Counter[str]:
        return Counter((self.folder / "done").read_text(encoding="utf-8").split())


class Everything(Subject):
    """Calls that are quick, and calls that are in hand for a while."""

    @property
    def command(self) -> tuple[str, ...]:
        return _npm("everything"), "stdio"

    def job(self, text: str, number: int) -> Job:
        match number % 4:
            case 0:
                return Job("trigger-long-running-operation", {"duration": 0.2, "steps": 2})
            case 1:
                return Job("get-structured-content", {"location": "New York"})
            case 2:
                return Job("toggle-simulated-logging", {})
        return Job("echo", {"message": text})


class Filesystem(Subject):
    """Each edit is of a file of its own, which grows by one letter."""

    @property
    def command(self) -> tuple[str, ...]:
        return _npm("filesystem"), str(self.folder)

    def job(self, text: str, number: int) -> Job:
        file = self.folder / f"{text}.txt"
        file.write_text(".", encoding="utf-8")
        if number % 2:
            return Job("edit_file", {"path": str(file), "edits": [{"oldText": ".", "newText": "x."}]}, text)
        return Job("read_text_file", {"path": str(file)})

    def effects(self) -> Counter[str]:
        return Counter({file.stem: file.read_text(encoding="utf-8").count("x") for file in self.folder.glob("*.txt")})


class Memory(Subject):
    """It drops what it has already, so that nobody can tell whether it was told twice."""

    @property
    def env(self) -> Mapping[str, str]:  # type: ignore[override]
        return {"MEMORY_FILE_PATH": str(self.folder / "memory.jsonl")}

    @property
    def command(self) -> tuple[str, ...]:
        return (_npm("memory"),)

    def job(self, text: str, number: int) -> Job:
        if number % 2:
            entity = {"name": str(number % 100), "entityType": "number", "observations": []}
            return Job("create_entities", {"entities": [entity]})
        return Job("search_nodes", {"query": "9"})


class SequentialThinking(Subject):
    """Its thoughts are its own."""

    @property
    def command(self) -> tuple[str, ...]:
        return (_npm("sequential-thinking"),)

    def job(self, text: str, number: int) -> Job:
        thought = {"thought": text, "nextThoughtNeeded": True, "thoughtNumber": 1, "totalThoughts": 1}
        return Job("sequentialthinking", thought)


class Time(Subject):
    """It reads the clock."""

    @property
    def command(self) -> tuple[str, ...]:
        return self.python, "-m", "mcp_server_time", "--local-timezone", "UTC"

    def job(self, text: str, number: int) -> Job:
        return Job("get_current_time", {"timezone": "UTC"})


class Git(Subject):
    """Each branch is made once: to make it again is an error."""

    def __init__(self, folder: Path, python: str = PYTHON) -> None:
        super().__init__(folder, python)
        who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        for words in (("init", "-q"), (*who, "commit", "-q", "--allow-empty", "-m", "first")):
            subprocess.run(["git", *words], cwd=folder, check=True)

    @property
    def command(self) -> tuple[str, ...]:
        return self.python, "-m", "mcp_server_git"

    def job(self, text: str, number: int) -> Job:
        repository = {"repo_path": str(self.folder)}
        if number % 2:
            return Job("git_create_branch", {**repository, "branch_name": text}, text)
        return Job("git_status", repository)

    def effects(self) -> Counter[str]:
        words = ["git", "branch", "--format=%(refname:short)"]
        return Counter(
            subprocess.run(words, cwd=self.folder, check=True, capture_output=True, text=True).stdout.split()
        )


class Fetch(Subject):
    """It fetches a page of this process."""

    #: Where that is.
    url = ""

    @property
    def command(self) -> tuple[str, ...]:
        return self.python, "-m", "mcp_server_fetch", "--ignore-robots-txt", "--allow-private-ips"

    def job(self, text: str, number: int) -> Job:
        return Job("fetch", {"url": f"{self.url}/{text}", "raw": True})


SUBJECTS: Mapping[str, type[Subject]] = {
    "everything": Everything,
    "filesystem": Filesystem,
    "memory": Memory,
    "sequential-thinking": SequentialThinking,
    "time": Time,
    "git": Git,
    "fetch": Fetch,
    "counted": Counted,
}


class _Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = b"a page"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


class _Pages(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        # Who asks is killed at any moment.
        return


@contextmanager
def pages() -> Iterator[None]:
    """Serve the page that is fetched, on loopback."""
    with _Pages(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        Fetch.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
