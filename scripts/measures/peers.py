"""The same connections held by others in the same run: a bare aiohttp server, and Node's `ws`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from hub_server.bench.figures import Figure, Target, single, void
from hub_server.bench.identities import ANCHORS
from hub_server.bench.muster import CONNECTS_PER_SECOND, connected
from hub_server.bench.orders import Connect
from hub_server.bench.processes import live_memory_of, own_module
from hub_server.bench.steady import growth_of
from scripts.measures.hub import Hub
from scripts.measures.options import Options
from scripts.measures.peer_program import NoPeer, node_argv, serving
from scripts.measures.stage import Stage

NODE_RATIO_TARGET: Final = 0.95
SAME: Final = "same generator, same certificates, silent"


async def measure(options: Options, stage: Stage) -> Sequence[Figure]:
    """Return what a silent connection takes in each peer, and the hub's share of that."""
    hub_growth = growth_of(stage.idle, stage.connected, options.agents)
    bare = await growth_in(own_module("scripts.peers.bare_aiohttp"), "bare-aiohttp", options, stage)
    found = [
        single("bare aiohttp, private memory a connection", "KB", bare, note=SAME),
        single("hub's agent ÷ bare aiohttp's connection", "ratio", hub_growth / bare),
    ]
    try:
        argv = await node_argv("node_ws", options.cache)
    except NoPeer as missing:
        return [*found, void("Node ws, private memory a connection", "KB", Target(), str(missing))]
    node = await growth_in(argv, "node-ws", options, stage)
    return [
        *found,
        single("Node ws, private memory a connection", "KB", node, note=SAME),
        single("hub's agent ÷ Node ws's connection", "ratio", hub_growth / node, NODE_RATIO_TARGET),
    ]


async def growth_in(argv: Sequence[str], name: str, options: Options, stage: Stage) -> float:
    """Return the private KB a connection took in the server that `argv` starts. Raises BenchFailed."""
    log = options.folder / f"{name}.log"
    async with serving(argv, log, *tls_of(stage.hub, stage.identities)) as (program, port):
        await asyncio.sleep(options.settle_seconds / 3)
        before = await live_memory_of(program.pid)
        plan = Connect(
            port=port,
            folder=str(stage.identities),
            first=0,
            count=options.agents,
            per_second=CONNECTS_PER_SECOND,
            silent=True,
        )
        async with connected(plan):
            await asyncio.sleep(options.settle_seconds)
            return growth_of(before, await live_memory_of(program.pid), options.agents)


def tls_of(hub: Hub, identities: Path) -> tuple[str, str]:
    """Return the hub's own certificate and its anchors, for a peer that serves the hub's agents."""
    return str(hub.folder / "pki/server.pem"), str(identities / ANCHORS)
