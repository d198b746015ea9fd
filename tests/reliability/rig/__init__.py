"""The rig: real servers, faults, and a client under a steady feed whose every message is accounted for."""
