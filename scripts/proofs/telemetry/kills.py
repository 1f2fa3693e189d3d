"""Hub and agents killed with -9 again and again: every acknowledged sample is stored, and none of them twice."""

from __future__ import annotations

import asyncio
import random
import time

from scripts.proofs.report import Report
from scripts.proofs.telemetry.fleet import RealFleet, real_fleet, summed

AGENTS = 200
CREWS = 20
MINUTES = 10
KILLS = 30
SAMPLE_SECONDS = 2
SETTLE_SECONDS = 20.0


async def show(report: Report) -> None:
    await report.show("200 agents, 10 minutes, hub and agents killed 30 times each: nothing lost, nothing twice", full)


async def full() -> str:
    return await killed_often(AGENTS, CREWS, 60.0 * MINUTES, KILLS)


async def killed_often(agents: int, crews: int, seconds: float, kills: int) -> str:
    """Return what was compared. Raises AssertionError when anything acknowledged is missing, or there twice."""
    async with real_fleet(agents, crews=crews, sample_seconds=SAMPLE_SECONDS) as fleet:
        for crew in fleet.crews:
            crew.start()
        await asyncio.sleep(SETTLE_SECONDS)
        began = time.monotonic()
        await kill_at_random(fleet, seconds, kills)
        took = time.monotonic() - began
        await asyncio.sleep(SETTLE_SECONDS)
        for crew in fleet.crews:
            await crew.stop()
        found = await fleet.comparisons()
        wrong = {agent_id: str(each) for agent_id, each in found.items() if not each.is_exact}
        assert not wrong, f"{len(wrong)} of {agents} agents: {next(iter(wrong.values()))}"
        total = summed(found)
        assert total.stored > agents, total
        return f"{agents} agents, {took / 60:.1f} min, {kills} kills of the hub and {kills} of ten agents each: {total}"


async def kill_at_random(fleet: RealFleet, seconds: float, kills: int) -> None:
    """Kill the hub and a crew, in turns, at random moments evenly over the time."""
    loop = asyncio.get_running_loop()
    began, gap = loop.time(), seconds / kills
    for round_number in range(kills):
        for part in range(2):
            due = began + gap * (round_number + (part + random.random()) / 2)  # noqa: S311  a moment of chance
            await asyncio.sleep(max(0.0, due - loop.time()))
            await (kill_crew(fleet) if part else fleet.kill_hub())


async def kill_crew(fleet: RealFleet) -> None:
    crew = random.choice(fleet.crews)  # noqa: S311  any of them
    await asyncio.to_thread(crew.kill)
    crew.start()
