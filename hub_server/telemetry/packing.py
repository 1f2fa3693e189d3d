"""Samples of one series packed into a chunk of bytes: column by column, each in the narrowest form that is exact.

A chunk is a version byte and zlib over MessagePack: how many samples, their times, and per metric name its column.
Pure; used by both stores.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from operator import sub
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from hub_server.telemetry.port import Columns
from protocol.frames import MetricValue

VERSION: Final = 1
LEVEL: Final = 1
WIDTHS: Final = "bhiq"
EXACT_INTEGER_MAX: Final = 1 << 53

Number = int | float
Form = Literal["constant", "integers", "floats", "values"]


class BadChunk(ValueError):
    """Bytes that are no chunk this version can read."""


class Column(Struct, frozen=True, array_like=True):
    """The values of one metric. `present` has a byte a sample, 1 where it has one; empty when all have.

    constant: `value` for all. integers: `first`, then differences as `code` in `body`. floats: `body` is JSON, which is
    exact, short for measured values, and written and read at the speed of C. values: `value` is the list, whatever is
    in it.
    """

    form: Form
    value: Any = None
    first: int = 0
    code: str = ""
    body: bytes = b""
    present: bytes = b""


class Chunk(Struct, frozen=True, array_like=True):
    count: int
    times: Column
    columns: dict[str, Column]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Chunk).decode
_encode_floats: Final = msgspec.json.Encoder().encode
_decode_floats: Final = msgspec.json.Decoder(list[float]).decode


class Absent:
    """Stands where a sample has no value of a metric."""


ABSENT: Final = Absent()


def packed(timestamps: Sequence[int], rows: Sequence[Mapping[str, MetricValue]]) -> bytes:
    """Return the chunk of samples, one row a timestamp, in ascending order of time."""
    names = dict.fromkeys(name for row in rows for name in row)
    return packed_columns(timestamps, {name: [row.get(name, ABSENT) for row in rows] for name in names})


def packed_columns(timestamps: Sequence[int], columns: Mapping[str, Sequence[MetricValue | Absent]]) -> bytes:
    """As `packed`, of columns as long as `timestamps`; ABSENT where a sample has no value."""
    return compressed(
        Chunk(len(timestamps), column_of(timestamps), {name: column_of(values) for name, values in columns.items()})
    )


def unpacked(body: bytes) -> tuple[list[int], list[dict[str, MetricValue]]]:
    """Return the samples of a chunk. A float that was given as an integer among floats comes back as a float."""
    return rows_in(decompressed(body))


def rows_in(chunk: Chunk) -> tuple[list[int], list[dict[str, MetricValue]]]:
    """As `unpacked`."""
    rows: list[dict[str, MetricValue]] = [{} for _ in range(chunk.count)]
    for name, column in chunk.columns.items():
        for row, value in zip(rows, values_of(column, chunk.count), strict=True):
            if value is not ABSENT:
                row[name] = value
    return values_of(chunk.times, chunk.count), rows


def columns_of(body: bytes, metrics: Iterable[str], from_ms: int, to_ms: int) -> Columns:
    """Return the numbers of `metrics` in the span, `to_ms` excluded; what is absent or no number is None."""
    chunk = decompressed(body)
    timestamps = values_of(chunk.times, chunk.count)
    low, high = bisect_left(timestamps, from_ms), bisect_left(timestamps, to_ms)
    return Columns(
        timestamps[low:high],
        {
            name: numbers_of(chunk.columns[name], chunk.count)[low:high]
            if name in chunk.columns
            else [None] * (high - low)
            for name in metrics
        },
    )


def compressed(chunk: Chunk) -> bytes:
    return bytes((VERSION,)) + zlib.compress(_encode(chunk), LEVEL)


def decompressed(body: bytes) -> Chunk:
    """Raises BadChunk."""
    return sized(body)[0]


def sized(body: bytes) -> tuple[Chunk, int]:
    """Return what `decompressed` does, and of how many bytes it is. Raises BadChunk."""
    if not body or body[0] != VERSION:
        raise BadChunk("not a chunk of this version")
    try:
        unfolded = zlib.decompress(memoryview(body)[1:])
        return _decode(unfolded), len(unfolded)
    except (zlib.error, msgspec.MsgspecError) as error:
        raise BadChunk(f"damaged chunk: {error}") from error


def column_of(values: Sequence[MetricValue | Absent]) -> Column:
    """Return `values` in the narrowest form."""
    if not values:
        return Column("values", [])
    kinds = set(map(type, values))
    if Absent in kinds:
        column = column_of([value for value in values if value is not ABSENT])
        return msgspec.structs.replace(column, present=bytes(value is not ABSENT for value in values))
    if kinds == {int}:
        return _of_integers(values)  # type: ignore[arg-type]
    if kinds == {float} or (kinds == {int, float} and _are_exact(values)):
        return _of_floats([float(value) for value in values] if int in kinds else values)  # type: ignore[arg-type]
    if values.count(values[0]) == len(values) and len(kinds) == 1:
        return Column("constant", values[0])
    return Column("values", list(values))


def values_of(column: Column, count: int) -> list[Any]:
    """Return the `count` values of a column, ABSENT where there is none."""
    if not column.present:
        return _present_values(column, count)
    found = iter(_present_values(column, sum(column.present)))
    return [next(found) if is_present else ABSENT for is_present in column.present]


def numbers_of(column: Column, count: int) -> list[float | None]:
    """Return the values that are numbers, None for all others."""
    values = values_of(column, count)
    if column.form in {"integers", "floats"} and not column.present:
        return values
    return [value if type(value) in {int, float} else None for value in values]


def _of_integers(values: Sequence[int]) -> Column:
    first = values[0]
    if values.count(first) == len(values):
        return Column("constant", first)
    steps = list(map(sub, values[1:], values))
    for code in WIDTHS:
        try:
            body = array(code, steps)
        except OverflowError:
            continue
        return Column("integers", first=first, code=code, body=_little(body))
    return Column("values", list(values))


def _of_floats(values: Sequence[float]) -> Column:
    first = values[0]
    if values.count(first) == len(values):
        return Column("constant", first)
    return Column("floats", body=_encode_floats(values))


def _present_values(column: Column, count: int) -> list[Any]:
    match column.form:
        case "constant":
            return [column.value] * count
        case "integers":
            return list(accumulate(_array(column.code, column.body), initial=column.first))
        case "floats":
            return _decode_floats(column.body)
        case "values":
            return list(column.value)


def _are_exact(values: Sequence[Any]) -> bool:
    return all(type(value) is float or -EXACT_INTEGER_MAX <= value <= EXACT_INTEGER_MAX for value in values)


def _little(numbers: array[Any]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _array(code: str, body: bytes) -> array[Any]:
    numbers: array[Any] = array(code, body)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
