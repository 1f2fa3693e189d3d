"""What the hub has of a machine's streams: the newest values, and which sequences are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from protocol.enumerations import Lane
from protocol.frames import MetricValue, Sample, SequenceRange
from protocol.ranges import SequenceRanges


class Resolution(StrEnum):
    """What history is kept as: every sample, or buckets of a minute, five minutes or an hour."""

    RAW = "raw"
    MINUTE = "1m"
    FIVE_MINUTES = "5m"
    HOUR = "1h"


BUCKET_MS: Final[Mapping[Resolution, int]] = {
    Resolution.MINUTE: 60_000,
    Resolution.FIVE_MINUTES: 300_000,
    Resolution.HOUR: 3_600_000,
}
EVENTS_STREAM: Final = "events"
EPOCHS_KEPT: Final = 4
RANGES_KEPT: Final = 1024


class NewestSample(Struct, frozen=True):
    """`ts_ms` is never ahead of the hub's clock, so that a wrong clock cannot be the newest for ever."""

    ts_ms: int
    data: Mapping[str, MetricValue]


class StreamKey(NamedTuple):
    """One numbering of one stream (`live`, `backfill` or `events`) of one agent."""

    agent_id: str
    stream: str
    epoch: int


class StoredRanges(Struct, frozen=True):
    """The committed sequences of one numbering."""

    organisation_id: str
    key: StreamKey
    ranges: SequenceRanges


class SampleRow(NamedTuple):
    """A sample as it is stored; `data` is JSON text."""

    organisation_id: str
    agent_id: str
    metric_type: str
    ts_ms: int
    data: str


class SampleFrame(Protocol):
    """One `metrics` frame of a known agent."""

    @property
    def organisation_id(self) -> str: ...
    @property
    def agent_id(self) -> str: ...
    @property
    def lane(self) -> Lane: ...
    @property
    def epoch(self) -> int: ...
    @property
    def samples(self) -> Sequence[Sample]: ...
    @property
    def received_monotonic(self) -> float: ...


class Receipt(Struct, frozen=True, kw_only=True):
    """What one agent is told after the commit: the samples of a lane that were in its frames."""

    organisation_id: str
    agent_id: str
    lane: Lane
    epoch: int
    ranges: list[SequenceRange]
    received_monotonic: float


class Received:
    """The committed sequences of every agent's streams, in memory. Changed only after a commit.

    An agent's spool has one numbering in use; a few older ones are kept for what may still be repeated of them.
    """

    def __init__(self) -> None:
        self._streams: dict[str, dict[str, dict[int, SequenceRanges]]] = {}
        self._gone: set[str] = set()

    def get(self, key: StreamKey) -> SequenceRanges | None:
        return self._streams.get(key.agent_id, {}).get(key.stream, {}).get(key.epoch)

    def put(self, key: StreamKey, ranges: SequenceRanges) -> None:
        """Make `ranges` the committed ones of `key`, and its epoch the one in use."""
        if key.agent_id in self._gone:
            return
        epochs = self._streams.setdefault(key.agent_id, {}).setdefault(key.stream, {})
        epochs.pop(key.epoch, None)
        epochs[key.epoch] = ranges
        for unused in list(epochs)[:-EPOCHS_KEPT]:
            del epochs[unused]

    def surplus(self, keys: Sequence[StreamKey]) -> list[StreamKey]:
        """Return what `put` of `keys`, in this order, will drop: the numberings that were not used for longest."""
        used: dict[tuple[str, str], list[int]] = {}
        for agent_id, stream, epoch in keys:
            used.setdefault((agent_id, stream), []).append(epoch)
        dropped = []
        for (agent_id, stream), epochs in used.items():
            others = [epoch for epoch in self._streams.get(agent_id, {}).get(stream, {}) if epoch not in epochs]
            dropped += [StreamKey(agent_id, stream, epoch) for epoch in (others + epochs)[:-EPOCHS_KEPT]]
        return dropped

    def in_use(self, agent_id: str) -> Mapping[str, tuple[int, SequenceRanges]]:
        """Return, by stream, the epoch that was written last and its sequences."""
        return {
            stream: next(reversed(epochs.items()))
            for stream, epochs in self._streams.get(agent_id, {}).items()
            if epochs
        }

    def sample_count(self, agent_id: str) -> int:
        return sum(
            ranges.count()
            for stream, epochs in self._streams.get(agent_id, {}).items()
            if stream != EVENTS_STREAM
            for ranges in epochs.values()
        )

    def is_gone(self, agent_id: str) -> bool:
        """Tell whether the agent was deleted: what of it is still on the way is not stored any more."""
        return agent_id in self._gone

    def forget(self, agent_id: str) -> None:
        self._streams.pop(agent_id, None)
        self._gone.add(agent_id)


def bounded(ranges: SequenceRanges) -> SequenceRanges:
    """Return `ranges`, the older half of its gaps closed when there are too many to keep.

    An honest agent has a handful of gaps. What is missing in a closed one counts as received.
    """
    if len(ranges) > RANGES_KEPT:
        all_ranges = ranges.to_list()
        ranges.add(all_ranges[0][0], all_ranges[RANGES_KEPT // 2][1])
    return ranges
