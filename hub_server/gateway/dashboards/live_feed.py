"""Newest samples to dashboards: one tick for all, one frame for all who watch the same, and nobody's queue grows.

A client without a subscription gets single events for the first agents by name, as seed 004 shows. A subscribed client
gets batches and confirms each version; one that lags leaves its room and gets a snapshot when it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import structlog
from msgspec import Struct

from hub_server.bus.port import Bus, Overflow
from hub_server.events import MetricsReceived
from hub_server.fleet.service import FleetService
from hub_server.gateway.dashboards.fleet_view import FleetView
from hub_server.gateway.dashboards.rooms import feed_room, unsubscribed_room
from hub_server.telemetry.service import TelemetryService
from protocol.events import AgentMetrics, AgentsMetrics, DashboardEvent, FeedSample
from protocol.frames import MetricValue
from protocol.limits import FEED_LAG_MAX, FEED_TICK_SECONDS, UNSUBSCRIBED_AGENTS_MAX
from protocol.operations import FeedSubscribe, FeedSubscribeReply
from protocol.requests import AgentFilter

log = structlog.get_logger(component="live-feed")

CAPACITY: Final = 50_000


class Rooms(Protocol):
    """The Socket.IO server as the feed needs it."""

    async def emit(self, event: DashboardEvent, to: str) -> None: ...

    async def enter(self, socket_id: str, room: str) -> None: ...

    async def leave(self, socket_id: str, room: str) -> None: ...


class View(Struct):
    """What one or more clients watch: the same agents and metrics share one room and one encoded frame."""

    organisation_id: str
    room: str
    agent_ids: frozenset[str]
    metrics: frozenset[str]
    version: int = 0
    watchers: int = 0


class Watcher(Struct):
    socket_id: str
    view: View
    acknowledged: int
    in_room: bool = True


class LiveFeed:
    def __init__(
        self, *, bus: Bus, rooms: Rooms, fleet: FleetService, view: FleetView, telemetry: TelemetryService
    ) -> None:
        self._bus = bus
        self._rooms = rooms
        self._fleet = fleet
        self._fleet_view = view
        self._telemetry = telemetry
        self._views: dict[tuple[str, frozenset[str], frozenset[str]], View] = {}
        self._watchers: dict[str, Watcher] = {}
        self._unsubscribed: dict[str, int] = {}
        self._rooms_made = 0

    async def run(self) -> None:
        with self._bus.subscribe(
            frozenset({"telemetry"}), name="live-feed", capacity=CAPACITY, overflow=Overflow.LATEST_PER_KEY
        ) as events:
            while True:
                batch = await events.batch(CAPACITY)
                await self._tick(
                    [event for event in batch if isinstance(event, MetricsReceived) and not event.is_repeated]
                )
                await asyncio.sleep(FEED_TICK_SECONDS)

    def join_unsubscribed(self, organisation_id: str) -> None:
        self._unsubscribed[organisation_id] = self._unsubscribed.get(organisation_id, 0) + 1

    def leave_unsubscribed(self, organisation_id: str) -> None:
        self._unsubscribed[organisation_id] -= 1
        if not self._unsubscribed[organisation_id]:
            del self._unsubscribed[organisation_id]

    async def subscribe(self, socket_id: str, organisation_id: str, request: FeedSubscribe) -> FeedSubscribeReply:
        """Watch the agents in view from now on, instead of what this client watched before."""
        before = self._watchers.get(socket_id)
        if before is None:
            self.leave_unsubscribed(organisation_id)
            await self._rooms.leave(socket_id, unsubscribed_room(organisation_id))
        else:
            await self._leave(before)
        agent_ids = self._agents_in_view(organisation_id, request)
        view = self._view(organisation_id, frozenset(agent_ids), frozenset(request.metrics))
        view.watchers += 1
        self._watchers[socket_id] = Watcher(socket_id, view, view.version)
        await self._rooms.enter(socket_id, view.room)
        await self._rooms.emit(self._snapshot(view), socket_id)
        return FeedSubscribeReply(version=view.version, agent_ids=agent_ids)

    async def acknowledge(self, socket_id: str, version: int) -> None:
        """Note that a client has drawn `version`; one that was taken out comes back with a snapshot."""
        watcher = self._watchers.get(socket_id)
        if watcher is None:
            return
        watcher.acknowledged = max(watcher.acknowledged, min(version, watcher.view.version))
        if not watcher.in_room:
            watcher.in_room = True
            watcher.acknowledged = watcher.view.version
            await self._rooms.enter(socket_id, watcher.view.room)
            await self._rooms.emit(self._snapshot(watcher.view), socket_id)

    async def drop(self, socket_id: str, organisation_id: str) -> None:
        """Forget a client that is gone."""
        watcher = self._watchers.pop(socket_id, None)
        if watcher is None:
            self.leave_unsubscribed(organisation_id)
        else:
            self._release(watcher.view)

    async def _tick(self, events: Sequence[MetricsReceived]) -> None:
        changed: dict[str, dict[str, set[str]]] = {}
        for event in events:
            types = changed.setdefault(event.organisation_id, {}).setdefault(event.agent_id, set())
            types.update(sample.metric_type for sample in event.samples)
        await self._take_out_laggards()
        for organisation_id, agents in changed.items():
            if organisation_id in self._unsubscribed:
                await self._emit_singly(organisation_id, agents)
        for view in list(self._views.values()):
            agents = changed.get(view.organisation_id, {})
            samples = self._samples(view, {agent_id: agents[agent_id] for agent_id in view.agent_ids & agents.keys()})
            if samples:
                view.version += 1
                await self._rooms.emit(AgentsMetrics(version=view.version, samples=samples), view.room)

    async def _emit_singly(self, organisation_id: str, agents: Mapping[str, set[str]]) -> None:
        shown = self._fleet_view.select(organisation_id, AgentFilter(), "name")[:UNSUBSCRIBED_AGENTS_MAX]
        for agent in shown:
            newest = self._telemetry.newest(agent.id)
            for metric_type in agents.get(agent.id, ()):
                if sample := newest.get(metric_type):
                    event = AgentMetrics(
                        agent_id=agent.id,
                        metric_type=metric_type,
                        metric_data=dict(sample.data),
                        timestamp=sample.ts_ms,
                    )
                    await self._rooms.emit(event, unsubscribed_room(organisation_id))

    async def _take_out_laggards(self) -> None:
        for watcher in self._watchers.values():
            if watcher.in_room and watcher.view.version - watcher.acknowledged > FEED_LAG_MAX:
                watcher.in_room = False
                await self._rooms.leave(watcher.socket_id, watcher.view.room)
                log.info("dashboard lags", socket_id=watcher.socket_id, acknowledged=watcher.acknowledged)

    def _snapshot(self, view: View) -> AgentsMetrics:
        types = {agent_id: set(self._telemetry.newest(agent_id)) for agent_id in view.agent_ids}
        return AgentsMetrics(version=view.version, samples=self._samples(view, types), snapshot=True)

    def _samples(self, view: View, types: Mapping[str, set[str]]) -> list[FeedSample]:
        samples = []
        for agent_id, metric_types in types.items():
            newest = self._telemetry.newest(agent_id)
            for metric_type in metric_types:
                if sample := newest.get(metric_type):
                    data = _picked(sample.data, view.metrics)
                    samples.append(
                        FeedSample(agent_id=agent_id, metric_type=metric_type, metric_data=data, timestamp=sample.ts_ms)
                    )
        return samples

    def _agents_in_view(self, organisation_id: str, request: FeedSubscribe) -> list[str]:
        if request.agent_ids is not None:
            return [agent_id for agent_id in request.agent_ids if self._fleet.exists(organisation_id, agent_id)]
        selected = self._fleet_view.select(organisation_id, request.filter, request.sort)
        return [agent.id for agent in selected[request.offset : request.offset + request.limit]]

    def _view(self, organisation_id: str, agent_ids: frozenset[str], metrics: frozenset[str]) -> View:
        key = (organisation_id, agent_ids, metrics)
        if key not in self._views:
            self._rooms_made += 1
            self._views[key] = View(organisation_id, feed_room(organisation_id, self._rooms_made), agent_ids, metrics)
        return self._views[key]

    async def _leave(self, watcher: Watcher) -> None:
        await self._rooms.leave(watcher.socket_id, watcher.view.room)
        self._release(watcher.view)

    def _release(self, view: View) -> None:
        view.watchers -= 1
        if not view.watchers:
            del self._views[(view.organisation_id, view.agent_ids, view.metrics)]


def _picked(data: Mapping[str, MetricValue], metrics: frozenset[str]) -> dict[str, MetricValue]:
    return {name: value for name, value in data.items() if name in metrics} if metrics else dict(data)
