"""Samples summed up in buckets: min, max, sum and count of a gauge, the last value of a counter. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hub_server.telemetry.packing import ABSENT, Absent, Chunk, column_of, compressed, decompressed, values_of
from hub_server.telemetry.port import RollupColumns
from protocol.frames import MetricValue

COUNTERS: Final = frozenset(
    {
        "uptime_seconds",
        "bytes_sent",
        "bytes_recv",
        "read_bytes",
        "write_bytes",
        "errors_in",
        "errors_out",
        "drops_in",
        "drops_out",
    }
)
COUNTER_PREFIX: Final = "network_bytes_"
COUNTER_SUFFIX: Final = "_total"
SUM_DECIMALS: Final = 3
"""Sums of floats are rounded so far: a mean is exact to a thousandth, and a bucket takes a few bytes."""

_PARTS: Final = ("minima", "maxima", "sums", "counts", "last")


def is_counter(metric: str) -> bool:
    """Tell whether `metric` only rises: its last value stands for a bucket, not its mean."""
    return metric in COUNTERS or metric.startswith(COUNTER_PREFIX) or metric.endswith(COUNTER_SUFFIX)


def rolled(timestamps: Sequence[int], rows: Sequence[Mapping[str, MetricValue]], bucket_ms: int) -> RollupColumns:
    """Return the buckets of samples, one row a timestamp, in ascending order of time."""
    names = dict.fromkeys(name for row in rows for name in row)
    return rolled_columns(timestamps, {name: [row.get(name) for row in rows] for name in names}, bucket_ms)


def rolled_columns(
    timestamps: Sequence[int], columns: Mapping[str, Sequence[MetricValue | Absent]], bucket_ms: int
) -> RollupColumns:
    """As `rolled`, of columns as long as `timestamps`. Metrics without any number are left out."""
    starts, bounds = _bounds(timestamps, bucket_ms)
    found = RollupColumns(starts, {}, {}, {}, {}, {})
    minima, maxima, sums, counts, last = (_mutable(found, part) for part in _PARTS)
    for name, values in columns.items():
        numbers = _numbers(values)
        if numbers is None:
            continue
        slices = [numbers[low:high] for low, high in bounds]
        if None in numbers:
            slices = [[value for value in part if value is not None] for part in slices]
        if is_counter(name):
            last[name] = [part[-1] if part else None for part in slices]
        else:
            minima[name] = [min(part) if part else None for part in slices]
            maxima[name] = [max(part) if part else None for part in slices]
            sums[name] = [_short(sum(part)) for part in slices]
            counts[name] = list(map(len, slices))
    return found


def coarser(rollup: RollupColumns, bucket_ms: int) -> RollupColumns:
    """Return the buckets of `rollup` as ones of `bucket_ms`, a multiple of theirs."""
    starts, bounds = _bounds(rollup.timestamps, bucket_ms)
    return RollupColumns(
        starts,
        {name: _each(values, bounds, min) for name, values in rollup.minima.items()},
        {name: _each(values, bounds, max) for name, values in rollup.maxima.items()},
        {name: [_short(sum(values[low:high])) for low, high in bounds] for name, values in rollup.sums.items()},
        {name: [sum(values[low:high]) for low, high in bounds] for name, values in rollup.counts.items()},
        {name: _each(values, bounds, lambda part: part[-1]) for name, values in rollup.last.items()},
    )


def merged(parts: Sequence[RollupColumns], bucket_ms: int) -> RollupColumns:
    """Return the buckets of `parts` as ones of `bucket_ms`, which is no finer than theirs.

    Parts are in order of time where they touch: of a counter the last one's value counts.
    """
    starts = sorted({start - start % bucket_ms for part in parts for start in part.timestamps})
    position = {start: index for index, start in enumerate(starts)}
    found = RollupColumns(starts, {}, {}, {}, {}, {})
    for part in parts:
        places = [position[start - start % bucket_ms] for start in part.timestamps]
        _fold(found.minima, part.minima, places, len(starts), min)
        _fold(found.maxima, part.maxima, places, len(starts), max)
        _fold(found.last, part.last, places, len(starts), lambda _before, after: after)
        _add(found.sums, part.sums, places, len(starts))
        _add(found.counts, part.counts, places, len(starts))
    return found


def encoded(rollup: RollupColumns) -> bytes:
    columns = {
        f"{part} {name}": column_of([ABSENT if value is None else value for value in values])
        for part in _PARTS
        for name, values in getattr(rollup, part).items()
    }
    return compressed(Chunk(len(rollup.timestamps), column_of(rollup.timestamps), columns))


def decoded(body: bytes, metrics: Sequence[str] | None = None) -> RollupColumns:
    """Return the buckets of `metrics`, of all that are there when None. Raises BadChunk."""
    chunk = decompressed(body)
    found = RollupColumns(values_of(chunk.times, chunk.count), {}, {}, {}, {}, {})
    wanted = None if metrics is None else {*metrics}
    for key, column in chunk.columns.items():
        part, _, name = key.partition(" ")
        if wanted is None or name in wanted:
            values = values_of(column, chunk.count)
            if column.present:
                values = [None if value is ABSENT else value for value in values]
            _mutable(found, part)[name] = values
    return found


def between(rollup: RollupColumns, from_ms: int, to_ms: int) -> RollupColumns:
    """Return the buckets that begin in the span, `to_ms` excluded."""
    kept = [index for index, start in enumerate(rollup.timestamps) if from_ms <= start < to_ms]
    if len(kept) == len(rollup.timestamps):
        return rollup
    low, high = (kept[0], kept[-1] + 1) if kept else (0, 0)
    parts = ({name: values[low:high] for name, values in getattr(rollup, part).items()} for part in _PARTS)
    return RollupColumns(rollup.timestamps[low:high], *parts)


def _bounds(timestamps: Sequence[int], bucket_ms: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Return where buckets begin, and the samples of each as (first, after the last)."""
    starts: list[int] = []
    firsts: list[int] = []
    end = None
    for index, timestamp in enumerate(timestamps):
        if end is None or timestamp >= end:
            start = timestamp - timestamp % bucket_ms
            end = start + bucket_ms
            starts.append(start)
            firsts.append(index)
    return starts, list(zip(firsts, [*firsts, len(timestamps)][1:], strict=True))


