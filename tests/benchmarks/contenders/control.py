"""The control: bare Trio with memory channels, as a careful user would write it who has no actors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
import trio
from bench.measure import Cpu, Latencies, Pace, Tally, burn, now, require_beats, resident_kib

Handle = Callable[[object], Awaitable[object]]


class BoomError(Exception):
    """What a child dies of."""


async def serve(receive: trio.MemoryReceiveChannel, handle: Handle) -> None:
    """Handle one message after the other, which is all that this actor does."""
    async for message in receive:
        await handle(message)


async def answer(receive: trio.MemoryReceiveChannel) -> None:
    """Answer each question into the channel that came with it."""

    async def handle(message: tuple[object, trio.MemorySendChannel]) -> None:
        question, reply = message
        await reply.send(question)

    await serve(receive, handle)


async def ask(send: trio.MemorySendChannel) -> object:
    """Ask, and wait for the answer in a channel made for it: in one that is used again, a late answer would be next."""
    reply_send, reply = trio.open_memory_channel(1)
    await send.send((1, reply_send))
    return await reply.receive()


class Contender:
    """``await send``, ``await receive``, and a reply through a channel of its own.

    A channel has as much room as an actor's mailbox. Nobody watches or restarts anything, but where the workload says
    so.
    """

    def tell(self, seconds: float, capacity: int) -> dict[str, float]:
        """One sender, one receiver."""
        return self.fan_in(seconds, capacity, 1)

    def fan_in(self, seconds: float, capacity: int, producers: int) -> dict[str, float]:
        """Several senders, each a task, one receiver."""

        async def main() -> dict[str, float]:
            pace, tally = Pace(seconds, 64 * producers), Tally(0, lambda: None)

            async def handle(_: object) -> None:
                tally.one()

            async def produce(count: int) -> None:
                for one in range(count):
                    await send.send(one)

            async def move(count: int) -> None:
                done = trio.Event()
                tally.left, tally.done = count // producers * producers, done.set
                if producers == 1:
                    await produce(count)
                else:
                    async with trio.open_nursery() as crowd:
                        for _ in range(producers):
                            crowd.start_soon(produce, count // producers)
                await done.wait()

            async with trio.open_nursery() as nursery:
                send, receive = trio.open_memory_channel(capacity)
                nursery.start_soon(serve, receive, handle)
                for count in pace:
                    await move(count)
                nursery.cancel_scope.cancel()
            return {"per_second": pace.rate}

        return trio.run(main)

    fan_in_blocked = fan_in

    def call(self, seconds: float, capacity: int) -> dict[str, float]:
        """One caller, one question after the other, each answered through a channel of its own.

        As triotp does it: in a channel that a caller keeps, the answer to a question that it gave up on would be taken
        for the next one's.
        """

        async def main() -> dict[str, float]:
            latencies = Latencies(seconds)
            async with trio.open_nursery() as nursery:
                send, receive = trio.open_memory_channel(capacity)
                nursery.start_soon(answer, receive)
                while latencies:
                    began = now()
                    reply_send, reply = trio.open_memory_channel(1)
                    await send.send((1, reply_send))
                    await reply.receive()
                    latencies.add(now() - began)
                nursery.cancel_scope.cancel()
            return latencies.figures()

        return trio.run(main)

    def outstanding(self, seconds: float, capacity: int, callers: int) -> dict[str, float]:
        """Many callers, each a task that asks again as soon as it is answered."""

        async def main() -> dict[str, float]:
            answered = 0

            async def keep_asking() -> None:
                nonlocal answered
                while True:
                    await ask(send)
                    answered += 1

            async with trio.open_nursery() as nursery:
                send, receive = trio.open_memory_channel(capacity)
                nursery.start_soon(answer, receive)
                for _ in range(callers):
                    nursery.start_soon(keep_asking)
                await trio.sleep(seconds / 4)
                began, before = now(), answered
                await trio.sleep(seconds)
                rate = (answered - before) / (now() - began)
                nursery.cancel_scope.cancel()
            return {"per_second": rate}

        return trio.run(main)

    def ring(self, seconds: float, capacity: int, size: int) -> dict[str, float]:
        """One token goes round."""

        async def main() -> dict[str, float]:
            pace = Pace(seconds)
            done = trio.Event()
            channels = [trio.open_memory_channel(capacity) for _ in range(size)]

            async def member(place: int) -> None:
                following = channels[(place + 1) % size][0]

                async def handle(left: int) -> None:
                    if left:
                        await following.send(left - 1)
                    else:
                        done.set()

                await serve(channels[place][1], handle)

            async with trio.open_nursery() as nursery:
                for place in range(size):
                    nursery.start_soon(member, place)
                for count in pace:
                    done = trio.Event()
                    await channels[0][0].send(count - 1)
                    await done.wait()
                nursery.cancel_scope.cancel()
            return {"per_second": pace.rate}

        return trio.run(main)

    def crash(self, seconds: float, capacity: int) -> dict[str, float]:
        """A child raises over one message; until its successor handles the next, which waits already.

        What a careful user writes: the channel outlives the child; a loop gives each life a fresh cancel scope (so that
        it can be ended from outside), a fresh nursery (so that what the child spawned ends with it) and a fresh object;
        it counts what the nursery raises and goes round. No budget, no backoff, no record, no report.
        """

        async def main() -> dict[str, float]:
            latencies = Latencies(seconds)
            raised, restarts = 0.0, 0

            class Child:
                async def handle(self, message: trio.Event | None) -> None:
                    nonlocal raised
                    if message is None:
                        raised = now()
                        raise BoomError
                    latencies.add(now() - raised)
                    message.set()

            async def supervise() -> None:
                nonlocal restarts
                while True:
                    try:
                        with trio.CancelScope():
                            async with trio.open_nursery() as life:
                                life.start_soon(serve, receive, Child().handle)
                    except* BoomError:
                        restarts += 1

            async with trio.open_nursery() as nursery:
                send, receive = trio.open_memory_channel(capacity)
                nursery.start_soon(supervise)
                while latencies:
                    done = trio.Event()
                    await send.send(None)
                    await send.send(done)
                    await done.wait()
                nursery.cancel_scope.cancel()
            return latencies.figures()

        return trio.run(main)

    def spawn(self, count: int, capacity: int) -> dict[str, float]:
        """*count* tasks in one nursery, each with its channel, until all of them wait for a message."""

        async def main() -> dict[str, float]:
            ready = trio.Event()
            tally = Tally(count, ready.set)

            async def handle(_: object) -> None:
                pass

            async def live(receive: trio.MemoryReceiveChannel) -> None:
                tally.one()
                await serve(receive, handle)

            before, began = resident_kib(), now()
            async with trio.open_nursery() as nursery:
                channels = []
                for _ in range(count):
                    send, receive = trio.open_memory_channel(capacity)
                    channels.append(send)
                    nursery.start_soon(live, receive)
                await ready.wait()
                took = now() - began
                kib = resident_kib() - before
                began = now()
                nursery.cancel_scope.cancel()
            return {"each_us": 1e6 * took / count, "each_kib": kib / count, "stop_us": 1e6 * (now() - began) / count}

        return trio.run(main)

    def spawn_one(self, count: int, capacity: int) -> dict[str, float]:
        """One task after the other with ``nursery.start``, which waits until it says that it runs."""

        async def main() -> dict[str, float]:
            async def handle(_: object) -> None:
                pass

            async def live(receive: trio.MemoryReceiveChannel, task_status: trio.TaskStatus) -> None:
                task_status.started()
                await serve(receive, handle)

            async with trio.open_nursery() as nursery:
                channels = []
                began = now()
                for _ in range(count):
                    send, receive = trio.open_memory_channel(capacity)
                    channels.append(send)
                    await nursery.start(live, receive)
                took = now() - began
                nursery.cancel_scope.cancel()
            return {"each_us": 1e6 * took / count}

        return trio.run(main)

    def idle(self, seconds: float, count: int) -> dict[str, float]:
        """*count* tasks that sleep for a second, over and over, each at a moment of its own."""

        async def main() -> dict[str, float]:
            beats = 0

            async def live(phase: float) -> None:
                nonlocal beats
                await trio.sleep(phase)
                while True:
                    await trio.sleep(1)
                    beats += 1

            async with trio.open_nursery() as nursery:
                for place in range(count):
                    nursery.start_soon(live, place / count)
                await trio.sleep(min(2.0, seconds))
                cpu, before = Cpu(), beats
                await trio.sleep(seconds)
                percent, slept = cpu.percent, beats - before
                nursery.cancel_scope.cancel()
            require_beats(slept, seconds, count)
            return {"cpu_percent": percent}

        return trio.run(main)

    idle_watched = idle
    idle_beats = idle

    def fair(self, seconds: float, capacity: int, work: float) -> dict[str, float]:
        """One receiver is flooded; how long does a message to another one take, and how many does the first get to see?

        A receiver that finds messages still gives way at each of them, so this control is fair by its nature.
        """

        async def main() -> dict[str, float]:
            latencies = Latencies(seconds)
            flooded, between = 0, 0

            async def flooded_handle(_: object) -> None:
                nonlocal flooded
                flooded += 1
                if work:
                    burn(work)

            async def flood() -> None:
                while True:
                    await busy.send(None)

            async def handle(sent: tuple[float, int]) -> None:
                nonlocal between
                latencies.add(now() - sent[0])
                between = max(between, flooded - sent[1])

            async with trio.open_nursery() as nursery:
                busy, busy_receive = trio.open_memory_channel(capacity)
                other, other_receive = trio.open_memory_channel(capacity)
                nursery.start_soon(serve, busy_receive, flooded_handle)
                nursery.start_soon(serve, other_receive, handle)
                nursery.start_soon(flood)
                while latencies:
                    await trio.sleep(0.001)
                    await other.send((now(), flooded))
                nursery.cancel_scope.cancel()
            return latencies.figures() | {"between": between}

        return trio.run(main)

    def watched_steps(self, seconds: float) -> dict[str, float]:
        """A task gives way over and over, and nobody watches."""

        async def main() -> dict[str, float]:
            pace = Pace(seconds)
            for count in pace:
                for _ in range(count):
                    await trio.lowlevel.checkpoint()
            return {"each_ns": 1e9 / pace.rate}

        return trio.run(main)

    def tool_calls(self, seconds: float, callers: int) -> dict[str, float]:
        """Calls of a tool of an MCP server."""
        # The SDK takes a second to import, which no other workload is to pay for.
        from contenders.tool_calls import with_the_bare_client  # noqa: PLC0415

        return with_the_bare_client(seconds, callers)

    def guard(self, **parameters: float) -> dict[str, float]:
        """Nothing between a client and its MCP server."""
        from contenders.guarded import measure_nothing  # noqa: PLC0415 - as above.

        return measure_nothing(**parameters)

    def nats_publish(self, seconds: float) -> dict[str, float]:
        """Core messages to a real nats-server."""
        from contenders.nats_traffic import publish_with_nats_py  # noqa: PLC0415 - as above.

        return publish_with_nats_py(seconds)

    def nats_store(self, seconds: float, callers: int) -> dict[str, float]:
        """Messages into a stream, many on their way."""
        from contenders.nats_traffic import store_with_nats_py  # noqa: PLC0415 - as above.

        return store_with_nats_py(seconds, callers)

    def nats_consume(self, count: int) -> dict[str, float]:
        """Messages from a durable consumer, each acknowledged."""
        from contenders.nats_traffic import consume_with_nats_py  # noqa: PLC0415 - as above.

        return consume_with_nats_py(count)

    def nats_request(self, seconds: float, callers: int) -> dict[str, float]:
        """Questions to the server, many on their way."""
        from contenders.nats_traffic import request_with_nats_py  # noqa: PLC0415 - as above.

        return request_with_nats_py(seconds, callers)

    def nats_connections(self, seconds: float, count: int) -> dict[str, float]:
        """Connections that do nothing."""
        from contenders.nats_traffic import connections_with_nats_py  # noqa: PLC0415 - as above.

        return connections_with_nats_py(seconds, count)
