"""Samples with valid defaults, and a writer that knows what was committed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from hub_server.telemetry.model import Resolution, StoredRanges, StreamKey
from hub_server.telemetry.port import Columns, MetricStore, NewSample, RollupColumns, added_by_stream
from protocol.frames import MetricValue, SequenceRange
from protocol.ranges import SequenceRanges

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
MIDNIGHT_MS: Final = 1_795_305_600_000
"""2026-11-22 00:00 UTC."""
NOON_MS: Final = MIDNIGHT_MS + 12 * HOUR_MS
LATER_MS: Final = MIDNIGHT_MS + 2 * DAY_MS
"""When all of the tests' samples are of days that have ended."""
ALL_TIME: Final = (MIDNIGHT_MS - 400 * DAY_MS, LATER_MS)
PACKING_CALLS_MAX: Final = 2000
Bucket = tuple[float | None, float | None, float, int]
ORGANISATION: Final = "o1"


def sample(
    seq: int,
    ts_ms: int | None = None,
    data: Mapping[str, MetricValue] | None = None,
    *,
    agent: str = "a1",
    kind: str = "system",
    stream: str = "live",
    epoch: int = 1,
    organisation: str = ORGANISATION,
) -> NewSample:
    """The `seq`-th sample since noon, one each ten seconds, unless told otherwise."""
    return NewSample(
        organisation_id=organisation,
        key=StreamKey(agent, stream, epoch),
        seq=seq,
        metric_type=kind,
        ts_ms=NOON_MS + 10_000 * seq if ts_ms is None else ts_ms,
        data={"cpu_percent": float(seq)} if data is None else data,
    )


class Shelf:
    """A store that can be closed and opened again, and what was committed to it."""

    def __init__(self, make: Callable[[], MetricStore]) -> None:
        self._make = make
        self.store = make()
        self.committed: dict[StreamKey, SequenceRanges] = {}

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Shelf]:
        await self.store.open()
        try:
            yield self
        finally:
            await self.store.close()

    async def reopen(self) -> None:
        await self.store.close()
        self.store = self._make()
        await self.store.open()

    async def fates(self) -> AsyncIterator[str]:
        """Yield when samples are as they came, then after each thing that happens to them."""
        yield "as it comes"
        for happen in FATES:
            await happen(self)
            yield happen.__name__

    async def add(self, *samples: NewSample) -> None:
        """Store `samples` in one call, as the recorder does."""
        organisations = {taken.key: taken.organisation_id for taken in samples}
        changed = []
        for key, added in added_by_stream(samples).items():
            ranges = SequenceRanges([*self.committed.get(key, ()), *added])
            changed.append(StoredRanges(organisations[key], key, ranges))
        await self.store.add(samples, changed)
        for stored in changed:
            self.committed[stored.key] = stored.ranges

    async def pack(self, now_ms: int = LATER_MS) -> int:
        """Pack all that can be packed; returns how many samples."""
        total = 0
        for _ in range(PACKING_CALLS_MAX):
            packed = await self.store.pack(now_ms)
            if packed == 0:
                return total
            total += packed
        raise AssertionError("packing does not end")

    async def raw(
        self,
        *metrics: str,
        agent: str = "a1",
        kind: str = "system",
        organisation: str = ORGANISATION,
        span: tuple[int, int] = ALL_TIME,
    ) -> Columns:
        return await self.store.raw(organisation, agent, kind, metrics or ("cpu_percent",), *span)

    async def times(self, agent: str = "a1", kind: str = "system") -> list[int]:
        return list((await self.raw(agent=agent, kind=kind)).timestamps)

    async def values(self, agent: str = "a1", kind: str = "system") -> list[float | None]:
        return list((await self.raw(agent=agent, kind=kind)).values["cpu_percent"])

    async def buckets(
        self,
        resolution: Resolution,
        *metrics: str,
        agents: Sequence[str] = ("a1",),
        organisation: str = ORGANISATION,
        span: tuple[int, int] = ALL_TIME,
    ) -> Mapping[str, RollupColumns]:
        names = metrics or ("cpu_percent",)
        return await self.store.rollups(organisation, agents, "system", names, resolution, *span)

    async def gauge(
        self,
        resolution: Resolution,
        metric: str = "cpu_percent",
        *,
        agent: str = "a1",
        span: tuple[int, int] = ALL_TIME,
    ) -> dict[int, Bucket]:
        """Return (min, max, sum, count) by where a bucket begins, of those with a value."""
        found = (await self.buckets(resolution, metric, agents=[agent], span=span)).get(agent)
        if found is None or metric not in found.counts:
            return {}
        parts = (found.minima[metric], found.maxima[metric], found.sums[metric], found.counts[metric])
        assert {len(part) for part in parts} == {len(found.timestamps)}
        columns = zip(found.timestamps, *parts, strict=True)
        return {start: (low, high, total, count) for start, low, high, total, count in columns if count}

    async def counter(self, resolution: Resolution, metric: str, *, agent: str = "a1") -> dict[int, float | None]:
        """Return the last value by where a bucket begins, of those with one."""
        found = (await self.buckets(resolution, metric, agents=[agent])).get(agent)
        if found is None or metric not in found.last:
            return {}
        columns = zip(found.timestamps, found.last[metric], strict=True)
        return {start: value for start, value in columns if value is not None}

    async def ranges(self) -> dict[StreamKey, list[SequenceRange]]:
        return {stored.key: stored.ranges.to_list() for stored in await self.store.load_ranges()}

    async def newest(self, until_ms: int = LATER_MS) -> dict[tuple[str, str], tuple[int, Mapping[str, MetricValue]]]:
        return {
            (newest.agent_id, newest.metric_type): (newest.ts_ms, newest.data)
            for newest in await self.store.load_newest(until_ms)
        }


async def once_packed(shelf: Shelf) -> None:
    await shelf.pack()


async def once_reopened(shelf: Shelf) -> None:
    await shelf.reopen()


Fate = Callable[[Shelf], Awaitable[None]]
FATES: Final[Sequence[Fate]] = (once_reopened, once_packed, once_reopened)
"""What happens to samples after their commit; whatever is asked, the answers stay the same."""
