"""FastStream, with its defaults but for reconnecting for ever; a loop of the application's own repeats what failed."""

import asyncio

import terms
from faststream.nats import JStream, KvWatch, NatsBroker, PullSub
from faststream.nats.annotations import NatsMessage
from faststream.security import SASLPlaintext
from nats.js.api import ConsumerConfig, DeliverPolicy

# Documented as a string; it is handed through to nats-py, which takes a function, so that a password can be rotated.
security = SASLPlaintext(username=terms.USER, password=terms.password)
broker = NatsBroker(terms.URLS, security=security, max_reconnect_attempts=-1, logger=None)


@broker.subscriber(
    terms.TASKS,
    stream=JStream(terms.STREAM, subjects=[terms.TASKS], declare=not terms.declared()),
    durable=terms.DURABLE,
    config=ConsumerConfig(ack_wait=2),
    deliver_policy=DeliverPolicy.ALL,
    pull_sub=PullSub(batch_size=16, timeout=terms.FETCH),
)
async def work(message: NatsMessage) -> None:
    terms.say("done", int(message.body))


@broker.subscriber(terms.CORE)
async def heard(message: NatsMessage) -> None:
    if message.body.isdigit():
        terms.say("core", int(message.body))


@broker.subscriber(terms.KEY, kv_watch=KvWatch(terms.BUCKET, declare=not terms.declared()))
async def changed(message: NatsMessage) -> None:
    if message.body:
        terms.say("watch", int(message.body))


async def store(number, limit):
    async with limit:
        while True:
            try:
                await broker.publish(
                    b"%d" % number, terms.TASKS, stream=terms.STREAM, headers={"Nats-Msg-Id": f"m{number}"}
                )
            except Exception as error:
                terms.say("failed", number, why=repr(error))
                await asyncio.sleep(terms.AGAIN)
            else:
                terms.say("stored", number)
                return


async def produce():
    limit = asyncio.Semaphore(terms.IN_FLIGHT)
    async with asyncio.TaskGroup() as group:
        for number in terms.numbers():
            if terms.stopped():
                return
            while limit.locked():
                await asyncio.sleep(terms.PACE)
            group.create_task(store(number, limit))
            await asyncio.sleep(terms.PACE)


async def sign(bucket):
    for number in terms.numbers():
        try:
            await broker.publish(b"%d" % number, terms.CORE)
            async with asyncio.timeout(1):
                await bucket.put(terms.KEY, b"%d" % number)
            for command in terms.commands():
                await obey(command)
        except Exception as error:
            terms.say("failed", why=repr(error))
        await asyncio.sleep(terms.SIGN)


async def obey(command):
    try:
        if command == "oversize":
            body, headers = terms.oversize()
            await broker.publish(body, terms.CORE, headers=headers)
        else:
            await broker.publish(b"", terms.DENIED)
    finally:
        terms.say(command)


async def main():
    await broker.start()
    bucket = await broker.key_value(bucket=terms.BUCKET, declare=not terms.declared())
    async with asyncio.TaskGroup() as group:
        for part in (produce(), sign(bucket)):
            group.create_task(part)
        terms.say("ready")


terms.resolve_here()
asyncio.run(main())
