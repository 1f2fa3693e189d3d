"""Tells dashboards what happened: presence, alerts, commands, and what that changed in the list of agents."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from itertools import islice
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from hub_server.bus.port import Bus, Overflow
from hub_server.events import (
    AgentChanged,
    AgentConnected,
    AgentDeleted,
    AgentDisconnected,
    AgentEnrolled,
    AlertChanged,
    CommandCreated,
    CommandFinished,
    CommandOutputStored,
    CommandStatusChanged,
    DomainEvent,
)
from hub_server.fleet.service import FleetService
from hub_server.gateway.dashboards.first_agents import FirstAgents
from hub_server.gateway.dashboards.fleet_view import FleetView
from hub_server.gateway.dashboards.lines import Lines
from hub_server.gateway.dashboards.rooms import commands_room, fleet_room
from protocol import events as shown
from protocol.enumerations import CommandStatus, TextEncoding
from protocol.limits import FEED_TICK_SECONDS, UNSUBSCRIBED_AGENTS_MAX

log = structlog.get_logger(component="dashboards")

CAPACITY: Final = 10_000
AT_A_TIME: Final = 50
"""Events told before those who write to clients get their turn."""
PRESENCE_A_TICK: Final = 20
"""Of an organisation: of a larger number that come or go at once, the list's deltas alone tell."""


class Announcer:
    """Single events go out as they come; changes of the list are gathered for a tick and sent as one delta.

    `untold`: sessions that began or ended too many at a time to be told one by one.
    """

    def __init__(
        self,
        *,
        bus: Bus,
        lines: Lines,
        fleet: FleetService,
        view: FleetView,
        first: FirstAgents,
        tick_seconds: float = FEED_TICK_SECONDS,
    ) -> None:
        self._bus = bus
        self._tick_seconds = tick_seconds
        self._lines = lines
        self._fleet = fleet
        self._view = view
        self._first = first
        self._changed: dict[str, dict[str, None]] = {}
        self._removed: dict[str, list[str]] = {}
        self._recount: set[str] = set()
        self._versions: dict[str, int] = {}
        self._presence_told: Counter[str] = Counter()
        self.untold = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._announce(), name="announce-events")
            tasks.create_task(self._announce_deltas(), name="announce-deltas")

    def status(self, organisation_id: str) -> shown.AgentsStatus:
        """Return what a client gets at connect, and when it has missed something: the first agents by name."""
        agents = self._fleet.agents(organisation_id)
        first = self._first.ids(organisation_id)
        return shown.AgentsStatus(
            agents=[self._view.summary(agents[agent_id]) for agent_id in first if agent_id in agents],
            total=len(agents),
            counts=self._view.counts(organisation_id),
            version=self._versions.get(organisation_id, 0),
        )

    def tick(self) -> None:
        """Tell what has changed in the lists since the last tick, as far as one delta takes it."""
        self._presence_told.clear()
        recount, self._recount = self._recount, set()
        for organisation_id in self._changed.keys() | self._removed.keys() | recount:
            if self._lines.is_anybody_in(fleet_room(organisation_id)):
                self._lines.tell(self._delta(organisation_id), fleet_room(organisation_id))
            else:
                self._changed.pop(organisation_id, None)
                self._removed.pop(organisation_id, None)

    async def _announce(self) -> None:
        with self._bus.subscribe(
            frozenset({"presence", "alerts", "commands", "fleet"}),
            name="announcer",
            capacity=CAPACITY,
            overflow=Overflow.DROP_OLDEST,
        ) as events:
            dropped = 0
            while True:
                for event in await events.batch(AT_A_TIME):
                    await self._note(event)
                    self._tell(event)
                if events.dropped != dropped:
                    dropped = events.dropped
                    self._start_over()
                await asyncio.sleep(0)

    def _start_over(self) -> None:
        """Events went by unheard: everybody is told the list anew."""
        self._first.forget()
        for line in self._lines.open_lines.values():
            line.has_missed = True

    def _tell(self, event: DomainEvent) -> None:
        room = (commands_room if _concerns_commands(event) else fleet_room)(event.organisation_id)
        if not self._lines.is_anybody_in(room):
            return
        if isinstance(event, AgentConnected | AgentDisconnected):
            self._presence_told[event.organisation_id] += 1
            if self._presence_told[event.organisation_id] > PRESENCE_A_TICK:
                self.untold += 1
                return
        told = _told(event)
        if told is not None:
            self._lines.tell(told, room)

    async def _announce_deltas(self) -> None:
        while True:
            await asyncio.sleep(self._tick_seconds)
            self.tick()

    def _delta(self, organisation_id: str) -> shown.AgentsStatus:
        waiting = self._changed.get(organisation_id, {})
        agent_ids = list(islice(waiting, UNSUBSCRIBED_AGENTS_MAX))
        for agent_id in agent_ids:
            del waiting[agent_id]
        if not waiting:
            self._changed.pop(organisation_id, None)
        self._versions[organisation_id] = self._versions.get(organisation_id, 0) + 1
        agents = self._fleet.agents(organisation_id)
        return shown.AgentsStatus(
            agents=[self._view.summary(agents[agent_id]) for agent_id in agent_ids if agent_id in agents],
            total=len(agents),
            counts=self._view.counts(organisation_id),
            version=self._versions[organisation_id],
            delta=True,
            removed=self._removed.pop(organisation_id, []),
        )

    async def _note(self, event: DomainEvent) -> None:
        if isinstance(event, AgentEnrolled):
            await self._index(event)
        match event:
            case AgentEnrolled() | AgentChanged() | AgentConnected() | AgentDisconnected() | AlertChanged():
                self._changed.setdefault(event.organisation_id, {})[event.agent_id] = None
            case AgentDeleted():
                self._removed.setdefault(event.organisation_id, []).append(event.agent_id)
            case CommandCreated() | CommandFinished():
                self._recount.add(event.organisation_id)
            case _:
                pass
        if isinstance(event, AgentEnrolled | AgentChanged | AgentDeleted):
            self._first.note(event.organisation_id, event.agent_id)

    async def _index(self, event: AgentEnrolled) -> None:
        """Make a new agent known now: its delta must not be made before the fleet's index has it."""
        try:
            await self._fleet.find(event.organisation_id, event.agent_id)
        except (SQLAlchemyError, TimeoutError):
            log.exception("new agent not announced", agent_id=event.agent_id)


