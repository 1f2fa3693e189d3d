"""Turns missed deadlines into statuses and writes presence down, in one loop for all agents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from hub_server.bus.port import Bus, Overflow
from hub_server.events import AgentReported, AgentTrustChanged
from hub_server.presence.service import PresenceService
from protocol import reports
from protocol.enumerations import AgentTrust
from protocol.reports import COLLECTOR_FAILING, COLLECTOR_RECOVERED, GAP, SPOOL_FULL

log = structlog.get_logger(component="presence")

SWEEP_SECONDS: Final = 1.0
SWEEPS_PER_REFRESH: Final = 5
REFRESH_ROUND_SECONDS: Final = 60.0
REPORTS_CAPACITY: Final = 10_000
FULL_DISK: Final = "disk"
"""The cause of a gap that is said once the disk takes samples again."""
TROUBLES: Final = (COLLECTOR_FAILING, COLLECTOR_RECOVERED, SPOOL_FULL, GAP)
"""Kinds of reports that begin or end a trouble. An agent says each once: what it said before the start counts."""

Earlier = Callable[[Collection[str]], Awaitable[Sequence[AgentReported]]]


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

    def __init__(self, bus: Bus, presence: PresenceService, earlier: Earlier) -> None:
        """`earlier` returns what agents reported of some kinds, in order of time."""
        self._bus = bus
        self._presence = presence
        self._earlier = earlier

    async def run(self) -> None:
        with self._bus.subscribe(
            frozenset({"reports", "fleet"}), name="troubles", capacity=REPORTS_CAPACITY, overflow=Overflow.DROP_OLDEST
        ) as events:
            for report in await self._earlier(TROUBLES):
                self._note(report)
            async for event in events:
                if isinstance(event, AgentReported):
                    self._note(event)
                elif isinstance(event, AgentTrustChanged) and event.trust is AgentTrust.TRUSTED:
                    self._presence.released(event.agent_id)

    def _note(self, report: AgentReported) -> None:
        match report.kind:
            case reports.COLLECTOR_FAILING | reports.COLLECTOR_RECOVERED:
                problem = f"{report.data.get('collector', 'collector')}_failing"
                self._presence.troubled(report.agent_id, problem, present=report.kind == COLLECTOR_FAILING)
            case reports.SPOOL_FULL:
                self._presence.troubled(report.agent_id, SPOOL_FULL, present=True)
            case reports.GAP if report.data.get("cause") == FULL_DISK:
                self._presence.troubled(report.agent_id, SPOOL_FULL, present=False)
            case _:
                pass
