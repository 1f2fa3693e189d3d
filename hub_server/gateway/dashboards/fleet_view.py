"""Machines as lists show them: what fleet, presence, telemetry, alerts and commands know, put together in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import nsmallest
from math import inf
from typing import Final

from hub_server.alerts.service import AlertService
from hub_server.commands.service import CommandService
from hub_server.fleet.model import Agent
from hub_server.fleet.service import FleetService
from hub_server.presence.model import Presence, reason_of, status_of
from hub_server.presence.service import PresenceService
from hub_server.telemetry.service import TelemetryService
from protocol.enumerations import AgentStatus, AgentTrust, ConnectionReason
from protocol.events import AgentSummary, FleetCounts, RelatedCounts
from protocol.operations import AgentsList, AgentsListReply
from protocol.requests import AgentFilter

SYSTEM: Final = "system"
METRICS: Final = {"cpu": "cpu_percent", "memory": "memory_percent", "disk": "disk_percent"}
EVERYBODY: Final = AgentFilter()
_STATUS_RANKS: Final = {status: rank for rank, status in enumerate(sorted(AgentStatus))}


class Selection:
    """Which agents a filter means."""

    def __init__(self, fleet: FleetService, presence: PresenceService) -> None:
        self._fleet = fleet
        self._presence = presence

    def matching(self, organisation_id: str, wanted: AgentFilter) -> list[Agent]:
        """Return the agents that pass the filter, in the order of their names."""
        agents = self.named(organisation_id, self._fleet.by_name(organisation_id))
        if wanted.ids is not None:
            chosen = frozenset(wanted.ids)
            agents = [agent for agent in agents if agent.id in chosen]
        if wanted.status:
            presence_of, statuses = self._presence.of, frozenset(wanted.status)
            agents = [agent for agent in agents if status_of(presence_of(agent.id)) in statuses]
        if wanted.site is not None:
            agents = [agent for agent in agents if agent.site == wanted.site]
        if wanted.tags:
            tags = frozenset(wanted.tags)
            agents = [agent for agent in agents if tags.issubset(agent.tags)]
        if wanted.text:
            text = wanted.text.casefold()
            agents = [agent for agent in agents if text in _words_of(agent)]
        return agents

    def named(self, organisation_id: str, agent_ids: Iterable[str]) -> list[Agent]:
        """Return those of `agent_ids` that the organisation has."""
        agents = self._fleet.agents(organisation_id)
        return [agents[agent_id] for agent_id in agent_ids if agent_id in agents]


class FleetView:
    def __init__(
        self,
        *,
        fleet: FleetService,
        presence: PresenceService,
        telemetry: TelemetryService,
        alerts: AlertService,
        commands: CommandService,
        clock_offset_ms: Callable[[str], int | None],
    ) -> None:
        self._fleet = fleet
        self._selection = Selection(fleet, presence)
        self._presence = presence
        self._telemetry = telemetry
        self._alerts = alerts
        self._commands = commands
        self._clock_offset_ms = clock_offset_ms

    def page(self, organisation_id: str, request: AgentsList) -> AgentsListReply:
        shown, total = self.window(organisation_id, request.filter, request.sort, request.offset, request.limit)
        return AgentsListReply(
            agents=[self.summary(agent) for agent in shown],
            total=total,
            limit=request.limit,
            offset=request.offset,
            counts=self.counts(organisation_id),
        )

    def window(
        self, organisation_id: str, wanted: AgentFilter, sort: str, offset: int, limit: int
    ) -> tuple[list[Agent], int]:
        """Return a part of the agents that pass the filter, in order, and how many pass.

        Those without a value come last; those with the same one are in order of their names, as all are to begin with.
        """
        field, descends, end = sort.lstrip("-"), sort.startswith("-"), offset + limit
        if field == "name" and wanted == EVERYBODY:
            return self._part_of_all(organisation_id, offset, end, descends=descends)
        agents = self._selection.matching(organisation_id, wanted)
        if field == "name":
            return (agents[::-1] if descends else agents)[offset:end], len(agents)
        ranks = self._ranks(agents, field, descends=descends)
        shown = nsmallest(end, range(len(agents)), key=ranks.__getitem__)
        return [agents[at] for at in shown[offset:]], len(agents)

    def _part_of_all(self, organisation_id: str, offset: int, end: int, *, descends: bool) -> tuple[list[Agent], int]:
        order, total = self._fleet.by_name(organisation_id), len(self._fleet.agents(organisation_id))
        if not descends:
            return self._selection.named(organisation_id, order.part(offset, end)), total
        last_first = order.part(max(0, total - end), max(0, total - offset))[::-1]
        return self._selection.named(organisation_id, last_first), total

    def summary(self, agent: Agent) -> AgentSummary:
        presence = self._presence.of(agent.id)
        sample = self._telemetry.newest(agent.id).get(SYSTEM)
        return AgentSummary(
            id=agent.id,
            hostname=agent.hostname,
            name=agent.name,
            status=status_of(presence),
            status_reason=_reason_of(agent, presence),
            status_since=presence.since,
            os_type=agent.os_type,
            os_version=agent.os_version,
            arch=agent.arch,
            agent_version=agent.agent_version,
            ip_addresses=agent.ip_addresses,
            site=agent.site,
            tags=agent.tags,
            last_seen=self._presence.last_seen_at(agent.id),
            enrolled_at=agent.enrolled_at,
            metrics=dict(sample.data) if sample else {},
            sampled_at_ms=sample.ts_ms if sample else None,
            trust=agent.trust,
            clock_offset_ms=self._clock_offset_ms(agent.id),
            counts=RelatedCounts(
                metrics=self._telemetry.sample_count(agent.id),
                alerts=self._alerts.open_counts(agent.organisation_id).get(agent.id, 0),
                commands=self._commands.counts([agent.id]).get(agent.id, 0),
            ),
        )

    def counts(self, organisation_id: str) -> FleetCounts:
        tally = self._presence.tally(organisation_id)
        there = sum(count for status, count in tally.items() if status is not AgentStatus.OFFLINE)
        return FleetCounts(
            active=tally[AgentStatus.ACTIVE],
            offline=max(0, len(self._fleet.agents(organisation_id)) - there),
            error=tally[AgentStatus.ERROR],
            maintenance=tally[AgentStatus.MAINTENANCE],
            open_alerts=self._alerts.open_total(organisation_id),
            pending_commands=self._commands.pending_total(organisation_id),
        )

    def _ranks(self, agents: Sequence[Agent], field: str, *, descends: bool) -> list[float]:
        """Return by what to sort: a number an agent, infinite for one without a value."""
        sign = -1 if descends else 1
        metric = METRICS.get(field)
        if metric is not None:
            newest = self._telemetry.newest
            samples = [newest(agent.id).get(SYSTEM) for agent in agents]
            values = [None if sample is None else sample.data.get(metric) for sample in samples]
            return [sign * value if isinstance(value, int | float) else inf for value in values]
        if field == "lastSeen":
            seen = [self._presence.last_seen_seconds(agent.id) for agent in agents]
            return [inf if seconds is None else sign * seconds for seconds in seen]
        presence_of = self._presence.of
        return [sign * _STATUS_RANKS[status_of(presence_of(agent.id))] for agent in agents]


def _words_of(agent: Agent) -> str:
    return "\n".join((agent.name, agent.hostname, agent.site, *agent.tags, *agent.ip_addresses)).casefold()


def _reason_of(agent: Agent, presence: Presence) -> str:
    """Return why the agent is as it is. That it still tries to come in says more than that it may not."""
    is_told = agent.trust is AgentTrust.TRUSTED or presence.reason is ConnectionReason.REFUSED
    return reason_of(presence) if is_told else agent.trust.value
