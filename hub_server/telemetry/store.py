"""Samples, received ranges and reports in the database. The hot writes go to the driver in bulk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import Row, delete, select, text, tuple_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.telemetry.model import EVENTS_STREAM, SampleRow, StoredRanges, StreamKey
from hub_server.telemetry.tables import AgentReportRow, MetricRow, ReceivedRangesRow
from protocol.frames import Event
from protocol.ranges import SequenceRanges

CHUNK_ROWS: Final = 500
TYPES_PER_AGENT_MAX: Final = 64

_SAMPLE_SQLITE: Final = (
    "INSERT INTO agent_metrics (organisation_id, agent_id, metric_type, ts_ms, data) VALUES (?, ?, ?, ?, ?)"
)
_SAMPLE_POSTGRESQL: Final = (
    "INSERT INTO agent_metrics (organisation_id, agent_id, metric_type, ts_ms, data)"
    " SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[])"
)
_RANGES_SQLITE: Final = """
    INSERT INTO received_ranges (organisation_id, agent_id, stream, epoch, ranges, updated_at_ms)
    VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (agent_id, stream, epoch)
    DO UPDATE SET ranges = excluded.ranges, updated_at_ms = excluded.updated_at_ms
"""
_RANGES_POSTGRESQL: Final = """
    INSERT INTO received_ranges (organisation_id, agent_id, stream, epoch, ranges, updated_at_ms)
    SELECT o, a, s, e, r::json, u
      FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[]) AS t(o, a, s, e, r, u)
    ON CONFLICT (agent_id, stream, epoch)
    DO UPDATE SET ranges = excluded.ranges, updated_at_ms = excluded.updated_at_ms
