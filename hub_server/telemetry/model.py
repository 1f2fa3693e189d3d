"""What the hub has of a machine's streams: the newest values, and which sequences are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

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
HUB_AGENT_PREFIX: Final = "hub:"
"""The hub's own figures are samples of an agent of this name, which no machine can have."""
TYPES_PER_AGENT_MAX: Final = 64
EPOCHS_KEPT: Final = 4
RANGES_KEPT: Final = 1024
_NONE_OLDER: Final[Mapping[int, SequenceRanges]] = MappingProxyType({})


class NewestSample(Struct, frozen=True, gc=False):
    """`ts_ms` is never ahead of the hub's clock, so that a wrong clock cannot be the newest for ever."""

    ts_ms: int
    data: Mapping[str, MetricValue]


class StreamKey(NamedTuple):
    """One numbering of one stream (`live`, `backfill` or `events`) of one agent."""

    agent_id: str
    stream: str
    epoch: int


class StoredRanges(Struct, frozen=True, gc=False):
    """The committed sequences of one numbering."""

    organisation_id: str
    key: StreamKey
    ranges: SequenceRanges


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


class Receipt(Struct, frozen=True, gc=False):
    """What one agent is told after the commit: the samples of a lane that were in its frames."""

    organisation_id: str
    agent_id: str
    lane: Lane
    epoch: int
    ranges: list[SequenceRange]
    received_monotonic: float


class Report(Struct, frozen=True, kw_only=True):
    """What an agent reported of itself; the kinds are those of protocol/reports.py. `ts_ms` is by the hub's clock."""

    organisation_id: str
    agent_id: str
    epoch: int
    seq: int
    ts_ms: int
    kind: str
    data: dict[str, Any]


class Load(NamedTuple):
    """How much the store has to do: samples that wait for their commit, and how long the last one took or lasts."""

    waiting_samples: int
    commit_seconds: float


class Pressure:
    """What is on its way to the store, told by who receives and who commits."""

    def __init__(self) -> None:
        self.waiting_samples = 0
        self._last_seconds = 0.0
        self._since: float | None = None

    def began(self, monotonic: float) -> None:
        """A commit began; until one succeeds it lasts, however often it is tried."""
        if self._since is None:
            self._since = monotonic

    def ended(self, monotonic: float) -> None:
        if self._since is not None:
            self._last_seconds = monotonic - self._since
        self._since = None

    def load(self, monotonic: float) -> Load:
        """Of a commit that lasts longer than the one before it took, so far."""
        lasts = 0.0 if self._since is None else monotonic - self._since
        return Load(self.waiting_samples, max(lasts, self._last_seconds))


