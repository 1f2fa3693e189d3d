"""What agents report of themselves: stored once with its range, listed for people."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal
from hub_server.bus.port import Bus
from hub_server.clock import Clock, from_milliseconds, milliseconds
from hub_server.events import AgentReported
from hub_server.storage.engine import EVERY_ORGANISATION, Database, scope_of
from hub_server.telemetry.model import EVENTS_STREAM, Received, Report, StoredRanges, StreamKey, bounded
from hub_server.telemetry.store import ReportStore
from protocol.frames import Event, EventAck
from protocol.ranges import SequenceRanges
from protocol.telemetry import ReportsList, ReportsListReply, ReportView

log = structlog.get_logger(component="telemetry")

BATCH_REPORTS_MAX: Final = 500
EARLIER_MAX: Final = 20_000
DATA_MAX_BYTES: Final = 16 * 1024
"""As JSON. A page has up to a thousand reports; no agent of ours sends more than some hundred bytes."""


class Pending(Struct, eq=False):
    """A report whose sender waits for its commit."""

    report: Report
    done: bool = False


class ReportService:
    """`correction_ms`: what is to be taken off an agent's times."""

    def __init__(
        self,
        *,
        database: Database,
        bus: Bus,
        clock: Clock,
        store: ReportStore,
        received: Received,
        correction_ms: Callable[[str], int],
    ) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock
        self._store = store
        self._received = received
        self._correction_ms = correction_ms
        self._storing = asyncio.Lock()
        self._pending: list[Pending] = []

    @property
    def waiting(self) -> int:
        """Return how many reports are not stored yet."""
        return len(self._pending)

    async def load(self) -> None:
        async with self._database.read(EVERY_ORGANISATION) as connection:
            for stored in await self._store.load_ranges(connection):
                self._received.put(stored.key, stored.ranges)

    async def report(self, organisation_id: str, agent_id: str, frame: Event) -> EventAck:
        """Store a report once, however often it is sent. Those that come while others are stored share a commit.

        When the database does not take it, nothing is acknowledged: the agent keeps it and sends it again.
        """
        pending = Pending(self._report_of(organisation_id, agent_id, frame))
        self._pending.append(pending)
        try:
            async with self._storing:
                while not pending.done:
                    await self._store_pending(pending)
        except (DBAPIError, PoolTimeout, OSError) as error:
            log.warning("report not stored", agent_id=agent_id, error=str(error)[:500])
            return EventAck(epoch=frame.epoch, ranges=[])
        finally:
            if not pending.done:  # it failed, or its session ended: the others are stored by whoever comes next
                self._pending = [other for other in self._pending if other is not pending]
        return EventAck(epoch=frame.epoch, ranges=[(frame.seq, frame.seq)])

    async def list(self, principal: Principal, request: ReportsList) -> ReportsListReply:
        organisation_id = authorize(principal, Permission.FLEET_READ)
        async with self._database.read(organisation_id) as connection:
            reports, total = await self._store.page(connection, organisation_id, request)
        return ReportsListReply(
            reports=[_view(report) for report in reports],
            total=total,
            limit=request.limit,
            offset=request.offset,
        )

    async def said_before(self, kinds: Collection[str]) -> Sequence[AgentReported]:
        """Return the newest reports of these kinds of every organisation, EARLIER_MAX at most, in order of time."""
        async with self._database.read(EVERY_ORGANISATION) as connection:
            return [_said(report) for report in await self._store.of_kinds(connection, kinds, EARLIER_MAX)]

    async def delete_agent(self, connection: AsyncConnection, organisation_id: str, agent_id: str) -> None:
        await self._store.delete_agent(connection, organisation_id, agent_id)

    async def delete_before(self, cutoff_ms: int, limit: int) -> int:
        """Delete the oldest reports, `limit` at most. Returns how many: fewer than `limit` when none is left."""
        async with self._database.write(EVERY_ORGANISATION) as connection:
            return await self._store.delete_before(connection, cutoff_ms, limit)

    def _report_of(self, organisation_id: str, agent_id: str, frame: Event) -> Report:
        now_ms = milliseconds(self._clock.now())
        return Report(
            organisation_id=organisation_id,
            agent_id=agent_id,
            epoch=frame.epoch,
            seq=frame.seq,
            ts_ms=max(0, min(frame.ts - self._correction_ms(agent_id), now_ms)),
            kind=frame.kind,
            data=_bounded(frame.data),
        )

    async def _store_pending(self, own: Pending) -> None:
        """Store what waits, up to BATCH_REPORTS_MAX; when that fails, `own` alone. One caller at a time."""
        batch = self._pending[:BATCH_REPORTS_MAX]
        try:
            await self._store_all(batch)
        except DBAPIError:
            if len(batch) == 1:
                raise
            await self._store_all([own])

    async def _store_all(self, batch: Sequence[Pending]) -> None:
        held: dict[StreamKey, SequenceRanges] = {}
        new: list[Report] = []
        for report in (pending.report for pending in batch):
            key = StreamKey(report.agent_id, EVENTS_STREAM, report.epoch)
            ranges = held.get(key) or self._received.of(*key) or SequenceRanges()
            if report.seq not in ranges and not self._received.is_gone(report.agent_id):
                ranges.add(report.seq)
                held[key] = ranges
                new.append(report)
        if new:
            await self._write(new, held)
        for pending in batch:
            pending.done = True
        self._pending = [pending for pending in self._pending if not pending.done]

    async def _write(self, new: Sequence[Report], held: Mapping[StreamKey, SequenceRanges]) -> None:
        owners = {report.agent_id: report.organisation_id for report in new}
        changed = [StoredRanges(owners[key.agent_id], key, bounded(ranges)) for key, ranges in held.items()]
        async with self._database.write(scope_of(owners.values())) as connection:
            await self._store.add(connection, new)
            await self._store.save_ranges(connection, changed, milliseconds(self._clock.now()))
            await self._store.drop_ranges(connection, self._received.surplus(list(held)))
        for key, ranges in held.items():
            self._received.put(key, ranges)
        for report in new:
            self._bus.publish(_said(report))


def _bounded(data: dict[str, Any]) -> dict[str, Any]:
    """Return `data`, or how much it was when that is too much."""
    size_bytes = len(msgspec.json.encode(data))
    return data if size_bytes <= DATA_MAX_BYTES else {"omitted_bytes": size_bytes}


def _said(report: Report) -> AgentReported:
    return AgentReported(
        organisation_id=report.organisation_id,
        agent_id=report.agent_id,
        epoch=report.epoch,
        seq=report.seq,
        ts_ms=report.ts_ms,
        kind=report.kind,
        data=report.data,
    )


def _view(report: Report) -> ReportView:
    return ReportView(agent_id=report.agent_id, at=from_milliseconds(report.ts_ms), kind=report.kind, data=report.data)
