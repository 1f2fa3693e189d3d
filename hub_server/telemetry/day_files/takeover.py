"""What version 0.1 kept in the main database moves into day files, once, before anything else is stored.

Rows go in the order of their numbers, those of one batch to each day in one transaction, and are deleted afterwards:
after a crash in between, a day's highest number says which of them it has.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.telemetry.day_files.layout import DAY_MS
from hub_server.telemetry.day_files.ledger import IMPORTED_STREAM
from hub_server.telemetry.model import EVENTS_STREAM, StoredRanges, StreamKey
from hub_server.telemetry.port import NewSample, StoreFailed
from protocol.frames import MetricValue
from protocol.ranges import SequenceRanges

log = structlog.get_logger(component="telemetry")

BATCH_ROWS: Final = 5000
IMPORTED_EPOCH: Final = 1

_TABLES: Final = text("SELECT name FROM sqlite_master WHERE name IN ('agent_metrics', 'received_ranges')")
_ROWS: Final = text(
    "SELECT id, organisation_id, agent_id, metric_type, ts_ms, data FROM agent_metrics ORDER BY id LIMIT :rows"
)
_DELETE_ROWS: Final = text("DELETE FROM agent_metrics WHERE id <= :last")
_RANGES: Final = text(
    "SELECT organisation_id, agent_id, stream, epoch, ranges FROM received_ranges WHERE stream <> :events"
    " ORDER BY updated_at_ms"
)
_DELETE_RANGES: Final = text("DELETE FROM received_ranges WHERE stream <> :events")
_decode_data: Final = msgspec.json.Decoder(dict[str, MetricValue]).decode
_decode_ranges: Final = msgspec.json.Decoder(list[tuple[int, int]]).decode


async def take_over(
    database: Database,
    *,
    imported_until: Callable[[int], Awaitable[int]],
    add: Callable[[Sequence[NewSample]], Awaitable[None]],
    save_ranges: Callable[[Sequence[StoredRanges]], Awaitable[None]],
) -> None:
    """`imported_until` tells the highest number of a row that a day has. Raises StoreFailed."""
    try:
        async with database.read(EVERY_ORGANISATION) as connection:
            tables = {row.name for row in await connection.execute(_TABLES)}
        if "agent_metrics" in tables:
            await _take_over_rows(database, imported_until, add)
        if "received_ranges" in tables:
            await _take_over_ranges(database, save_ranges)
    except SQLAlchemyError as error:
        raise StoreFailed(f"samples of an earlier version not taken over: {error}"[:500], temporary=True) from error


async def _take_over_rows(
    database: Database,
    imported_until: Callable[[int], Awaitable[int]],
    add: Callable[[Sequence[NewSample]], Awaitable[None]],
) -> None:
    total = 0
    known: dict[int, int] = {}
    while True:
        async with database.read(EVERY_ORGANISATION) as connection:
            rows = (await connection.execute(_ROWS, {"rows": BATCH_ROWS})).all()
        if not rows:
            break
        if not total:
            log.info("samples of an earlier version are taken over")
        samples = [_sample_of(row) for row in rows]
        for day in {sample.ts_ms // DAY_MS for sample in samples} - known.keys():
            known[day] = await imported_until(day)
        await add([sample for sample in samples if sample.seq > known[sample.ts_ms // DAY_MS]])
        async with database.write(EVERY_ORGANISATION) as connection:
            await connection.execute(_DELETE_ROWS, {"last": rows[-1].id})
        total += len(rows)
    if total:
        log.info("samples taken over", samples=total)


async def _take_over_ranges(
    database: Database, save_ranges: Callable[[Sequence[StoredRanges]], Awaitable[None]]
) -> None:
    async with database.read(EVERY_ORGANISATION) as connection:
        rows = (await connection.execute(_RANGES, {"events": EVENTS_STREAM})).all()
    if not rows:
        return
    await save_ranges(
        [
            StoredRanges(
                row.organisation_id,
                StreamKey(row.agent_id, row.stream, row.epoch),
                SequenceRanges(_decode_ranges(row.ranges)),
            )
            for row in rows
        ]
    )
    async with database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(_DELETE_RANGES, {"events": EVENTS_STREAM})


def _sample_of(row: Any) -> NewSample:
    key = StreamKey(row.agent_id, IMPORTED_STREAM, IMPORTED_EPOCH)
    return NewSample(row.organisation_id, key, row.id, row.metric_type, row.ts_ms, _decode_data(row.data))
