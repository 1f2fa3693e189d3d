"""Reports and the ranges of the streams they came in. Samples are behind port.py."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from msgspec import structs
from sqlalchemy import Row, delete, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.telemetry.model import EVENTS_STREAM, Report, StoredRanges, StreamKey
from hub_server.telemetry.tables import AgentReportRow, ReceivedRangesRow
from protocol.ranges import SequenceRanges
from protocol.telemetry import ReportsList


class ReportStore:
    async def load_ranges(self, connection: AsyncConnection) -> list[StoredRanges]:
        """Return every agent's ranges of reports, those in use last."""
        row = ReceivedRangesRow
        rows = await connection.execute(
            select(row).where(col(row.stream) == EVENTS_STREAM).order_by(col(row.updated_at_ms))
        )
        return [
            StoredRanges(
                found.organisation_id,
                StreamKey(found.agent_id, found.stream, found.epoch),
                SequenceRanges(found.ranges),
            )
            for found in rows
        ]

    async def save_ranges(self, connection: AsyncConnection, changed: Sequence[StoredRanges], at_ms: int) -> None:
        statement = _insert(connection, ReceivedRangesRow)
        written = {name: statement.excluded[name] for name in ("ranges", "updated_at_ms")}
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["agent_id", "stream", "epoch"], set_=written),
            [
                {
                    "organisation_id": stored.organisation_id,
                    **stored.key._asdict(),
                    "ranges": stored.ranges.to_list(),
                    "updated_at_ms": at_ms,
                }
                for stored in changed
            ],
        )

    async def drop_ranges(self, connection: AsyncConnection, keys: Collection[StreamKey]) -> None:
        row = ReceivedRangesRow
        for key in keys:
            await connection.execute(
                delete(row).where(
                    col(row.agent_id) == key.agent_id, col(row.stream) == key.stream, col(row.epoch) == key.epoch
                )
            )

    async def add(self, connection: AsyncConnection, reports: Sequence[Report]) -> None:
        """Store each report once."""
        await connection.execute(
            _insert(connection, AgentReportRow).on_conflict_do_nothing(), [structs.asdict(report) for report in reports]
        )

    async def of_kinds(self, connection: AsyncConnection, kinds: Collection[str], limit: int) -> list[Report]:
        """Return the newest reports of these kinds of every organisation, the oldest of them first."""
        row = AgentReportRow
        newest_first = (col(row.ts_ms).desc(), col(row.epoch).desc(), col(row.seq).desc())
        rows = await connection.execute(
            select(row).where(col(row.kind).in_(kinds)).order_by(*newest_first).limit(limit)
        )
        return [_report(found) for found in reversed(rows.all())]

    async def page(
        self, connection: AsyncConnection, organisation_id: str, request: ReportsList
    ) -> tuple[list[Report], int]:
        """Return the reports asked for, the newest first, and how many there are in all."""
        row = AgentReportRow
        wanted = [col(row.organisation_id) == organisation_id]
        if request.agent_id is not None:
            wanted.append(col(row.agent_id) == request.agent_id)
        if request.kinds:
            wanted.append(col(row.kind).in_(request.kinds))
        total = await connection.scalar(select(func.count()).select_from(row).where(*wanted))
        newest_first = (col(row.ts_ms).desc(), col(row.agent_id), col(row.epoch).desc(), col(row.seq).desc())
        rows = await connection.execute(
            select(row).where(*wanted).order_by(*newest_first).limit(request.limit).offset(request.offset)
        )
        return [_report(found) for found in rows], total or 0

    async def delete_before(self, connection: AsyncConnection, cutoff_ms: int, limit: int) -> int:
        """Delete the oldest reports, `limit` at most. Returns how many; fewer than `limit` when none is left."""
        row = AgentReportRow
        key = (col(row.agent_id), col(row.epoch), col(row.seq))
        oldest = select(*key).where(col(row.ts_ms) < cutoff_ms).order_by(col(row.ts_ms)).limit(limit)
        result = await connection.execute(delete(row).where(tuple_(*key).in_(oldest)))
        return result.rowcount

    async def delete_agent(self, connection: AsyncConnection, organisation_id: str, agent_id: str) -> None:
        for row in (ReceivedRangesRow, AgentReportRow):
            await connection.execute(
                delete(row).where(col(row.agent_id) == agent_id, col(row.organisation_id) == organisation_id)
            )


def _insert(
    connection: AsyncConnection, row: type[AgentReportRow] | type[ReceivedRangesRow]
) -> sqlite.Insert | postgresql.Insert:
    return sqlite.insert(row) if connection.dialect.name == "sqlite" else postgresql.insert(row)


def _report(row: Row[Any]) -> Report:
    return Report(**{name: getattr(row, name) for name in Report.__struct_fields__})
