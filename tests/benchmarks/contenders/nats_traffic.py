"""Traffic over a real nats-server: the bus under its actor, on Trio, and nats-py on plain asyncio as its control."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import nats
import trio
from bench.measure import Cpu, Pace, now, resident_kib
from nats.js.api import AckPolicy, ConsumerConfig, StorageType, StreamConfig

sys.path.insert(0, str(Path(__file__).parents[2] / "support"))

from nats_process import RealServer

BODY = b"x" * 128
SUBJECT = "bench.tasks"
STREAM, DURABLE = "BENCH", "worker"
#: What the server answers itself, so that no process beside it is measured.
ASKED = "$JS.API.INFO"
#: Messages of one fetch: with fewer nats-py is slower.
BATCH = 500

Move = Callable[[int], Awaitable[None]]


@contextmanager
def server() -> Iterator[RealServer]:
    """Run a nats-server of its own, with its store in a folder that goes with it."""
    with tempfile.TemporaryDirectory() as folder:
        running = RealServer(Path(folder))
        running.anonymous = True
        running.start()
        try:
            yield running
        finally:
            running.kill()


async def _rate(pace: Pace, move: Move) -> dict[str, float]:
    for count in pace:
        await move(count)
    return {"per_second": pace.rate}


def _shares(count: int, workers: int) -> list[int]:
    return [count // workers + (place < count % workers) for place in range(workers)]


# The bus


@asynccontextmanager
async def _bus(url: str) -> AsyncIterator[Any]:
    from actors.nats import NatsBus, NatsConnection, NatsSettings, bridge  # noqa: PLC0415 - the control has none.
    from agentrt.kernel import ChildSpec, SupervisorSpec, open_runtime  # noqa: PLC0415 - as above.
    from agentrt.ports import ConsumerSpec, StreamSpec, Topology  # noqa: PLC0415 - as above.

    bus = NatsBus(NatsSettings(url=url))
    bus.declare(
        Topology(
            (StreamSpec(STREAM, (SUBJECT,), work_queue=True),),
            (ConsumerSpec(STREAM, DURABLE, SUBJECT, max_ack_pending=10_000),),
        )
    )
    child = ChildSpec(id="connection", factory=lambda: NatsConnection(bus))
    async with bridge(), open_runtime(SupervisorSpec(id="bench", children=(child,))):
        await bus.wait_ready()
        yield bus


def _with_the_bus(measure: Callable[[Any], Awaitable[dict[str, float]]]) -> dict[str, float]:
    async def main(url: str) -> dict[str, float]:
        async with _bus(url) as bus:
            return await measure(bus)

    with server() as running:
        return trio.run(main, running.url)


def publish_on_the_bus(seconds: float) -> dict[str, float]:
    """One task publishes, until the server has it all."""

    async def measure(bus: Any) -> dict[str, float]:
        async def move(count: int) -> None:
            for _ in range(count):
                await bus.publish("bench.core", BODY)
            await _sent(bus)

        return await _rate(Pace(seconds, 1024), move)

    return _with_the_bus(measure)


async def _sent(bus: Any) -> None:
    while bus.statistics().waiting_messages:  # noqa: ASYNC110 - the bus has no event for it.
        await trio.sleep(0.001)


def store_on_the_bus(seconds: float, callers: int) -> dict[str, float]:
    """Tasks store, each one message after the other."""

    async def measure(bus: Any) -> dict[str, float]:
        numbers = iter(range(10**9))

        async def store(count: int) -> None:
            for _ in range(count):
                await bus.store(SUBJECT, BODY, msg_id=f"m{next(numbers)}")

        async def move(count: int) -> None:
            async with trio.open_nursery() as nursery:
                for share in _shares(count, callers):
                    nursery.start_soon(store, share)

        return await _rate(Pace(seconds, callers * 4), move)

    return _with_the_bus(measure)


def consume_on_the_bus(count: int) -> dict[str, float]:
    """One task takes messages and acknowledges each; the consumer pulls ahead."""

    async def measure(bus: Any) -> dict[str, float]:
        for _ in range(count):
            await bus.publish(SUBJECT, BODY)
        await _sent(bus)
        began = now()
        async with bus.consume(STREAM, DURABLE, batch=BATCH) as consumer:
            for _ in range(count):
                delivery = await consumer.next()
                delivery.ack_nowait()
            while await bus.depth(STREAM, DURABLE):  # noqa: ASYNC110 - as above.
                await trio.sleep(0.001)
        return {"per_second": count / (now() - began)}

    return _with_the_bus(measure)


def request_on_the_bus(seconds: float, callers: int) -> dict[str, float]:
    """Tasks ask, each one question after the other."""

    async def measure(bus: Any) -> dict[str, float]:
        async def ask(count: int) -> None:
            for _ in range(count):
                await bus.request(ASKED, b"")

        async def move(count: int) -> None:
            async with trio.open_nursery() as nursery:
                for share in _shares(count, callers):
                    nursery.start_soon(ask, share)

        return await _rate(Pace(seconds, callers * 4), move)

    return _with_the_bus(measure)


def connections_on_the_bus(seconds: float, count: int) -> dict[str, float]:
    """Each an actor with a bus of its own, all on one loop of asyncio."""
    from actors.nats import NatsBus, NatsConnection, NatsSettings, bridge  # noqa: PLC0415 - the control has none.
    from agentrt.kernel import ChildSpec, SupervisorSpec, open_runtime  # noqa: PLC0415 - as above.

    async def main(url: str) -> dict[str, float]:
        first = NatsBus(NatsSettings(url=url))

        def child(name: str, bus: NatsBus) -> ChildSpec:
            return ChildSpec(id=name, factory=lambda: NatsConnection(bus))

        def tree(name: str, buses: list[NatsBus]) -> SupervisorSpec:
            return SupervisorSpec(id=name, children=tuple(child(f"c{i}", bus) for i, bus in enumerate(buses)))

        async with bridge(), open_runtime(tree("first", [first])):
            # What the first one imports and sets up is not a connection's.
            await first.wait_ready()
            before, began = resident_kib(), now()
            buses = [NatsBus(NatsSettings(url=url)) for _ in range(count)]
            async with open_runtime(tree("bench", buses)):
                for bus in buses:
                    await bus.wait_ready()
                up = now() - began
                used = resident_kib() - before
                cpu = Cpu()
                await trio.sleep(seconds)
                return {"up_us": 1e6 * up, "each_kib": used / count, "cpu_percent": cpu.percent}

    with server() as running:
        return trio.run(main, running.url)


# nats-py


def _with_nats_py(measure: Callable[[Any], Awaitable[dict[str, float]]]) -> dict[str, float]:
    async def main(url: str) -> dict[str, float]:
        client = await nats.connect(url)
        await client.jetstream().add_stream(
            StreamConfig(name=STREAM, subjects=[SUBJECT], retention="workqueue", storage=StorageType.FILE)
        )
        try:
            return await measure(client)
        finally:
            await client.close()

    with server() as running:
        return asyncio.run(main(running.url))


def publish_with_nats_py(seconds: float) -> dict[str, float]:
    """One task publishes, until the server has it all."""

    async def measure(client: Any) -> dict[str, float]:
        async def move(count: int) -> None:
            for _ in range(count):
                await client.publish("bench.core", BODY)
            # Its flush asks before it writes what waits, so it takes two.
            await client.flush()
            await client.flush()

        return await _rate(Pace(seconds, 1024), move)

    return _with_nats_py(measure)


def store_with_nats_py(seconds: float, callers: int) -> dict[str, float]:
    """``publish_async``, with as many in flight as it lets by itself, which is more than *callers* and quicker."""

    async def measure(client: Any) -> dict[str, float]:
        stream = client.jetstream()
        numbers = iter(range(10**9))

        async def move(count: int) -> None:
            for _ in range(count):
                await stream.publish_async(SUBJECT, BODY, wait_stall=30.0, headers={"Nats-Msg-Id": f"m{next(numbers)}"})
            await stream.publish_async_completed()

        return await _rate(Pace(seconds, callers * 4), move)

    return _with_nats_py(measure)


def consume_with_nats_py(count: int) -> dict[str, float]:
    """``fetch`` in large batches, and ``ack`` of each message, which nobody waits for."""

    async def measure(client: Any) -> dict[str, float]:
        for _ in range(count):
            await client.publish(SUBJECT, BODY)
        await client.flush()
        await client.flush()
        stream = client.jetstream()
        config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, max_ack_pending=10_000)
        began = now()
        pull = await stream.pull_subscribe(SUBJECT, DURABLE, stream=STREAM, config=config)
        done = 0
        while done < count:
            for message in await pull.fetch(BATCH, timeout=5):
                await message.ack()
                done += 1
        while (info := await pull.consumer_info()).num_pending or info.num_ack_pending:  # noqa: ASYNC110 - as above.
            await asyncio.sleep(0.001)
        return {"per_second": count / (now() - began)}

    return _with_nats_py(measure)


def request_with_nats_py(seconds: float, callers: int) -> dict[str, float]:
    """Tasks ask, each one question after the other."""

    async def measure(client: Any) -> dict[str, float]:
        async def ask(count: int) -> None:
            for _ in range(count):
                await client.request(ASKED, b"", timeout=5)

        async def move(count: int) -> None:
            await asyncio.gather(*(ask(share) for share in _shares(count, callers)))

        return await _rate(Pace(seconds, callers * 4), move)

    return _with_nats_py(measure)


def connections_with_nats_py(seconds: float, count: int) -> dict[str, float]:
    """Each a client, with its defaults: it pings every two minutes."""

    async def main(url: str) -> dict[str, float]:
        async with AsyncExitStack() as stack:
            first = await nats.connect(url)
            stack.push_async_callback(first.close)
            before, began = resident_kib(), now()
            clients = await asyncio.gather(*(nats.connect(url) for _ in range(count)))
            for client in clients:
                stack.push_async_callback(client.close)
            up = now() - began
            used = resident_kib() - before
            cpu = Cpu()
            await asyncio.sleep(seconds)
            return {"up_us": 1e6 * up, "each_kib": used / count, "cpu_percent": cpu.percent}

    with server() as running:
        return asyncio.run(main(running.url))
