"""Turns missed deadlines into statuses and writes presence down, in one loop for all agents."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from sqlalchemy.exc import OperationalError

from hub_server.presence.service import PresenceService

log = structlog.get_logger(component="presence")

SWEEP_SECONDS: Final = 1.0
SWEEPS_PER_SAVE: Final = 5


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
        except (OperationalError, TimeoutError):
            log.warning("presence not saved; tried again with the next sweep")
