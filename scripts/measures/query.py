"""What pages ask, of a hub whose store holds days of the fleet."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from hub_server.bench.agent import now_ms
from hub_server.bench.figures import Figure, Target, spread
from hub_server.bench.muster import Enrolled
from protocol.operations import AgentsListReply
from scripts.load.person import Person, dashboard
from scripts.measures.options import Options
from scripts.measures.site import Site

TARGET: Final = Target(p99=10.0)
PAGE: Final = 50
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
CHARTED: Final = ("cpu_percent", "memory_percent", "disk_percent")
WARM_UP: Final = 3


async def measure(options: Options, site: Site, fleet: Enrolled) -> Sequence[Figure]:
    """Ask over a dashboard's socket, one question after the other, each time about another part of the fleet."""
    hub = site.hub
    await hub.stop()
    await hub.start()
    async with dashboard(hub.web_url, await hub.access_token(), {}) as person:
        agent_ids = await some_agents(person, options.history_agents)
        return [
            spread(name, "ms", await took_ms(person, operation, bodies), TARGET, note)
            for name, operation, bodies, note in questions(options, fleet.count, agent_ids)
        ]


def questions(
    options: Options, agents: int, agent_ids: Sequence[str]
) -> Sequence[tuple[str, str, Sequence[Mapping[str, Any]], str]]:
    """Return name, operation, the bodies of each asking and a note."""
    now, turns = now_ms(), range(WARM_UP + options.queries)
    pages = [{"limit": PAGE, "offset": random.randrange(max(1, agents - PAGE))} for _ in turns]  # noqa: S311  no secret

    def charts(days: int) -> Sequence[Mapping[str, Any]]:
        return [
            {
                "agentIds": [agent_ids[turn % len(agent_ids)]],
                "metrics": list(CHARTED),
                "from": now - days * DAY_MS,
                "to": now,
                "maxPoints": 500,
            }
            for turn in turns
        ]

    held = f"{len(agent_ids)} agents with {options.history_days:g} days of samples each"
    return (
        (f"{PAGE} of {agents} agents", "agents:list", pages, "any page"),
        ("chart of 24 h", "metrics:query", charts(1), held),
        ("chart of 30 d", "metrics:query", charts(30), held),
        ("open alerts", "alerts:list", [{"state": "OPEN", "limit": PAGE} for _ in turns], ""),
    )


async def took_ms(person: Person, operation: str, bodies: Sequence[Mapping[str, Any]]) -> Sequence[float]:
    """Return the milliseconds of each answer, after a few that do not count."""
    took = []
    for body in bodies:
        began_at = time.perf_counter()
        await person.ask(operation, **body)
        took.append((time.perf_counter() - began_at) * 1000)
    return took[WARM_UP:]


async def some_agents(person: Person, count: int) -> Sequence[str]:
    reply = await person.ask("agents:list", limit=count)
    assert isinstance(reply, AgentsListReply)
    return [agent.id for agent in reply.agents]
