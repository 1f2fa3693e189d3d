"""Frames with valid defaults, and a recorder that can be thrown away and started again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from hub_server.access.model import Principal
from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Subscription
from hub_server.clock import milliseconds
from hub_server.events import Deliver, DomainEvent, MetricsReceived
from hub_server.telemetry.model import Received
from hub_server.telemetry.port import MetricStore
from hub_server.telemetry.service import TelemetryService
from hub_server.telemetry.worker import Recorder
from protocol.enumerations import Lane, Role
from protocol.frames import Metrics, MetricsAck, MetricValue, RaisedAlert, Sample
from tests.clocks import FakeClock
from tests.hub_server.telemetry.memory_store import MemoryStore

NOW_MS = milliseconds(FakeClock().now())
HOUR_MS = 3600 * 1000
DAY_MS = 24 * HOUR_MS
RAW_DAYS = 7
ORGANISATION = "o1"


def viewer_of(organisation_id: str) -> Principal:
    return Principal(user_id="u1", username="vera", organisation_id=organisation_id, role=Role.VIEWER)


def sample(seq: int, *, ts: int | None = None, kind: str = "system", **data: MetricValue) -> Sample:
    return Sample(
        seq=seq,
        ts=NOW_MS - 1000 + seq if ts is None else ts,
        metric_type=kind,
        metric_data=data or {"cpu_percent": float(seq)},
    )


def frame_of(*samples: Sample, lane: Lane = Lane.LIVE, epoch: int = 7) -> Metrics:
    return Metrics(epoch=epoch, lane=lane, samples=list(samples))


def metrics(*seqs: int, epoch: int = 7, lane: Lane = Lane.LIVE) -> Metrics:
    return frame_of(*(sample(seq) for seq in seqs), lane=lane, epoch=epoch)


def received(
    agent_id: str, frame: Metrics, *, organisation_id: str = ORGANISATION, at_monotonic: float = 0.0
) -> MetricsReceived:
    return MetricsReceived(
        organisation_id=organisation_id,
        agent_id=agent_id,
        lane=frame.lane,
        epoch=frame.epoch,
        samples=frame.samples,
        received_monotonic=at_monotonic,
    )


class QuietAlerts:
    """No sample raises anything."""

    def raised_since(self, agent_id: str, monotonic: float) -> Sequence[RaisedAlert]:  # noqa: ARG002
        return []


class Process:
    """The telemetry of one hub process, on any store."""

    def __init__(
        self,
        store: MetricStore,
        bus: InProcessBus,
        clock: FakeClock,
        correction_ms: Callable[[str], int] = lambda _agent_id: 0,
    ) -> None:
        self.bus, self.clock = bus, clock
        self.telemetry = TelemetryService(
            bus=bus, clock=clock, store=store, received=Received(), correction_ms=correction_ms, raw_days=RAW_DAYS
        )
        self.recorder = Recorder(bus=bus, clock=clock, telemetry=self.telemetry, raised=QuietAlerts())

    async def record(self, agent_id: str, *frames: Metrics) -> None:
        await self.recorder.record([received(agent_id, frame) for frame in frames])


class Hub(Process):
    """One on a store in memory; `restarted` is what a kill -9 leaves: the store."""

    def __init__(
        self,
        store: MemoryStore,
        bus: InProcessBus,
        clock: FakeClock,
        correction_ms: Callable[[str], int] = lambda _agent_id: 0,
    ) -> None:
        super().__init__(store, bus, clock, correction_ms)
        self.store = store

    async def restarted(self) -> Hub:
        hub = Hub(self.store, self.bus, self.clock)
        await hub.telemetry.load()
        return hub

    @asynccontextmanager
    async def recording(self) -> AsyncIterator[None]:
        """The recorder at work, until the block ends."""
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.recorder.run())
            await asyncio.sleep(0)  # it has subscribed
            yield
            running.cancel()

    def values(self, agent_id: str = "a1") -> list[MetricValue]:
        """Return the `cpu_percent` of each stored sample, sorted."""
        return sorted(stored.data["cpu_percent"] for stored in self.store.of(agent_id))  # type: ignore[type-var]


async def waiting(subscription: Subscription) -> list[DomainEvent]:
    """Return what is in the queue now, without waiting."""
    return await subscription.batch(10_000) if subscription.buffered else []


async def acks(subscription: Subscription) -> list[MetricsAck]:
    return acks_in(await waiting(subscription))


def acks_in(events: Sequence[DomainEvent]) -> list[MetricsAck]:
    return [event.frame for event in events if isinstance(event, Deliver) and isinstance(event.frame, MetricsAck)]
