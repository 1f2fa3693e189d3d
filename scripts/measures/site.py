"""A hub, a real agent and an enrolled fleet in folders of their own: what all measures share, made once a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from scripts.measures.hub import Hub
from scripts.measures.options import Options
from scripts.measures.real_agent import RealAgent


@dataclass(frozen=True, slots=True)
class Site:
    """The hub runs; the agent is enrolled and does not."""

    hub: Hub
    agent: RealAgent


@asynccontextmanager
async def site(options: Options) -> AsyncIterator[Site]:
    """Start a hub, make its administrator, enroll the real agent; both are stopped after the block.

    Raises BenchFailed.
    """
    hub = Hub(options.folder / "hub")
    agent = RealAgent(options.folder / "agent")
    try:
        await hub.start()
        join_string, _ = await asyncio.gather(hub.join_string(uses=1), hub.create_administrator())
        await agent.enroll(join_string)
        yield Site(hub, agent)
    finally:
        await agent.stop()
        await hub.stop()
