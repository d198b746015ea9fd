"""The clients, each in a process of its own and in the way its own documentation shows."""
