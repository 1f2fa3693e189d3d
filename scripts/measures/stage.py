"""A hub with a whole fleet connected, and people watching it: what the loaded measures share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.load.orders import Connect, Enroll, Watch
from scripts.measures.hub import Hub
from scripts.measures.options import CONNECTS_PER_SECOND, Options
from scripts.measures.processes import BenchFailed, Memory, live_memory_of
from scripts.measures.real_agent import RealAgent
from scripts.measures.site import Site
from scripts.measures.workers import Workers, working


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
async def loaded(site: Site, options: Options) -> AsyncIterator[Stage]:
    """Enroll the fleet, start the hub anew, connect the fleet, then the dashboards. Raises BenchFailed."""
    hub = site.hub
    identities = options.folder / "identities"
    await enroll_fleet(site.join_string, identities, options)
    await hub.stop()  # what enrolling left in its heap would hide what connections take
    await hub.start()
    await asyncio.sleep(options.settle_seconds / 3)
    idle = await live_memory_of(hub.pid)
    async with connected(hub.agent_port, identities, options) as fleet:
        await asyncio.sleep(options.settle_seconds)
        grown = await live_memory_of(hub.pid)
        token = await hub.access_token()
        async with watched(hub, token, options) as watchers:
            yield Stage(hub, site.agent, token, identities, fleet, watchers, idle, grown)


async def enroll_fleet(join_string: str, identities: Path, options: Options) -> None:
    plans = [
        Enroll(join_string=join_string, folder=str(identities), first=first, count=count)
        for first, count in options.shares
    ]
    async with working(plans) as enrolled:
        require(enrolled.done, options.agents, "enrolled", enrolled.problems)


@asynccontextmanager
async def connected(port: int, identities: Path, options: Options, *, silent: bool = False) -> AsyncIterator[Workers]:
    """Connect the fleet with a hub, or silently with whatever listens there."""
    plans = [
        Connect(
            port=port,
            folder=str(identities),
            first=first,
            count=count,
            per_second=CONNECTS_PER_SECOND / len(options.shares),
            silent=silent,
            sample_seconds=options.sample_seconds,
        )
        for first, count in options.shares
    ]
    async with working(plans) as fleet:
        require(fleet.done, options.agents, "connected", fleet.problems)
        yield fleet


@asynccontextmanager
async def watched(hub: Hub, token: str, options: Options) -> AsyncIterator[Workers]:
    """Open the dashboards; half of them use the feed."""
    plan = Watch(web_url=hub.web_url, token=token, count=options.dashboards, subscribed=options.dashboards // 2)
    async with working([plan]) as watchers:
        yield watchers


def require(done: int, wanted: int, what: str, problems: Mapping[str, int]) -> None:
    """Raise BenchFailed unless all agents got there."""
    if done != wanted:
        worst = ", ".join(f"{count} times {problem}" for problem, count in Counter(problems).most_common(3))
        raise BenchFailed(f"only {done} of {wanted} simulated agents were {what}: {worst or 'no reason seen'}")
