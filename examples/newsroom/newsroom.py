"""The newsroom's agents: an editor who asks an archivist and a writer, and a few colleagues who cause trouble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio
from history import write_history

from agentrt import Agent, Task

HERE = Path(__file__).parent


class Editor(Agent):
    """Has a note written about a topic, from what the archive knows of it."""

    async def handle(self, task: Task) -> dict[str, Any]:
        topic = task.payload["topic"]
        sources = await self.ask("archivist", {"topic": topic})
        text = await self.ask("writer", {"topic": topic, "sources": sources})
        clock = await self.tools.call("time", "get_current_time", {"timezone": "UTC"})
        return {"text": text, "clock": clock}


class Archivist(Agent):
    """Looks a topic up in the history of a git repository."""

    async def on_start(self) -> None:
        self.archive = HERE / self.options["archive"]
        await trio.to_thread.run_sync(write_history, self.archive)

    async def handle(self, task: Task) -> list[str]:
        log = await self.tools.call("git", "git_log", {"repo_path": str(self.archive), "max_count": 50})
        subjects = [line.partition(": ")[2] for line in log.splitlines() if line.startswith("Message: ")]
        return [subject for subject in subjects if task.payload["topic"] in subject]


async def language_model(prompt: str) -> str:
    """Stand for a call to a language model."""
    await trio.sleep(0.01)
    return f"A note on {prompt}."


class Writer(Agent):
    """Turns sources into a sentence."""

    model = staticmethod(language_model)

    async def handle(self, task: Task) -> str:
        topic, sources = task.payload["topic"], task.payload["sources"]
        return await self.model(f"{topic}, from {len(sources)} sources")


class Librarian(Agent):
    """Reads books, with a tool server that never puts one down."""

    async def handle(self, task: Task) -> Any:
        return await self.tools.call("shelf", "read", task.payload)


class Gossip(Agent):
    """Answers each rumour with another one; two of them never stop by themselves."""

    async def handle(self, task: Task) -> str:
        if task.payload.get("secret"):
            return "my lips are sealed"
        told = task.payload.get("told", 0) + 1
        await self.send(self.options["friend"], {"rumour": task.payload["rumour"], "told": told})
        return f"told {self.options['friend']}"