"""
# One index lookup for each agent and type: `max(ts_ms) … GROUP BY` would read every sample there is.
_NEWEST: Final = text(
    """
    WITH RECURSIVE kinds(agent_id, metric_type, position) AS (
        SELECT known.agent_id,
               (SELECT min(m.metric_type) FROM agent_metrics m WHERE m.agent_id = known.agent_id), 1
          FROM (SELECT DISTINCT agent_id FROM received_ranges WHERE stream <> :events) AS known
        UNION ALL
        SELECT kinds.agent_id,
               (SELECT min(m.metric_type) FROM agent_metrics m
                 WHERE m.agent_id = kinds.agent_id AND m.metric_type > kinds.metric_type),
               kinds.position + 1
          FROM kinds WHERE kinds.metric_type IS NOT NULL AND kinds.position < :types
    )
    SELECT newest.agent_id, newest.metric_type, newest.ts_ms, newest.data
      FROM kinds JOIN agent_metrics AS newest ON newest.id = (
           SELECT m.id FROM agent_metrics m
            WHERE m.agent_id = kinds.agent_id AND m.metric_type = kinds.metric_type AND m.ts_ms <= :until
            ORDER BY m.ts_ms DESC LIMIT 1)
    """
)


class TelemetryStore:
    async def load_ranges(self, connection: AsyncConnection) -> list[StoredRanges]:
        """Return every agent's ranges, those in use last."""
        return await self._ranges(connection, select(ReceivedRangesRow).order_by(col(ReceivedRangesRow.updated_at_ms)))

    async def ranges_of(self, connection: AsyncConnection, keys: Collection[StreamKey]) -> list[StoredRanges]:
        row = ReceivedRangesRow
        wanted = tuple_(col(row.agent_id), col(row.stream), col(row.epoch)).in_([tuple(key) for key in keys])
        return await self._ranges(connection, select(row).where(wanted).order_by(col(row.updated_at_ms)))

    async def load_newest(self, connection: AsyncConnection, until_ms: int) -> list[tuple[str, str, int, str]]:
        """Return (agent, metric type, ts, JSON text) of the newest sample of each, none later than `until_ms`."""
        rows = await connection.execute(
            _NEWEST, {"events": EVENTS_STREAM, "types": TYPES_PER_AGENT_MAX, "until": until_ms}
        )
        return [(row.agent_id, row.metric_type, row.ts_ms, row.data) for row in rows]

    async def add_samples(self, connection: AsyncConnection, rows: Sequence[SampleRow]) -> None:
        if rows:
            await _execute_many(connection, _SAMPLE_SQLITE, _SAMPLE_POSTGRESQL, rows)

    async def save_ranges(self, connection: AsyncConnection, changed: Sequence[StoredRanges], at_ms: int) -> None:
        rows = [
            (stored.organisation_id, *stored.key, orjson.dumps(stored.ranges.to_list()).decode(), at_ms)
            for stored in changed
        ]
        if rows:
            await _execute_many(connection, _RANGES_SQLITE, _RANGES_POSTGRESQL, rows)

    async def drop_ranges(self, connection: AsyncConnection, keys: Collection[StreamKey]) -> None:
        row = ReceivedRangesRow
        for key in keys:
            await connection.execute(
                delete(row).where(
                    col(row.agent_id) == key.agent_id, col(row.stream) == key.stream, col(row.epoch) == key.epoch
                )
            )

    async def add_report(self, connection: AsyncConnection, organisation_id: str, agent_id: str, event: Event) -> None:
        """Store a report once."""
        dialect_insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
        await connection.execute(
            dialect_insert(AgentReportRow)
            .values(
                organisation_id=organisation_id,
                agent_id=agent_id,
                epoch=event.epoch,
                seq=event.seq,
                ts_ms=event.ts,
                kind=event.kind,
                data=event.data,
            )
            .on_conflict_do_nothing()
        )

    async def samples(
        self,
        connection: AsyncConnection,
        organisation_id: str,
        agent_id: str,
        metric_type: str,
        *,
        from_ms: int,
        to_ms: int,
        limit: int | None = None,
    ) -> AsyncIterator[Sequence[Row[int, str]]]:
        """Yield (ts, JSON text) in order of time, in chunks; `to_ms` is excluded."""
        row = MetricRow
        statement = (
            select(col(row.ts_ms), col(row.data))
            .where(
                col(row.agent_id) == agent_id,
                col(row.metric_type) == metric_type,
                col(row.ts_ms) >= from_ms,
                col(row.ts_ms) < to_ms,
                col(row.organisation_id) == organisation_id,
            )
            .order_by(col(row.ts_ms), col(row.id))
            .limit(limit)
        )
        result = await connection.stream(statement)
        async for chunk in result.partitions(CHUNK_ROWS):
            yield chunk

    async def delete_before(self, connection: AsyncConnection, cutoff_ms: int, limit: int) -> int:
        """Delete the oldest samples, `limit` at most. Returns how many; fewer than `limit` when none is left."""
        oldest = (
            select(col(MetricRow.id))
            .where(col(MetricRow.ts_ms) < cutoff_ms)
            .order_by(col(MetricRow.ts_ms))
            .limit(limit)
        )
        result = await connection.execute(delete(MetricRow).where(col(MetricRow.id).in_(oldest)))
        return result.rowcount

    async def delete_agent(self, connection: AsyncConnection, organisation_id: str, agent_id: str) -> None:
        for row in (MetricRow, ReceivedRangesRow, AgentReportRow):
            await connection.execute(
                delete(row).where(col(row.agent_id) == agent_id, col(row.organisation_id) == organisation_id)
            )

    async def _ranges(self, connection: AsyncConnection, statement: Any) -> list[StoredRanges]:
        return [
            StoredRanges(
                row.organisation_id, StreamKey(row.agent_id, row.stream, row.epoch), SequenceRanges(row.ranges)
            )
            for row in await connection.execute(statement)
        ]


def refuses_rows(error: DBAPIError) -> bool:
    """Tell whether the database refused what a row holds (SQLSTATE classes 22 and 23): trying again cannot help."""
    state = str(getattr(error.orig, "sqlstate", None) or "")
    return isinstance(error, DataError | IntegrityError) or state[:2] in {"22", "23"}


async def _execute_many(
    connection: AsyncConnection, sqlite_statement: str, postgresql_statement: str, rows: Sequence[tuple[Any, ...]]
) -> None:
    if connection.dialect.name == "sqlite":
        await connection.exec_driver_sql(sqlite_statement, list(rows))
    else:
        await connection.exec_driver_sql(
            postgresql_statement, tuple(list(column) for column in zip(*rows, strict=True))
        )
