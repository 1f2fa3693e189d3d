"""What a real agent costs the machine it runs on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from hub_server.bench.figures import Figure, Target, single, spread
from hub_server.bench.processes import Memory, cpu_seconds_of, memory_of
from scripts.load.person import dashboard
from scripts.measures.hub import Hub
from scripts.measures.options import Options
from scripts.measures.real_agent import RealAgent
from scripts.measures.round_trip import RESULT, Stopwatch, run_command
from scripts.measures.site import Site

MEGABYTE: Final = 1e6
PRIVATE_TARGET_MB: Final = 18.0
RSS_TARGET_MB: Final = 30.0
CPU_TARGET_PERCENT: Final = 0.1
LOOKS: Final = 24


async def measure(options: Options, site: Site) -> Sequence[Figure]:
    """Watch an agent that takes a sample each 10 s (the hub's default), then once more after its first command."""
    agent = site.agent
    await agent.start()
    await asyncio.sleep(options.settle_seconds)
    looks, cpu_percent = await watch(agent.pid, options.window_seconds)
    await run_first_command(site.hub, agent)
    await asyncio.sleep(options.settle_seconds / 3)
    after = memory_of(agent.pid)
    await agent.stop()
    return figures(looks, cpu_percent, after, options)


async def watch(pid: int, window_seconds: float) -> tuple[list[Memory], float]:
    """Return looks at the memory over the window, and the CPU time it took as a percentage of one core."""
    began_at, cpu_began = time.perf_counter(), cpu_seconds_of(pid)
    looks = []
    for _ in range(LOOKS):
        await asyncio.sleep(window_seconds / LOOKS)
        looks.append(memory_of(pid))
    cpu_seconds = cpu_seconds_of(pid) - cpu_began
    return looks, 100 * cpu_seconds / (time.perf_counter() - began_at)


async def run_first_command(hub: Hub, agent: RealAgent) -> None:
    watch_ = Stopwatch()
    async with dashboard(hub.web_url, await hub.access_token(), watch_.handlers) as person:
        await run_command(person, watch_, agent.id, ["true"], (RESULT,))


def figures(looks: Sequence[Memory], cpu_percent: float, after: Memory, options: Options) -> Sequence[Figure]:
    private = [look.private_bytes / MEGABYTE for look in looks]
    rss = [look.rss_bytes / MEGABYTE for look in looks]
    window = f"over {options.window_seconds:g} s"
    return [
        spread("agent, private memory", "MB", private, Target(max=PRIVATE_TARGET_MB), window),
        spread("agent, RSS", "MB", rss, Target(max=RSS_TARGET_MB), window),
        single("agent, CPU", "% of a core", cpu_percent, CPU_TARGET_PERCENT, window),
        single("agent, private memory, after a command", "MB", after.private_bytes / MEGABYTE, PRIVATE_TARGET_MB),
        single("agent, RSS, after a command", "MB", after.rss_bytes / MEGABYTE, RSS_TARGET_MB),
    ]
