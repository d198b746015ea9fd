"""natsio, with its defaults but for reconnecting for ever; a loop of the application's own repeats what failed."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import natsio
import terms
from natsio.jetstream import ConsumerConfig, StreamConfig
from natsio.kv import KeyValueConfig


async def store(js, number, limit):
    async with limit:
        while True:
            try:
                await js.publish(terms.TASKS, b"%d" % number, msg_id=f"m{number}")
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


async def consume(consumer):
    while True:
        try:
            async with consumer.consume() as messages:
                async for message in messages:
                    terms.say("done", int(message.payload))
                    await message.ack()
        except Exception as error:
            terms.say("failed", why=repr(error))
        await asyncio.sleep(terms.AGAIN)


async def listen(nc):
    while True:
        try:
            async for message in nc.subscribe(terms.CORE):
                if message.payload.isdigit():
                    terms.say("core", int(message.payload))
        except Exception as error:
            terms.say("failed", why=repr(error))
        await asyncio.sleep(terms.AGAIN)


async def watch(bucket):
    while True:
        try:
            async with bucket.watch(terms.KEY) as watching:
                async for entry in watching:
                    if entry is not None and entry.value:
                        terms.say("watch", int(entry.value))
        except Exception as error:
            terms.say("failed", why=repr(error))
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
    nc = await natsio.connect(
        *terms.URLS,
        user=terms.USER,
        password=terms.password,
        max_reconnect_attempts=-1,
        ignore_auth_error_abort=True,
    )
    js = nc.jetstream()
    try:
        stream = await js.stream(terms.STREAM)
        bucket = await js.key_value(terms.BUCKET)
    except natsio.NATSError:
        stream = await js.create_stream(StreamConfig(name=terms.STREAM, subjects=[terms.TASKS]))
        bucket = await js.create_key_value(KeyValueConfig(bucket=terms.BUCKET))
    consumer = await stream.create_consumer(
        ConsumerConfig(durable_name=terms.DURABLE, filter_subject=terms.TASKS, ack_wait=timedelta(seconds=2))
    )
    async with asyncio.TaskGroup() as group:
        for part in (consume(consumer), listen(nc), watch(bucket), produce(js), sign(nc, bucket)):
            group.create_task(part)
        terms.say("ready")


terms.resolve_here()
asyncio.run(main())
