"""``python -m agentrt``: the same as the command ``agentrt``."""

from __future__ import annotations

from agentrt.cli.main import app

if __name__ == "__main__":
    app()
