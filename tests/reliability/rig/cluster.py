"""A cluster of three nats-servers whose network can be parted."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import trio
from tcp_proxy import TcpProxy

from rig.node import Node, free_port


class Cluster:
    """Three nodes; whatever two of them say to each other goes through proxies of theirs.

    Args:
        folder: For their stores, configurations and logs.
        settings: Of each.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object] = MappingProxyType({})) -> None:
        self.nodes = tuple(Node(folder / f"n{number}", free_port(), settings) for number in range(3))
        self._links = {pair: TcpProxy(pair[1].route) for pair in itertools.permutations(self.nodes, 2)}

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Link them until cancelled, and start them; ``start`` of a nursery returns when each answers."""
        async with trio.open_nursery() as nursery:
            for (node, _), proxy in self._links.items():
                await nursery.start(proxy.run)
                node.links.append(proxy.port)
            async with trio.open_nursery() as starting:
                for node in self.nodes:
                    starting.start_soon(trio.to_thread.run_sync, node.start)
            task_status.started()

    def part(self, node: Node) -> None:
        """Let nothing pass between *node* and the others; clients reach all of them."""
        for pair, proxy in self._links.items():
            if node in pair:
                proxy.swallow()

    def join(self) -> None:
        """Let everything pass again."""
        for proxy in self._links.values():
            proxy.reset()
            proxy.heal()

    def kill(self) -> None:
        """End each node that runs."""
        for node in self.nodes:
            node.kill()
