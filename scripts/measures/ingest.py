"""How many samples the hub takes, and that all it acknowledged are on the disk after `kill -9`."""

from __future__ import annotations

from collections.abc import Sequence

from hub_server.bench import intake
from hub_server.bench.figures import Figure
from hub_server.bench.muster import Enrolled
from scripts.measures.options import Options
from scripts.measures.site import Site


async def measure(options: Options, site: Site, fleet: Enrolled) -> Sequence[Figure]:
    """Press the hub and kill it; it runs again after it."""
    figures = await intake.measure(
        site.hub, fleet.identities, fleet.count, seconds=options.pressure_seconds, runs=options.runs
    )
    await site.hub.start()
    return figures
