"""TriOTP: OTP's generic servers and supervisors over Trio's memory channels."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import trio
from bench.measure import Cpu, Latencies, Pace, Tally, now, require_beats, resident_kib
from triotp import application, gen_server, mailbox, node, supervisor

ENDLESS = supervisor.options(max_restarts=10**9, max_seconds=1)


class BoomError(Exception):
    """What a server dies of."""


def server(**callbacks: Callable[..., Awaitable[Any]]) -> Any:
    """Make what it takes for a module: callbacks by name."""

    async def init(argument: object) -> object:
        return argument

    return SimpleNamespace(**{"__name__": "bench", "init": init, **callbacks})


def child(name: str, module: Any, argument: object = None) -> supervisor.child_spec:
    """Describe a generic server that is always restarted."""
    return supervisor.child_spec(id=name, task=gen_server.start, args=[module, argument, name])


def run(main: Callable[[trio.Nursery], Awaitable[dict[str, float]]]) -> dict[str, float]:
    """Run *main* as an application of a node; whoever it starts in the nursery ends with it."""
    told: list[dict[str, float] | Exception] = []

    async def start(_: object) -> None:
        try:
            async with trio.open_nursery() as nursery:
                told.append(await main(nursery))
                nursery.cancel_scope.cancel()
        except Exception as error:  # noqa: BLE001 - raised below; here it would only be started again.
            told.append(error)

    module: Any = SimpleNamespace(__name__="bench", start=start)
    node.run(apps=[application.app_spec(module=module, start_arg=None, permanent=False)])
    if isinstance(told[-1], Exception):
        raise told[-1]
    return told[-1]


async def counting(_: object, tally: Tally) -> tuple[object, Tally]:
    """Count what is cast."""
    tally.one()
    return gen_server.NoReply(), tally


async def echoing(message: object, _: object, state: object) -> tuple[object, object]:
    """Answer a call with its question."""
    return gen_server.Reply(message), state


async def settle(name: str) -> None:
    """Wait until a server has its mailbox: its supervisor does not."""
    while mailbox._resolve(name) is None:
        await trio.lowlevel.checkpoint()


class Contender:
    """``cast`` and ``call`` by name; its mailboxes hold nothing, so a sender waits until it is received."""

    def tell(self, seconds: float, capacity: int) -> dict[str, float]:
        """One sender, one server."""
        return self.fan_in(seconds, capacity, 1)

    def fan_in(self, seconds: float, capacity: int, producers: int) -> dict[str, float]:
        """Several senders, each a task, one server."""

        async def main(nursery: trio.Nursery) -> dict[str, float]:
            pace, tally = Pace(seconds, 64 * producers), Tally(0, lambda: None)
            await nursery.start(supervisor.start, [child("sink", server(handle_cast=counting), tally)], ENDLESS)
            await settle("sink")

            async def produce(count: int) -> None:
                for one in range(count):
                    await gen_server.cast("sink", one)

            for count in pace:
                done = trio.Event()
                tally.left, tally.done = count // producers * producers, done.set
                async with trio.open_nursery() as crowd:
                    for _ in range(producers):
                        crowd.start_soon(produce, count // producers)
                await done.wait()
            return {"per_second": pace.rate}

        return run(main)

    fan_in_blocked = fan_in

    def call(self, seconds: float, capacity: int) -> dict[str, float]:
        """One caller, one question after the other."""

        async def main(nursery: trio.Nursery) -> dict[str, float]:
            latencies = Latencies(seconds)
            await nursery.start(supervisor.start, [child("echo", server(handle_call=echoing))], ENDLESS)
            await settle("echo")
            while latencies:
                began = now()
                await gen_server.call("echo", 1)
                latencies.add(now() - began)
            return latencies.figures()

        return run(main)

    def outstanding(self, seconds: float, capacity: int, callers: int) -> dict[str, float]:
        """Many callers, each a task that asks again as soon as it is answered."""

        async def main(nursery: trio.Nursery) -> dict[str, float]:
            answered = 0

            async def ask() -> None:
                nonlocal answered
                while True:
                    await gen_server.call("echo", 1)
                    answered += 1

            await nursery.start(supervisor.start, [child("echo", server(handle_call=echoing))], ENDLESS)
            await settle("echo")
            async with trio.open_nursery() as crowd:
                for _ in range(callers):
                    crowd.start_soon(ask)
                await trio.sleep(seconds / 4)
                began, before = now(), answered
                await trio.sleep(seconds)
                rate = (answered - before) / (now() - began)
                crowd.cancel_scope.cancel()
            return {"per_second": rate}

        return run(main)

    def ring(self, seconds: float, capacity: int, size: int) -> dict[str, float]:
        """One token goes round."""

        async def main(nursery: trio.Nursery) -> dict[str, float]:
            pace, done = Pace(seconds), trio.Event()

            async def pass_on(left: int, following: str) -> tuple[object, str]:
                if left:
                    await gen_server.cast(following, left - 1)
                else:
                    done.set()
                return gen_server.NoReply(), following

            member = server(handle_cast=pass_on)
            members = [child(f"member-{place}", member, f"member-{(place + 1) % size}") for place in range(size)]
            await nursery.start(supervisor.start, members, ENDLESS)
            await settle(f"member-{size - 1}")
            for count in pace:
                done = trio.Event()
                await gen_server.cast("member-0", count - 1)
                await done.wait()
            return {"per_second": pace.rate}

        return run(main)

    def crash(self, seconds: float, capacity: int) -> dict[str, float]:
        """The mailbox dies with its server, so the sender tries again until the name is there."""

        async def main(nursery: trio.Nursery) -> dict[str, float]:
            latencies, raised = Latencies(seconds), 0.0

            async def fragile(message: trio.Event | None, state: object) -> tuple[object, object]:
                nonlocal raised
                if message is None:
                    raised = now()
                    raise BoomError
                latencies.add(now() - raised)
                message.set()
                return gen_server.NoReply(), state

            async def send(message: trio.Event | None) -> None:
                while True:
                    try:
                        await gen_server.cast("fragile", message)
                    except (mailbox.MailboxDoesNotExist, trio.BrokenResourceError, trio.ClosedResourceError):
                        await trio.lowlevel.checkpoint()
                    else:
                        return

            async def terminate(_: object, __: object) -> None:
                """Say nothing: a log would be measured."""

            await nursery.start(
                supervisor.start, [child("fragile", server(handle_cast=fragile, terminate=terminate))], ENDLESS
            )
            await settle("fragile")
            while latencies:
                done = trio.Event()
                await send(None)
                await send(done)
                await done.wait()
            return latencies.figures()

        return run(main)

    def spawn(self, count: int, capacity: int) -> dict[str, float]:
        """*count* children of one supervisor, until the last one's ``init`` returned."""

        async def main(nursery: trio.Nursery) -> dict[str, float]:
            ready = trio.Event()
            tally = Tally(count, ready.set)

            async def init(_: object) -> None:
                tally.one()

            idle = server(init=init)
            before, began = resident_kib(), now()
            children = [child(f"idle-{place}", idle) for place in range(count)]
            await nursery.start(supervisor.start, children, ENDLESS)
            await ready.wait()
            took = now() - began
            return {"each_us": 1e6 * took / count, "each_kib": (resident_kib() - before) / count}

        return run(main)

    def idle_beats(self, seconds: float, count: int) -> dict[str, float]:
        """It has no timers: each server has a task beside it that casts to it once a second."""

        async def main(nursery: trio.Nursery) -> dict[str, float]:
            beats = 0

            async def beat(_: object, state: object) -> tuple[object, object]:
                nonlocal beats
                beats += 1
                return gen_server.NoReply(), state

            async def tick(name: str, phase: float) -> None:
                await trio.sleep(phase)
                while True:
                    await trio.sleep(1)
                    await gen_server.cast(name, "beat")

            beating = server(handle_cast=beat)
            children = [child(f"beating-{place}", beating) for place in range(count)]
            await nursery.start(supervisor.start, children, ENDLESS)
            await settle(f"beating-{count - 1}")
            for place in range(count):
                nursery.start_soon(tick, f"beating-{place}", place / count)
            await trio.sleep(min(2.0, seconds))
            cpu, before = Cpu(), beats
            await trio.sleep(seconds)
            percent, told = cpu.percent, beats - before
            require_beats(told, seconds, count)
            return {"cpu_percent": percent}

        return run(main)