class Received:
    """The committed sequences of every agent's streams, in memory. Changed only after a commit.

    An agent's spool has one numbering in use; a few older ones are kept for what may still be repeated of them.
    """

    def __init__(self) -> None:
        self._in_use: dict[tuple[str, str], _Numbering] = {}
        self._older: dict[tuple[str, str], dict[int, SequenceRanges]] = {}
        self._streams: set[str] = set()
        self._gone: set[str] = set()

    def of(self, agent_id: str, stream: str, epoch: int) -> SequenceRanges | None:
        """Return a copy that may be changed."""
        ranges = self._ranges(agent_id, stream, epoch)
        return None if ranges is None else ranges.copy()

    def key_of(self, agent_id: str, stream: str, epoch: int) -> StreamKey:
        """Return the key of a numbering: of the one in use always the same object."""
        in_use = self._in_use.get((agent_id, stream))
        return in_use.key if in_use is not None and in_use.key.epoch == epoch else StreamKey(agent_id, stream, epoch)

    def newest(self, agent_id: str, stream: str, epoch: int) -> int:
        """Return the highest sequence, 0 where there is none."""
        ranges = self._ranges(agent_id, stream, epoch)
        return 0 if ranges is None else ranges.newest

    def put(self, key: StreamKey, ranges: SequenceRanges) -> None:
        """Make `ranges` the committed ones of `key`, and its epoch the one in use. They are not changed any more."""
        agent_id, stream, epoch = key
        if agent_id in self._gone:
            return
        place = (agent_id, stream)
        in_use = self._in_use.get(place)
        if in_use is None:
            self._in_use[place] = _Numbering(key, ranges)
            self._streams.add(stream)
            return
        if in_use.key.epoch != epoch:
            older = self._older.setdefault(place, {})
            older.pop(epoch, None)
            older[in_use.key.epoch] = in_use.ranges
            for unused in list(older)[: 1 - EPOCHS_KEPT]:
                del older[unused]
            in_use.key = key
        in_use.ranges = ranges

    def surplus(self, keys: Sequence[StreamKey]) -> list[StreamKey]:
        """Return what `put` of `keys`, in this order, will drop: the numberings that were not used for longest."""
        changing = {
            (agent_id, stream)
            for agent_id, stream, epoch in keys
            if (in_use := self._in_use.get((agent_id, stream))) is None or in_use.key.epoch != epoch
        }
        if not changing:
            return []
        used: dict[tuple[str, str], list[int]] = {}
        for agent_id, stream, epoch in keys:
            if (agent_id, stream) in changing:
                used.setdefault((agent_id, stream), []).append(epoch)
        dropped = []
        for place, epochs in used.items():
            in_use = self._in_use.get(place)
            known = [*self._older.get(place, ()), *(() if in_use is None else (in_use.key.epoch,))]
            ordered = [epoch for epoch in known if epoch not in epochs] + epochs
            dropped += [StreamKey(*place, epoch) for epoch in ordered[:-EPOCHS_KEPT]]
        return dropped

    def in_use(self, agent_id: str) -> Mapping[str, tuple[int, SequenceRanges]]:
        """Return, by stream, the epoch that was written last and its sequences."""
        found = {stream: self._in_use.get((agent_id, stream)) for stream in sorted(self._streams)}
        return {
            stream: (in_use.key.epoch, in_use.ranges.copy()) for stream, in_use in found.items() if in_use is not None
        }

    def sample_count(self, agent_id: str) -> int:
        count = 0
        for stream in self._streams - {EVENTS_STREAM}:
            in_use = self._in_use.get((agent_id, stream))
            older = self._older.get((agent_id, stream), _NONE_OLDER).values()
            count += sum(ranges.count() for ranges in older) + (0 if in_use is None else in_use.ranges.count())
        return count

    def is_gone(self, agent_id: str) -> bool:
        """Tell whether the agent was deleted: what of it is still on the way is not stored any more."""
        return agent_id in self._gone

    def forget(self, agent_id: str) -> None:
        for stream in self._streams:
            self._in_use.pop((agent_id, stream), None)
            self._older.pop((agent_id, stream), None)
        self._gone.add(agent_id)

    def _ranges(self, agent_id: str, stream: str, epoch: int) -> SequenceRanges | None:
        place = (agent_id, stream)
        in_use = self._in_use.get(place)
        if in_use is None:
            return None
        return in_use.ranges if in_use.key.epoch == epoch else self._older.get(place, _NONE_OLDER).get(epoch)


class _Numbering:
    """The numbering of a stream that is in use. It lives as long as its agent."""

    __slots__ = ("key", "ranges")

    def __init__(self, key: StreamKey, ranges: SequenceRanges) -> None:
        self.key = key
        self.ranges = ranges


def bounded(ranges: SequenceRanges) -> SequenceRanges:
    """Return `ranges`, the older half of its gaps closed when there are too many to keep.

    An honest agent has a handful of gaps. What is missing in a closed one counts as received.
    """
    if len(ranges) > RANGES_KEPT:
        all_ranges = ranges.to_list()
        ranges.add(all_ranges[0][0], all_ranges[RANGES_KEPT // 2][1])
    return ranges
