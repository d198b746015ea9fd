"""The simulation: random trees under random faults, in virtual time and reproducible, and all that is promised of them.

From one integer a tree is drawn, what befalls it, and the order in which Trio runs its tasks. The run is checked while
it goes on and replayed through naive models afterwards. A plan that breaks a promise is cut down to a small one.

On the command line: ``python -m agentrt.testing.simulate --seeds 1000``.
"""

from __future__ import annotations

from agentrt.testing.simulate.draw import draw
from agentrt.testing.simulate.plan import Plan
from agentrt.testing.simulate.report import Report, run_plan, simulate
from agentrt.testing.simulate.shrink import shrink
from agentrt.testing.simulate.world import Violation

__all__ = ["Plan", "Report", "Violation", "draw", "run_plan", "shrink", "simulate"]
