"""The same connections held by others in the same run: a bare aiohttp server, and Node's `ws`."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import hatch_build
from scripts.load.identities import ANCHORS
from scripts.measures.figures import Figure, Target, single, void
from scripts.measures.fleet_load import growth_of
from scripts.measures.hub import free_ports
from scripts.measures.options import Options
from scripts.measures.processes import live_memory_of, own_module, start
from scripts.measures.stage import Stage, connected

NODE_SOURCE: Final = Path(__file__).resolve().parent.parent / "peers/node_ws"
START_DEADLINE_SECONDS: Final = 20.0
LISTENING: Final = b"listening"
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
        argv = await asyncio.to_thread(node_argv, options.cache / "node_ws")
    except hatch_build.BundleFailed as failure:
        return [*found, void("Node ws, private memory a connection", "KB", Target(), f"no Node ws here: {failure}")]
    node = await growth_in(argv, "node-ws", options, stage)
    return [
        *found,
        single("Node ws, private memory a connection", "KB", node, note=SAME),
        single("hub's agent ÷ Node ws's connection", "ratio", hub_growth / node, NODE_RATIO_TARGET),
    ]


async def growth_in(argv: Sequence[str], name: str, options: Options, stage: Stage) -> float:
    """Return the private KB a connection took in the server that `argv` starts. Raises BenchFailed."""
    port, _ = free_ports()
    log = options.folder / f"{name}.log"
    server_pem, anchors = stage.hub.folder / "pki/server.pem", stage.identities / ANCHORS
    program = start([*argv, str(port), str(server_pem), str(anchors)], os.environ, log)
    try:
        await program.wait_for(lambda: LISTENING in log.read_bytes(), f"{name} start", START_DEADLINE_SECONDS)
        await asyncio.sleep(options.settle_seconds / 3)
        before = await live_memory_of(program.pid)
        async with connected(port, stage.identities, options, silent=True):
            await asyncio.sleep(options.settle_seconds)
            return growth_of(before, await live_memory_of(program.pid), options.agents)
    finally:
        await program.stop()


def node_argv(cache: Path) -> list[str]:
    """Install `ws` into `cache` unless it is there, and return how its server is started. Raises BundleFailed."""
    cache.mkdir(parents=True, exist_ok=True)
    for source in NODE_SOURCE.iterdir():
        shutil.copy2(source, cache / source.name)
    npm = hatch_build.npm_here()
    hatch_build.install_packages(npm, cache)
    return [npm.argv[0], "--expose-gc", str(cache / "server.mjs")]
