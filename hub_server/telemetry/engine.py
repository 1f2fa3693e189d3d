"""How many frames agents may send, and what a chart shows of stored samples. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Final

from hub_server.telemetry.model import Load
from protocol.enumerations import Lane
from protocol.limits import STREAM_CREDITS
from protocol.telemetry import MetricSeries

RESOLUTIONS_SECONDS: Final = (10, 30, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600, 7 * 24 * 3600)
COUNTERS: Final = frozenset({"uptime_seconds"})
COUNTER_PREFIX: Final = "network_bytes_"

LIVE_FALLS_FROM: Final = 0.25
BACKFILL_FALLS_FROM: Final = 0.1
LIVE_LEAST_AT: Final = 0.75
BACKFILL_LEAST_AT: Final = 0.5
WAITING_SAMPLES_MAX: Final = 32_768
"""Samples in memory on their way to the store; beyond them frames wait in their sessions."""
COMMIT_SECONDS_MAX: Final = 2.0
BACKFILL_CREDITS: Final = 2
"""History is in full frames: what a fleet sends at once after an outage must fit into the hub's memory."""


def credits_of(lane: Lane, load: Load) -> int:
    """Return how many frames of `lane` an agent may have in flight.

    All while the store keeps up; then fewer, history before live samples: history none, live samples one at a time.
    """
    pressure = max(load.waiting_samples / WAITING_SAMPLES_MAX, load.commit_seconds / COMMIT_SECONDS_MAX)
    if lane is Lane.LIVE:
        return max(1, _falling(STREAM_CREDITS, pressure, LIVE_FALLS_FROM, LIVE_LEAST_AT))
    return _falling(BACKFILL_CREDITS, pressure, BACKFILL_FALLS_FROM, BACKFILL_LEAST_AT)


def _falling(full: int, pressure: float, falls_from: float, none_at: float) -> int:
    """Return `full` up to `falls_from`, then less and less down to 0 at `none_at`."""
    share = (none_at - pressure) / (none_at - falls_from)
    return ceil(full * min(1.0, max(0.0, share)))


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

    def add(self, rows: Iterable[tuple[int, Sequence[float | None]]]) -> None:
        """Take samples (ts in ms, a value a metric), none older than the last of an earlier call."""
        resolution_ms, origin_ms = self._resolution_ms, self._origin_ms
        buckets = list(self._buckets.values())
        point_ms = self._timestamps[-1] if self._timestamps else None
        for ts_ms, values in rows:
            at_ms = ts_ms - (ts_ms - origin_ms) % resolution_ms if resolution_ms else ts_ms
            if at_ms != point_ms or not resolution_ms:
                self._begin_point(at_ms)
                point_ms = at_ms
            for bucket, value in zip(buckets, values, strict=True):
                if value is not None:
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
