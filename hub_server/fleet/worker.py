"""Keeps the index of agents in step with enrollments and changes made through any hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from hub_server.bus.port import Bus, Overflow
from hub_server.events import AgentDeleted, AgentEnrolled
from hub_server.fleet.service import FleetService

log = structlog.get_logger(component="fleet")
CAPACITY: Final = 10_000


class IndexKeeper:
    """`forgets`: what other subjects hold in memory of an agent that was deleted."""

    def __init__(self, bus: Bus, fleet: FleetService, forgets: Sequence[Callable[[str], None]]) -> None:
        self._bus = bus
        self._fleet = fleet
        self._forgets = forgets

    async def run(self) -> None:
        with self._bus.subscribe(
            frozenset({"fleet"}), name="fleet-index", capacity=CAPACITY, overflow=Overflow.DROP_OLDEST
        ) as events:
            async for event in events:
                try:
                    match event:
                        case AgentEnrolled():
                            await self._fleet.reload(event.organisation_id, event.agent_id)
                        case AgentDeleted():
                            self._fleet.forget(event.organisation_id, event.agent_id)
                            for forget in self._forgets:
                                forget(event.agent_id)
                        case _:
                            pass
                except (SQLAlchemyError, OSError):
                    log.exception("agent not indexed", agent_id=event.agent_id)
