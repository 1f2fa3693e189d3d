"""Who is connected, since when, and why not."""

from __future__ import annotations

from typing import Final

import msgspec
import structlog

from hub_server.bus.port import Bus
from hub_server.clock import Clock
from hub_server.events import AgentChanged, AgentConnected, AgentDisconnected
from hub_server.pauses import PauseMeter
from hub_server.presence.model import Presence, PresenceRecord
from hub_server.presence.store import PresenceStore
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import ConnectionReason
from protocol.limits import OFFLINE_AFTER_SECONDS

log = structlog.get_logger(component="presence")

_ABSENT: Final = Presence(connected=False)


class PresenceService:
    def __init__(self, *, database: Database, bus: Bus, clock: Clock, pauses: PauseMeter, store: PresenceStore) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._pauses = pauses
        self._store = store
        self._presences: dict[str, Presence] = {}
        self._hosts: dict[str, tuple[str, str]] = {}
        self._unsaved: set[str] = set()

    async def load(self) -> None:
        """Agents that were connected when the hub stopped are awaited, not offline: the hub was away, not they."""
        async with self._database.read(EVERY_ORGANISATION) as connection:
            records = await self._store.load_all(connection)
        deadline = self._pauses.active_seconds() + OFFLINE_AFTER_SECONDS
        for record in records:
            self._hosts[record.agent_id] = (record.organisation_id, record.hostname)
            self._presences[record.agent_id] = Presence(
                connected=False,
                last_seen_at=record.last_seen_at,
                changed_at=record.last_seen_at,
                reason=record.reason,
                awaited_until=deadline if record.connected else None,
            )

    def of(self, agent_id: str) -> Presence:
        return self._presences.get(agent_id, _ABSENT)

    def opened(self, organisation_id: str, agent_id: str, hostname: str) -> None:
        now = self._clock.now()
        before = self.of(agent_id)
        self._hosts[agent_id] = (organisation_id, hostname)
        self._change(agent_id, Presence(connected=True, changed_at=now, last_seen_at=now, problems=before.problems))
        self._bus.publish(AgentConnected(organisation_id=organisation_id, agent_id=agent_id, hostname=hostname, at=now))

    def heard(self, agent_id: str) -> None:
        """Any frame is a sign of life."""
        presence = self._presences.get(agent_id)
        if presence is not None:
            self._presences[agent_id] = msgspec.structs.replace(presence, last_seen_at=self._clock.now())
            self._unsaved.add(agent_id)

    def closed(self, agent_id: str, reason: ConnectionReason) -> None:
        presence = self.of(agent_id)
        if presence.connected:
            self._offline(agent_id, presence, reason)

    def troubled(self, agent_id: str, problem: str, *, present: bool) -> None:
        """Note or clear a problem that the agent reports of itself, such as a failing collector."""
        presence = self.of(agent_id)
        problems = presence.problems | {problem} if present else presence.problems - {problem}
        if problems != presence.problems and agent_id in self._hosts:
            self._change(agent_id, msgspec.structs.replace(presence, problems=problems))
            self._bus.publish(AgentChanged(organisation_id=self._hosts[agent_id][0], agent_id=agent_id))

    def sweep(self) -> None:
        """Give up agents that did not come back after the hub's own absence."""
        now = self._pauses.active_seconds()
        overdue = [
            (agent_id, presence)
            for agent_id, presence in self._presences.items()
            if presence.awaited_until is not None and presence.awaited_until <= now
        ]
        for agent_id, presence in overdue:
            self._offline(agent_id, presence, ConnectionReason.SILENT)

    async def save(self) -> None:
        """Write what changed since the last time; on failure it stays to be written."""
        if not self._unsaved:
            return
        agent_ids: list[str] = []
        try:
            async with self._database.write(EVERY_ORGANISATION) as connection:
                agent_ids = list(self._unsaved)
                self._unsaved.difference_update(agent_ids)
                records = [self._record(agent_id) for agent_id in agent_ids if agent_id in self._hosts]
                await self._store.save(connection, records)
        except BaseException:
            self._unsaved.update(agent_ids)
            raise

    def forget(self, agent_id: str) -> None:
        self._presences.pop(agent_id, None)
        self._hosts.pop(agent_id, None)
        self._unsaved.discard(agent_id)

    def _offline(self, agent_id: str, presence: Presence, reason: ConnectionReason) -> None:
        now = self._clock.now()
        organisation_id, hostname = self._hosts[agent_id]
        log.info("agent offline", agent_id=agent_id, reason=reason)
        self._change(
            agent_id,
            msgspec.structs.replace(presence, connected=False, awaited_until=None, changed_at=now, reason=reason),
        )
        self._bus.publish(
            AgentDisconnected(
                organisation_id=organisation_id, agent_id=agent_id, hostname=hostname, at=now, reason=reason
            )
        )

    def _change(self, agent_id: str, presence: Presence) -> None:
        self._presences[agent_id] = presence
        self._unsaved.add(agent_id)

    def _record(self, agent_id: str) -> PresenceRecord:
        presence = self.of(agent_id)
        organisation_id, hostname = self._hosts[agent_id]
        return PresenceRecord(
            organisation_id=organisation_id,
            agent_id=agent_id,
            hostname=hostname,
            connected=presence.connected or presence.awaited_until is not None,
            last_seen_at=presence.last_seen_at,
            reason=presence.reason,
        )
