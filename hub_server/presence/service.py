"""Who is connected, since when, and why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, Protocol

import msgspec
import structlog

from hub_server.bus.port import Bus
from hub_server.clock import Clock
from hub_server.events import AgentChanged, AgentConnected, AgentDisconnected
from hub_server.pauses import PauseMeter
from hub_server.presence.engine import (
    SITE_WINDOW_SECONDS,
    UNEXPLAINED,
    is_the_hubs,
    patience_seconds,
    silent_sites,
)
from hub_server.presence.model import ABSENT, Presence, PresenceRecord, Site, meant, said, status_of
from hub_server.presence.store import PresenceStore
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import AgentStatus, ConnectionReason

log = structlog.get_logger(component="presence")

AT_ONCE: Final = 500
"""Agents that one sweep calls offline: more would halt the hub, and a second later is early enough."""
SAVED_AT_ONCE: Final = 100
RELEASED: Final = "let in again at its next attempt"
_NOBODY: Final[Mapping[AgentStatus, int]] = MappingProxyType(dict.fromkeys(AgentStatus, 0))


class Machines(Protocol):
    """What presence asks of the fleet."""

    def exists(self, organisation_id: str, agent_id: str) -> bool: ...

    def site_of(self, agent_id: str) -> str:
        """Return the name of its site, empty where it has none."""


class PresenceService:
    """Everything is in memory, and written down soon after it changed.

    An agent has one value here that no garbage collection visits, and a float for when it was heard: that one changes
    with every frame.
    """

    def __init__(
        self,
        *,
        database: Database,
        bus: Bus,
        clock: Clock,
        pauses: PauseMeter,
        store: PresenceStore,
        machines: Machines,
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._pauses = pauses
        self._store = store
        self._machines = machines
        self._presences: dict[str, Presence] = {}
        self._heard_seconds: dict[str, float] = {}
        self._awaited: dict[str, float] = {}
        self._lost: dict[str, float] = {}
        self._lost_more = False
        self._silent: set[str] = set()
        self._tallies: dict[str, dict[AgentStatus, int]] = {}
        self._unsaved: dict[str, None] = {}
        self._to_refresh: list[str] = []
        self._now_seconds = clock.now().timestamp()

    async def load(self) -> None:
        """Agents that were connected when the hub stopped are awaited, not offline: the hub was away, not they."""
        async with self._database.read(EVERY_ORGANISATION) as connection:
            stored = await self._store.load_all(connection)
        records = [record for record in stored if self._machines.exists(record.organisation_id, record.agent_id)]
        deadline = self._pauses.active_seconds() + patience_seconds(self._absence_seconds(records))
        for record in records:
            reason, detail = meant(record.reason)
            if record.last_seen_at is not None:
                self._heard_seconds[record.agent_id] = record.last_seen_at.timestamp()
            self._put(
                record.agent_id,
                Presence(
                    organisation_id=record.organisation_id,
                    hostname=record.hostname,
                    since=None if record.connected else record.last_seen_at,
                    reason=reason,
                    detail=detail,
                    awaited_until=deadline if record.connected else None,
                ),
            )

    def of(self, agent_id: str) -> Presence:
        return self._presences.get(agent_id, ABSENT)

    def last_seen_seconds(self, agent_id: str) -> float | None:
        """Return when anything was heard of it last, in seconds since the epoch, to a second."""
        return self._heard_seconds.get(agent_id)

    def last_seen_at(self, agent_id: str) -> datetime | None:
        seconds = self._heard_seconds.get(agent_id)
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)

    def tally(self, organisation_id: str) -> Mapping[AgentStatus, int]:
        """Return how many agents have each status; those that never connected are not among them."""
        return self._tallies.get(organisation_id, _NOBODY)

    def opened(self, organisation_id: str, agent_id: str, hostname: str) -> None:
        now = self._tell_time()
        self._heard_seconds[agent_id] = self._now_seconds
        self._lost.pop(agent_id, None)
        self._change(
            agent_id,
            organisation_id=organisation_id,
            hostname=hostname,
            connected=True,
            awaited_until=None,
        )
        self._bus.publish(AgentConnected(organisation_id=organisation_id, agent_id=agent_id, hostname=hostname, at=now))

    def heard(self, agent_id: str) -> None:
        """Any frame is a sign of life."""
        if agent_id in self._heard_seconds:
            self._heard_seconds[agent_id] = self._now_seconds

    def closed(self, agent_id: str, reason: ConnectionReason) -> None:
        """Call an agent offline that has no session any more, or await it when that was the hub's own doing."""
        presence = self.of(agent_id)
        if not presence.connected:
            return
        now, pause = self._pauses.active_seconds(), self._pauses.long_pause()
        if is_the_hubs(reason, pause_ended_at=pause.ended_at, now=now):
            until = now + patience_seconds(pause.seconds)
            log.info("agent awaited", agent_id=agent_id)
            self._change(agent_id, connected=False, awaited_until=until, reason=reason, detail="")
            self._bus.publish(AgentChanged(organisation_id=presence.organisation_id, agent_id=agent_id))
        else:
            self._offline(agent_id, reason)

    def refused(self, organisation_id: str, agent_id: str, hostname: str, why: str, *, returns_soon: bool) -> None:
        """Note why an agent that has no session was turned away.

        `returns_soon`: it tries again at once, so that an agent which is awaited goes on being so.
        """
        before = self.of(agent_id)
        is_awaited = before.awaited_until is not None
        if before.connected or (is_awaited and returns_soon):
            return
        if is_awaited:
            self._offline(agent_id, ConnectionReason.REFUSED, why)
        elif (before.reason, before.detail) != (ConnectionReason.REFUSED, why):
            self._change(
                agent_id,
                organisation_id=organisation_id,
                hostname=hostname,
                reason=ConnectionReason.REFUSED,
                detail=why,
            )
            self._bus.publish(AgentChanged(organisation_id=organisation_id, agent_id=agent_id))

    def released(self, agent_id: str) -> None:
        """The agent may come in again, and does so by itself."""
        presence = self.of(agent_id)
        if not presence.connected and presence.reason in {ConnectionReason.REFUSED, ConnectionReason.QUARANTINED}:
            self._change(agent_id, reason=ConnectionReason.REFUSED, detail=RELEASED)
            self._bus.publish(AgentChanged(organisation_id=presence.organisation_id, agent_id=agent_id))

    def troubled(self, agent_id: str, problem: str, *, present: bool) -> None:
        """Note or clear a problem that the agent reports of itself, such as a failing collector."""
        presence = self.of(agent_id)
        problems = presence.problems | {problem} if present else presence.problems - {problem}
        if problems != presence.problems and agent_id in self._presences:
            self._change(agent_id, problems=problems)
            self._bus.publish(AgentChanged(organisation_id=presence.organisation_id, agent_id=agent_id))

    def sweep(self) -> None:
        """Give up agents that did not come back after the hub's own absence, and see whether whole sites are silent.

        Call it every second or so: what is noted of the wall clock is as old as the last sweep.
        """
        self._tell_time()
        now = self._pauses.active_seconds()
        overdue = [agent_id for agent_id, until in self._awaited.items() if until <= now]
        for agent_id in overdue[:AT_ONCE]:
            self._offline(agent_id, ConnectionReason.SILENT)
        if self._lost_more:
            self._look_at_sites(now)

    def refresh(self, share: float) -> None:
        """Let the next `save` write when agents were heard last: of `share` of those connected, each in its turn."""
        if not self._to_refresh:
            self._to_refresh = list(self._presences)
        count = min(len(self._to_refresh), int(len(self._presences) * share) + 1)
        due, self._to_refresh = self._to_refresh[-count:], self._to_refresh[:-count]
        self._unsaved.update(dict.fromkeys(agent_id for agent_id in due if self.of(agent_id).connected))

    async def save(self) -> None:
        """Write what changed since the last time, in slices; on failure the rest stays to be written."""
        for _ in range(0, len(self._unsaved), SAVED_AT_ONCE):
            slice_ = list(islice(self._unsaved, SAVED_AT_ONCE))
            for agent_id in slice_:
                del self._unsaved[agent_id]
            try:
                async with self._database.write(EVERY_ORGANISATION) as connection:
                    records = [self._record(agent_id) for agent_id in slice_ if agent_id in self._presences]
                    await self._store.save(connection, records)
            except BaseException:
                self._unsaved.update(dict.fromkeys(slice_))
                raise

    def forget(self, agent_id: str) -> None:
        presence = self._presences.pop(agent_id, None)
        if presence is not None:
            self._tallies[presence.organisation_id][status_of(presence)] -= 1
        for of_agents in (self._heard_seconds, self._awaited, self._lost, self._unsaved):
            of_agents.pop(agent_id, None)
        self._silent.discard(agent_id)

    def _offline(self, agent_id: str, reason: ConnectionReason, detail: str = "") -> None:
        log.info("agent offline", agent_id=agent_id, reason=reason)
        self._change(agent_id, connected=False, awaited_until=None, reason=reason, detail=detail)
        if reason in UNEXPLAINED:
            self._lost[agent_id] = self._pauses.active_seconds()
            self._lost_more = True
        presence = self._presences[agent_id]
        self._bus.publish(
            AgentDisconnected(
                organisation_id=presence.organisation_id,
                agent_id=agent_id,
                hostname=presence.hostname,
                at=self._clock.now(),
                reason=reason,
            )
        )

    def _look_at_sites(self, now: float) -> None:
        self._lost_more = False
        self._lost = {agent_id: at for agent_id, at in self._lost.items() if now - at <= SITE_WINDOW_SECONDS}
        lost: dict[Site, list[str]] = {}
        for agent_id in self._lost:
            site = self._site_of(agent_id)
            if site.name and self.of(agent_id).reason in UNEXPLAINED:
                lost.setdefault(site, []).append(agent_id)
        silent = Counter(map(self._site_of, self._silent))
        if silent_sites(lost, Counter(), silent):  # else it takes no count of those who are there
            for site in silent_sites(lost, self._connected_at(lost), silent):
                self._call_silent(site, lost[site])

    def _connected_at(self, sites: Collection[Site]) -> Counter[Site]:
        names = {site.name for site in sites}
        site_of = self._machines.site_of
        return Counter(
            self._site_of(agent_id)
            for agent_id, presence in self._presences.items()
            if presence.connected and site_of(agent_id) in names
        )

    def _site_of(self, agent_id: str) -> Site:
        return Site(self.of(agent_id).organisation_id, self._machines.site_of(agent_id))

    def _call_silent(self, site: Site, agent_ids: Sequence[str]) -> None:
        """Tell of a site once; each of its agents only changes its reason."""
        log.warning("site silent", organisation_id=site.organisation_id, site=site.name, agents=len(agent_ids))
        for agent_id in agent_ids[:AT_ONCE]:
            self._change(agent_id, reason=ConnectionReason.SITE_SILENT)
            self._bus.publish(AgentChanged(organisation_id=site.organisation_id, agent_id=agent_id))
        self._lost_more = self._lost_more or len(agent_ids) > AT_ONCE

    def _change(self, agent_id: str, **changes: Any) -> None:
        before = self.of(agent_id)
        after = msgspec.structs.replace(before, **changes)
        if after.since is None or status_of(after) is not status_of(before):
            after = msgspec.structs.replace(after, since=self._clock.now())
        self._put(agent_id, after)
        self._unsaved[agent_id] = None

    def _put(self, agent_id: str, presence: Presence) -> None:
        before = self._presences.get(agent_id)
        tally = self._tallies.setdefault(presence.organisation_id, dict.fromkeys(AgentStatus, 0))
        if before is not None:
            tally[status_of(before)] -= 1
        tally[status_of(presence)] += 1
        self._presences[agent_id] = presence
        if presence.reason is ConnectionReason.SITE_SILENT and not presence.connected:
            self._silent.add(agent_id)
        else:
            self._silent.discard(agent_id)
        if presence.awaited_until is None:
            self._awaited.pop(agent_id, None)
        else:
            self._awaited[agent_id] = presence.awaited_until

    def _tell_time(self) -> datetime:
        now = self._clock.now()
        self._now_seconds = now.timestamp()
        return now

    def _absence_seconds(self, records: Sequence[PresenceRecord]) -> float:
        """Return how long the hub was away, as far as its wall clock can tell."""
        heard = [record.last_seen_at for record in records if record.connected and record.last_seen_at is not None]
        return (self._clock.now() - max(heard)).total_seconds() if heard else 0.0

    def _record(self, agent_id: str) -> PresenceRecord:
        presence = self._presences[agent_id]
        return PresenceRecord(
            organisation_id=presence.organisation_id,
            agent_id=agent_id,
            hostname=presence.hostname,
            connected=presence.connected or presence.awaited_until is not None,
            last_seen_at=self.last_seen_at(agent_id),
            reason=said(presence.reason, presence.detail),
        )
