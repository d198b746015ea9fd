"""agentrt: a Trio-based actor runtime that keeps fleets of AI agents alive."""
