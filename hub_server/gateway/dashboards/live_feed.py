"""Newest samples to dashboards: one tick for all, one frame for all who watch the same, and nobody's queue grows.

A client without a subscription gets single events for the first agents by name, as seed 004 shows. A subscribed client
gets batches and confirms them, several with one word; one that lags, or does not read, leaves and gets a snapshot when
it is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import structlog
from msgspec import structs

from hub_server.bus.port import Bus, Overflow, Subscription
from hub_server.clock import Clock
from hub_server.events import DomainEvent, MetricsReceived
from hub_server.fleet.service import FleetService
from hub_server.gateway.dashboards.first_agents import FirstAgents
from hub_server.gateway.dashboards.fleet_view import FleetView
from hub_server.gateway.dashboards.following import Following
from hub_server.gateway.dashboards.lines import Lines, compress_for
from hub_server.gateway.dashboards.message import Message
from hub_server.gateway.dashboards.rooms import unsubscribed_room
from hub_server.gateway.dashboards.samples import FeedFrames
from hub_server.gateway.dashboards.singles import Singles
from hub_server.gateway.dashboards.views import View, Views, Watcher
from hub_server.telemetry.service import TelemetryService
from protocol.enumerations import Lane
from protocol.events import AgentsMetrics
from protocol.limits import FEED_CONFIRM_EVERY, FEED_LAG_MAX, FEED_TICK_SECONDS
from protocol.operations import FeedSubscribe, FeedSubscribeReply

log = structlog.get_logger(component="live-feed")

CAPACITY: Final = 50_000
FLEET_CAPACITY: Final = 10_000


class LiveFeed:
    """`laggards`: how often a client was taken out. `frames`: how many were encoded."""

    def __init__(
        self,
        *,
        bus: Bus,
        clock: Clock,
        lines: Lines,
        fleet: FleetService,
        view: FleetView,
        first: FirstAgents,
        telemetry: TelemetryService,
    ) -> None:
        self._bus = bus
        self._lines = lines
        self._fleet = fleet
        self._telemetry = telemetry
        self._views = Views()
        self._frames = FeedFrames(telemetry.newest)
        self._following = Following(views=self._views, fleet_view=view, seconds=clock.monotonic)
        self._singles = Singles(lines, first, telemetry.newest)
        self._watchers: dict[str, Watcher] = {}
        self._returning: dict[str, Watcher] = {}
        """Those that are behind, or whose snapshot is not complete."""
        self.laggards = 0
        self.frames = 0

    @property
    def watcher_count(self) -> int:
        return len(self._watchers)

    @property
    def view_count(self) -> int:
        return len(self._views)

    async def run(self) -> None:
        with (
            self._bus.subscribe(
                frozenset({"telemetry"}), name="live-feed", capacity=CAPACITY, overflow=Overflow.DROP_OLDEST
            ) as samples,
            self._bus.subscribe(
                frozenset({"fleet", "presence"}),
                name="feed-membership",
                capacity=FLEET_CAPACITY,
                overflow=Overflow.DROP_OLDEST,
            ) as changes,
        ):
            dropped = 0
            while True:
                await asyncio.sleep(FEED_TICK_SECONDS)
                if dropped != samples.dropped:
                    dropped = samples.dropped
                    self._start_over()
                self.tick(await _waiting(samples), await _waiting(changes))

    async def subscribe(self, socket_id: str, organisation_id: str, request: FeedSubscribe) -> FeedSubscribeReply:
        """Watch the agents in view from now on, instead of what this client watched before."""
        before = self._watchers.get(socket_id)
        if before is None:
            self._lines.leave(socket_id, unsubscribed_room(organisation_id))
        else:
            self._forget(before)
        view = self._views.obtain(organisation_id, self._existing(organisation_id, request))
        if not view.watchers:
            asked = view.request.agent_ids
            self._views.show(view, self._following.agents_of(view) if asked is None else asked)
        line = self._lines.open_lines[socket_id]
        watcher = view.watchers[socket_id] = Watcher(socket_id, line, view, view.version)
        self._watchers[socket_id] = watcher
        self._bring_snapshot(watcher)
        return FeedSubscribeReply(
            version=view.version, agent_ids=list(view.agent_ids), confirm_every=FEED_CONFIRM_EVERY
        )

    def acknowledge(self, socket_id: str, version: int) -> None:
        """Note that a client has drawn `version`; one that was taken out comes back with a snapshot."""
        watcher = self._watchers.get(socket_id)
        if watcher is not None:
            watcher.acknowledged = max(watcher.acknowledged, min(version, watcher.view.version))
            watcher.owes_word = False
            if watcher.is_behind and watcher.line.is_drained:
                self._bring_snapshot(watcher)

    def drop(self, socket_id: str) -> None:
        """Forget a client that is gone."""
        watcher = self._watchers.pop(socket_id, None)
        if watcher is not None:
            self._forget(watcher)

    def tick(self, received: Sequence[DomainEvent], fleet_changes: Sequence[DomainEvent]) -> None:
        """Send what has changed since the last tick. Nothing here waits for a client."""
        self._clear_encoded()
        if fleet_changes:
            self._following.fleet_changed({event.organisation_id for event in fleet_changes})
        touched: dict[View, None] = {}
        for view, new in self._following.follow():
            view.is_moved = True
            for agent_id in new:
                view.changed.update(dict.fromkeys(self._frames.changes_of(view.selection, agent_id)))
            touched[view] = None
        self._note(received, touched)
        for view in touched:
            self._tell(view)
        self._singles.tell()
        for watcher in list(self._returning.values()):
            self._go_on(watcher)
        self._clear_encoded()

    def _note(self, received: Iterable[DomainEvent], touched: dict[View, None]) -> None:
        """Note what is new in each view. It runs for every frame of the fleet, watched or not."""
        showing, singles = self._views.showing, self._singles
        for event in received:
            agent_id = event.agent_id
            views = showing(agent_id)
            is_single = singles.shows(event.organisation_id, agent_id)
            if not (views or is_single) or not isinstance(event, MetricsReceived) or event.is_repeated:
                continue
            for sample in event.samples:
                metric_type = sample.metric_type
                if event.lane is not Lane.LIVE and not self._is_newest(agent_id, metric_type, sample.ts):
                    continue
                change = (agent_id, metric_type)
                if is_single:
                    singles.note(event.organisation_id, change)
                for view in views:
                    if view.selection.is_all or metric_type in view.selection.metric_types:
                        view.changed[change] = None
                        touched[view] = None

    def _is_newest(self, agent_id: str, metric_type: str, ts_ms: int) -> bool:
        """Whether the newest sample is this one: what is filled in later is seldom new."""
        newest = self._telemetry.newest(agent_id).get(metric_type)
        return newest is not None and newest.ts_ms == ts_ms

    def _tell(self, view: View) -> None:
        """Send the view's changes to all who watch it and keep up; for the others nothing is encoded."""
        moved = list(view.agent_ids) if view.is_moved else None
        changed, view.changed, view.is_moved = view.changed, {}, False
        keeping_up = [watcher for watcher in view.watchers.values() if not watcher.is_behind]
        if not keeping_up:
            return
        frames = self._frames.frames(view.version + 1, view.selection, changed, agent_ids=moved)
        messages = [self._encoded(frame) for frame in frames]
        if messages:
            audience = [watcher.line for watcher in keeping_up]
            for message in messages:
                compress_for(audience, message)
            for watcher in keeping_up:
                self._send(watcher, messages)
            view.version += 1

    def _send(self, watcher: Watcher, messages: Sequence[Message]) -> None:
        owes_word = watcher.view.version - watcher.acknowledged > FEED_LAG_MAX
        if owes_word or not all(map(watcher.line.send, messages)):
            watcher.is_behind, watcher.owes_word = True, owes_word
            self._returning[watcher.socket_id] = watcher
            self.laggards += 1
            log.info("dashboard lags", socket_id=watcher.socket_id, acknowledged=watcher.acknowledged)

    def _go_on(self, watcher: Watcher) -> None:
        if not watcher.line.is_drained or (watcher.is_behind and watcher.owes_word):
            return
        if watcher.is_behind:
            self._bring_snapshot(watcher)
        else:
            self._bring_more(watcher, is_first=False)

    def _bring_snapshot(self, watcher: Watcher) -> None:
        """Begin anew with a client. What does not fit into one frame follows with the next ticks, as it reads."""
        watcher.is_behind, watcher.owes_word = False, False
        watcher.acknowledged = watcher.view.version
        watcher.unsent = list(watcher.view.agent_ids)
        self._bring_more(watcher, is_first=True)

    def _bring_more(self, watcher: Watcher, *, is_first: bool) -> None:
        view = watcher.view
        frame, watcher.unsent = self._frames.snapshot(view.version, view.selection, watcher.unsent)
        if is_first:
            frame = structs.replace(frame, snapshot=True, agent_ids=list(view.agent_ids))
        if not watcher.line.send(self._encoded(frame)):
            watcher.is_behind = True
        if watcher.unsent or watcher.is_behind:
            self._returning[watcher.socket_id] = watcher
        else:
            self._returning.pop(watcher.socket_id, None)

    def _start_over(self) -> None:
        """Samples went by unseen: whoever watches needs all of them again."""
        for watcher in self._watchers.values():
            watcher.is_behind = True
            self._returning[watcher.socket_id] = watcher

    def _encoded(self, frame: AgentsMetrics) -> Message:
        self.frames += 1
        return self._lines.encoded(frame)

    def _clear_encoded(self) -> None:
        """What was encoded is good for one tick; subscriptions between two of them share it too."""
        for selection in self._views.selections():
            selection.encoded.clear()

    def _existing(self, organisation_id: str, request: FeedSubscribe) -> FeedSubscribe:
        """Return the request without agents that the organisation does not have."""
        if request.agent_ids is None:
            return request
        agent_ids = [agent_id for agent_id in request.agent_ids if self._fleet.exists(organisation_id, agent_id)]
        return structs.replace(request, agent_ids=agent_ids)

    def _forget(self, watcher: Watcher) -> None:
        self._returning.pop(watcher.socket_id, None)
        self._views.release(watcher)


async def _waiting(subscription: Subscription) -> list[DomainEvent]:
    """Return what is there, without waiting for more."""
    return await subscription.batch(CAPACITY) if subscription.buffered else []
