"""Samples into chunks and rollups, a bounded piece a transaction: taken out, folded and written, or nothing of it.

A round goes through the tables of the days that have samples, in the order of their index, and takes what is older
than the last quarter of an hour. Of several hubs one packs at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from itertools import starmap
from typing import Final

import structlog
from msgspec import Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.rests import Rests
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.telemetry.partitions import driver
from hub_server.telemetry.partitions.catalogue import Catalogue
from hub_server.telemetry.partitions.folding import Piece, Place, Taken, day_of, folded, hour_of
from hub_server.telemetry.partitions.periods import PARENTS, Partition, partition_of

log = structlog.get_logger(component="telemetry")

ROUND_MS: Final = 15 * 60_000
PIECE_SAMPLES: Final = 4000
PIECE_BYTES: Final = 32 << 20
"""How much text of samples, and of chunks, is read at once; one more of each than fits, so that any goes forward."""
PACKING_LOCK: Final = 0x4A54_4D51

_TRY_LOCK: Final = text("select pg_try_advisory_xact_lock(:key)")
_TAKE: Final = """
    with next as (
        select ctid, agent_id, metric_type, ts_ms, octet_length(data) as bytes from {table}
         where (agent_id, metric_type) >= ($1, $2) and ts_ms < $3
         order by agent_id, metric_type, ts_ms limit $4),
    counted as (
        select ctid, sum(bytes) over (
                   order by agent_id, metric_type, ts_ms rows between unbounded preceding and 1 preceding
               ) as bytes_before
          from next)
    delete from {table} where ctid = any(array(select ctid from counted where coalesce(bytes_before, 0) < $5))
    returning agent_id, metric_type, organisation_id, ts_ms, data
"""
_CHUNKS: Final = """
    select agent_id, metric_type, from_ms, body from metric_chunks
     where (agent_id, metric_type, from_ms) in (select * from unnest($1::text[], $2::text[], $3::bigint[]))
"""
_CHUNK_SIZES: Final = """
    select agent_id, metric_type, from_ms, octet_length(body) from metric_chunks
     where (agent_id, metric_type, from_ms) in (select * from unnest($1::text[], $2::text[], $3::bigint[]))
"""
_DAYS: Final = """
    select agent_id, metric_type, from_ms, until_ms, body from metric_rollups_1h
     where (agent_id, metric_type, from_ms) in (select * from unnest($1::text[], $2::text[], $3::bigint[]))
"""
_PUT_CHUNKS: Final = """
    insert into metric_chunks (agent_id, metric_type, organisation_id, from_ms, body)
    select * from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bytea[])
    on conflict (agent_id, metric_type, from_ms) do update set body = excluded.body
"""
_PUT_ROLLUPS: Final = """
    insert into {table} (agent_id, metric_type, organisation_id, from_ms, until_ms, body)
    select * from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bytea[])
    on conflict (agent_id, metric_type, from_ms) do update set until_ms = excluded.until_ms, body = excluded.body
"""
_PUT_NEWEST: Final = """
    insert into metric_newest (agent_id, metric_type, organisation_id, ts_ms, data)
    select * from unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[])
    on conflict (agent_id, metric_type) do update
       set organisation_id = excluded.organisation_id, ts_ms = excluded.ts_ms, data = excluded.data
     where metric_newest.ts_ms <= excluded.ts_ms
