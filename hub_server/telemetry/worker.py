"""The recorder, which stores samples in group commits, and what looks after the stored ones."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import islice
from typing import Final, Protocol

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from hub_server.bus.port import Bus, Overflow, Subscription
from hub_server.clock import Clock, milliseconds
from hub_server.events import AgentDeleted, Deliver, DomainEvent, MetricsReceived
from hub_server.telemetry.engine import WAITING_SAMPLES_MAX, weight_of
from hub_server.telemetry.intake import Intake
from hub_server.telemetry.model import Receipt, Resolution
from hub_server.telemetry.port import MetricStore, StoreFailed
from hub_server.telemetry.reports import ReportService
from hub_server.telemetry.service import DAY_MS, TelemetryService
from protocol.enumerations import Lane
from protocol.frames import MetricsAck, RaisedAlert, SequenceRange
from protocol.limits import SAMPLES_PER_FRAME_MAX

log = structlog.get_logger(component="telemetry")

BATCH_SAMPLES_MAX: Final = 5000
GATHER_SECONDS: Final = 0.1
RETRY_FIRST_SECONDS: Final = 0.1
RETRY_MAX_SECONDS: Final = 5.0
SLICE_ACKS: Final = 250
RELEASED_PER_COMMIT: Final = 32
COMMITS_REMEMBERED: Final = 512
PACKING_SECONDS: Final = 60.0
PACKING_PAUSE_SECONDS: Final = 0.02
RETENTION_SECONDS: Final = 3600.0
RETENTION_SLICE_ROWS: Final = 1000
RETENTION_PAUSE_SECONDS: Final = 0.05
CAPACITY_DELETED: Final = 10_000


class RaisedAlerts(Protocol):
    """Alerts that samples of an agent raised since a monotonic time."""

    def raised_since(self, agent_id: str, monotonic: float) -> Sequence[RaisedAlert]: ...


class Recorder:
    """Stores every sample once and acknowledges after the commit. While it cannot, it acknowledges nothing.

    The counts are since the start of the hub.
    """

    def __init__(self, *, bus: Bus, clock: Clock, telemetry: TelemetryService, raised: RaisedAlerts) -> None:
        self._bus = bus
        self._clock = clock
        self._telemetry = telemetry
        self._raised = raised
        self._began_monotonic = clock.monotonic() - GATHER_SECONDS
        self._without_credits: dict[str, Receipt] = {}
        self._commits_seconds: deque[float] = deque(maxlen=COMMITS_REMEMBERED)
        self.commits = 0
        self.stored_samples = 0
        self.duplicate_samples = 0
        self.too_old_samples = 0
        self.too_many_samples = 0
        self.failed_commits = 0
        self.refused_frames = 0

    @property
    def last_commit_seconds(self) -> float:
        return self._commits_seconds[-1] if self._commits_seconds else 0.0

    def commit_seconds(self, share: float) -> float:
        """Return what `share` (0.99 …) of the last COMMITS_REMEMBERED commits took at most."""
        taken = sorted(self._commits_seconds)
        return taken[min(len(taken) - 1, int(share * len(taken)))] if taken else 0.0

    async def run(self) -> None:
        with self._bus.subscribe(
            frozenset({"telemetry"}), name="recorder", capacity=WAITING_SAMPLES_MAX, overflow=Overflow.REFUSE
        ) as subscription:
            self._telemetry.pressure.waiting_samples = 0  # those of an earlier run are gone with its subscription
            while True:
                await self.record(await self._gathered(subscription))

    async def record(self, frames: Sequence[MetricsReceived]) -> None:
        """Store `frames` in one commit and acknowledge them, trying until the store takes them.

        When it refuses them for good, halves are tried apart: the frame at fault harms no other, and is never
        acknowledged.
        """
        pressure, pause_seconds, in_doubt = self._telemetry.pressure, RETRY_FIRST_SECONDS, False
        parts = [frames]
        while parts:
            part = parts.pop()
            began = self._clock.monotonic()
            pressure.began(began)
            try:
                intake = await self._telemetry.store_samples(part, in_doubt=in_doubt)
            except StoreFailed as error:
                self.failed_commits += 1
                in_doubt = True
                if not error.temporary:
                    pressure.ended(self._clock.monotonic())
                    parts += self._halves(part, error)
                    continue
                log.warning("samples not stored; tried again", error=str(error)[:500], frames=len(part))
                parts.append(part)
                await asyncio.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, RETRY_MAX_SECONDS)
            else:
                ended = self._clock.monotonic()
                pressure.ended(ended)
                self._commits_seconds.append(ended - began)
                self._count(intake)
                await self._acknowledge(intake)

    def _count(self, intake: Intake) -> None:
        self.commits += 1
        self.stored_samples += len(intake.samples)
        self.duplicate_samples += intake.duplicates
        self.too_old_samples += intake.too_old
        self.too_many_samples += intake.too_many

    def _halves(self, frames: Sequence[MetricsReceived], error: StoreFailed) -> list[Sequence[MetricsReceived]]:
        """Return what is still to be tried of frames that were refused together."""
        if len(frames) == 1:
            self.refused_frames += 1
            log.error("the store refuses these samples", agent_id=frames[0].agent_id, error=str(error)[:500])
            return []
        middle = len(frames) // 2
        return [frames[middle:], frames[:middle]]

    async def _gathered(self, subscription: Subscription) -> list[MetricsReceived]:
        """Wait for frames and return them, up to BATCH_SAMPLES_MAX samples; long ones count for more.

        A commit costs as much as hundreds of samples: they begin GATHER_SECONDS apart at least, and take what came
        meanwhile. What comes after a silence is committed at once.
        """
        frames = _metrics(await subscription.batch(BATCH_SAMPLES_MAX // SAMPLES_PER_FRAME_MAX))
        rest_seconds = self._began_monotonic + GATHER_SECONDS - self._clock.monotonic()
        if rest_seconds > 0:
            await asyncio.sleep(rest_seconds)
        room = BATCH_SAMPLES_MAX - sum(map(_weight_of, frames))
        while room >= SAMPLES_PER_FRAME_MAX and subscription.buffered:
            taken = _metrics(await subscription.batch(room // SAMPLES_PER_FRAME_MAX))
            room -= sum(map(_weight_of, taken))
            frames += taken
        self._telemetry.pressure.waiting_samples -= BATCH_SAMPLES_MAX - room
        self._began_monotonic = self._clock.monotonic()
        return frames

    async def _acknowledge(self, intake: Intake) -> None:
        credits = {lane: self._telemetry.credits(lane) for lane in Lane}
        for number, receipt in enumerate(intake.receipts(), start=1):
            self._tell(receipt, receipt.ranges, credits[receipt.lane])
            if number % SLICE_ACKS == 0:
                await asyncio.sleep(0)
        if credits[Lane.BACKFILL]:
            self._release(credits[Lane.BACKFILL])

    def _release(self, credits: int) -> None:
        """Let those go on who were left without credits, some after each commit, the first ones first."""
        for agent_id in list(islice(self._without_credits, RELEASED_PER_COMMIT)):
            self._tell(self._without_credits[agent_id], [], credits)

    def _tell(self, receipt: Receipt, ranges: list[SequenceRange], credits: int) -> None:
        agent_id = receipt.agent_id
        if not credits:
            self._without_credits[agent_id] = receipt
        elif receipt.lane is Lane.BACKFILL:
            self._without_credits.pop(agent_id, None)
        ack = MetricsAck(
            epoch=receipt.epoch,
            lane=receipt.lane,
            ranges=ranges,
            credits=credits,
            alerts=list(self._raised.raised_since(agent_id, receipt.received_monotonic)),
        )
        self._bus.publish(Deliver(organisation_id=receipt.organisation_id, agent_id=agent_id, frame=ack))


class Packer:
    """Packs what the store took as it came, a piece at a time; within a piece the store itself takes its rests."""

    def __init__(self, *, clock: Clock, store: MetricStore) -> None:
        self._clock = clock
        self._store = store

    async def run(self) -> None:
        while True:
            try:
                await self.pack()
            except StoreFailed as error:
                log.warning("samples not packed; tried again in a minute", error=str(error)[:500])
            await asyncio.sleep(PACKING_SECONDS)

    async def pack(self) -> int:
        """Pack all that is due now. Returns how many samples."""
        total = 0
        while True:
            packed = await self._store.pack(milliseconds(self._clock.now()))
            if not packed:
                return total
            total += packed
            await asyncio.sleep(PACKING_PAUSE_SECONDS)


class Retention:
    """Deletes what is older than it is kept: samples and rollups by whole periods, reports in slices.

    `days`: how long each resolution is kept.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        store: MetricStore,
        reports: ReportService,
        days: Mapping[Resolution, int],
        reports_days: int,
    ) -> None:
        self._clock = clock
        self._store = store
        self._reports = reports
        self._days = days
        self._reports_days = reports_days

    async def run(self) -> None:
        while True:
            try:
                await self.sweep()
            except (StoreFailed, DBAPIError, PoolTimeout, OSError) as error:
                log.warning("old data not deleted; tried again in an hour", error=str(error)[:500])
            await asyncio.sleep(RETENTION_SECONDS)

    async def sweep(self) -> None:
        """Delete what is too old now."""
        now_ms = milliseconds(self._clock.now())
        for resolution, days in self._days.items():
            if periods := await self._store.drop_before(resolution, now_ms - days * DAY_MS):
                log.info("old samples deleted", resolution=resolution.value, periods=periods)
        cutoff_ms = now_ms - self._reports_days * DAY_MS
        deleted = RETENTION_SLICE_ROWS
        while deleted == RETENTION_SLICE_ROWS:
            deleted = await self._reports.delete_before(cutoff_ms, RETENTION_SLICE_ROWS)
            await asyncio.sleep(RETENTION_PAUSE_SECONDS)  # room for others who write