def _concerns_commands(event: DomainEvent) -> bool:
    return isinstance(event, CommandCreated | CommandStatusChanged | CommandOutputStored | CommandFinished)


def _told(event: DomainEvent) -> shown.DashboardEvent | None:
    match event:
        case AgentConnected():
            return shown.AgentConnected(agent_id=event.agent_id, hostname=event.hostname, at=event.at)
        case AgentDisconnected():
            return shown.AgentDisconnected(
                agent_id=event.agent_id, hostname=event.hostname, at=event.at, reason=event.reason
            )
        case AlertChanged():
            return shown.AgentAlert(
                agent_id=event.agent_id,
                alert_id=event.alert_id,
                type=event.type,
                severity=event.severity,
                message=event.message,
                state=event.state,
                at=event.at,
            )
        case CommandCreated():
            return shown.AgentCommandStatus(
                agent_id=event.agent_id, command_id=event.command_id, status=CommandStatus.PENDING
            )
        case CommandStatusChanged():
            return _status(event)
        case CommandOutputStored():
            return _output(event)
        case CommandFinished():
            return shown.AgentCommandResult(
                agent_id=event.agent_id,
                command_id=event.command_id,
                status=event.status,
                exit_code=event.exit_code,
                reason=event.reason,
                result=event.result,
                finished_at=event.finished_at,
            )
        case _:
            return None


def _status(event: CommandStatusChanged) -> shown.AgentCommandStatus:
    return shown.AgentCommandStatus(
        agent_id=event.agent_id,
        command_id=event.command_id,
        status=event.status,
        cancel_requested=event.cancel_requested,
    )


def _output(event: CommandOutputStored) -> shown.AgentCommandOutput:
    try:
        data, encoding = event.data.decode(), TextEncoding.UTF8
    except UnicodeDecodeError:
        data, encoding = base64.b64encode(event.data).decode(), TextEncoding.BASE64
    return shown.AgentCommandOutput(
        agent_id=event.agent_id,
        command_id=event.command_id,
        stream=event.stream,
        offset=event.offset,
        data=data,
        encoding=encoding,
    )
