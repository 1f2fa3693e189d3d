"""Tells dashboards what happened: presence, alerts, commands, and what that changed in the list of agents."""

from __future__ import annotations

import asyncio
import base64
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
from hub_server.gateway.dashboards.fleet_view import FleetView
from hub_server.gateway.dashboards.live_feed import Rooms
from hub_server.gateway.dashboards.rooms import commands_room, fleet_room
from protocol import events as shown
from protocol.enumerations import CommandStatus, TextEncoding
from protocol.limits import FEED_TICK_SECONDS, UNSUBSCRIBED_AGENTS_MAX
from protocol.requests import AgentFilter

log = structlog.get_logger(component="dashboards")

CAPACITY: Final = 10_000


class Announcer:
    """Single events go out as they come; changes of the list are gathered for a tick and sent as one delta."""

    def __init__(self, *, bus: Bus, rooms: Rooms, fleet: FleetService, view: FleetView) -> None:
        self._bus = bus
        self._rooms = rooms
        self._fleet = fleet
        self._view = view
        self._changed: dict[str, dict[str, None]] = {}
        self._removed: dict[str, list[str]] = {}
        self._recount: set[str] = set()
        self._versions: dict[str, int] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._announce(), name="announce-events")
            tasks.create_task(self._announce_deltas(), name="announce-deltas")

    def status(self, organisation_id: str) -> shown.AgentsStatus:
        """Return what a client gets at connect: the first agents by name."""
        agents = self._view.select(organisation_id, AgentFilter(), "name")
        return shown.AgentsStatus(
            agents=[self._view.summary(agent) for agent in agents[:UNSUBSCRIBED_AGENTS_MAX]],
            total=len(agents),
            counts=self._view.counts(organisation_id),
            version=self._versions.get(organisation_id, 0),
        )

    async def _announce(self) -> None:
        with self._bus.subscribe(
            frozenset({"presence", "alerts", "commands", "fleet"}),
            name="announcer",
            capacity=CAPACITY,
            overflow=Overflow.DROP_OLDEST,
        ) as events:
            async for event in events:
                await self._note(event)
                told = _told(event)
                if told is not None:
                    room = commands_room if _concerns_commands(event) else fleet_room
                    await self._rooms.emit(told, room(event.organisation_id))

    async def _announce_deltas(self) -> None:
        while True:
            await asyncio.sleep(FEED_TICK_SECONDS)
            recount, self._recount = self._recount, set()
            for organisation_id in self._changed.keys() | self._removed.keys() | recount:
                await self._rooms.emit(self._delta(organisation_id), fleet_room(organisation_id))

    def _delta(self, organisation_id: str) -> shown.AgentsStatus:
        waiting = self._changed.get(organisation_id, {})
        agent_ids = list(waiting)[:UNSUBSCRIBED_AGENTS_MAX]
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
            return shown.AgentCommandStatus(agent_id=event.agent_id, command_id=event.command_id, status=event.status)
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
