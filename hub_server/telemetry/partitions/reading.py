"""Questions to history: every sample of a span, buckets, the newest of each series.

One statement sees samples and what is packed of them at the same moment, so that none is missed or seen twice while
they are packed. Decoding goes to a thread: a chart of many machines would hold up everything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Final

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.telemetry.model import BUCKET_MS, Resolution
from hub_server.telemetry.packing import columns_of, unpacked
from hub_server.telemetry.partitions import driver
from hub_server.telemetry.partitions.periods import HOUR_MS, ROW_MS
from hub_server.telemetry.port import Columns, RollupColumns, StoredSample
from hub_server.telemetry.rollups import between, decoded, merged, rolled_columns

_RAW: Final = """
    select ts_ms as at_ms, data, null::bytea as body from metric_samples
     where agent_id = $1 and metric_type = $2 and organisation_id = $3 and ts_ms >= $4 and ts_ms < $5
    union all
    select from_ms, null, body from metric_chunks
     where agent_id = $1 and metric_type = $2 and organisation_id = $3 and from_ms > $6 and from_ms < $5
"""
_BUCKETS: Final = """
    select agent_id, ts_ms as at_ms, 0::bigint as until_ms, data, null::bytea as body from metric_samples
     where agent_id = any($1::text[]) and metric_type = $2 and organisation_id = $3 and ts_ms >= $4 and ts_ms < $5
    union all
    select agent_id, from_ms, until_ms, null, body from {table}
     where agent_id = any($1::text[]) and metric_type = $2 and organisation_id = $3 and from_ms > $6 and from_ms < $5
"""
_NEWEST_UNPACKED: Final = """
    with recursive series(agent_id, metric_type) as (
        (select agent_id, metric_type from {table} order by agent_id, metric_type limit 1)
        union all
        select following.* from series cross join lateral (
            select m.agent_id, m.metric_type from {table} m
             where (m.agent_id, m.metric_type) > (series.agent_id, series.metric_type)
             order by m.agent_id, m.metric_type limit 1) as following
    )
    select newest.* from series cross join lateral (
        select m.organisation_id, m.agent_id, m.metric_type, m.ts_ms, m.data from {table} m
         where m.agent_id = series.agent_id and m.metric_type = series.metric_type and m.ts_ms <= $1
         order by m.ts_ms desc limit 1) as newest
"""
_NEWEST_PACKED: Final = "select organisation_id, agent_id, metric_type, ts_ms, data from metric_newest"
_CHUNKS_BEFORE: Final = """
    select body from metric_chunks where agent_id = $1 and metric_type = $2 and from_ms <= $3
     order by from_ms desc limit 2
