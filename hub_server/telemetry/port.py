"""What telemetry asks of a store of samples. Two fulfil it: a file a day on SQLite, a partition a day on PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from hub_server.telemetry.model import Resolution, StoredRanges, StreamKey
from protocol.frames import MetricValue, SequenceRange


class StoreFailed(Exception):
    """The store did not take or give what was asked; nothing was acknowledged.

    `temporary`: trying again later can help (a full disk, a lost connection). Else the rows themselves are refused.
    """

    def __init__(self, message: str, *, temporary: bool) -> None:
        super().__init__(message)
        self.temporary = temporary


class NewSample(Struct, frozen=True, gc=False):
    """One sample to be stored. `ts_ms` is corrected already; its day of UTC decides where it goes."""

    organisation_id: str
    key: StreamKey
    seq: int
    metric_type: str
    ts_ms: int
    data: Mapping[str, MetricValue]


class StoredSample(Struct, frozen=True):
    organisation_id: str
    agent_id: str
    metric_type: str
    ts_ms: int
    data: Mapping[str, MetricValue]


class Columns(Struct, frozen=True):
    """Samples of one series as columns, in ascending order of time. A value that is absent or no number is None."""

    timestamps: Sequence[int]
    values: Mapping[str, Sequence[float | None]]


class RollupColumns(Struct, frozen=True):
    """Buckets of one series in ascending order; `timestamps` are their beginnings. A bucket without a value is None.

    Of a counter `last` is what counts; of a gauge `minima`, `maxima`, `sums` and `counts`.
    """

    timestamps: Sequence[int]
    minima: Mapping[str, Sequence[float | None]]
    maxima: Mapping[str, Sequence[float | None]]
    sums: Mapping[str, Sequence[float]]
    counts: Mapping[str, Sequence[int]]
    last: Mapping[str, Sequence[float | None]]


class StoreFigures(Struct, frozen=True):
    """For the hub's own metrics. Bytes are on disk; `hot` are samples that are not packed yet.

    `cut_hours`: how often, since the start, samples were left out of an hour that was beyond its bounds.
    """

    hot_samples: int
    packed_bytes: int
    total_bytes: int
    oldest_hot_ms: int | None
    cut_hours: int = 0


class MetricStore(Protocol):
    """One writer at a time calls `add`; everything else may run beside it. All raise StoreFailed."""

    async def open(self) -> None:
        """Make ready what is there, also after a crash; take over what an earlier version left."""

    async def close(self) -> None: ...

    async def load_ranges(self) -> list[StoredRanges]:
        """Return the committed sequences of every numbering over all days, those written last at the end."""

    async def ranges_of(self, keys: Collection[StreamKey]) -> list[StoredRanges]:
        """Return what the disk says of `keys`, whatever an unanswered commit did."""

    async def load_newest(self, until_ms: int) -> list[StoredSample]:
        """Return the newest sample of each agent and metric type that is not later than `until_ms`."""

    async def add(self, samples: Sequence[NewSample], changed: Sequence[StoredRanges]) -> None:
        """Store `samples`, durably when this returns. `changed` are the whole ranges of their numberings with them.

        Samples of several days may take a transaction each. When it raises, some of these may have been committed; the
        sequences and rows of each one agree.
        """

    async def drop_ranges(self, keys: Collection[StreamKey]) -> None:
        """Forget numberings that are not in use any more."""

    async def raw(
        self, organisation_id: str, agent_id: str, metric_type: str, metrics: Sequence[str], from_ms: int, to_ms: int
    ) -> Columns:
        """Return every sample of the span (`to_ms` excluded), packed or not."""

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
        """Return the buckets that begin in the span, by agent; samples that are not packed yet are in them."""

    async def pack(self, now_ms: int) -> int:
        """Do the next bounded piece of packing (hot samples into chunks, and their rollups); call it again while it
        returns more than 0 samples packed. Never blocks the event loop or a commit for long."""

    async def drop_before(self, resolution: Resolution, cutoff_ms: int) -> int:
        """Unlink or drop the whole periods of `resolution` that end before `cutoff_ms`; returns how many."""

    async def delete_agent(self, organisation_id: str, agent_id: str) -> None:
        """Delete everything of an agent, in pieces that leave room for commits."""

    def figures(self) -> StoreFigures: ...


def added_by_stream(samples: Iterable[NewSample]) -> dict[StreamKey, list[SequenceRange]]:
    """Return the sequences of `samples` by numbering, as ascending closed ranges."""
    sequences: dict[StreamKey, list[int]] = {}
    for sample in samples:
        sequences.setdefault(sample.key, []).append(sample.seq)
    return {key: _ranges(sorted(numbers)) for key, numbers in sequences.items()}


def _ranges(numbers: Sequence[int]) -> list[SequenceRange]:
    ranges: list[SequenceRange] = []
    for number in numbers:
        if ranges and number <= ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges
