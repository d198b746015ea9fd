"""What a NATS server has to allow a connection, subject by subject."""

from __future__ import annotations

from collections.abc import Iterator

from actors import _jetstream as jetstream
from agentrt.ports import BusUse, Permissions


def permissions(use: BusUse) -> Permissions:
    """Return the least that lets a connection do what it does; sorted, and each subject once."""
    publish = {*use.publishes, *(jetstream.API + method for method in _methods(use))}
    publish |= {f"{jetstream.ACK}{stream}.{durable}.>" for stream, durable in use.consumes}
    publish |= {jetstream.key_subject(bucket, keys) for bucket, keys in use.writes}
    return Permissions(tuple(sorted(publish)), tuple(sorted({f"{use.inbox}.>", *use.subscribes})))


def _methods(use: BusUse) -> Iterator[str]:
    if use.makes:
        yield "INFO"
    for asset in jetstream.assets(use.declares):
        yield asset.info
        if use.makes:
            yield from (asset.create, asset.update)
            if asset.kind != "consumer":
                yield asset.purge
    for stream, durable in use.consumes:
        yield f"{jetstream.NEXT}{stream}.{durable}"
    for bucket in use.reads:
        yield f"{jetstream.GET}{jetstream.bucket_stream(bucket)}"
