"""One job writes without end beside a fleet: the hub stays small, others are served, what is left out is said."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from typing import Any, Final

from hub_server.bench.muster import connected, enroll
from hub_server.bench.orders import Connect
from hub_server.bench.processes import live_memory_of
from scripts.proofs.jobs.site import ENDED, Site, job_site
from scripts.proofs.report import Report

OTHERS: Final = 200
SAMPLE_SECONDS: Final = 10.0
FLOOD_BYTES: Final = 100 * 1000 * 1000
FLOOD_SECONDS: Final = 300.0
COMMANDS: Final = 40
AT_A_TIME: Final = 4
PAUSE_SECONDS: Final = 0.1
GROWTH_MAX_BYTES: Final = 32 * 1024 * 1024
TIMES_SLOWER_MAX: Final = 2.0
SLOWER_MIN_SECONDS: Final = 0.05
"""Below this a wait is of no matter, whatever the ratio."""
WRITE: Final = (
    "import sys, time\nline = b'x' * 99 + b'\\n'\n"
    f"for _ in range({FLOOD_BYTES} // 1_000_000):\n"
    "    sys.stdout.buffer.write(line * 10_000)\n    sys.stdout.flush()\n    time.sleep(0.2)\n"
)
"""For 20 s at least, so that many others can ask meanwhile."""


async def show(report: Report) -> None:
    await report.show(
        f"100 MB of output from one job beside {OTHERS} agents: hub bounded, others at most twice as slow", full
    )


async def full() -> str:
    async with job_site(1) as site:
        identities = site.folder / "identities"
        await enroll(site.hub, identities, OTHERS)
        plan = Connect(
            port=site.hub.agent_port,
            folder=str(identities),
            first=0,
            count=OTHERS,
            per_second=50,
            sample_seconds=SAMPLE_SECONDS,
        )
        async with connected(plan):
            return await flooded(site)


async def flooded(site: Site) -> str:
    others = [agent for agent in await _agents(site) if agent != site.agent.agent_id]
    await latencies(site, others[:COMMANDS])
    calm = await latencies(site, others[:COMMANDS])
    before = (await live_memory_of(site.hub.pid)).private_bytes
    command_id = await site.order(sys.executable, "-c", WRITE, timeoutSec=FLOOD_SECONDS)
    await site.reached(command_id, frozenset({"EXECUTING", "COMPLETED"}))
    peak = 0
    busy: list[float] = []
    while (await site.command(command_id))["status"] not in ENDED:
        busy += await latencies(site, others[:AT_A_TIME])
        peak = max(peak, (await live_memory_of(site.hub.pid)).private_bytes)
    assert busy, "the job ended before anybody else asked"
    found = await site.reached(command_id, deadline_seconds=FLOOD_SECONDS)
    peak = max(peak, (await live_memory_of(site.hub.pid)).private_bytes)
    stored = len(await site.output(command_id))
    assert found["status"] == "COMPLETED", found
    assert found["truncated"], found
    assert peak - before <= GROWTH_MAX_BYTES, f"the hub grew by {(peak - before) / 1e6:.1f} MB"
    slower = statistics.median(busy) / statistics.median(calm)
    added_seconds = statistics.median(busy) - statistics.median(calm)
    assert slower <= TIMES_SLOWER_MAX or added_seconds < SLOWER_MIN_SECONDS, f"{slower:.1f} times slower"
    return (
        f"hub +{(peak - before) / 1e6:.1f} MB at most; others {statistics.median(calm) * 1000:.0f} → "
        f"{statistics.median(busy) * 1000:.0f} ms ({len(busy)} asked while it wrote); "
        f"{stored:,} bytes kept, truncation said"
    )


async def latencies(site: Site, agent_ids: list[str]) -> list[float]:
    """Return how long a command on each of these agents took, from asking to its end."""
    took = []
    for agent_id in agent_ids:
        began = time.perf_counter()
        created = await site.do("commands:create", agentId=agent_id, commandData={"argv": ["simulated"]})
        command_id: Any = created["command"]["id"]
        person = await site.person()
        await person.take("agent:command:result", lambda data, own=command_id: data["commandId"] == own)  # type: ignore[misc]
        took.append(time.perf_counter() - began)
        person.inbox.clear()
        await asyncio.sleep(PAUSE_SECONDS)
    return took


async def _agents(site: Site) -> list[str]:
    agents = (await site.do("agents:list", limit=1000))["agents"]
    return [agent["id"] for agent in agents]
