"""The document that tells what the matrix gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

import attrs

from rig.faults import Fault
from rig.ledger import SIGNS
from rig.play import Result

_TEXT = """\
# Reliability

What a NATS connection does when its server fails: agentrt and the Python clients for NATS side by side, against real
servers. This file is generated: `python tests/reliability/run.py --install --write` plays the matrix anew.

## How it is measured

Each client is a process of its own under a steady feed: 50 messages a second stored in JetStream, each repeated with
the same `Nats-Msg-Id` until it is acknowledged; a durable pull consumer that acknowledges each; a subscription; a watch
over a key-value bucket. The clients run with their defaults, but reconnect for ever where that is an option, and read
their password anew where they can. Around each operation of a peer stands the loop that an application would write: on
an error, 50 ms later, again. A fetch of nats-py's and FastStream's waits 1 s in place of 5 s, which flatters them after
a restart.

- The **time to recover** is counted from the moment at which the server can be used again (a connection of the rig's
  own gets an answer from JetStream, or the network passes bytes again) until all three work: a message stored *and*
  consumed, the subscription, the watch. **Never** is: not within {limit:g} s; where some of it came back, what did not
  stands there.
- **Lost** is what JetStream acknowledged to the client and its consumer was never given. What a fault destroys with the
  store is not counted. Of a client whose consumer is dead it is what lay there undelivered at the end; it is still in
  the stream, for a client that is started anew.
- All clients play a fault at the same time, each against servers of its own, so that what else the machine does meets
  all of them.

Measured on {machine}. {versions}

## The matrix

{matrix}

## Two seconds down

The server is killed and started two seconds later. From the moment that it serves JetStream until the first message is
stored and consumed; median (lowest–highest) of {repeats} runs.

{headline}

## What was not measured

TLS and WebSocket connections; JWT and nkey credentials; faults of disks; networks that lose single packets (a proxy on
loopback plays the black hole, and all else is real); a server that is down for longer than a minute. Each fault of the
matrix was played once per client: a time moves by the phase in which the fault meets the client's own timers, and by
what else the machine does.
"""


@attrs.define
class Row:
    """A fault, and what came of it for each client; a text says why there is no result."""

    fault: Fault
    results: dict[str, Result | str] = attrs.field(factory=dict)


def document(
    names: Sequence[str],
    rows: Sequence[Row],
    headline: Sequence[Row],
    *,
    versions: Mapping[str, str],
    machine: str,
    limit: float,
) -> str:
    """Write the document."""
    return _TEXT.format(
        limit=limit,
        machine=machine,
        versions=" ".join(f"{name}: {text}." for name, text in versions.items()),
        matrix=_table(["fault", *names], [[row.fault.title, *(_cell(row.results[n]) for n in names)] for row in rows]),
        repeats=len(headline),
        headline=_table(["client", "to the first message"], [[name, _median(name, headline)] for name in names]),
    )


def _cell(result: Result | str) -> str:
    if isinstance(result, str):
        return result
    lost = f", {result.lost} lost" if result.lost else ""
    dead = [sign for sign in SIGNS if sign not in result.back]
    if not dead:
        return f"{max(result.back.values()):.2f} s{lost}"
    if len(dead) == len(SIGNS):
        return f"**never**{lost}"
    return f"**never**: {', '.join(dead)}{lost}"


def _median(name: str, rows: Sequence[Row]) -> str:
    results = [row.results[name] for row in rows]
    times = sorted(result.back["tasks"] for result in results if isinstance(result, Result) and "tasks" in result.back)
    if not times:
        return "never"
    never = f", and never in {len(results) - len(times)} of them" if len(times) < len(results) else ""
    return f"**{median(times):.2f} s** ({times[0]:.2f}–{times[-1]:.2f}){never}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
