"""Environment variables that operators set already; a key in the file wins over its variable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import attrs

from agentrt.config.problems import KeyPath, Problem, shown

#: What is given as the file of a problem with an environment variable.
ENVIRONMENT = "environment"
Source: TypeAlias = Literal["file", "environment", "default"]

_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")


@attrs.frozen
class _Variable:
    name: str
    section: str
    key: str
    #: Follows the number to make a value as in TOML; empty where the variable is no number.
    unit: str = ""
    what: str = ""

    @property
    def path(self) -> KeyPath:
        return (self.section, self.key)


_VARIABLES = (
    _Variable("NATS_URL", "bus", "url"),
    _Variable("AGENT_REGISTRY_URL", "registry", "url"),
    _Variable("MCP_REGISTRY_URL", "registry", "mcp_url"),
    _Variable("MCP_RSS_WARN_MB", "memory", "server_warn", "MB", "a number of megabytes"),
    _Variable("MCP_RSS_LIMIT_MB", "memory", "server_limit", "MB", "a number of megabytes"),
    _Variable("MCP_MEMORY_CHECK_INTERVAL", "memory", "interval", "s", "a number of seconds"),
)


@attrs.frozen
class Merged:
    """What the environment had to say.

    Args:
        sources: For each key that has a variable, by its dotted path, where its value is from.
        variables: The variable's name for each path that it was used for, whether well-formed or not.
        problems: Variables that were needed and are malformed.
    """

    sources: dict[str, Source]
    variables: dict[KeyPath, str]
    problems: tuple[Problem, ...]


def merge(document: dict[str, Any], environ: Mapping[str, str]) -> Merged:
    """Put variables into *document* where it leaves their keys out. An empty variable counts as not set."""
    sources: dict[str, Source] = {}
    variables: dict[KeyPath, str] = {}
    problems: list[Problem] = []
    for variable in _VARIABLES:
        table = document.get(variable.section, {})
        text = environ.get(variable.name, "").strip()
        where = f"{variable.section}.{variable.key}"
        if not isinstance(table, dict) or variable.key in table:
            sources[where] = "file"
        elif not text:
            sources[where] = "default"
        else:
            sources[where] = "environment"
            variables[variable.path] = variable.name
            if variable.unit and not _NUMBER.fullmatch(text):
                message = f"expected {variable.what}, got {shown(text)}"
                problems.append(Problem(ENVIRONMENT, None, variable.name, message))
            else:
                document.setdefault(variable.section, {})[variable.key] = f"{text}{variable.unit}"
    return Merged(sources, variables, tuple(problems))
