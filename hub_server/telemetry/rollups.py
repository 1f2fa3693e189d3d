"""Samples summed up in buckets: min, max, sum and count of a gauge, the last value of a counter. Pure."""

from __future__ import annotations

import sys
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from itertools import accumulate, repeat
from operator import sub
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from hub_server.telemetry.packing import EXACT_INTEGER_MAX, BadChunk
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

VERSION: Final = 1
LEVEL: Final = 1
LARGEST: Final = sys.float_info.max
NOTHING: Final = RollupColumns((), {}, {}, {}, {}, {})

_PARTS: Final = ("minima", "maxima", "sums", "counts", "last")
_NUMBERS: Final = frozenset({int, float})
_Values = dict[str, list[int | float | None]]


class TooLong(Exception):
    """There is more text in rollups than was to be unpacked."""


class _Stored(Struct, frozen=True, array_like=True):
    """`steps` are the first timestamp and then differences."""

    steps: list[int]
    minima: _Values
    maxima: _Values
    sums: dict[str, list[int | float]]
    counts: dict[str, list[int]]
    last: _Values

    @property
    def parts(self) -> tuple[_Values, _Values, dict[str, list[int | float]], dict[str, list[int]], _Values]:
        return self.minima, self.maxima, self.sums, self.counts, self.last


class _Buckets(NamedTuple):
    """Where buckets begin, which values each has, and how many; `even`: as many have all but the first and the last.

    `even` is 0 where these differ. Values of buckets that are even are taken apart by one call for all.
    """

    starts: list[int]
    spans: list[slice]
    sizes: list[int]
    even: int


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Stored).decode


def is_counter(metric: str) -> bool:
    """Tell whether `metric` only rises: its last value stands for a bucket, not its mean."""
    return metric in COUNTERS or metric.startswith(COUNTER_PREFIX) or metric.endswith(COUNTER_SUFFIX)


def rolled(timestamps: Sequence[int], rows: Sequence[Mapping[str, MetricValue]], bucket_ms: int) -> RollupColumns:
    """Return the buckets of samples, one row a timestamp, in ascending order of time."""
    names = dict.fromkeys(name for row in rows for name in row)
    return rolled_columns(timestamps, {name: [row.get(name) for row in rows] for name in names}, bucket_ms)


def rolled_columns(timestamps: Sequence[int], columns: Mapping[str, Sequence[Any]], bucket_ms: int) -> RollupColumns:
    """As `rolled`, of columns as long as `timestamps`. What is no number does not count; metrics without any number
    are left out."""
    buckets = _buckets(timestamps, bucket_ms)
    found = RollupColumns(buckets.starts, {}, {}, {}, {}, {})
    minima, maxima, sums, counts, last = (_mutable(found, part) for part in _PARTS)
    spans = buckets.spans
    for name, values in columns.items():
        kinds = set(map(type, values))
        if kinds.isdisjoint(_NUMBERS):
            continue
        if not kinds <= _NUMBERS:
            _roll_some(found, name, values, spans)
        elif is_counter(name):
            last[name] = [values[span.stop - 1] for span in spans]
        else:
            parts = _parts(values, buckets)
            minima[name] = list(map(min, parts))
            maxima[name] = list(map(max, parts))
            sums[name] = _shortened(list(map(sum, parts)))
            counts[name] = buckets.sizes
    return found


