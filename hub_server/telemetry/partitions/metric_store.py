"""Samples on PostgreSQL: those of the last minutes as rows, a table a day; older ones packed by series and hour."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec
from sqlalchemy import text

from hub_server.storage.engine import EVERY_ORGANISATION, Database, scope_of
from hub_server.telemetry.model import Resolution, StoredRanges, StreamKey
from hub_server.telemetry.partitions import intake, reading
from hub_server.telemetry.partitions.catalogue import Catalogue
from hub_server.telemetry.partitions.deletion import delete_agent
from hub_server.telemetry.partitions.faults import PartitionMissing, failures
from hub_server.telemetry.partitions.packer import ROUND_MS, Packer
from hub_server.telemetry.partitions.periods import DAY_MS, Partition, partition_of
from hub_server.telemetry.port import Columns, NewSample, RollupColumns, StoredSample, StoreFigures

_SIZES: Final = text(
    "select coalesce(sum(size) filter (where relname not like 'metric\\_samples%'), 0)::bigint as packed,"
    " coalesce(sum(size), 0)::bigint as total"
    " from (select relname, pg_total_relation_size(oid) as size from pg_class where relkind = 'r'"
    " and relname like 'metric\\_%' and relnamespace = current_schema()::regnamespace) as tables"
)
_HOT: Final = text("select count(*), min(ts_ms) from metric_samples")
_DROP_NEWEST: Final = text("delete from metric_newest where ts_ms < :cutoff_ms")


class Partitions:
    """A MetricStore. Several hubs may use one database at once; each has one of these."""

    def __init__(self, database: Database, *, round_ms: int = ROUND_MS) -> None:
        """`database` stays the caller's to close. `round_ms`: how often packing begins."""
        self._database = database
        self._catalogue = Catalogue(database)
        self._packer = Packer(database, self._catalogue, round_ms=round_ms)
        self._figures = StoreFigures(hot_samples=0, packed_bytes=0, total_bytes=0, oldest_hot_ms=None)

    async def open(self) -> None:
        with failures():
            await self._catalogue.load()

    async def close(self) -> None:
        """Nothing is held."""

    async def load_ranges(self) -> list[StoredRanges]:
        with failures():
            async with self._database.read(EVERY_ORGANISATION) as connection:
                return await intake.all_ranges(connection)

    async def ranges_of(self, keys: Collection[StreamKey]) -> list[StoredRanges]:
        if not keys:
            return []
        with failures():
            async with self._database.read(EVERY_ORGANISATION) as connection:
                return await intake.ranges_of(connection, keys)

    async def load_newest(self, until_ms: int) -> list[StoredSample]:
        found: list[StoredSample] = []
        with failures():
            async with self._database.read(EVERY_ORGANISATION) as connection:
                for day in reversed(self._catalogue.partitions("metric_samples")):
                    found += await reading.newest_unpacked(connection, day.name, until_ms)
                # After those: what is packed meanwhile is seen twice, never missed.
                found += await reading.newest_packed(connection, until_ms)
        return list(reading.by_series(found).values())

    async def add(self, samples: Sequence[NewSample], changed: Sequence[StoredRanges]) -> None:
        with failures():
            try:
                await self._add(samples, changed)
            except PartitionMissing:
                await self._catalogue.load()
                await self._add(samples, changed)
        self._count(len(samples))

    async def drop_ranges(self, keys: Collection[StreamKey]) -> None:
        if keys:
            with failures():
                async with self._database.write(EVERY_ORGANISATION) as connection:
                    await intake.drop_ranges(connection, keys)

    async def raw(
        self, organisation_id: str, agent_id: str, metric_type: str, metrics: Sequence[str], from_ms: int, to_ms: int
    ) -> Columns:
        with failures():
            async with self._database.read(organisation_id) as connection:
                found = await reading.find_raw(connection, organisation_id, agent_id, metric_type, from_ms, to_ms)
            return await asyncio.to_thread(reading.raw_of, found, metrics, from_ms, to_ms)

    async def rollups(
        self,
        organisation_id: str,
        agent_ids: Sequence[str],
        metric_type: str,
        metrics: Sequence[str],
        resolution: Resolution,
        from_ms: int,
        to_ms: int,
    ) -> Mapping[str, RollupColumns]:
        span = reading.whole_buckets(resolution, from_ms, to_ms)
        with failures():
            async with self._database.read(organisation_id) as connection:
                found = await reading.find_buckets(
                    connection, organisation_id, agent_ids, metric_type, resolution, span
                )
            return await asyncio.to_thread(reading.buckets_of, found, metrics, resolution, span)

    async def pack(self, now_ms: int) -> int:
        with failures():
            rounds = self._packer.rounds
            packed = await self._packer.pack(now_ms)
            self._count(-packed)
            if self._packer.rounds > rounds:
                await self._weigh()
        return packed

    async def drop_before(self, resolution: Resolution, cutoff_ms: int) -> int:
        with failures():
            dropped = await self._catalogue.drop_before(resolution, cutoff_ms)
            if dropped and resolution is Resolution.RAW:
                async with self._database.write(EVERY_ORGANISATION) as connection:
                    await connection.execute(_DROP_NEWEST, {"cutoff_ms": cutoff_ms - cutoff_ms % DAY_MS})
        return dropped

    async def delete_agent(self, organisation_id: str, agent_id: str) -> None:
        with failures():
            await self._catalogue.load()
            await delete_agent(self._database, self._catalogue, organisation_id, agent_id)

    def figures(self) -> StoreFigures:
        """What this hub added since the last round of packing, and what that found."""
        return msgspec.structs.replace(self._figures, cut_hours=self._packer.cut_hours)

    async def _add(self, samples: Sequence[NewSample], changed: Sequence[StoredRanges]) -> None:
        await self._catalogue.ensure(_days_of(samples))
        scope = scope_of([*(stored.organisation_id for stored in changed), *_organisations(samples)])
        with failures():
            async with self._database.write(scope) as connection:
                if samples:
                    await intake.copy_samples(connection, samples)
                await intake.save_ranges(connection, changed)

    async def _weigh(self) -> None:
        """Take the figures from the database, at the end of a round: it counts rows."""
        async with self._database.read(EVERY_ORGANISATION) as connection:
            hot_samples, oldest_hot_ms = (await connection.execute(_HOT)).one()
            sizes = (await connection.execute(_SIZES)).one()
        self._figures = StoreFigures(hot_samples, sizes.packed, sizes.total, oldest_hot_ms)

    def _count(self, added: int) -> None:
        hot_samples = max(0, self._figures.hot_samples + added)
        self._figures = msgspec.structs.replace(self._figures, hot_samples=hot_samples)


def _days_of(samples: Sequence[NewSample]) -> Iterable[Partition]:
    days = {taken.ts_ms - taken.ts_ms % DAY_MS for taken in samples}
    return [partition_of("metric_samples", day_ms) for day_ms in days]


def _organisations(samples: Sequence[NewSample]) -> set[str]:
    return {taken.organisation_id for taken in samples}
