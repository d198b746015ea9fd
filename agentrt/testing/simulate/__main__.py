"""``python -m agentrt.testing.simulate``: run many simulations, or one again."""

from __future__ import annotations

import sys

from agentrt.testing.simulate.cli import main

if __name__ == "__main__":
    sys.exit(main())
