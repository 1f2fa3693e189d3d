"""Frames with valid defaults, and a recorder that can be thrown away and started again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.access.model import Principal
from hub_server.bus.in_process import InProcessBus
from hub_server.bus.port import Subscription
from hub_server.clock import milliseconds
from hub_server.events import Deliver, DomainEvent, MetricsReceived
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.telemetry.service import TelemetryService
from hub_server.telemetry.store import TelemetryStore
from hub_server.telemetry.tables import AgentReportRow, MetricRow
from hub_server.telemetry.worker import Recorder
from protocol.enumerations import Lane, Role
from protocol.frames import Metrics, MetricsAck, MetricValue, RaisedAlert, Sample
from tests.clocks import FakeClock

NOW_MS = milliseconds(FakeClock().now())


def viewer_of(organisation_id: str) -> Principal:
    return Principal(user_id="u1", username="vera", organisation_id=organisation_id, role=Role.VIEWER)


def sample(seq: int, *, ts: int | None = None, kind: str = "system", **data: MetricValue) -> Sample:
    return Sample(
        seq=seq,
        ts=NOW_MS - 1000 + seq if ts is None else ts,
        metric_type=kind,
        metric_data=data or {"cpu_percent": float(seq)},
    )


def metrics(*seqs: int, epoch: int = 7, lane: Lane = Lane.LIVE) -> Metrics:
    return Metrics(epoch=epoch, lane=lane, samples=[sample(seq) for seq in seqs])


def received(organisation_id: str, agent_id: str, frame: Metrics, at_monotonic: float = 0.0) -> MetricsReceived:
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


class Hub:
    """The telemetry of one hub process; `restarted` is what a kill -9 leaves: the database."""

    def __init__(self, database: Database, bus: InProcessBus, clock: FakeClock) -> None:
        store = TelemetryStore()
        self.database, self.bus, self.clock = database, bus, clock
        self.telemetry = TelemetryService(database=database, bus=bus, clock=clock, store=store)
        self.recorder = Recorder(bus=bus, telemetry=self.telemetry, raised=QuietAlerts())

    async def restarted(self) -> Hub:
        hub = Hub(self.database, self.bus, self.clock)
        await hub.telemetry.load()
        return hub


class FailingDatabase(Database):
    """Fails a number of transactions: before anything is written, or after the commit, as a lost connection does."""

    def __init__(self, real: Database, *, failures: int, after_commit: bool) -> None:
        self.__dict__ = real.__dict__
        self.failures = failures
        self._after_commit = after_commit

    @asynccontextmanager
    async def write(self, organisation_id: str) -> AsyncIterator[AsyncConnection]:
        fails = self.failures > 0
        self.failures -= 1
        if fails and not self._after_commit:
            raise _lost()
        async with super().write(organisation_id) as connection:
            yield connection
        if fails:
            raise _lost()


def _lost() -> OperationalError:
    return OperationalError("COMMIT", None, Exception("connection lost"))


async def stored_values(database: Database, agent_id: str) -> list[str]:
    async with database.read(EVERY_ORGANISATION) as connection:
        rows = await connection.scalars(select(col(MetricRow.data)).where(col(MetricRow.agent_id) == agent_id))
        return sorted(rows)


async def stored_count(database: Database) -> int:
    async with database.read(EVERY_ORGANISATION) as connection:
        return await connection.scalar(select(func.count()).select_from(MetricRow)) or 0


async def stored_reports(database: Database) -> int:
    async with database.read(EVERY_ORGANISATION) as connection:
        return await connection.scalar(select(func.count()).select_from(AgentReportRow)) or 0


async def waiting(subscription: Subscription) -> list[DomainEvent]:
    """Return what is in the queue now, without waiting."""
    return await subscription.batch(10_000) if subscription.buffered else []


async def acks(subscription: Subscription) -> list[MetricsAck]:
    return acks_in(await waiting(subscription))


def acks_in(events: Sequence[DomainEvent]) -> list[MetricsAck]:
    return [event.frame for event in events if isinstance(event, Deliver) and isinstance(event.frame, MetricsAck)]
