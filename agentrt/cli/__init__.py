"""The command line: run a fleet, and look at, feed and stop one that runs."""
