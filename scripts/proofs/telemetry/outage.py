"""The hub is away for an hour of samples: what is new is live at once, history is whole, and live stays quick."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from hub_server.bench.figures import quantile
from scripts.proofs.report import Report
from scripts.proofs.telemetry.fleet import RealFleet, real_fleet, summed

AGENTS: Final = 200
CREWS: Final = 4
SAMPLES: Final = 360
"""An hour at the usual ten seconds; taken every second here."""
WATCH_SECONDS: Final = 30.0
LIVE_DEADLINE_SECONDS: Final = 60.0
SLOWER_MAX: Final = 2.0
NOISE_MS: Final = 50.0
"""Below this a ratio says more of the machine than of the hub."""


class Delays:
    """Seconds from a sample's moment to this dashboard, and who was heard."""

    def __init__(self) -> None:
        self.ms: list[float] = []
        self.first_at: dict[str, float] = {}
        self.wanted = 0
        self.all_heard = asyncio.Event()

    def handlers(self) -> Mapping[str, Any]:
        return {"agents:metrics": self.batch, "agent:metrics": self.single}

    async def batch(self, body: Any) -> None:
        if not body.get("snapshot"):
            for sample in body["samples"]:
                await self.single(sample)

    async def single(self, sample: Any) -> None:
        if sample["metricType"] != "system":
            return
        self.first_at.setdefault(sample["agentId"], time.monotonic())
        self.ms.append(time.time() * 1000 - sample["timestamp"])
        if len(self.first_at) >= self.wanted > 0:
            self.all_heard.set()

    def p99(self) -> float:
        return quantile(sorted(self.ms), 0.99)


async def show(report: Report) -> None:
    await report.show("an outage of an hour of samples: newest live at once, history whole, live stays quick", full)


async def full() -> str:
    return await through_an_outage(AGENTS, CREWS, SAMPLES)


async def through_an_outage(agents: int, crews: int, samples: int) -> str:
    """Return what was seen. Raises AssertionError when a promise is broken, TimeoutError when nobody comes back."""
    async with real_fleet(agents, crews=crews, sample_seconds=1) as fleet:
        for crew in fleet.crews:
            crew.start()
        await until_live(fleet, Delays())
        before = await watched(fleet, WATCH_SECONDS)
        await fleet.hub.kill()
        await asyncio.sleep(samples)
        await fleet.hub.start()
        started, during = time.monotonic(), Delays()
        await until_live(fleet, during)
        live = [at - started for at in during.first_at.values()]
        filling = await watched_until_whole(fleet, during)
        found = await fleet.comparisons()
        wrong = [str(each) for each in found.values() if not each.is_exact]
        assert not wrong, f"{len(wrong)} agents: {wrong[0]}"
        assert all(each.taken >= samples for each in found.values()), "an agent took fewer samples than the outage had"
        slower = during.p99() / max(before.p99(), NOISE_MS)
        assert slower <= SLOWER_MAX, f"live p99 {before.p99():.0f} ms before, {during.p99():.0f} ms while back-filling"
        return (
            f"{agents} agents, {samples} samples each missed; live again {min(live):.1f} to {max(live):.1f} s after "
            f"the start (retries within 3 s), history whole after {filling:.0f} s; live p99 {before.p99():.0f} ms "
            f"before, {during.p99():.0f} ms meanwhile ({slower:.2f} times); {summed(found)}"
        )


async def watched(fleet: RealFleet, seconds: float) -> Delays:
    delays = Delays()
    async with fleet.watched(delays.handlers()) as person:
        await person.ask("feed:subscribe", limit=len(fleet.folders), metrics=["cpu_percent"])
        person.on("agents:metrics", confirming(person, delays))
        await asyncio.sleep(seconds)
    return delays


async def until_live(fleet: RealFleet, delays: Delays) -> None:
    """Return once a live sample of every agent was seen. Raises TimeoutError."""
    async with fleet.watched(delays.handlers()) as person, asyncio.timeout(LIVE_DEADLINE_SECONDS):
        person.on("agents:metrics", confirming(person, delays))
        await person.ask("feed:subscribe", limit=len(fleet.folders), metrics=["cpu_percent"])
        delays.wanted = len(fleet.folders)
        await delays.all_heard.wait()


async def watched_until_whole(fleet: RealFleet, delays: Delays) -> float:
    """Watch until nothing but the newest waits in any spool, at least WATCH_SECONDS; return when that was."""
    began = time.monotonic()
    async with fleet.watched(delays.handlers()) as person:
        person.on("agents:metrics", confirming(person, delays))
        await person.ask("feed:subscribe", limit=len(fleet.folders), metrics=["cpu_percent"])
        await fleet.drained(left=3)
        took = time.monotonic() - began
        await asyncio.sleep(max(0.0, WATCH_SECONDS - took))
    return took


def confirming(person: Any, delays: Delays) -> Any:
    """Return a handler that counts a batch and confirms it."""

    async def batch(body: Any) -> None:
        await delays.batch(body)
        await person.confirm(body)

    return batch
