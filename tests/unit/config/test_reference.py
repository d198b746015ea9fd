"""The reference of the configuration names every setting that there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from agentrt.config import model
from agentrt.config.oauth import OAuthConfig

REFERENCE = Path(__file__).parents[3] / "docs" / "configuration.md"
TABLES = {
    "[fleet]": model.FleetConfig,
    "[agents.NAME]": model.AgentConfig,
    "[agents.NAME.bus]": model.AgentBusConfig,
    "[bus]": model.BusConfig,
    "[inbox]": model.InboxConfig,
    "[flood_gate]": model.FloodGateConfig,
    "[memory]": model.MemoryConfig,
    "[health]": model.HealthConfig,
    "[log]": model.LogConfig,
    "[registry]": model.RegistryConfig,
    "[mcp.global.SERVER]": model.McpServerConfig,
    "[mcp.global.SERVER.oauth]": OAuthConfig,
    "[connections.NAME]": model.ConnectionConfig,
    "[policies.retry.NAME]": model.RetryConfig,
    "[policies.breaker.NAME]": model.BreakerConfig,
    "[policies.bulkhead.NAME]": model.BulkheadConfig,
    "[policies.server_restart.NAME]": model.ServerRestartConfig,
    "[policies.restart.NAME]": model.RestartConfig,
    "[actors]": model.ActorsConfig,
}


@pytest.mark.parametrize("table", TABLES)
def test_every_setting_stands_in_the_reference(table):
    """In the order of the model, and only those."""
    section = REFERENCE.read_text().split(f"## `{table}`\n", 1)[1].split("\n## ", 1)[0]
    documented = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert documented == [field.metadata.get("key", field.name) for field in attrs.fields(TABLES[table])]
