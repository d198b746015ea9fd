"""What unit tests share: a configuration on disk, and agents made of a function."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agentrt import Agent, Task
from agentrt.ports import Json

Handle = Callable[[Agent, Task], Awaitable[Json]]


@pytest.fixture
def fleet_config(tmp_path: Path) -> Callable[..., Path]:
    """Write a config.toml: agents by name, each with its own lines, and whatever tables there are *more*."""

    def write(more: str = "", **agents: str) -> Path:
        tables = "\n".join(f'[agents.{name}]\nclass = "made:Up"\n{lines}\n' for name, lines in agents.items())
        path = tmp_path / "config.toml"
        path.write_text(f'schema = 1\n[fleet]\nname = "newsroom"\n{tables}\n{more}\n')
        return path

    return write


@pytest.fixture
def acting() -> Callable[[Handle], type[Agent]]:
    """Make an agent's class of what its ``handle`` is to do."""

    def make(handle: Handle) -> type[Agent]:
        return type("Acting", (Agent,), {"handle": handle})

    return make
