"""What runs in a contender's process: one workload, once. Its last line of output is the outcome, as JSON."""

from __future__ import annotations

import cProfile
import importlib
import json
import logging
import sys
import traceback
from pathlib import Path

#: Stands before the outcome, whatever else a library prints.
MARK = "outcome: "


def outcome_of(
    contender: str, method: str, parameters: dict[str, object], profile: str | None = None
) -> dict[str, object]:
    """Run one workload and say what came of it: ``figures``, ``cannot`` or ``failed``.

    Where a *profile* is to be written, it is run once before, so that nothing is imported under the profiler.
    """
    try:
        participant = importlib.import_module(f"contenders.{contender}").Contender()
        workload = getattr(participant, method, None)
        if workload is None:
            # A contender that cannot do all of it says why not.
            return {"cannot": participant.cannot[method]}
        if profile is not None:
            workload(**parameters)
            profiler = cProfile.Profile()
            profiler.runcall(workload, **parameters)
            profiler.dump_stats(profile)
        return {"figures": workload(**parameters)}
    except Exception as error:  # noqa: BLE001 - a peer may fail with anything, which is then what is told.
        return {"failed": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}


def main() -> None:
    """Run what the command line says."""
    # Whoever writes a log of each crash would be measured by it.
    logging.disable(logging.CRITICAL)
    contender, method, parameters, *profile = sys.argv[1:]
    outcome = outcome_of(contender, method, json.loads(parameters), *profile)
    print(f"\n{MARK}{json.dumps(outcome)}", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
