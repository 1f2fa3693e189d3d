"""A fleet's presence on a clock that the test drives, without a database where none is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Overflow
from hub_server.events import AgentChanged, AgentConnected, AgentDisconnected, DomainEvent
from hub_server.pauses import TICK_SECONDS, PauseMeter
from hub_server.presence.model import reason_of, status_of
from hub_server.presence.service import PresenceService
from hub_server.presence.store import PresenceStore
from hub_server.storage.engine import Database
from protocol.enumerations import AgentStatus, ConnectionReason
from tests.clocks import FakeClock

ACTIVE, OFFLINE, ERROR = AgentStatus.ACTIVE, AgentStatus.OFFLINE, AgentStatus.ERROR
HEARD = frozenset({"presence", "fleet"})


class Sites:
    """The fleet's part: every agent exists but those in `gone`, and has the site it is given."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}
        self.gone: set[str] = set()

    def exists(self, _organisation_id: str, agent_id: str) -> bool:
        return agent_id not in self.gone

    def site_of(self, agent_id: str) -> str:
        return self.of.get(agent_id, "")


class Fleet:
    """Presence as one process of the hub has it; `restarted` is what a kill leaves: the database."""

    def __init__(self, clock: FakeClock, database: Database | None = None, sites: Sites | None = None) -> None:
        self.clock = clock
        self.sites = sites or Sites()
        self.store = PresenceStore()
        self.bus = InProcessBus()
        self.pauses = PauseMeter(clock, lambda _lateness: None)
        unused: Any = database
        self.database: Database = unused
        self.presence = PresenceService(
            database=self.database,
            bus=self.bus,
            clock=clock,
            pauses=self.pauses,
            store=self.store,
            machines=self.sites,
        )
        subscription = self.bus.subscribe(HEARD, name="test", capacity=100_000, overflow=Overflow.DROP_OLDEST)
        self._entered = subscription  # as long as this object lives
        self._events = subscription.__enter__()

    async def restarted(self) -> Fleet:
        fleet = Fleet(self.clock, self.database, self.sites)
        await fleet.presence.load()
        return fleet

    def open(self, *agent_ids: str) -> None:
        for agent_id in agent_ids:
            self.presence.opened("o", agent_id, f"host-{agent_id}")

    def close(self, *agent_ids: str, reason: ConnectionReason = ConnectionReason.CONNECTION_LOST) -> None:
        for agent_id in agent_ids:
            self.presence.closed(agent_id, reason)

    def live(self, seconds: float) -> None:
        """Let the hub live through `seconds` without a pause, sweeping as it does."""
        for _ in range(round(seconds)):
            for _tick in range(round(1 / TICK_SECONDS)):
                self.clock.advance(TICK_SECONDS)
                self.pauses.tick()
            self.presence.sweep()

    def freeze(self, seconds: float) -> None:
        """Let `seconds` go by in which the hub does not run; what came in meanwhile is for the test to bring next."""
        self.clock.advance(TICK_SECONDS + seconds)

    def shown(self, agent_id: str) -> tuple[AgentStatus, str]:
        presence = self.presence.of(agent_id)
        return status_of(presence), reason_of(presence)

    async def happened(self) -> list[DomainEvent]:
        """Return what was said since the last call."""
        return await self._events.batch(100_000) if self._events.buffered else []

    async def disconnections(self) -> dict[str, ConnectionReason]:
        return {event.agent_id: event.reason for event in await self.happened() if isinstance(event, AgentDisconnected)}


def kinds(events: Sequence[DomainEvent]) -> list[tuple[str, str]]:
    names = {AgentConnected: "connected", AgentDisconnected: "disconnected", AgentChanged: "changed"}
    return [(names[type(event)], event.agent_id) for event in events]
