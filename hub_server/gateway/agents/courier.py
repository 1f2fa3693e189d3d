"""Takes frames off the bus to the agents whose sessions this hub holds."""

from __future__ import annotations

import asyncio
from typing import Final

from hub_server.bus.port import Bus, Overflow
from hub_server.events import Deliver, SessionEndRequested
from hub_server.gateway.agents.judge import QUARANTINED, REVOKED
from hub_server.gateway.agents.registry import SessionRegistry
from protocol.enumerations import ConnectionReason

CAPACITY: Final = 100_000
AT_ONCE: Final = 100


class Courier:
    """A frame that does not fit is dropped here and said again by the sweep of its subject."""

    def __init__(self, bus: Bus, registry: SessionRegistry) -> None:
        self._bus = bus
        self._registry = registry

    async def run(self) -> None:
        with self._bus.subscribe(
            frozenset({"deliver"}), name="courier", capacity=CAPACITY, overflow=Overflow.DROP_OLDEST
        ) as events:
            while True:
                for event in await events.batch(AT_ONCE):
                    match event:
                        case Deliver():
                            if (session := self._registry.get(event.agent_id)) is not None:
                                session.send(event.frame)
                        case SessionEndRequested():
                            self._end(event)
                        case _:
                            pass
                await asyncio.sleep(0)  # a frame for everybody at once must not hold up the others

    def _end(self, event: SessionEndRequested) -> None:
        objection = QUARANTINED if event.reason is ConnectionReason.QUARANTINED else REVOKED
        for session in self._registry.of_agent(event.agent_id):
            session.end(objection.ending())
