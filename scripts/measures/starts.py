"""How long the programs take to be of use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from scripts.measures.figures import Figure, Target, spread
from scripts.measures.hub import Hub
from scripts.measures.options import Options
from scripts.measures.real_agent import RealAgent

HUB_TARGET: Final = Target(p50=1.5)
AGENT_TARGET: Final = Target(p50=0.7)


async def measure(options: Options) -> Sequence[Figure]:
    """Start hub and agent several times, each on its existing data."""
    hub = Hub(options.folder / "starts")
    agent = RealAgent(options.folder / "starts-agent")
    try:
        await hub.prepare()
        await hub.start_as_users_do()
        await agent.enroll(await hub.join_string(uses=1))
        hub_seconds = []
        for _ in range(options.starts):
            await hub.stop()
            hub_seconds.append(await hub.start_as_users_do())
        agent_seconds = []
        for _ in range(options.starts):
            agent_seconds.append(await agent.start())
            await agent.stop()
    finally:
        await agent.stop()
        await hub.stop()
    return [
        spread("hub start → /readyz", "s", hub_seconds, HUB_TARGET),
        spread("agent start → welcome", "s", agent_seconds, AGENT_TARGET),
    ]
