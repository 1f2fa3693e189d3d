"""A hub with a whole fleet connected, and people watching it: what the loaded measures share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hub_server.bench.muster import CONNECTS_PER_SECOND, Enrolled, connected
from hub_server.bench.orders import Connect
from hub_server.bench.processes import Memory, cores_for_load, live_memory_of
from hub_server.bench.workers import Workers, working
from scripts.load.plans import Watch
from scripts.measures.hub import Hub
from scripts.measures.options import Options
from scripts.measures.real_agent import RealAgent
from scripts.measures.site import Site

DASHBOARDS: Final = "scripts.load"


@dataclass(frozen=True, slots=True)
class Stage:
    """`idle` and `connected`: the hub's memory before the fleet came and after, both without dashboards and after a
    full garbage collection."""

    hub: Hub
    agent: RealAgent
    access_token: str
    identities: Path
    fleet: Workers
    watchers: Workers
    idle: Memory
    connected: Memory


@asynccontextmanager
async def loaded(site: Site, fleet: Enrolled, options: Options) -> AsyncIterator[Stage]:
    """Start the hub anew on a core of its own, connect the fleet, then the dashboards, which share the others.

    The real agent and whoever asks may run anywhere. Raises BenchFailed.
    """
    hub = site.hub
    own_core, other_cores = cores_for_load()
    await hub.stop()  # what was done before left in its heap what would hide what connections take
    await hub.start(own_core)
    await asyncio.sleep(options.settle_seconds / 3)
    idle = await live_memory_of(hub.pid)
    plan = Connect(
        port=hub.agent_port,
        folder=str(fleet.identities),
        first=0,
        count=fleet.count,
        per_second=CONNECTS_PER_SECOND,
        sample_seconds=options.sample_seconds,
        alarmed=options.alarmed,
    )
    async with connected(plan, other_cores) as agents:
        await asyncio.sleep(options.introduction_seconds)
        grown = await live_memory_of(hub.pid)
        token = await hub.access_token()
        async with watched(hub, token, options, other_cores) as watchers:
            yield Stage(hub, site.agent, token, fleet.identities, agents, watchers, idle, grown)


@asynccontextmanager
async def watched(hub: Hub, token: str, options: Options, cores: set[int]) -> AsyncIterator[Workers]:
    """Open the dashboards, in a process that keeps to `cores`; half of them use the feed."""
    plan = Watch(web_url=hub.web_url, token=token, count=options.dashboards, subscribed=options.dashboards // 2)
    async with working([plan], DASHBOARDS, cores) as watchers:
        yield watchers
