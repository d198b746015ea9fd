"""nats-py, with its defaults but for reconnecting for ever; a loop of the application's own repeats what failed."""

from __future__ import annotations

import asyncio

import nats
import nats.errors
import nats.js.errors
import terms
from nats.js.api import ConsumerConfig, KeyValueConfig, StreamConfig


async def store(js, number, limit):
    async with limit:
        while True:
            try:
                await js.publish(terms.TASKS, b"%d" % number, headers={"Nats-Msg-Id": f"m{number}"})
            except Exception as error:
                terms.say("failed", number, why=repr(error))
                await asyncio.sleep(terms.AGAIN)
            else:
                terms.say("stored", number)
                return


async def produce(js):
    limit = asyncio.Semaphore(terms.IN_FLIGHT)
    async with asyncio.TaskGroup() as group:
        for number in terms.numbers():
            if terms.stopped():
                return
            while limit.locked():
                await asyncio.sleep(terms.PACE)
            group.create_task(store(js, number, limit))
            await asyncio.sleep(terms.PACE)


async def consume(js):
    config = ConsumerConfig(ack_wait=2)
    pull = await js.pull_subscribe(terms.TASKS, terms.DURABLE, terms.STREAM, config)
    terms.say("consuming")
    while True:
        try:
            for message in await pull.fetch(16, timeout=terms.FETCH):
                terms.say("done", int(message.data))
                await message.ack()
        except nats.errors.TimeoutError:
            continue
        except Exception as error:
            terms.say("failed", why=repr(error))
            await asyncio.sleep(terms.AGAIN)


async def listen(nc):
    async def heard(message):
        if message.data.isdigit():
            terms.say("core", int(message.data))

    await nc.subscribe(terms.CORE, cb=heard)


async def watch(bucket):
    while True:
        watching = await bucket.watch(terms.KEY)
        async for entry in watching:
            if entry is not None and entry.value:
                terms.say("watch", int(entry.value))
        await asyncio.sleep(terms.AGAIN)


async def sign(nc, bucket):
    for number in terms.numbers():
        try:
            await nc.publish(terms.CORE, b"%d" % number)
            async with asyncio.timeout(1):
                await bucket.put(terms.KEY, b"%d" % number)
            for command in terms.commands():
                await obey(nc, command)
        except Exception as error:
            terms.say("failed", why=repr(error))
        await asyncio.sleep(terms.SIGN)


async def obey(nc, command):
    try:
        if command == "oversize":
            body, headers = terms.oversize()
            await nc.publish(terms.CORE, body, headers=headers)
        else:
            await nc.publish(terms.DENIED, b"")
    finally:
        terms.say(command)


async def main():
    nc = await nats.connect(terms.URLS, user=terms.USER, password=terms.password, max_reconnect_attempts=-1)
    js = nc.jetstream()
    try:
        await js.stream_info(terms.STREAM)
        bucket = await js.key_value(terms.BUCKET)
    except nats.js.errors.NotFoundError:
        await js.add_stream(StreamConfig(terms.STREAM, subjects=[terms.TASKS]))
        bucket = await js.create_key_value(KeyValueConfig(terms.BUCKET))
    await listen(nc)
    async with asyncio.TaskGroup() as group:
        for part in (consume(js), watch(bucket), produce(js), sign(nc, bucket)):
            group.create_task(part)
        terms.say("ready")


terms.resolve_here()
asyncio.run(main())
