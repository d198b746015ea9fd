"""A program that leaves processes wherever it can: in its group, in a session of its own, and without a parent."""

from __future__ import annotations

import os
import subprocess
import sys
import time

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def daemon() -> None:
    """Fork twice, with a session in between."""
    if os.fork():
        return
    os.setsid()
    if not os.fork():
        os.execv(SLEEP[0], SLEEP)
    os._exit(0)


subprocess.Popen(SLEEP)
subprocess.Popen(SLEEP, start_new_session=True)
daemon()
if "--endless" in sys.argv:
    # Each starts the next in a session of its own, and ends.
    again = "import os, sys, time; time.sleep(0.02); os.fork() and os._exit(0); os.setsid(); "
    again += "os.execv(sys.executable, sys.orig_argv)"
    subprocess.Popen([sys.executable, "-c", again])
sys.stdout.write("up\n")
sys.stdout.flush()
time.sleep(float(sys.argv[1]))
