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
_NONE_OLDER: Final[Mapping[int, tuple[int, ...]]] = MappingProxyType({})


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

    An agent's spool has one numbering in use; a few older ones are kept for what may still be repeated of them. Of each
    the ranges are kept flat: as nothing but numbers, out of the garbage collector's sight.
    """

    def __init__(self) -> None:
        self._in_use: dict[tuple[str, str], tuple[int, ...]] = {}
        self._older: dict[tuple[str, str], dict[int, tuple[int, ...]]] = {}
        self._streams: set[str] = set()
        self._gone: set[str] = set()

    def of(self, agent_id: str, stream: str, epoch: int) -> SequenceRanges | None:
        flat = self._flat(agent_id, stream, epoch)
        return None if flat is None else SequenceRanges.from_flat(flat)

    def newest(self, agent_id: str, stream: str, epoch: int) -> int:
        """Return the highest sequence, 0 where there is none."""
        flat = self._flat(agent_id, stream, epoch)
        return flat[-1] if flat else 0

    def put(self, key: StreamKey, ranges: SequenceRanges) -> None:
        """Make `ranges` the committed ones of `key`, and its epoch the one in use."""
        agent_id, stream, epoch = key
        if agent_id in self._gone:
            return
        place = (agent_id, stream)
        before = self._in_use.get(place)
        self._in_use[place] = (epoch, *ranges.flat())
        if before is None:
            self._streams.add(stream)
        elif before[0] != epoch:
            older = self._older.setdefault(place, {})
            older.pop(epoch, None)
            older[before[0]] = before[1:]
            for unused in list(older)[: 1 - EPOCHS_KEPT]:
                del older[unused]

    def surplus(self, keys: Sequence[StreamKey]) -> list[StreamKey]:
        """Return what `put` of `keys`, in this order, will drop: the numberings that were not used for longest."""
        changing = {
            (agent_id, stream)
            for agent_id, stream, epoch in keys
            if (in_use := self._in_use.get((agent_id, stream))) is None or in_use[0] != epoch
        }
        if not changing:
            return []
        used: dict[tuple[str, str], list[int]] = {}
        for agent_id, stream, epoch in keys:
            if (agent_id, stream) in changing:
                used.setdefault((agent_id, stream), []).append(epoch)
        dropped = []
        for place, epochs in used.items():
            known = [*self._older.get(place, ()), *self._in_use.get(place, ())[:1]]
            ordered = [epoch for epoch in known if epoch not in epochs] + epochs
            dropped += [StreamKey(*place, epoch) for epoch in ordered[:-EPOCHS_KEPT]]
        return dropped

    def in_use(self, agent_id: str) -> Mapping[str, tuple[int, SequenceRanges]]:
        """Return, by stream, the epoch that was written last and its sequences."""
        found = {stream: self._in_use.get((agent_id, stream)) for stream in sorted(self._streams)}
        return {stream: (flat[0], SequenceRanges.from_flat(flat[1:])) for stream, flat in found.items() if flat}

    def sample_count(self, agent_id: str) -> int:
        return sum(
            _count(flat)
            for stream in self._streams
            if stream != EVENTS_STREAM
            for flat in (
                self._in_use.get((agent_id, stream), ())[1:],
                *self._older.get((agent_id, stream), _NONE_OLDER).values(),
            )
        )

    def is_gone(self, agent_id: str) -> bool:
        """Tell whether the agent was deleted: what of it is still on the way is not stored any more."""
        return agent_id in self._gone

    def forget(self, agent_id: str) -> None:
        for stream in self._streams:
            self._in_use.pop((agent_id, stream), None)
            self._older.pop((agent_id, stream), None)
        self._gone.add(agent_id)

    def _flat(self, agent_id: str, stream: str, epoch: int) -> tuple[int, ...] | None:
        place = (agent_id, stream)
        in_use = self._in_use.get(place)
        if in_use is None:
            return None
        return in_use[1:] if in_use[0] == epoch else self._older.get(place, _NONE_OLDER).get(epoch)


def _count(flat: Sequence[int]) -> int:
    return sum(flat[1::2]) - sum(flat[::2]) + len(flat) // 2


def bounded(ranges: SequenceRanges) -> SequenceRanges:
    """Return `ranges`, the older half of its gaps closed when there are too many to keep.

    An honest agent has a handful of gaps. What is missing in a closed one counts as received.
    """
    if len(ranges) > RANGES_KEPT:
        all_ranges = ranges.to_list()
        ranges.add(all_ranges[0][0], all_ranges[RANGES_KEPT // 2][1])
    return ranges