def coarser(rollup: RollupColumns, bucket_ms: int) -> RollupColumns:
    """Return the buckets of `rollup` as ones of `bucket_ms`, a multiple of theirs."""
    buckets = _buckets(rollup.timestamps, bucket_ms)
    return RollupColumns(
        buckets.starts,
        {name: _each(values, buckets, min) for name, values in rollup.minima.items()},
        {name: _each(values, buckets, max) for name, values in rollup.maxima.items()},
        {name: _shortened(list(map(sum, _parts(values, buckets)))) for name, values in rollup.sums.items()},
        {name: list(map(sum, _parts(values, buckets))) for name, values in rollup.counts.items()},
        {name: _each(values, buckets, _last) for name, values in rollup.last.items()},
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


def in_order(parts: Iterable[RollupColumns]) -> RollupColumns:
    """Return the buckets of all parts, none of which is in two of them."""
    filled = sorted((part for part in parts if part.timestamps), key=lambda part: part.timestamps[0])
    if len(filled) < 2:
        return filled[0] if filled else NOTHING
    return RollupColumns(
        [start for part in filled for start in part.timestamps],
        _one_after_the_other(filled, [part.minima for part in filled], None),
        _one_after_the_other(filled, [part.maxima for part in filled], None),
        _one_after_the_other(filled, [part.sums for part in filled], 0),
        _one_after_the_other(filled, [part.counts for part in filled], 0),
        _one_after_the_other(filled, [part.last for part in filled], None),
    )


def encoded(rollup: RollupColumns) -> bytes:
    """Return a version byte and zlib over JSON: exact, and written and read at the speed of C."""
    times = rollup.timestamps
    steps = [*times[:1], *map(sub, times[1:], times)]
    parts = (rollup.minima, rollup.maxima, rollup.sums, rollup.counts, rollup.last)
    return bytes((VERSION,)) + zlib.compress(_encode((steps, *parts)), LEVEL)


def text_in(body: bytes, bytes_max: int = sys.maxsize) -> bytes:
    """Return what `decoded_text` reads. Raises BadChunk, and TooLong without unpacking more than `bytes_max`.

    How long the text is, the length of `body` does not tell: a thousand times as long is possible.
    """
    if not body or body[0] != VERSION:
        raise BadChunk("no rollups of this version")
    if bytes_max <= 0:  # which would be no bound to zlib
        raise TooLong
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(memoryview(body)[1:], bytes_max)
    except zlib.error as error:
        raise BadChunk(f"damaged rollups: {error}") from error
    if not unpacker.eof:
        if len(text) >= bytes_max:
            raise TooLong
        raise BadChunk("damaged rollups: the end is missing")
    return text


def decoded_text(text: bytes, metrics: Sequence[str] | None = None) -> RollupColumns:
    """Return the buckets of `metrics`, of all that are there when None. Raises BadChunk."""
    try:
        stored = _decode(text)
    except msgspec.MsgspecError as error:
        raise BadChunk(f"damaged rollups: {error}") from error
    found = RollupColumns([*accumulate(stored.steps)], *stored.parts)
    return found if metrics is None else _chosen(found, {*metrics})


def decoded(body: bytes, metrics: Sequence[str] | None = None) -> RollupColumns:
    """Return the buckets of `metrics`, of all that are there when None. Raises BadChunk."""
    return decoded_text(text_in(body), metrics)


def between(rollup: RollupColumns, from_ms: int, to_ms: int) -> RollupColumns:
    """Return the buckets that begin in the span, `to_ms` excluded."""
    low, high = bisect_left(rollup.timestamps, from_ms), bisect_left(rollup.timestamps, to_ms)
    if high - low == len(rollup.timestamps):
        return rollup
    parts = ({name: values[low:high] for name, values in getattr(rollup, part).items()} for part in _PARTS)
    return RollupColumns(rollup.timestamps[low:high], *parts)


def _one_after_the_other(
    parts: Sequence[RollupColumns], columns: Sequence[Mapping[str, Sequence[Any]]], absent: int | None
) -> Any:
    """Return each metric's values one part after the other."""
    found: dict[str, list[Any]] = {}
    for name in dict.fromkeys(name for each in columns for name in each):
        values: list[Any] = []
        for part, each in zip(parts, columns, strict=True):
            values += each.get(name) or [absent] * len(part.timestamps)
        found[name] = values
    return found


def _chosen(rollup: RollupColumns, metrics: Set[str]) -> RollupColumns:
    parts = ({name: values for name, values in getattr(rollup, part).items() if name in metrics} for part in _PARTS)
    return RollupColumns(rollup.timestamps, *parts)


def _buckets(timestamps: Sequence[int], bucket_ms: int) -> _Buckets:
    starts: list[int] = []
    spans: list[slice] = []
    low = 0
    while low < len(timestamps):
        start = timestamps[low] - timestamps[low] % bucket_ms
        high = bisect_left(timestamps, start + bucket_ms, low)
        starts.append(start)
        spans.append(slice(low, high))
        low = high
    sizes = [span.stop - span.start for span in spans]
    inner = sizes[1:-1]
    return _Buckets(starts, spans, sizes, inner[0] if inner and inner.count(inner[0]) == len(inner) else 0)


def _parts(values: Sequence[Any], buckets: _Buckets) -> list[Sequence[Any]]:
    """Return the values of each bucket."""
    spans, even = buckets.spans, buckets.even
    if not even:
        return list(map(values.__getitem__, spans))
    inner = iter(values[spans[0].stop : spans[-1].start])
    return [values[spans[0]], *zip(*[inner] * even, strict=True), values[spans[-1]]]


def _roll_some(found: RollupColumns, name: str, values: Sequence[Any], spans: Sequence[slice]) -> None:
    """Roll up a metric of which some samples have no number."""
    parts = [[value for value in values[span] if type(value) in _NUMBERS] for span in spans]
    if is_counter(name):
        _mutable(found, "last")[name] = [part[-1] if part else None for part in parts]
        return
    _mutable(found, "minima")[name] = [min(part, default=None) for part in parts]
    _mutable(found, "maxima")[name] = [max(part, default=None) for part in parts]
    _mutable(found, "sums")[name] = [_short(sum(part)) for part in parts]
    _mutable(found, "counts")[name] = list(map(len, parts))


def _each(
    values: Sequence[float | None], buckets: _Buckets, choose: Callable[[Sequence[Any]], Any]
) -> list[float | None]:
    parts = _parts(values, buckets)
    if None not in values:
        return list(map(choose, parts))
    filled = ([value for value in part if value is not None] for part in parts)
    return [choose(part) if part else None for part in filled]


def _last(values: Sequence[float]) -> float:
    return values[-1]


def _short(total: float) -> float:
    """Agents may send any number: a sum that no encoding holds becomes the nearest that one does."""
    if type(total) is int:
        return total if -EXACT_INTEGER_MAX <= total <= EXACT_INTEGER_MAX else float(total)
    return round(min(max(total, -LARGEST), LARGEST), SUM_DECIMALS)


def _shortened(totals: list[Any]) -> list[Any]:
    """Return `_short` of each; where all are such as usual, at once."""
    kinds = set(map(type, totals))
    if kinds == {int} and min(totals) >= -EXACT_INTEGER_MAX and max(totals) <= EXACT_INTEGER_MAX:
        return totals
    if kinds == {float} and min(totals) >= -LARGEST and max(totals) <= LARGEST:
        return list(map(round, totals, repeat(SUM_DECIMALS)))
    return list(map(_short, totals))


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
