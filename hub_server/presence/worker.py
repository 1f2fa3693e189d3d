"""Turns missed deadlines into statuses and writes presence down, in one loop for all agents."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from hub_server.bus.port import Bus, Overflow
from hub_server.events import AgentReported
from hub_server.presence.service import PresenceService

log = structlog.get_logger(component="presence")

SWEEP_SECONDS: Final = 1.0
SWEEPS_PER_SAVE: Final = 5
REPORTS_CAPACITY: Final = 10_000
TROUBLES: Final = {"collector_failing": True, "collector_recovered": False}


class PresenceKeeper:
    def __init__(self, presence: PresenceService) -> None:
        self._presence = presence

    async def run(self) -> None:
        sweeps = 0
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self._presence.sweep()
            sweeps += 1
            if sweeps % SWEEPS_PER_SAVE == 0:
                await self.save()

    async def save(self) -> None:
        try:
            await self._presence.save()
        except (SQLAlchemyError, OSError):
            log.warning("presence not saved; tried again with the next sweep")


class TroubleListener:
    """Shows an agent as in error while it says that something of its own does not work."""

    def __init__(self, bus: Bus, presence: PresenceService) -> None:
        self._bus = bus
        self._presence = presence

    async def run(self) -> None:
        with self._bus.subscribe(
            frozenset({"reports"}), name="troubles", capacity=REPORTS_CAPACITY, overflow=Overflow.DROP_OLDEST
        ) as events:
            async for event in events:
                if isinstance(event, AgentReported) and event.kind in TROUBLES:
                    collector = str(event.data.get("collector", "collector"))
                    self._presence.troubled(event.agent_id, f"{collector}_failing", present=TROUBLES[event.kind])
