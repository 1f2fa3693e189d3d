"""A store of samples in memory: it keeps the port's promises, fails when told to, and outlives a hub."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from hub_server.telemetry.model import Resolution, StoredRanges, StreamKey
from hub_server.telemetry.port import Columns, NewSample, RollupColumns, StoredSample, StoreFailed, StoreFigures
from protocol.ranges import SequenceRanges

DAY_MS = 24 * 3600 * 1000


class MemoryStore:
    """`failures`: how many calls of `add` fail, before or after their commit. `refuses`: a metric type it cannot take.

    While `open_gate` is not set, `add` hangs.
    """

    def __init__(self) -> None:
        self.samples: dict[tuple[StreamKey, int], NewSample] = {}
        self.ranges: dict[StreamKey, StoredRanges] = {}
        self.failures = 0
        self.fails_after_commit = False
        self.refuses = ""
        self.open_gate = asyncio.Event()
        self.open_gate.set()
        self.adding = asyncio.Event()
        self._added = asyncio.Event()
        self.commits: list[int] = []
        self.dropped: list[tuple[Resolution, int]] = []
        self.hot = 0

    def of(self, agent_id: str) -> list[NewSample]:
        return [sample for (key, _), sample in self.samples.items() if key.agent_id == agent_id]

    async def filled(self, count: int) -> None:
        """Wait until there are `count` samples."""
        while len(self.samples) < count:
            self._added.clear()
            await self._added.wait()

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def load_ranges(self) -> list[StoredRanges]:
        return [_copied(stored) for stored in self.ranges.values()]

    async def ranges_of(self, keys: Collection[StreamKey]) -> list[StoredRanges]:
        return [_copied(self.ranges[key]) for key in keys if key in self.ranges]

    async def load_newest(self, until_ms: int) -> list[StoredSample]:
        newest: dict[tuple[str, str], StoredSample] = {}
        for sample in sorted(self.samples.values(), key=lambda sample: sample.ts_ms):
            if sample.ts_ms <= until_ms:
                newest[sample.key.agent_id, sample.metric_type] = StoredSample(
                    sample.organisation_id, sample.key.agent_id, sample.metric_type, sample.ts_ms, sample.data
                )
        return list(newest.values())

    async def add(self, samples: Sequence[NewSample], changed: Sequence[StoredRanges]) -> None:
        self.adding.set()
        await self.open_gate.wait()
        await asyncio.sleep(0)
        fails = self.failures > 0
        self.failures -= 1
        if fails and not self.fails_after_commit:
            raise StoreFailed("no room", temporary=True)
        if any(sample.metric_type == self.refuses for sample in samples):
            raise StoreFailed("not a type", temporary=False)
        for sample in samples:
            assert (sample.key, sample.seq) not in self.samples, "stored twice"
            self.samples[sample.key, sample.seq] = sample
        for stored in changed:
            self.ranges.pop(stored.key, None)
            self.ranges[stored.key] = _copied(stored)
        self.commits.append(len(samples))
        self.hot += len(samples)
        self._added.set()
        if fails:
            raise StoreFailed("connection lost", temporary=True)

    async def drop_ranges(self, keys: Collection[StreamKey]) -> None:
        for key in keys:
            self.ranges.pop(key, None)

    async def raw(
        self, organisation_id: str, agent_id: str, metric_type: str, metrics: Sequence[str], from_ms: int, to_ms: int
    ) -> Columns:
        found = sorted(
            (sample.ts_ms, sample.seq, sample.data)
            for sample in self.of(agent_id)
            if (sample.organisation_id, sample.metric_type) == (organisation_id, metric_type)
            and from_ms <= sample.ts_ms < to_ms
        )
        values = {name: [_number(data.get(name)) for _, _, data in found] for name in metrics}
        return Columns([ts_ms for ts_ms, _, _ in found], values)

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
        raise NotImplementedError("the contract suite asks the real stores")

    async def pack(self, now_ms: int) -> int:  # noqa: ARG002
        piece = min(self.hot, 10)
        self.hot -= piece
        return piece

    async def drop_before(self, resolution: Resolution, cutoff_ms: int) -> int:
        self.dropped.append((resolution, cutoff_ms))
        if resolution is Resolution.RAW:
            self.samples = {at: sample for at, sample in self.samples.items() if sample.ts_ms >= cutoff_ms}
        return 0

    async def delete_agent(self, organisation_id: str, agent_id: str) -> None:
        self.samples = {
            at: sample
            for at, sample in self.samples.items()
            if (sample.organisation_id, at[0].agent_id) != (organisation_id, agent_id)
        }
        self.ranges = {
            key: stored
            for key, stored in self.ranges.items()
            if (stored.organisation_id, key.agent_id) != (organisation_id, agent_id)
        }

    def figures(self) -> StoreFigures:
        return StoreFigures(hot_samples=self.hot, packed_bytes=0, total_bytes=0, oldest_hot_ms=None)


def _copied(stored: StoredRanges) -> StoredRanges:
    return StoredRanges(stored.organisation_id, stored.key, SequenceRanges(stored.ranges))


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