"""

_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode
Found = list[tuple[int, str | None, bytes | None]]
FoundBuckets = list[tuple[str, int, int, str | None, bytes | None]]


async def find_raw(
    connection: AsyncConnection, organisation_id: str, agent_id: str, metric_type: str, from_ms: int, to_ms: int
) -> Found:
    """Return what `raw_of` makes samples of: (time, JSON text, None) or (hour, None, chunk)."""
    return await driver.fetch(
        connection, _RAW, agent_id, metric_type, organisation_id, from_ms, to_ms, from_ms - HOUR_MS
    )


def raw_of(found: Found, metrics: Sequence[str], from_ms: int, to_ms: int) -> Columns:
    loose = sorted((at_ms, data) for at_ms, data, _ in found if data is not None)
    parts = [columns_of(body, metrics, from_ms, to_ms) for _, _, body in sorted(found, key=_time) if body is not None]
    parts.append(Columns([at_ms for at_ms, _ in loose], _numbers((data for _, data in loose), metrics)))
    timestamps = list(chain.from_iterable(part.timestamps for part in parts))
    values = {name: list(chain.from_iterable(part.values[name] for part in parts)) for name in metrics}
    if all(map(int.__le__, timestamps, timestamps[1:])):
        return Columns(timestamps, values)
    order = sorted(range(len(timestamps)), key=timestamps.__getitem__)
    return Columns(
        [timestamps[index] for index in order],
        {name: [column[index] for index in order] for name, column in values.items()},
    )


async def find_buckets(
    connection: AsyncConnection,
    organisation_id: str,
    agent_ids: Sequence[str],
    metric_type: str,
    resolution: Resolution,
    span: tuple[int, int],
) -> FoundBuckets:
    """Return what `buckets_of` needs. `span` are beginnings of buckets."""
    from_ms, to_ms = span
    statement = _BUCKETS.format(table=f"metric_rollups_{resolution.value}")
    first_row_ms = from_ms - ROW_MS[resolution]
    return await driver.fetch(
        connection, statement, list(agent_ids), metric_type, organisation_id, from_ms, to_ms, first_row_ms
    )


def whole_buckets(resolution: Resolution, from_ms: int, to_ms: int) -> tuple[int, int]:
    """Return where the first bucket that begins in the span begins, and where the last one ends."""
    width_ms = BUCKET_MS[resolution]
    return -(-from_ms // width_ms) * width_ms, -(-to_ms // width_ms) * width_ms


def buckets_of(
    found: FoundBuckets, metrics: Sequence[str], resolution: Resolution, span: tuple[int, int]
) -> dict[str, RollupColumns]:
    """Return the buckets by agent.

    Until a late sample is packed, a counter's last value in its bucket may be that of a sample before it.
    """
    by_agent: dict[str, FoundBuckets] = {}
    for row in sorted(found, key=lambda row: row[1]):
        by_agent.setdefault(row[0], []).append(row)
    return {agent_id: _buckets(rows, metrics, resolution, span) for agent_id, rows in by_agent.items()}


def _buckets(
    rows: FoundBuckets, metrics: Sequence[str], resolution: Resolution, span: tuple[int, int]
) -> RollupColumns:
    row_ms, bucket_ms = ROW_MS[resolution], BUCKET_MS[resolution]
    untils = {at_ms: until_ms for _, at_ms, until_ms, _, body in rows if body is not None}
    parts = [between(decoded(body, metrics), *span) for *_, body in rows if body is not None]
    loose = [(at_ms, data) for _, at_ms, _, data, _ in rows if data is not None]
    late = [row for row in loose if row[0] < untils.get(row[0] - row[0] % row_ms, 0)]
    following = [row for row in loose if row[0] >= untils.get(row[0] - row[0] % row_ms, 0)]
    if late:
        parts.insert(0, _rolled(late, metrics, bucket_ms))
    if following:
        parts.append(_rolled(following, metrics, bucket_ms))
    return parts[0] if len(parts) == 1 else merged(parts, bucket_ms)


def _rolled(loose: Sequence[tuple[int, str]], metrics: Sequence[str], bucket_ms: int) -> RollupColumns:
    return rolled_columns([at_ms for at_ms, _ in loose], _numbers((data for _, data in loose), metrics), bucket_ms)


def _numbers(data: Iterable[str], metrics: Sequence[str]) -> dict[str, list[Any]]:
    rows = [_decode(text_of) for text_of in data]
    return {name: [value if type(value := row.get(name)) in {int, float} else None for row in rows] for name in metrics}


def _time(row: tuple[int, str | None, bytes | None]) -> int:
    return row[0]


async def newest_unpacked(connection: AsyncConnection, table: str, until_ms: int) -> list[StoredSample]:
    """Return the newest sample of each series in one day's table, by an index lookup each."""
    rows = await driver.fetch(connection, _NEWEST_UNPACKED.format(table=table), until_ms)
    return [_sample(*row) for row in rows]


async def newest_packed(connection: AsyncConnection, until_ms: int) -> list[StoredSample]:
    found = []
    for row in await driver.fetch(connection, _NEWEST_PACKED):
        sample = _sample(*row)
        earlier = sample if sample.ts_ms <= until_ms else await _packed_before(connection, sample, until_ms)
        if earlier is not None:
            found.append(earlier)
    return found


async def _packed_before(connection: AsyncConnection, sample: StoredSample, until_ms: int) -> StoredSample | None:
    """Look in the chunks: the newest one is ahead of the hub's clock, which was moved."""
    for (body,) in await driver.fetch(connection, _CHUNKS_BEFORE, sample.agent_id, sample.metric_type, until_ms):
        before = [(at_ms, data) for at_ms, data in zip(*unpacked(body), strict=True) if at_ms <= until_ms]
        if before:
            ts_ms, newest = before[-1]
            return StoredSample(sample.organisation_id, sample.agent_id, sample.metric_type, ts_ms, newest)
    return None


def _sample(organisation_id: str, agent_id: str, metric_type: str, ts_ms: int, data: str) -> StoredSample:
    return StoredSample(organisation_id, agent_id, metric_type, ts_ms, _decode(data))


def by_series(samples: Iterable[StoredSample]) -> Mapping[tuple[str, str], StoredSample]:
    """Return the newest of each series; of the same moment the first counts."""
    newest: dict[tuple[str, str], StoredSample] = {}
    for sample in samples:
        key = (sample.agent_id, sample.metric_type)
        if key not in newest or newest[key].ts_ms < sample.ts_ms:
            newest[key] = sample
    return newest
