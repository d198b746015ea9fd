"""agentrt: the bus port over the NatsConnection actor, under the kernel, with its defaults."""

from __future__ import annotations

import terms
import trio

from actors.nats import NatsBus, NatsConnection, NatsSettings, bridge
from agentrt.kernel import ChildSpec, Event, EventStream, SupervisorSpec, open_runtime
from agentrt.ports import BucketSpec, BusError, ConsumerSpec, StreamSpec, Topology

TOPOLOGY = Topology(
    (StreamSpec(terms.STREAM, (terms.TASKS,)),),
    (ConsumerSpec(terms.STREAM, terms.DURABLE, terms.TASKS, ack_wait=2.0),),
    (BucketSpec(terms.BUCKET),),
)


async def store(bus: NatsBus, number: int, limit: trio.CapacityLimiter) -> None:
    async with limit:
        while True:
            try:
                await bus.store(terms.TASKS, b"%d" % number, msg_id=f"m{number}")
            except BusError as error:
                terms.say("failed", number, why=str(error))
                await trio.sleep(terms.AGAIN)
            else:
                terms.say("stored", number)
                return


async def produce(bus: NatsBus) -> None:
    limit = trio.CapacityLimiter(terms.IN_FLIGHT)
    async with trio.open_nursery() as nursery:
        for number in terms.numbers():
            if terms.stopped():
                return
            while not limit.available_tokens:
                await trio.sleep(terms.PACE)
            nursery.start_soon(store, bus, number, limit)
            await trio.sleep(terms.PACE)


async def consume(bus: NatsBus) -> None:
    async with bus.consume(terms.STREAM, terms.DURABLE, batch=16) as consumer:
        while True:
            delivery = await consumer.next()
            terms.say("done", int(delivery.body))
            try:
                await delivery.ack()
            except BusError as error:
                terms.say("failed", why=str(error))


async def listen(bus: NatsBus) -> None:
    async with bus.subscribe(terms.CORE) as inbox:
        async for message in inbox:
            if message.body.isdigit():
                terms.say("core", int(message.body))


async def watch(bus: NatsBus) -> None:
    async with bus.watch(terms.BUCKET) as watching:
        while True:
            change = await watching.next()
            if change.value is not None:
                terms.say("watch", int(change.value))


async def sign(bus: NatsBus) -> None:
    """Publish and put what the subscription and the watch are to see, and do as the rig commands."""
    for number in terms.numbers():
        try:
            await bus.publish(terms.CORE, b"%d" % number)
            with trio.move_on_after(1):
                await bus.put(terms.BUCKET, terms.KEY, b"%d" % number, timeout=1)
            for command in terms.commands():
                await obey(bus, command)
        except BusError as error:
            terms.say("failed", why=str(error))
        await trio.sleep(terms.SIGN)


async def obey(bus: NatsBus, command: str) -> None:
    try:
        if command == "oversize":
            await bus.publish(terms.CORE, *terms.oversize())
        else:
            await bus.publish(terms.DENIED, b"")
    finally:
        terms.say(command)


def broken(_event: Event) -> None:
    if (terms.FOLDER / "vault_down").exists():
        raise RuntimeError("a listener of events is broken")


async def main() -> None:
    settings = NatsSettings(
        url=",".join(terms.URLS), credentials=lambda: {"user": terms.USER, "password": terms.password()}
    )
    bus = NatsBus(settings)
    bus.declare(TOPOLOGY)
    events = EventStream()
    events.listen(broken)
    child = ChildSpec(id="connection", factory=lambda: NatsConnection(bus))
    root = SupervisorSpec(id="agent", children=(child,))
    async with bridge(), open_runtime(root, seed=1, events=events), trio.open_nursery() as nursery:
        await bus.wait_ready()
        for part in (consume, listen, watch, produce, sign):
            nursery.start_soon(part, bus)
        terms.say("ready")


terms.resolve_here()
trio.run(main)
