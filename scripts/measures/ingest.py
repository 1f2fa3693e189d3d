"""How many samples the hub takes, and that all it acknowledged are on the disk after `kill -9`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from hub_server.bench import intake
from hub_server.bench.figures import Figure, single
from hub_server.bench.muster import Enrolled
from protocol.operations import AgentsListReply
from scripts.load.person import Person, dashboard
from scripts.measures.hub import Hub
from scripts.measures.options import Options
from scripts.measures.site import Site

PAGE: Final = 1000


async def measure(options: Options, site: Site, fleet: Enrolled) -> Sequence[Figure]:
    """Press the hub, kill it, start it again and count what it finds."""
    hub = site.hub
    before = await samples_held(hub)
    figures, balances = await intake.measure(
        hub, fleet.identities, fleet.count, seconds=options.pressure_seconds, runs=options.runs
    )
    await hub.start()
    found = await samples_held(hub) - before
    sent = sum(balance.sent for balance in balances)
    lost = max(0, sum(balance.acknowledged for balance in balances) - found)
    return [
        *figures,
        single("samples acknowledged and gone after kill -9", "samples", lost, 0.0, f"{found} found of {sent} sent"),
        single("samples found twice after kill -9", "samples", max(0, found - sent), 0.0),
    ]


async def samples_held(hub: Hub) -> int:
    """Return how many samples of all agents the hub has committed; right after its start: read from its disk."""
    async with dashboard(hub.web_url, await hub.access_token(), {}) as person:
        first = await page(person, 0)
        held = sum(agent.counts.metrics for agent in first.agents)
        for offset in range(PAGE, first.total, PAGE):
            held += sum(agent.counts.metrics for agent in (await page(person, offset)).agents)
        return held


async def page(person: Person, offset: int) -> AgentsListReply:
    reply = await person.ask("agents:list", limit=PAGE, offset=offset)
    assert isinstance(reply, AgentsListReply)
    return reply
