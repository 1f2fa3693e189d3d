"""Samples of one series as columns, from the text of rows and from chunks. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from hub_server.telemetry.bounds import Sheet
from hub_server.telemetry.packing import ABSENT, Absent, Chunk, decompressed, values_of
from hub_server.telemetry.port import Columns
from protocol.frames import MetricValue

INLINE_SHAPE: Final = 0
"""The shape of a row whose data is an object: names and values."""

Names = tuple[str, ...]
Row = tuple[int, int, Any]
"""Time in ms, shape, and the values in the shape's order."""

encode_values: Final = msgspec.json.Encoder().encode
_decode_rows: Final = msgspec.json.Decoder(list[Row]).decode
_decode_names: Final = msgspec.json.Decoder(Names).decode
_decode_values: Final = msgspec.json.Decoder(list[MetricValue]).decode
_decode_object: Final = msgspec.json.Decoder(dict[str, MetricValue]).decode


class Block(NamedTuple):
    """Columns as long as `timestamps`; ABSENT where a sample has no value."""

    timestamps: Sequence[int]
    columns: Mapping[str, Sequence[MetricValue | Absent]]


EMPTY: Final = Block((), {})


def block_of_text(text: str, shapes: Mapping[int, Names], sheet: Sheet | None = None) -> Block:
    """Return the rows in `text`, `[ts, shape, values]` with commas between, in order of time: all, or those that
    `sheet` takes.
    """
    rows = _decode_rows(f"[{text}]")
    if not _is_ascending([row[0] for row in rows]):
        rows.sort(key=_time_of)
    found = list(dict.fromkeys(row[1] for row in rows))
    if sheet is not None:
        rows = _taken(rows, found, shapes, sheet)
        found = list(dict.fromkeys(row[1] for row in rows))
        if not rows:
            return EMPTY
    if len(found) == 1:
        return _block_of_rows(rows, found[0], shapes)
    return joined([_block_of_rows([row for row in rows if row[1] == shape], shape, shapes) for shape in found])


def block_of_chunk(body: bytes, metrics: Sequence[str] | None = None) -> Block:
    """Return the samples of a chunk, the columns of `metrics` or all. Raises BadChunk."""
    return block_in(decompressed(body), metrics)


def block_in(chunk: Chunk, metrics: Sequence[str] | None = None) -> Block:
    """Return what is in a chunk, the columns of `metrics` or all."""
    wanted = chunk.columns if metrics is None else [name for name in metrics if name in chunk.columns]
    columns = {name: values_of(chunk.columns[name], chunk.count) for name in wanted}
    return Block(values_of(chunk.times, chunk.count), columns)


def joined(blocks: Sequence[Block]) -> Block:
    """Return all samples of `blocks` in order of time."""
    filled = [block for block in blocks if block.timestamps]
    if len(filled) < 2:
        return filled[0] if filled else EMPTY
    timestamps = [timestamp for block in filled for timestamp in block.timestamps]
    columns: dict[str, list[MetricValue | Absent]] = {}
    for name in dict.fromkeys(name for block in filled for name in block.columns):
        values: list[MetricValue | Absent] = []
        for block in filled:
            values += block.columns.get(name) or [ABSENT] * len(block.timestamps)
        columns[name] = values
    if _is_ascending(timestamps):
        return Block(timestamps, columns)
    order = sorted(range(len(timestamps)), key=timestamps.__getitem__)
    return Block(
        [timestamps[index] for index in order],
        {name: [values[index] for index in order] for name, values in columns.items()},
    )


def numbers_of(block: Block, metrics: Sequence[str], from_ms: int, to_ms: int) -> Columns:
    """Return the numbers of `metrics` in the span, `to_ms` excluded; what is absent or no number is None."""
    low, high = bisect_left(block.timestamps, from_ms), bisect_left(block.timestamps, to_ms)
    return Columns(
        block.timestamps[low:high],
        {
            name: _numbers(block.columns[name][low:high]) if name in block.columns else [None] * (high - low)
            for name in metrics
        },
    )


def chosen(block: Block, metrics: Sequence[str]) -> Block:
    """Return the columns of `metrics` that are there."""
    return Block(block.timestamps, {name: block.columns[name] for name in metrics if name in block.columns})


def last_before(block: Block, end_ms: int) -> tuple[int, dict[str, MetricValue]] | None:
    """Return time and data of the newest sample before `end_ms`."""
    index = bisect_left(block.timestamps, end_ms) - 1
    if index < 0:
        return None
    data = {name: values[index] for name, values in block.columns.items()}
    return block.timestamps[index], {name: value for name, value in data.items() if not isinstance(value, Absent)}


def names_in(text: str) -> Names:
    return _decode_names(text)


def data_in(shape: int, text: str, shapes: Mapping[int, Names]) -> dict[str, MetricValue]:
    """Return what a row holds as JSON."""
    if shape == INLINE_SHAPE:
        return _decode_object(text)
    return dict(zip(shapes[shape], _decode_values(text), strict=True))


def _taken(rows: list[Row], found: Sequence[int], shapes: Mapping[int, Names], sheet: Sheet) -> list[Row]:
    """Return the rows that `sheet` takes: nearly always all, and at once where they have the same names."""
    if len(found) == 1 and found[0] != INLINE_SHAPE and sheet.takes(shapes[found[0]], len(rows)):
        return rows
    return [row for row in rows if sheet.takes(row[2] if row[1] == INLINE_SHAPE else shapes[row[1]])]


def _block_of_rows(rows: Sequence[Row], shape: int, shapes: Mapping[int, Names]) -> Block:
    """Return rows of one shape, which are in order of time."""
    times = [row[0] for row in rows]
    if shape == INLINE_SHAPE:
        return Block(times, _columns_of([row[2] for row in rows]))
    return Block(times, dict(zip(shapes[shape], zip(*(row[2] for row in rows), strict=True), strict=True)))


def _columns_of(rows: Sequence[Mapping[str, MetricValue]]) -> dict[str, list[MetricValue | Absent]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name, ABSENT) for row in rows] for name in names}


def _is_ascending(timestamps: list[int]) -> bool:
    return timestamps == sorted(timestamps)


def _numbers(values: Sequence[Any]) -> list[float | None]:
    kinds = set(map(type, values))
    if kinds <= {int, float}:
        return list(values)
    return [value if type(value) in {int, float} else None for value in values]


def _time_of(row: Row) -> int:
    return row[0]