def _each(
    values: Sequence[float | None], bounds: Sequence[tuple[int, int]], choose: Callable[[Sequence[float]], float]
) -> list[float | None]:
    found: list[float | None] = []
    for low, high in bounds:
        part = [value for value in values[low:high] if value is not None]
        found.append(choose(part) if part else None)
    return found


def _numbers(values: Sequence[Any]) -> Sequence[Any] | None:
    """Return `values` with None for what is no number; None when there is no number at all."""
    kinds = set(map(type, values))
    if kinds <= {int, float}:
        return values
    if kinds.isdisjoint({int, float}):
        return None
    return [value if type(value) in {int, float} else None for value in values]


def _short(total: float) -> float:
    return total if type(total) is int else round(total, SUM_DECIMALS)


def _mutable(rollup: RollupColumns, part: str) -> dict[str, Any]:
    columns: dict[str, Any] = getattr(rollup, part)
    return columns


def _fold(
    into: Mapping[str, Any],
    columns: Mapping[str, Sequence[Any]],
    places: Sequence[int],
    count: int,
    choose: Callable[[Any, Any], Any],
) -> None:
    assert isinstance(into, dict)
    for name, values in columns.items():
        target = into.setdefault(name, [None] * count)
        for place, value in zip(places, values, strict=True):
            if value is not None:
                target[place] = value if target[place] is None else choose(target[place], value)


def _add(into: Mapping[str, Any], columns: Mapping[str, Sequence[Any]], places: Sequence[int], count: int) -> None:
    assert isinstance(into, dict)
    for name, values in columns.items():
        target = into.setdefault(name, [0] * count)
        for place, value in zip(places, values, strict=True):
            target[place] = _short(target[place] + value)
