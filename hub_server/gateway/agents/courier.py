"""Takes frames off the bus to the agents whose sessions this hub holds."""

from __future__ import annotations

from typing import Final

from hub_server.bus.port import Bus, Overflow
from hub_server.events import Deliver, SessionEndRequested
from hub_server.gateway.agents.registry import SessionRegistry
from hub_server.gateway.agents.session import SessionEnded
from protocol.codes import CloseCode

CAPACITY: Final = 100_000


class Courier:
    """A frame that does not fit is dropped here and said again by the sweep of its subject."""

    def __init__(self, bus: Bus, registry: SessionRegistry) -> None:
        self._bus = bus
        self._registry = registry

    async def run(self) -> None:
        with self._bus.subscribe(
            frozenset({"deliver"}), name="courier", capacity=CAPACITY, overflow=Overflow.DROP_OLDEST
        ) as events:
            async for event in events:
                session = self._registry.get(event.agent_id)
                if session is None:
                    continue
                match event:
                    case Deliver():
                        await session.send(event.frame)
                    case SessionEndRequested():
                        session.end(SessionEnded(CloseCode.REVOKED, "this agent was removed", event.reason))
                    case _:
                        pass
