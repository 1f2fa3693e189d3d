"""The recorder, which stores samples in group commits, and the retention of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from hub_server.bus.port import Bus, Overflow, Subscription
from hub_server.events import Deliver, DomainEvent, MetricsReceived
from hub_server.telemetry.engine import Intake
from hub_server.telemetry.model import Receipt
from hub_server.telemetry.service import TelemetryService
from hub_server.telemetry.store import refuses_rows
from protocol.frames import MetricsAck, RaisedAlert
from protocol.limits import SAMPLES_PER_FRAME_MAX, STREAM_CREDITS

log = structlog.get_logger(component="telemetry")

CAPACITY_FRAMES: Final = 4096
BATCH_SAMPLES_MAX: Final = 5000
GATHER_SECONDS: Final = 0.05
RETRY_FIRST_SECONDS: Final = 0.1
RETRY_MAX_SECONDS: Final = 5.0
RETENTION_SECONDS: Final = 3600.0
RETENTION_SLICE_ROWS: Final = 5000
RETENTION_PAUSE_SECONDS: Final = 0.05


class RaisedAlerts(Protocol):
    """Alerts that samples of an agent raised since a monotonic time."""

    def raised_since(self, agent_id: str, monotonic: float) -> Sequence[RaisedAlert]: ...


class Recorder:
    """Stores every sample once and acknowledges after the commit. While it cannot, it acknowledges nothing."""

    def __init__(self, *, bus: Bus, telemetry: TelemetryService, raised: RaisedAlerts) -> None:
        self._bus = bus
        self._telemetry = telemetry
        self._raised = raised
        self.stored_samples = 0
        self.failed_commits = 0
        self.refused_frames = 0

    async def run(self) -> None:
        with self._bus.subscribe(
            frozenset({"telemetry"}), name="recorder", capacity=CAPACITY_FRAMES, overflow=Overflow.REFUSE
        ) as subscription:
            while True:
                await self.record(await waiting_frames(subscription))

    async def record(self, frames: Sequence[MetricsReceived]) -> None:
        """Store `frames` in one transaction and acknowledge them, trying until the database takes them."""
        pause_seconds = RETRY_FIRST_SECONDS
        in_doubt = False
        while True:
            try:
                intake = await self._telemetry.store_samples(frames, in_doubt=in_doubt)
            except (DBAPIError, PoolTimeout, OSError) as error:
                self.failed_commits += 1
                if isinstance(error, DBAPIError) and refuses_rows(error):
                    await self._record_apart(frames)
                    return
                log.warning("samples not stored; tried again", error=str(error)[:500], frames=len(frames))
                await asyncio.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, RETRY_MAX_SECONDS)
                in_doubt = True
            else:
                self.stored_samples += len(intake.rows)
                self._acknowledge(intake)
                return

    async def _record_apart(self, frames: Sequence[MetricsReceived]) -> None:
        """Store frames one by one, so that the one the database refuses harms no other. It is never acknowledged."""
        if len(frames) == 1:
            self.refused_frames += 1
            log.error("the database refuses these samples", agent_id=frames[0].agent_id, lane=frames[0].lane)
            return
        for frame in frames:
            await self.record([frame])

    def _acknowledge(self, intake: Intake) -> None:
        for receipt in intake.receipts:
            self._bus.publish(
                Deliver(organisation_id=receipt.organisation_id, agent_id=receipt.agent_id, frame=self._ack_of(receipt))
            )

    def _ack_of(self, receipt: Receipt) -> MetricsAck:
        return MetricsAck(
            epoch=receipt.epoch,
            lane=receipt.lane,
            ranges=receipt.ranges,
            credits=STREAM_CREDITS,
            alerts=list(self._raised.raised_since(receipt.agent_id, receipt.received_monotonic)),
        )


async def waiting_frames(subscription: Subscription) -> list[MetricsReceived]:
    """Wait for frames, gather those that follow at once, and return them, up to BATCH_SAMPLES_MAX samples.

    A thousand agents send a hundred frames a second, each on its own: a commit for each would cost the hub more than
    all else it does, and the commands would wait for the writer.
    """
    frames = _metrics(await subscription.batch(BATCH_SAMPLES_MAX // SAMPLES_PER_FRAME_MAX))
    await asyncio.sleep(GATHER_SECONDS)
    room = BATCH_SAMPLES_MAX - sum(len(frame.samples) for frame in frames)
    while room >= SAMPLES_PER_FRAME_MAX and subscription.buffered:
        taken = _metrics(await subscription.batch(room // SAMPLES_PER_FRAME_MAX))
        room -= sum(len(frame.samples) for frame in taken)
        frames += taken
    return frames


def _metrics(events: Sequence[DomainEvent]) -> list[MetricsReceived]:
    return [event for event in events if isinstance(event, MetricsReceived)]


class Retention:
    """Deletes samples that are older than `metrics_days`."""

    def __init__(self, *, telemetry: TelemetryService, metrics_days: int) -> None:
        self._telemetry = telemetry
        self._metrics_days = metrics_days

    async def run(self) -> None:
        while True:
            try:
                await self.sweep()
            except (DBAPIError, PoolTimeout, OSError) as error:
                log.warning("old samples not deleted; tried again in an hour", error=str(error)[:500])
            await asyncio.sleep(RETENTION_SECONDS)

    async def sweep(self) -> int:
        """Delete what is too old now, in slices that leave room for writers. Returns how many samples."""
        deleted = 0
        while True:
            slice_rows = await self._telemetry.delete_old_samples(self._metrics_days, limit=RETENTION_SLICE_ROWS)
            deleted += slice_rows
            if slice_rows < RETENTION_SLICE_ROWS:
                break
            await asyncio.sleep(RETENTION_PAUSE_SECONDS)
        if deleted:
            log.info("old samples deleted", samples=deleted)
        return deleted