"""


class Round(Struct):
    """Where packing is: the days to go through, and the series in the first of them that is next."""

    due_ms: int
    next_ms: int
    days: list[Partition]
    agent_id: str = ""
    metric_type: str = ""


class Packer:
    def __init__(self, database: Database, catalogue: Catalogue, *, round_ms: int = ROUND_MS) -> None:
        """`round_ms`: how often a round begins."""
        self._database = database
        self._catalogue = catalogue
        self._round_ms = round_ms
        self._round: Round | None = None
        self._next_round_ms = 0
        self.rounds = 0
        """How many have ended."""
        self.cut_hours = 0

    async def pack(self, now_ms: int) -> int:
        """Pack the next piece; returns how many samples, 0 when the round has ended or the next is not due.

        After a failure the next call begins a round.
        """
        if self._round is None and now_ms < self._next_round_ms:
            return 0
        current, self._round = self._round or await self._begin(now_ms), None
        while current.days:
            packed = await self._pack_from(current)
            if packed:
                self._round = current
                return packed
        self._next_round_ms = current.next_ms
        self.rounds += 1
        return 0

    async def _begin(self, now_ms: int) -> Round:
        await self._catalogue.load()
        await self._catalogue.make_ahead(now_ms)
        due_ms = now_ms - now_ms % ROUND_MS
        days = [day for day in self._catalogue.partitions("metric_samples") if day.from_ms < due_ms]
        return Round(due_ms, due_ms + self._round_ms, days)

    async def _pack_from(self, current: Round) -> int:
        """Pack a piece of the round's first day; when it has none, the day is done."""
        day = current.days[0]
        await self._catalogue.ensure(partition_of(parent, day.from_ms) for parent in PARENTS)
        async with self._database.write(EVERY_ORGANISATION) as connection:
            if not await connection.scalar(_TRY_LOCK, {"key": PACKING_LOCK}):
                current.days.clear()  # another hub packs
                return 0
            after = (current.agent_id, current.metric_type, current.due_ms, PIECE_SAMPLES, PIECE_BYTES)
            rows = await driver.fetch(connection, _TAKE.format(table=day.name), *after)
            samples = list(starmap(Taken, rows))
            for part in await _in_parts(connection, samples):
                piece = await _fold(connection, part)
                await _put(connection, piece)
                self.cut_hours += len(piece.cut)
        if _is_last(samples):
            del current.days[0]
            current.agent_id = current.metric_type = ""
        else:
            current.agent_id, current.metric_type = max(taken[:2] for taken in samples)
        return len(samples)


def _is_last(samples: Sequence[Taken]) -> bool:
    """Tell whether nothing stopped the taking but the end of the day's samples."""
    return len(samples) < PIECE_SAMPLES and sum(len(taken.data.encode()) for taken in samples) < PIECE_BYTES


async def _in_parts(connection: AsyncConnection, samples: Sequence[Taken]) -> list[list[Taken]]:
    """Return `samples`, each hour's together, by how much of the chunks of their hours is read at once."""
    by_hour: dict[Place, list[Taken]] = {}
    for taken in samples:
        by_hour.setdefault(hour_of(taken), []).append(taken)
    if not by_hour:
        return []
    found = await driver.fetch(connection, _CHUNK_SIZES, *driver.arrays_of(by_hour))
    sizes = {Place(*place): size for *place, size in found}
    parts: list[list[Taken]] = [[]]
    read = 0
    for hour, added in by_hour.items():
        if read >= PIECE_BYTES:
            parts.append([])
            read = 0
        read += sizes.get(hour, 0)
        parts[-1] += added
    return parts


async def _fold(connection: AsyncConnection, samples: Sequence[Taken]) -> Piece:
    hours = driver.arrays_of({hour_of(taken) for taken in samples})
    days = driver.arrays_of({day_of(taken) for taken in samples})
    chunks = {Place(*place): body for *place, body in await driver.fetch(connection, _CHUNKS, *hours)}
    rows = {Place(*place): (until, body) for *place, until, body in await driver.fetch(connection, _DAYS, *days)}
    piece = await asyncio.to_thread(_folded_with_rests, samples, chunks, rows)
    for place in piece.damaged:
        log.error("a damaged chunk was replaced", agent_id=place.agent_id, metric_type=place.metric_type)
    for place in piece.cut:
        log.error(
            "samples of an hour left out: more names, samples or text than an hour may have",
            agent_id=place.agent_id,
            metric_type=place.metric_type,
            hour_ms=place.from_ms,
        )
    return piece


def _folded_with_rests(
    samples: Sequence[Taken], chunks: Mapping[Place, bytes], days: Mapping[Place, tuple[int, bytes]]
) -> Piece:
    return folded(samples, chunks, days, Rests().rest)


async def _put(connection: AsyncConnection, piece: Piece) -> None:
    await driver.execute(connection, _PUT_CHUNKS, *driver.arrays_of(piece.chunks))
    for resolution, rows in piece.rollups.items():
        statement = _PUT_ROLLUPS.format(table=f"metric_rollups_{resolution.value}")
        await driver.execute(connection, statement, *driver.arrays_of(rows))
    await driver.execute(connection, _PUT_NEWEST, *driver.arrays_of(piece.newest))
