"""The store of samples on SQLite, as telemetry sees it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from hub_server.rests import Rests
from hub_server.storage.engine import Database
from hub_server.storage.sqlite_files import remove
from hub_server.telemetry.day_files.answers import find_rollups, newest_of_all, raw_of, rollups_of
from hub_server.telemetry.day_files.day import Day
from hub_server.telemetry.day_files.failures import failures
from hub_server.telemetry.day_files.index import Index
from hub_server.telemetry.day_files.layout import DAY_MS, HOUR_MS, ROLLED, Layout, Period
from hub_server.telemetry.day_files.ledger import Ledger
from hub_server.telemetry.day_files.packer import Packer
from hub_server.telemetry.day_files.reading import Reading, Wanted
from hub_server.telemetry.day_files.rollup_files import RollupFiles
from hub_server.telemetry.day_files.takeover import take_over
from hub_server.telemetry.model import Resolution, StoredRanges, StreamKey
from hub_server.telemetry.port import Columns, NewSample, RollupColumns, StoredSample, StoreFailed, StoreFigures
from hub_server.telemetry.rollups import TooLong

log = structlog.get_logger(component="telemetry")

WRITER, PACKER, READER = range(3)
READERS: Final = 2
FEW_ROWS: Final = 40
"""So many rows of rollups are unpacked, a chart's worth, on the event loop: some 30 µs each. In a thread each of them
gives up the interpreter's lock and waits for the loop's work to get it back."""
FEW_BYTES: Final = 500_000
"""Of the text in these rows: twice a day of eight metrics by the minute. How long a row is, its machine decides."""

T = TypeVar("T")


class DayFiles:
    """Fulfils MetricStore. One thread writes days, one packs and writes all other files, two read.

    An answer that was cancelled is worked out to its end in its thread; what was begun there is never half done.
    """

    def __init__(self, *, folder: Path, database: Database | None = None) -> None:
        """`database`: where an earlier version kept samples, which `open` takes over."""
        self._layout = Layout(folder)
        self._database = database
        self._ledger = Ledger()
        self._days: dict[int, Day] = {}
        self._index = Index(self._layout.index)
        rests = Rests()
        self._rollups = RollupFiles(self._layout, rests)
        self._packer = Packer(
            days=self._days,
            index=self._index,
            rollups=self._rollups,
            write=self._written,
            ranges_of=self._ledger.of,
            rests=rests,
        )
        self._readings = [Reading(self._layout) for _ in range(READERS)]
        self._waiting = [0] * READERS
        self._total_bytes = 0
        self._threads: list[ThreadPoolExecutor] = []

    async def open(self) -> None:
        """Takes a moment a hundred thousand samples that are not packed yet, and does not look at the packed ones."""
        self._threads = [
            ThreadPoolExecutor(1, thread_name_prefix=name)
            for name in ("samples-writer", "samples-packer", *(f"samples-reader-{n}" for n in range(READERS)))
        ]
        await self._in_packer(self._load_index)
        await self._in_writer(self._open_days)
        if self._database is not None:
            await take_over(
                self._database,
                imported_until=lambda day: self._in_writer(self._imported_until, day),
                add=lambda samples: self.add(samples, ()),
                save_ranges=self._take_over_ranges,
            )
        await self._in_packer(self._measure)

    async def close(self) -> None:
        if not self._threads:
            return
        try:
            await self._in_packer(self._close_packing)
            for number, reading in enumerate(self._readings):
                await self._in_thread(READER + number, reading.readers.close)
            await self._in_writer(self._close_days)
        finally:
            threads, self._threads = self._threads, []
            for thread in threads:
                thread.shutdown(wait=False)

    async def load_ranges(self) -> list[StoredRanges]:
        return await self._in_writer(self._ledger.all)

    async def ranges_of(self, keys: Collection[StreamKey]) -> list[StoredRanges]:
        return await self._in_writer(self._settled_ranges, keys)

    async def load_newest(self, until_ms: int) -> list[StoredSample]:
        return await self._read(lambda reading: newest_of_all(reading, self._known_days(), self._index, until_ms))

    async def add(self, samples: Sequence[NewSample], changed: Sequence[StoredRanges]) -> None:
        await self._in_writer(self._add, samples, changed)

    async def drop_ranges(self, keys: Collection[StreamKey]) -> None:
        if keys:
            await self._in_writer(self._forget_streams, keys)
            await self._in_packer(self._index.forget_streams, keys)

    async def raw(
        self, organisation_id: str, agent_id: str, metric_type: str, metrics: Sequence[str], from_ms: int, to_ms: int
    ) -> Columns:
        name = (organisation_id, agent_id, metric_type)
        return await self._read(lambda reading: raw_of(reading, self._known_days(), name, metrics, from_ms, to_ms))

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
        wanted = Wanted(organisation_id, agent_ids, metric_type, metrics)
        span = range(from_ms - from_ms % HOUR_MS, to_ms + -to_ms % HOUR_MS)
        found = await self._read(
            lambda reading: find_rollups(
                reading, self._known_days(), partial(self._rollups.periods, resolution), wanted, span, resolution
            )
        )
        if len(found.rows) <= FEW_ROWS:
            with suppress(TooLong):
                return rollups_of(found, metrics, from_ms, to_ms, FEW_BYTES)
        return await self._read(lambda _: rollups_of(found, metrics, from_ms, to_ms))

    async def pack(self, now_ms: int) -> int:
        return await self._in_packer(self._pack, now_ms)

    async def drop_before(self, resolution: Resolution, cutoff_ms: int) -> int:
        periods = await self._in_packer(self._layout.periods, resolution)
        gone = [period for period in periods if period.to_ms <= cutoff_ms]
        await self._forget_in_readers(gone)
        for period in gone:
            await self._in_packer(self._drop, period)
        await self._forget_in_readers(gone)  # who asked meanwhile had them open again
        await self._in_packer(self._measure)
        return len(gone)

    async def delete_agent(self, organisation_id: str, agent_id: str) -> None:
        keys = await self._in_writer(self._ledger.keys_of, organisation_id, agent_id)
        for day in self._known_days():
            for name, series in await self._in_writer(day.series_of_agent, organisation_id, agent_id):
                await self._in_packer(self._written, day.forget_series, name, series)
        for resolution in ROLLED:
            for period in self._rollups.periods(resolution):
                await self._in_packer(self._rollups.forget_agent, period, organisation_id, agent_id)
        await self._in_writer(self._forget_streams, keys)
        await self._in_packer(self._index.forget_agent, organisation_id, agent_id)

    def figures(self) -> StoreFigures:
        days = self._known_days()
        oldest = [day.oldest_ms for day in days if day.oldest_ms is not None]
        return StoreFigures(
            hot_samples=sum(day.mirror.unpacked for day in days),
            packed_bytes=sum(day.chunk_bytes for day in days),
            total_bytes=self._total_bytes,
            oldest_hot_ms=min(oldest, default=None),
            cut_hours=self._packer.cut_hours,
        )

    def _load_index(self) -> None:
        self._rollups.load()
        ranges = self._index.load()
        self._written(self._ledger.replace, ranges)

    def _open_days(self) -> None:
        for number in self._layout.raw_days():
            day = Day(number, self._layout.raw(number), self._ledger)
            day.open()
            self._days[number] = day

    def _close_days(self) -> None:
        for day in self._days.values():
            day.close()
        self._days.clear()

    def _close_packing(self) -> None:
        self._packer.close()
        self._index.close()
        self._rollups.close()

    def _add(self, samples: Sequence[NewSample], changed: Sequence[StoredRanges]) -> None:
        """The ledger has each day's samples as soon as they are committed, whatever becomes of the next day's."""
        by_day: defaultdict[int, list[NewSample]] = defaultdict(list)
        for sample in samples:
            by_day[sample.ts_ms // DAY_MS].append(sample)
        keys = {stored.key for stored in changed}
        for number in sorted(by_day):
            touched = self._day(number).add(by_day[number])
            if len(by_day) > 1 or not touched <= keys:
                self._ledger.add_samples(by_day[number])
        self._ledger.replace(changed)

    def _day(self, number: int) -> Day:
        """Readers hear of a day when its file is complete."""
        day = self._days.get(number)
        if day is None:
            day = Day(number, self._layout.raw(number), self._ledger)
            day.settle()
            self._days[number] = day
        return day

    def _settled_ranges(self, keys: Collection[StreamKey]) -> list[StoredRanges]:
        for day in self._days.values():
            if day.has_rows:
                day.settle()
        return self._ledger.of(keys)

    def _forget_streams(self, keys: Collection[StreamKey]) -> None:
        for day in self._days.values():
            day.forget_streams(keys)
        self._ledger.forget(keys)

    def _imported_until(self, number: int) -> int:
        return self._days[number].imported_until() if number in self._days else 0

    async def _take_over_ranges(self, ranges: Sequence[StoredRanges]) -> None:
        for stored in ranges:
            await self._in_writer(self._ledger.add, stored.organisation_id, stored.key, stored.ranges.to_list())
        merged = await self._in_writer(self._ledger.of, {stored.key for stored in ranges})
        await self._in_packer(self._index.save_ranges, merged)

    def _pack(self, now_ms: int) -> int:
        samples = self._packer.pack(now_ms)
        if not samples:
            self._measure()
        return samples

    def _drop(self, period: Period) -> None:
        """Samples that are not rolled up yet are before they go, unless that fails: it must not keep the disk full."""
        if period.resolution is not Resolution.RAW:
            self._rollups.remove(period)
            return
        number = period.from_ms // DAY_MS
        day = self._days.get(number)
        if day is not None:
            try:
                self._packer.finish(day)
            except (sqlite3.Error, OSError) as error:
                log.warning("samples dropped without rollups", path=str(day.path), error=str(error))
            self._packer.forget(day)
        self._written(self._remove_day, number)

    async def _forget_in_readers(self, periods: Sequence[Period]) -> None:
        for period in periods:
            for number, reading in enumerate(self._readings):
                await self._in_thread(READER + number, reading.readers.forget, self._layout.path_of(period))

    def _remove_day(self, number: int) -> None:
        """In the writer's thread: no sample is written to a file that is gone."""
        day = self._days.pop(number, None)
        if day is not None:
            day.close()
        remove(self._layout.raw(number))

    def _measure(self) -> None:
        self._total_bytes = self._layout.total_bytes()

    def _known_days(self) -> list[Day]:
        return [*self._days.values()]

    def _written(self, work: Callable[..., T], *arguments: Any) -> T:
        """Run in the writer's thread and wait for it: from the packer's thread only."""
        return self._threads[WRITER].submit(work, *arguments).result()

    async def _in_writer(self, work: Callable[..., T], *arguments: Any) -> T:
        return await self._in_thread(WRITER, work, *arguments)

    async def _in_packer(self, work: Callable[..., T], *arguments: Any) -> T:
        return await self._in_thread(PACKER, work, *arguments)

    async def _read(self, answer: Callable[[Reading], T]) -> T:
        """Ask the reader that has least to do."""
        number = min(range(READERS), key=self._waiting.__getitem__)
        self._waiting[number] += 1
        try:
            return await self._in_thread(READER + number, answer, self._readings[number])
        finally:
            self._waiting[number] -= 1

    async def _in_thread(self, number: int, work: Callable[..., T], *arguments: Any) -> T:
        if not self._threads:
            raise StoreFailed("the store of samples is closed", temporary=True)
        return await asyncio.get_running_loop().run_in_executor(
            self._threads[number], partial(_without_foreign_errors, work, *arguments)
        )


def _without_foreign_errors(work: Callable[..., T], *arguments: Any) -> T:
    with failures():
        return work(*arguments)
