"""What can be asked of telemetry: newest values, history, and that samples and reports are taken in."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal
from hub_server.bus.port import Bus
from hub_server.clock import Clock, milliseconds
from hub_server.errors import InvalidRequest, Unavailable
from hub_server.events import AgentReported, MetricsReceived
from hub_server.storage.engine import EVERY_ORGANISATION, Database, scope_of
from hub_server.telemetry.engine import RESOLUTIONS_SECONDS, Intake, Series, intake_of, resolution_seconds
from hub_server.telemetry.model import (
    EVENTS_STREAM,
    NewestSample,
    Received,
    SampleFrame,
    StoredRanges,
    StreamKey,
    bounded,
)
from hub_server.telemetry.store import TYPES_PER_AGENT_MAX, TelemetryStore
from protocol.enumerations import Lane
from protocol.frames import Event, EventAck, Metrics, Sample, StreamAck
from protocol.ranges import SequenceRanges
from protocol.telemetry import MetricSeries, MetricsQuery, MetricsQueryReply

log = structlog.get_logger(component="telemetry")

CLOCK_AHEAD_TOLERATED_MS: Final = 10 * 60 * 1000
QUERY_VALUES_MAX: Final = 250_000
QUERY_DEADLINE_SECONDS: Final = 10.0
DAY_MS: Final = 24 * 3600 * 1000

_NOTHING: Final[Mapping[str, NewestSample]] = MappingProxyType({})
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


class TelemetryService:
    """`received` mirrors the committed ranges."""

    def __init__(self, *, database: Database, bus: Bus, clock: Clock, store: TelemetryStore) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._store = store
        self._newest: dict[str, dict[str, NewestSample]] = {}
        self._reporting = asyncio.Lock()
        self.received: Final = Received()

    async def load(self) -> None:
        """Read the ranges and the newest sample of every agent and metric type."""
        now_ms = milliseconds(self._clock.now())
        async with self._database.read(EVERY_ORGANISATION) as connection:
            for stored in await self._store.load_ranges(connection):
                self.received.put(stored.key, stored.ranges)
            newest = await self._store.load_newest(connection, now_ms + CLOCK_AHEAD_TOLERATED_MS)
        for agent_id, metric_type, ts_ms, data in newest:
            self._newest.setdefault(agent_id, {})[metric_type] = NewestSample(min(ts_ms, now_ms), _decode(data))

    def receive(self, organisation_id: str, agent_id: str, frame: Metrics) -> bool:
        """Hand samples to whoever listens. False when the store is behind: the frame is to be offered again."""
        held = self.received.get(StreamKey(agent_id, frame.lane.value, frame.epoch))
        is_repeated = held is not None and all(sample.seq in held for sample in frame.samples)
        taken = self._bus.publish(
            MetricsReceived(
                organisation_id=organisation_id,
                agent_id=agent_id,
                lane=frame.lane,
                epoch=frame.epoch,
                samples=frame.samples,
                received_monotonic=self._clock.monotonic(),
                is_repeated=is_repeated,
            )
        )
        if taken and not is_repeated:
            self._note_newest(agent_id, frame)
        return taken

    def newest(self, agent_id: str) -> Mapping[str, NewestSample]:
        """Return the newest sample of each metric type."""
        return self._newest.get(agent_id, _NOTHING)

    def sample_count(self, agent_id: str) -> int:
        """Return how many samples were stored of this agent, also those that retention has deleted since."""
        return self.received.sample_count(agent_id)

    def acknowledged(self, agent_id: str) -> dict[str, StreamAck]:
        """Return what is stored of each stream's epoch in use, for `welcome`."""
        return {
            stream: StreamAck(epoch=epoch, ranges=ranges.to_list())
            for stream, (epoch, ranges) in self.received.in_use(agent_id).items()
        }

    def forget(self, agent_id: str) -> None:
        self._newest.pop(agent_id, None)
        self.received.forget(agent_id)

    async def delete_agent(self, connection: AsyncConnection, organisation_id: str, agent_id: str) -> None:
        await self._store.delete_agent(connection, organisation_id, agent_id)

    async def store_samples(self, frames: Sequence[SampleFrame], *, in_doubt: bool) -> Intake:
        """Store what is new in `frames`, in one transaction. One caller at a time.

        `in_doubt`: an earlier commit failed, perhaps after it took effect; the database says what it holds.
        """
        async with self._database.write(scope_of(frame.organisation_id for frame in frames)) as connection:
            if in_doubt:
                keys = {StreamKey(frame.agent_id, frame.lane.value, frame.epoch) for frame in frames}
                for stored in await self._store.ranges_of(connection, keys):
                    self.received.put(stored.key, stored.ranges)
            intake = intake_of(frames, self.received)
            await self._store.add_samples(connection, intake.rows)
            await self._store.save_ranges(connection, intake.changed, milliseconds(self._clock.now()))
            surplus = self.received.surplus([changed.key for changed in intake.changed])
            await self._store.drop_ranges(connection, surplus)
        for changed in intake.changed:
            self.received.put(changed.key, changed.ranges)
        return intake

    async def delete_old_samples(self, days: int, *, limit: int) -> int:
        """Delete the oldest samples older than `days`. Returns how many: fewer than `limit` when none is left."""
        cutoff_ms = milliseconds(self._clock.now()) - days * DAY_MS
        async with self._database.write(EVERY_ORGANISATION) as connection:
            return await self._store.delete_before(connection, cutoff_ms, limit)

    async def report(self, organisation_id: str, agent_id: str, frame: Event) -> EventAck:
        """Store a report once, however often it is sent."""
        key = StreamKey(agent_id, EVENTS_STREAM, frame.epoch)
        async with self._reporting:  # two reports of one agent must not both start from the same ranges
            committed = self.received.get(key)
            if not self.received.is_gone(agent_id) and (committed is None or frame.seq not in committed):
                await self._store_report(organisation_id, key, frame, committed or SequenceRanges())
        return EventAck(epoch=frame.epoch, ranges=[(frame.seq, frame.seq)])

    async def query(self, principal: Principal, request: MetricsQuery) -> MetricsQueryReply:
        organisation_id = authorize(principal, Permission.FLEET_READ)
        if request.from_ >= request.to:
            raise InvalidRequest("`from` must be before `to`", path="$.from")
        if len(request.agent_ids) * len(request.metrics) * request.max_points > QUERY_VALUES_MAX:
            raise InvalidRequest(
                f"agents, metrics and points may multiply to {QUERY_VALUES_MAX} at most; ask for fewer",
                path="$.maxPoints",
            )
        try:
            async with asyncio.timeout(QUERY_DEADLINE_SECONDS):
                return await self._series(organisation_id, request)
        except TimeoutError as error:
            raise Unavailable("the query took too long; ask for fewer agents or a shorter time") from error

    async def _store_report(
        self, organisation_id: str, key: StreamKey, frame: Event, committed: SequenceRanges
    ) -> None:
        ranges = SequenceRanges(committed)
        ranges.add(frame.seq)
        stored = StoredRanges(organisation_id, key, bounded(ranges))
        async with self._database.write(organisation_id) as connection:
            await self._store.add_report(connection, organisation_id, key.agent_id, frame)
            await self._store.save_ranges(connection, [stored], milliseconds(self._clock.now()))
            await self._store.drop_ranges(connection, self.received.surplus([key]))
        self.received.put(key, ranges)
        self._bus.publish(
            AgentReported(
                organisation_id=organisation_id,
                agent_id=key.agent_id,
                epoch=frame.epoch,
                seq=frame.seq,
                ts_ms=frame.ts,
                kind=frame.kind,
                data=frame.data,
            )
        )

    async def _series(self, organisation_id: str, request: MetricsQuery) -> MetricsQueryReply:
        resolution = resolution_seconds(request.to - request.from_, request.max_points)
        async with self._database.read(organisation_id) as connection:
            if resolution == RESOLUTIONS_SECONDS[0]:
                raw = await self._read(connection, organisation_id, request, 0)
                if all(len(series.timestamps) <= request.max_points for series in raw):
                    return MetricsQueryReply(series=raw, resolution_sec=0)
            series = await self._read(connection, organisation_id, request, resolution)
        return MetricsQueryReply(series=series, resolution_sec=resolution)

    async def _read(
        self, connection: AsyncConnection, organisation_id: str, request: MetricsQuery, resolution_sec: int
    ) -> list[MetricSeries]:
        """Return a series an agent. Raw ones end one sample above `max_points`: then they are too long."""
        results = []
        for agent_id in request.agent_ids:
            series = Series(
                request.metrics,
                resolution_ms=resolution_sec * 1000,
                origin_ms=0 if request.max_points > 1 else request.from_,
            )
            async for chunk in self._store.samples(
                connection,
                organisation_id,
                agent_id,
                request.metric_type,
                from_ms=request.from_,
                to_ms=request.to,
                limit=None if resolution_sec else request.max_points + 1,
            ):
                series.add(chunk)
            results.append(series.result(agent_id))
        return results

    def _note_newest(self, agent_id: str, frame: Metrics) -> None:
        if self.received.is_gone(agent_id):
            return
        now_ms = milliseconds(self._clock.now())
        newest = self._newest.setdefault(agent_id, {})
        for sample in frame.samples:
            known = newest.get(sample.metric_type)
            if known is None and len(newest) >= TYPES_PER_AGENT_MAX:
                continue
            if known is None or frame.lane is Lane.LIVE or sample.ts > known.ts_ms:
                newest[sample.metric_type] = _newest_of(sample, now_ms)


def _newest_of(sample: Sample, now_ms: int) -> NewestSample:
    return NewestSample(min(sample.ts, now_ms), sample.metric_data)