class Purger:
    """Deletes the samples of agents that were deleted, also those that a crash left.

    `is_enrolled`: whether an organisation has this agent.
    """

    def __init__(
        self, *, bus: Bus, telemetry: TelemetryService, is_enrolled: Callable[[str, str], Awaitable[bool]]
    ) -> None:
        self._bus = bus
        self._telemetry = telemetry
        self._is_enrolled = is_enrolled

    async def run(self) -> None:
        with self._bus.subscribe(
            frozenset({"fleet"}), name="purger", capacity=CAPACITY_DELETED, overflow=Overflow.DROP_OLDEST
        ) as events:
            for organisation_id, agent_id in self._telemetry.owners():
                if not await self._is_enrolled(organisation_id, agent_id):
                    await self._purge(organisation_id, agent_id)
            async for event in events:
                if isinstance(event, AgentDeleted):
                    await self._purge(event.organisation_id, event.agent_id)

    async def _purge(self, organisation_id: str, agent_id: str) -> None:
        pause_seconds = RETRY_FIRST_SECONDS
        while True:
            try:
                await self._telemetry.purge(organisation_id, agent_id)
            except StoreFailed as error:
                log.warning("samples not deleted; tried again", agent_id=agent_id, error=str(error)[:500])
                await asyncio.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, RETRY_MAX_SECONDS)
            else:
                return


def _weight_of(frame: MetricsReceived) -> int:
    return weight_of(len(frame.samples), frame.size_chars)


def _metrics(events: Sequence[DomainEvent]) -> list[MetricsReceived]:
    return [event for event in events if isinstance(event, MetricsReceived)]
