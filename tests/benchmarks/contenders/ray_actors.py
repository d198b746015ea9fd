"""Ray: an actor is a process, reached over gRPC and shared memory."""

from __future__ import annotations

import os
from collections import deque
from typing import Any, ClassVar

import ray
from bench.measure import Latencies, Pace, now

#: Actors that a process each would have to be started for.
FEW = 8


def start() -> None:
    """Start a cluster of this one machine, without what is only there to be looked at."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)
class Doing:
    """Counts, answers, or dies."""

    def __init__(self) -> None:
        self._count = 0

    def count(self, _: int) -> None:
        """Count it."""
        self._count += 1

    def counted(self) -> int:
        """Say how many there were."""
        return self._count

    def echo(self, message: object) -> object:
        """Give it back."""
        return message

    def die(self) -> None:
        """End the process: an exception would go to the caller and kill nobody."""
        os._exit(1)


@ray.remote(num_cpus=0)
class Producer:
    """Sends as many messages as it is told."""

    def produce(self, sink: Any, count: int) -> None:
        """Send them."""
        for one in range(count):
            sink.count.remote(one)


class Contender:
    """``actor.method.remote(message)``, and ``ray.get`` for the answer."""

    cannot: ClassVar[dict[str, str]] = {
        "fan_in_blocked": "its queue has no bound, so nobody is ever blocked",
        "idle_beats": "an actor is a process, and 1,000 of them are not started here",
        "ring": "an actor is a process, and 100 of them are not started here",
    }

    def tell(self, seconds: float, capacity: int) -> dict[str, float]:
        """One sender, one actor."""
        start()
        pace, sink = Pace(seconds), Doing.remote()
        ray.get(sink.counted.remote())
        for count in pace:
            for one in range(count):
                sink.count.remote(one)
            ray.get(sink.counted.remote())
        return {"per_second": pace.rate}

    def fan_in(self, seconds: float, capacity: int, producers: int) -> dict[str, float]:
        """Several actors send to one."""
        start()
        pace, sink, total = Pace(seconds, 64 * producers), Doing.remote(), 0
        crowd = [Producer.remote() for _ in range(producers)]
        for count in pace:
            total += count // producers * producers
            ray.get([producer.produce.remote(sink, count // producers) for producer in crowd])
            while ray.get(sink.counted.remote()) < total:
                pass
        return {"per_second": pace.rate}

    def call(self, seconds: float, capacity: int) -> dict[str, float]:
        """One caller, one question after the other."""
        start()
        latencies, echo = Latencies(seconds), Doing.remote()
        while latencies:
            began = now()
            ray.get(echo.echo.remote(1))
            latencies.add(now() - began)
        return latencies.figures()

    def outstanding(self, seconds: float, capacity: int, callers: int) -> dict[str, float]:
        """As many answers at a time are waited for, by one thread."""
        start()
        pace, echo = Pace(seconds, 2 * callers), Doing.remote()
        asked = deque(echo.echo.remote(1) for _ in range(callers))
        for count in pace:
            for _ in range(count):
                ray.get(asked.popleft())
                asked.append(echo.echo.remote(1))
        return {"per_second": pace.rate}

    def crash(self, seconds: float, capacity: int) -> dict[str, float]:
        """The process ends itself; until the restarted one answers the next message, which is tried until then."""
        start()
        latencies, fragile = Latencies(8 * seconds, warm_up=1), Doing.remote()
        ray.get(fragile.echo.remote(1))
        while latencies:
            began = now()
            fragile.die.remote()
            while True:
                try:
                    ray.get(fragile.echo.remote(1))
                except ray.exceptions.RayActorError:
                    continue
                break
            latencies.add(now() - began)
        return latencies.figures()

    def spawn(self, count: int, capacity: int) -> dict[str, float]:
        """A few processes, until each of them has answered."""
        start()
        few = min(count, FEW)
        began = now()
        actors = [Doing.remote() for _ in range(few)]
        ray.get([actor.echo.remote(1) for actor in actors])
        return {"each_us": 1e6 * (now() - began) / few}
