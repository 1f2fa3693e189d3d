"""Which samples of a batch are new, and what a chart shows of stored ones. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from hub_server.telemetry.model import Receipt, Received, SampleFrame, SampleRow, StoredRanges, StreamKey, bounded
from protocol.ranges import SequenceRanges
from protocol.telemetry import MetricSeries

RESOLUTIONS_SECONDS: Final = (10, 30, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600)
COUNTERS: Final = frozenset({"uptime_seconds"})
COUNTER_PREFIX: Final = "network_bytes_"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Intake(Struct, frozen=True):
    """What one transaction writes, and what is said after its commit."""

    rows: list[SampleRow]
    changed: list[StoredRanges]
    receipts: list[Receipt]


class _Merged:
    """The frames of one agent, lane and epoch in a batch."""

    __slots__ = ("committed", "first", "ranges", "sequences")

    def __init__(self, first: SampleFrame, committed: SequenceRanges | None) -> None:
        self.first = first
        self.committed = committed
        self.ranges = SequenceRanges(committed or ())
        self.sequences = SequenceRanges()

    def new_rows(self, frame: SampleFrame) -> list[SampleRow]:
        rows = []
        for sample in frame.samples:
            self.sequences.add(sample.seq)
            if sample.seq in self.ranges:
                continue
            self.ranges.add(sample.seq)
            data = _encode(sample.metric_data).decode()
            rows.append(SampleRow(frame.organisation_id, frame.agent_id, sample.metric_type, sample.ts, data))
        return rows


def intake_of(frames: Iterable[SampleFrame], received: Received) -> Intake:
    """Return the samples of `frames` that are not in `received` yet; `received` is unchanged."""
    rows: list[SampleRow] = []
    merged: dict[StreamKey, _Merged] = {}
    for frame in frames:
        if received.is_gone(frame.agent_id):
            continue
        key = StreamKey(frame.agent_id, frame.lane.value, frame.epoch)
        stream = merged.get(key)
        if stream is None:
            stream = merged[key] = _Merged(frame, received.get(key))
        rows += stream.new_rows(frame)
    return Intake(
        rows=rows,
        changed=[
            StoredRanges(stream.first.organisation_id, key, bounded(stream.ranges))
            for key, stream in merged.items()
            if stream.ranges != stream.committed
        ],
        receipts=[_receipt(stream) for stream in merged.values()],
    )


def _receipt(stream: _Merged) -> Receipt:
    return Receipt(
        organisation_id=stream.first.organisation_id,
        agent_id=stream.first.agent_id,
        lane=stream.first.lane,
        epoch=stream.first.epoch,
        ranges=stream.sequences.to_list(),
        received_monotonic=stream.first.received_monotonic,
    )


def is_counter(metric: str) -> bool:
    """Tell whether `metric` only rises: its last value stands for a bucket, not its mean."""
    return metric in COUNTERS or metric.startswith(COUNTER_PREFIX)


def resolution_seconds(span_ms: int, max_points: int) -> int:
    """Return the finest bucket with which `span_ms` has at most `max_points` points."""
    wanted_ms = span_ms / max(1, max_points - 1)  # both ends of the span may cut a bucket
    for seconds in RESOLUTIONS_SECONDS:
        if wanted_ms <= seconds * 1000:
            return seconds
    week = RESOLUTIONS_SECONDS[-1]
    return -(-int(wanted_ms) // (week * 1000)) * week


class Series:
    """Turns one agent's samples, in order of time, into points.

    `resolution_ms` 0 keeps every sample. `origin_ms` is where buckets are counted from.
    """

    def __init__(self, metrics: Sequence[str], *, resolution_ms: int, origin_ms: int) -> None:
        self._resolution_ms = resolution_ms
        self._origin_ms = origin_ms
        self._timestamps: list[int] = []
        self._buckets: dict[str, _Bucket] = {metric: _Bucket(is_counter(metric)) for metric in metrics}

    def add(self, rows: Iterable[Sequence[Any]]) -> None:
        """Take stored samples, each (ts in ms, JSON text), none older than the last of an earlier call."""
        resolution_ms, origin_ms = self._resolution_ms, self._origin_ms
        buckets = list(self._buckets.items())
        point_ms = self._timestamps[-1] if self._timestamps else None
        for ts_ms, data in rows:
            at_ms = ts_ms - (ts_ms - origin_ms) % resolution_ms if resolution_ms else ts_ms
            if at_ms != point_ms or not resolution_ms:
                self._begin_point(at_ms)
                point_ms = at_ms
            values = _decode(data)
            for metric, bucket in buckets:
                value: Any = values.get(metric)
                kind = type(value)
                if kind is float or kind is int:
                    bucket.add(value)

    def result(self, agent_id: str) -> MetricSeries:
        """Call once, after the last sample."""
        if self._timestamps:
            self._end_point()
        return MetricSeries(
            agent_id=agent_id,
            timestamps=self._timestamps,
            values={metric: bucket.points for metric, bucket in self._buckets.items()},
        )

    def _begin_point(self, at_ms: int) -> None:
        if self._timestamps:
            self._end_point()
        self._timestamps.append(at_ms)

    def _end_point(self) -> None:
        for bucket in self._buckets.values():
            bucket.end()


class _Bucket:
    __slots__ = ("_count", "_is_counter", "_last", "_sum", "points")

    def __init__(self, is_counter_metric: bool) -> None:
        self._is_counter = is_counter_metric
        self._sum = 0.0
        self._count = 0
        self._last = 0.0
        self.points: list[float | None] = []

    def add(self, value: float) -> None:
        self._last = value
        self._sum += value
        self._count += 1

    def end(self) -> None:
        if not self._count:
            self.points.append(None)
            return
        is_last = self._is_counter or self._count == 1
        self.points.append(float(self._last if is_last else self._sum / self._count))
        self._sum, self._count = 0.0, 0
