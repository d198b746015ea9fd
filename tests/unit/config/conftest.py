"""A configuration file that tests write, load and get the mistakes of."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from agentrt.config import ConfigError, Loaded, load

MINIMAL = """\
schema = 1
[fleet]
name = "newsroom"
[agents.editor]
class = "newsroom:Editor"
"""


@pytest.fixture
def load_text(tmp_path, monkeypatch) -> Callable[..., Loaded]:
    """Load a text as ``config.toml``, named without a folder as on a command line."""
    monkeypatch.chdir(tmp_path)

    def load_text(text: str, environ: dict[str, str] | None = None, **options) -> Loaded:
        Path("config.toml").write_text(textwrap.dedent(text), encoding="utf-8")
        return load(Path("config.toml"), environ or {}, **options)

    return load_text


@pytest.fixture
def mistakes(load_text) -> Callable[..., list[str]]:
    """Load a text that has mistakes, and return what a person reads, line by line."""

    def mistakes(text: str, environ: dict[str, str] | None = None, **options) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load_text(text, environ, **options)
        return str(caught.value).split("\n")

    return mistakes


@pytest.fixture
def mistakes_in(mistakes) -> Callable[..., list[str]]:
    """As ``mistakes``, for what is added after the five lines of a minimal configuration."""

    def mistakes_in(text: str, environ: dict[str, str] | None = None, **options) -> list[str]:
        return mistakes(MINIMAL + textwrap.dedent(text), environ, **options)

    return mistakes_in


@pytest.fixture
def load_more(load_text) -> Callable[..., Loaded]:
    """Load a minimal configuration with more after it."""

    def load_more(text: str = "", environ: dict[str, str] | None = None, **options) -> Loaded:
        return load_text(MINIMAL + textwrap.dedent(text), environ, **options)

    return load_more
