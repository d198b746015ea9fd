"""What a NATS server has to allow a connection, subject by subject."""

from __future__ import annotations

from collections.abc import Iterator

from actors import _jetstream as jetstream
from agentrt.ports import Account, BusUse, Permissions, Share

# The names of an account that has no JetStream of its own. Those of the API are others there, because a server answers
# to the API's own, in any account, that JetStream is not enabled; only the next message is asked for by its own name.
# What is said is another one for each account, because what two accounts let each other in to would go in circles.
_API = "agentrt.jetstream."
_SAID = "agentrt.said."


def permissions(use: BusUse) -> Permissions:
    """Return the least that lets a connection do what it does; sorted, and each subject once."""
    publish = {*use.publishes, *(jetstream.API + method for method in _methods(use))}
    publish |= {f"{jetstream.ACK}{stream}.{durable}.>" for stream, durable in use.consumes}
    publish |= {jetstream.key_subject(bucket, keys) for bucket, keys in use.writes}
    return Permissions(tuple(sorted(publish)), tuple(sorted({f"{use.inbox}.>", *use.subscribes})))


def account(use: BusUse, name: str) -> Account:
    """Return the least for a connection whose user has the account *name* to itself."""
    allowed = permissions(use)
    says = tuple(Share(subject, f"{_SAID}{name}.{subject}") for subject in allowed.publish if subject in use.subscribes)
    said = {one.subject for one in says}
    asks = tuple(
        Share(subject, _local(subject), answers=subject.startswith(jetstream.API + jetstream.NEXT))
        for subject in allowed.publish
        if subject not in said
    )
    own = Permissions(tuple(sorted(one.local for one in (*asks, *says))), allowed.subscribe)
    return Account(own, asks, says, tuple(sorted(set(use.subscribes))))


def _local(subject: str) -> str:
    is_api = subject.startswith(jetstream.API) and not subject.startswith(jetstream.API + jetstream.NEXT)
    return _API + subject.removeprefix(jetstream.API) if is_api else subject


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
