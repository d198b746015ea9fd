"""Deeds: what an actor of a simulation does when it is ordered to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio

from agentrt.kernel import Ignore, KernelError, Refusal, UnexpectedMessage
from agentrt.testing.simulate.mail import ask, call, cast
from agentrt.testing.simulate.orders import Does, Order
from agentrt.testing.simulate.plan import Admin, How, Verb

if TYPE_CHECKING:
    from agentrt.testing.simulate.puppet import Puppet
    from agentrt.testing.simulate.world import Message

Deed = Callable[["Puppet", Order, "Message | None"], Awaitable[None]]


class Fault(Exception):
    """What an actor is told to die of."""


async def perform(puppet: Puppet, order: Order, message: Message | None = None) -> None:
    """Do what *order* says.

    Args:
        puppet: Who does it.
        order: What is to be done.
        message: What brought the order, where it is in hand.
    """
    await _DEEDS[order.does](puppet, order, message)


async def _answer(_puppet: Puppet, _order: Order, _message: Message | None) -> None:
    return


async def _sleep(_puppet: Puppet, order: Order, _message: Message | None) -> None:
    await trio.sleep(order.seconds)


async def _crash(_puppet: Puppet, _order: Order, _message: Message | None) -> None:
    raise Fault("told to")


async def _hang(_puppet: Puppet, _order: Order, _message: Message | None) -> None:
    await trio.sleep_forever()


async def _shield(_puppet: Puppet, order: Order, _message: Message | None) -> None:
    with trio.CancelScope(shield=True):
        await trio.sleep(order.seconds)


async def _swallow(_puppet: Puppet, order: Order, _message: Message | None) -> None:
    until = trio.current_time() + order.seconds
    while trio.current_time() < until:
        try:
            await trio.sleep_until(until)
        except trio.Cancelled:  # noqa: ASYNC103 - to swallow it is what this is for.
            # The next checkpoint is cancelled too: without a pause that is not, this loop would spin.
            with trio.CancelScope(shield=True):
                await trio.sleep(0.5)


async def _refuse(_puppet: Puppet, _order: Order, _message: Message | None) -> None:
    raise Refusal("told to")


async def _mistake(_puppet: Puppet, _order: Order, _message: Message | None) -> None:
    raise UnexpectedMessage("told to")


async def _ignore(_puppet: Puppet, _order: Order, _message: Message | None) -> None:
    raise Ignore("told to")


async def _complete(puppet: Puppet, _order: Order, _message: Message | None) -> None:
    puppet.come_to_an_end()


async def _progress(puppet: Puppet, _order: Order, _message: Message | None) -> None:
    puppet.life.progressed = True
    puppet.progress("told to")


async def _exit(puppet: Puppet, _order: Order, _message: Message | None) -> None:
    puppet.life.ends_run = True
    raise SystemExit(3)


# With itself, later


async def _beside(puppet: Puppet, order: Order, _message: Message | None) -> None:
    puppet.do_beside(order.seconds, _then(order))


async def _later(puppet: Puppet, order: Order, _message: Message | None) -> None:
    puppet.send_later(order.seconds, _then(order), again=False)


async def _again(puppet: Puppet, order: Order, _message: Message | None) -> None:
    puppet.send_later(order.seconds or 1.0, _then(order), again=True)


async def _stash(puppet: Puppet, _order: Order, message: Message | None) -> None:
    if message is not None and message.handlings:
        puppet.set_aside(message)


async def _unstash(puppet: Puppet, _order: Order, _message: Message | None) -> None:
    puppet.unstash_all()


# With others


async def _ask(puppet: Puppet, order: Order, message: Message | None) -> None:
    await call(puppet.world, puppet.find(order.path), _then(order), order.timeout, parent=message)


async def _tell(puppet: Puppet, order: Order, _message: Message | None) -> None:
    await cast(puppet.world, puppet.find(order.path), _then(order), How.CAST_NOWAIT)


async def _monitor(puppet: Puppet, order: Order, _message: Message | None) -> None:
    puppet.watch(puppet.find(order.path))


async def _link(puppet: Puppet, order: Order, _message: Message | None) -> None:
    if order.path != puppet.path:
        puppet.tie(puppet.find(order.path))


async def _unlink(puppet: Puppet, order: Order, _message: Message | None) -> None:
    puppet.untie(puppet.find(order.path))


async def _terminate(puppet: Puppet, order: Order, message: Message | None) -> None:
    await _ask_above(puppet, Verb.TERMINATE, order, message)


async def _restart(puppet: Puppet, order: Order, message: Message | None) -> None:
    await _ask_above(puppet, Verb.RESTART, order, message)


async def _ask_above(puppet: Puppet, verb: Verb, order: Order, message: Message | None) -> None:
    above = puppet.path.rpartition("/")[0]
    admin = Admin(at=trio.current_time(), path=above, verb=verb, id=puppet.name, timeout=order.timeout)
    await ask(puppet.world, puppet.find(above), admin, parent=message)


def _then(order: Order) -> Order:
    return order.then if order.then is not None else Order(Does.ANSWER)


def _lenient(deed: Deed) -> Deed:
    """Let the failure of what is asked of others be no failure of one's own, where the order does not say so."""

    async def lenient(puppet: Puppet, order: Order, message: Message | None) -> None:
        try:
            await deed(puppet, order, message)
        except KernelError:
            if order.strict:
                raise

    return lenient


_DEEDS: dict[Does, Deed] = {
    Does.ANSWER: _answer,
    Does.SLEEP: _sleep,
    Does.CRASH: _crash,
    Does.HANG: _hang,
    Does.SHIELD: _shield,
    Does.SWALLOW: _swallow,
    Does.REFUSE: _refuse,
    Does.MISTAKE: _mistake,
    Does.IGNORE: _ignore,
    Does.COMPLETE: _complete,
    Does.PROGRESS: _progress,
    Does.ASK: _lenient(_ask),
    Does.TELL: _lenient(_tell),
    Does.BESIDE: _beside,
    Does.LATER: _lenient(_later),
    Does.AGAIN: _lenient(_again),
    Does.STASH: _lenient(_stash),
    Does.UNSTASH: _lenient(_unstash),
    Does.MONITOR: _lenient(_monitor),
    Does.LINK: _lenient(_link),
    Does.UNLINK: _lenient(_unlink),
    Does.TERMINATE: _lenient(_terminate),
    Does.RESTART: _lenient(_restart),
    Does.EXIT: _exit,
}
