"""What can be asked of telemetry: newest values, history, and that samples are taken in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec
import structlog

from hub_server.bus.port import Bus
from hub_server.clock import Clock, milliseconds
from hub_server.events import MetricsReceived
from hub_server.telemetry.bounds import Allowances
from hub_server.telemetry.engine import WAITING_SAMPLES_MAX, credits_of, weight_of
from hub_server.telemetry.intake import Intake
from hub_server.telemetry.model import (
    HUB_AGENT_PREFIX,
    TYPES_PER_AGENT_MAX,
    NewestSample,
    Pressure,
    Received,
    SampleFrame,
    StreamKey,
)
from hub_server.telemetry.port import MetricStore, StoreFailed
from protocol.enumerations import Lane
from protocol.frames import Metrics, Sample, StreamAck
from protocol.telemetry import NewestMetric

log = structlog.get_logger(component="telemetry")

CLOCK_AHEAD_TOLERATED_MS: Final = 10 * 60 * 1000
DAY_MS: Final = 24 * 3600 * 1000
SLICE_SAMPLES: Final = 500
"""How many samples are looked at before others have their turn on the event loop."""

_encode: Final = msgspec.json.Encoder().encode
_NOTHING: Final[Mapping[str, NewestSample]] = MappingProxyType({})


class TelemetryService:
    """`received` mirrors the committed ranges. `correction_ms`: what is to be taken off an agent's times."""

    def __init__(
        self,
        *,
        bus: Bus,
        clock: Clock,
        store: MetricStore,
        received: Received,
        correction_ms: Callable[[str], int],
        raw_days: int,
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._store = store
        self._correction_ms = correction_ms
        self._raw_ms = raw_days * DAY_MS
        self._newest: dict[str, dict[str, NewestSample]] = {}
        self._owners: set[tuple[str, str]] = set()
        self._allowances = Allowances()
        self._storing = asyncio.Lock()
        self.received: Final = received
        self.pressure: Final = Pressure()

    async def load(self) -> None:
        """Read the ranges and the newest sample of every agent and metric type."""
        now_ms = milliseconds(self._clock.now())
        for stored in await self._store.load_ranges():
            self.received.put(stored.key, stored.ranges)
            self._owners.add((stored.organisation_id, stored.key.agent_id))
        for newest in await self._store.load_newest(now_ms + CLOCK_AHEAD_TOLERATED_MS):
            types = self._newest.setdefault(newest.agent_id, {})
            if len(types) < TYPES_PER_AGENT_MAX:
                types[newest.metric_type] = NewestSample(min(newest.ts_ms, now_ms), newest.data)

    def receive(self, organisation_id: str, agent_id: str, frame: Metrics, size_chars: int | None = None) -> bool:
        """Hand samples to whoever listens. False when the store is behind: the frame is to be offered again.

        `size_chars`: how long the frame is; measured where it is not given.
        """
        lane, epoch, samples, pressure = frame.lane, frame.epoch, frame.samples, self.pressure
        if size_chars is None:
            size_chars = len(_encode(samples))
        waiting = pressure.waiting_samples + weight_of(len(samples), size_chars)
        if waiting > WAITING_SAMPLES_MAX and pressure.waiting_samples:
            return False
        now_ms = milliseconds(self._clock.now())
        samples = self._in_hub_time(agent_id, samples, now_ms)
        is_repeated = samples[-1].seq <= self.received.newest(agent_id, lane.value, epoch) and self._holds(
            agent_id, frame
        )
        taken = self._bus.publish(
            MetricsReceived(
                organisation_id=organisation_id,
                agent_id=agent_id,
                lane=lane,
                epoch=epoch,
                samples=samples,
                received_monotonic=self._clock.monotonic(),
                is_repeated=is_repeated,
                size_chars=size_chars,
            )
        )
        if taken:
            pressure.waiting_samples = waiting
            if not is_repeated:
                self._note_newest(agent_id, lane, samples, now_ms)
        return taken

    def newest(self, agent_id: str) -> Mapping[str, NewestSample]:
        """Return the newest sample of each metric type."""
        return self._newest.get(agent_id, _NOTHING)

    def newest_metrics(self, agent_id: str) -> list[NewestMetric]:
        """Return the same for whoever may see the agent, sorted by type."""
        return [
            NewestMetric(metric_type=metric_type, timestamp=sample.ts_ms, metric_data=dict(sample.data))
            for metric_type, sample in sorted(self.newest(agent_id).items())
        ]

    def sample_count(self, agent_id: str) -> int:
        """Return how many samples were stored of this agent, also those that retention has deleted since."""
        return self.received.sample_count(agent_id)

    def acknowledged(self, agent_id: str) -> dict[str, StreamAck]:
        """Return what is stored of each stream's epoch in use, for `welcome`."""
        return {
            stream: StreamAck(epoch=epoch, ranges=ranges.to_list())
            for stream, (epoch, ranges) in self.received.in_use(agent_id).items()
        }

    def credits(self, lane: Lane) -> int:
        """Return how many frames of `lane` an agent may have on their way now."""
        return credits_of(lane, self.pressure.load(self._clock.monotonic()))

    def forget(self, agent_id: str) -> None:
        self._newest.pop(agent_id, None)
        self.received.forget(agent_id)
        self._allowances.forget(agent_id)

    async def purge(self, organisation_id: str, agent_id: str) -> None:
        """Delete the samples of an agent that is gone. Raises StoreFailed."""
        self.forget(agent_id)
        async with self._storing:  # a batch with samples of this agent is not half-way
            pass
        await self._store.delete_agent(organisation_id, agent_id)

    def owners(self) -> list[tuple[str, str]]:
        """Return (organisation, agent) of whoever had samples when the hub started, without the hub itself."""
        return [owner for owner in sorted(self._owners) if not owner[1].startswith(HUB_AGENT_PREFIX)]

    async def store_samples(self, frames: Sequence[SampleFrame], *, in_doubt: bool) -> Intake:
        """Store what is new in `frames`. Raises StoreFailed; nothing counts as received then.

        `in_doubt`: an earlier commit failed, perhaps after it took effect; the store says what it holds.
        """
        async with self._storing:
            if in_doubt:
                keys = {StreamKey(frame.agent_id, frame.lane.value, frame.epoch) for frame in frames}
                for stored in await self._store.ranges_of(keys):
                    self.received.put(stored.key, stored.ranges)
            intake = await self._intake_of(frames)
            changed = intake.changed()
            if intake.samples:
                try:
                    await self._store.add(intake.samples, changed)
                except StoreFailed:
                    self._allowances.give_back(intake.samples)
                    raise
            keys_changed = [stored.key for stored in changed]
            if surplus := self.received.surplus(keys_changed):
                await self._store.drop_ranges(surplus)
            for stored in changed:
                self.received.put(stored.key, stored.ranges)
        return intake

    async def _intake_of(self, frames: Sequence[SampleFrame]) -> Intake:
        now_ms = milliseconds(self._clock.now())
        intake = Intake(self.received, now_ms - self._raw_ms, self.newest, self._allowances, now_ms)
        looked_at = 0
        for frame in frames:
            intake.add(frame)
            looked_at += len(frame.samples)
            if looked_at >= SLICE_SAMPLES:
                looked_at = 0
                await asyncio.sleep(0)
        for agent_id, metric_type in intake.exceeded:
            log.warning(
                "samples taken and not stored: more names or samples than an hour may have",
                agent_id=agent_id,
                metric_type=metric_type,
            )
        return intake

    def _holds(self, agent_id: str, frame: Metrics) -> bool:
        held = self.received.of(agent_id, frame.lane.value, frame.epoch)
        return held is not None and all(sample.seq in held for sample in frame.samples)

    def _in_hub_time(self, agent_id: str, samples: list[Sample], now_ms: int) -> list[Sample]:
        """Return `samples` by the hub's clock; what is still far ahead of it is of now."""
        correction_ms = self._correction_ms(agent_id)
        latest_ms = now_ms + CLOCK_AHEAD_TOLERATED_MS
        for sample in samples:
            if correction_ms or sample.ts > latest_ms:
                break
        else:
            return samples
        corrected = [max(0, sample.ts - correction_ms) for sample in samples]
        return [
            msgspec.structs.replace(sample, ts=now_ms if ts > latest_ms else ts)
            for sample, ts in zip(samples, corrected, strict=True)
        ]

    def _note_newest(self, agent_id: str, lane: Lane, samples: Sequence[Sample], now_ms: int) -> None:
        if self.received.is_gone(agent_id):
            return
        newest = self._newest.get(agent_id)
        if newest is None:
            newest = self._newest[agent_id] = {}
        is_live = lane is Lane.LIVE
        for sample in samples:
            metric_type, ts = sample.metric_type, sample.ts
            known = newest.get(metric_type)
            if known is None:
                if len(newest) >= TYPES_PER_AGENT_MAX and not _made_room(newest, now_ms):
                    continue
            elif not is_live and ts <= known.ts_ms:
                continue
            newest[metric_type] = NewestSample(min(now_ms, ts), sample.metric_data)


def _made_room(newest: dict[str, NewestSample], now_ms: int) -> bool:
    """Forget the type that was not heard of for longest, if that is more than a day: a disk that is gone."""
    longest = min(newest, key=lambda metric_type: newest[metric_type].ts_ms)
    if now_ms - newest[longest].ts_ms <= DAY_MS:
        return False
    del newest[longest]
    return True
