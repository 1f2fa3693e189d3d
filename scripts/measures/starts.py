"""How long the programs take to be of use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hub_server.bench.figures import Figure, Target, spread
from scripts.measures.options import Options
from scripts.measures.site import Site

HUB_TARGET: Final = Target(p50=1.5)
AGENT_TARGET: Final = Target(p50=0.7)


async def measure(options: Options, site: Site) -> Sequence[Figure]:
    """Start hub and agent several times, each on its existing data. Raises BenchFailed."""
    hub_seconds = []
    for _ in range(options.starts):
        await site.hub.stop()
        hub_seconds.append(await site.hub.start_as_users_do())
    agent_seconds = []
    for _ in range(options.starts):
        agent_seconds.append(await site.agent.start())
        await site.agent.stop()
    return [
        spread("hub start → /readyz", "s", hub_seconds, HUB_TARGET),
        spread("agent start → welcome", "s", agent_seconds, AGENT_TARGET),
    ]
