"""Dashboards that watch the fleet, some as the seed's client does, some by the feed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from hub_server.bench.agent import now_ms
from hub_server.bench.orders import Ready
from hub_server.bench.tally import Tally
from protocol.enumerations import AlertState
from protocol.limits import UNSUBSCRIBED_AGENTS_MAX
from scripts.load.person import Person, dashboard
from scripts.load.plans import Watch

SINGLE: Final = "agent:metrics"
BATCH: Final = "agents:metrics"
ALERT: Final = "agent:alert"


class Watcher:
    """Times a sample's way from the agent that took it to this dashboard; a snapshot's samples are old and left out.

    Of an alert the time from its opening.
    """

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._person: Person | None = None

    async def subscribe(self, person: Person, offset: int) -> None:
        self._person = person
        await person.ask("feed:subscribe", offset=offset, limit=UNSUBSCRIBED_AGENTS_MAX)

    async def single(self, body: Any) -> None:
        self._arrived(body)

    async def batch(self, body: Any) -> None:
        if not body.get("snapshot"):
            for sample in body["samples"]:
                self._arrived(sample)
        if self._person is not None:
            self._tally.sent += 1
            await self._person.confirm(body)

    async def alert(self, body: Any) -> None:
        if body["state"] == AlertState.OPEN:
            took = datetime.now(UTC) - datetime.fromisoformat(body["at"])
            self._tally.alert_delays_ms.append(took.total_seconds() * 1000)

    async def other(self, _body: Any) -> None:
        self._tally.answered += 1

    def _arrived(self, sample: Any) -> None:
        self._tally.answered += 1
        self._tally.delays_ms.append(float(now_ms() - sample["timestamp"]))


@asynccontextmanager
async def watching_dashboards(plan: Watch, tally: Tally) -> AsyncIterator[Ready]:
    """Open the dashboards of `plan` for the block; the feed's watch two pages of the fleet in turn."""
    started_at = time.perf_counter()
    async with AsyncExitStack() as stack:
        for index in range(plan.count):
            watcher = Watcher(tally)
            handlers = {
                SINGLE: watcher.single,
                BATCH: watcher.batch,
                ALERT: watcher.alert,
                "agents:status": watcher.other,
            }
            person = await stack.enter_async_context(dashboard(plan.web_url, plan.token, handlers))
            if index < plan.subscribed:
                await watcher.subscribe(person, offset=UNSUBSCRIBED_AGENTS_MAX * (index % 2))
            tally.connected += 1
        yield Ready(done=tally.connected, took_seconds=time.perf_counter() - started_at)
