"""Turns missed deadlines into statuses and writes presence down, in one loop for all agents."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from hub_server.bus.port import Bus, Overflow
from hub_server.events import AgentReported, AgentTrustChanged
from hub_server.presence.service import PresenceService
from protocol.enumerations import AgentTrust

log = structlog.get_logger(component="presence")

SWEEP_SECONDS: Final = 1.0
SWEEPS_PER_REFRESH: Final = 5
REFRESH_ROUND_SECONDS: Final = 60.0
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
            if sweeps % SWEEPS_PER_REFRESH == 0:
                self._presence.refresh(SWEEPS_PER_REFRESH * SWEEP_SECONDS / REFRESH_ROUND_SECONDS)
            await self.save()

    async def save(self) -> None:
        try:
            await self._presence.save()
        except (SQLAlchemyError, OSError):
            log.warning("presence not saved; tried again with the next sweep")


class TroubleListener:
    """Shows an agent as in error while it says that something of its own does not work, and that it was released."""

    def __init__(self, bus: Bus, presence: PresenceService) -> None:
        self._bus = bus
        self._presence = presence

    async def run(self) -> None:
        with self._bus.subscribe(
            frozenset({"reports", "fleet"}), name="troubles", capacity=REPORTS_CAPACITY, overflow=Overflow.DROP_OLDEST
        ) as events:
            async for event in events:
                if isinstance(event, AgentReported) and event.kind in TROUBLES:
                    collector = str(event.data.get("collector", "collector"))
                    self._presence.troubled(event.agent_id, f"{collector}_failing", present=TROUBLES[event.kind])
                elif isinstance(event, AgentTrustChanged) and event.trust is AgentTrust.TRUSTED:
                    self._presence.released(event.agent_id)
