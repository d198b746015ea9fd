"""The batteries: actors that own a connection, a session, an inbox or a guard."""
