"""A day's file read into memory when it is opened: names and numbers of rows, never what is in them."""

from __future__ import annotations

import sqlite3
from array import array
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from hub_server.telemetry.day_files.hot_rows import NOBODY
from hub_server.telemetry.day_files.ledger import IMPORTED_STREAM
from hub_server.telemetry.day_files.mirror import Mirror, SeriesName, restored
from hub_server.telemetry.day_files.samples import names_in
from hub_server.telemetry.model import StreamKey
from protocol.frames import SequenceRange


class Contents(NamedTuple):
    """What a file holds beside its chunks."""

    has_rows: bool
    has_open_hours: bool
    chunk_bytes: int


class ReceivedOf(NamedTuple):
    """The sequences that the rows of a stream carry."""

    organisation_id: str
    key: StreamKey
    ranges: Sequence[SequenceRange]


class Loaded(NamedTuple):
    """`has_leftovers`: rows are there that are packed already. `received`: those written last at the end."""

    mirror: Mirror
    packed_until: int
    has_leftovers: bool
    received: Sequence[ReceivedOf]


def contents(connection: sqlite3.Connection) -> Contents:
    has_rows, has_open_hours, chunk_bytes = connection.execute(
        "SELECT EXISTS (SELECT 1 FROM hot), EXISTS (SELECT 1 FROM series WHERE open_hours <> 0), chunk_bytes FROM facts"
    ).fetchone()
    return Contents(bool(has_rows), bool(has_open_hours), chunk_bytes)


def loaded(connection: sqlite3.Connection) -> Loaded:
    series: dict[SeriesName, int] = {}
    packed: dict[int, int] = {}
    for number, *name, until in connection.execute(
        "SELECT id, organisation_id, agent_id, metric_type, packed FROM series"
    ):
        series[name[0], name[1], name[2]] = number
        packed[number] = until
    streams = {}
    organisations = {}
    for number, organisation_id, *key in connection.execute(
        "SELECT id, organisation_id, agent_id, stream, epoch FROM streams"
    ):
        streams[StreamKey(*key)] = number
        organisations[number] = organisation_id
    shapes = {names_in(names): number for number, names in connection.execute("SELECT id, names FROM shapes")}
    mirror = restored(series, streams, shapes)
    sequences, has_leftovers = _load_rows(connection, mirror, packed)
    packed_until = max(packed.values(), default=0)
    mirror.next_row = max(mirror.next_row, packed_until + 1)
    mirror.next_stream = max(mirror.next_stream, max(sequences, default=0) + 1)
    keys = {number: key for key, number in streams.items()}
    received = [
        ReceivedOf(organisations[number], keys[number], _ranges(numbers))
        for number, numbers in sequences.items()
        if number in keys and keys[number].stream != IMPORTED_STREAM
    ]
    mirror.touched = {each.key for each in received}
    return Loaded(mirror, packed_until, has_leftovers, received)


def _load_rows(
    connection: sqlite3.Connection, mirror: Mirror, packed: dict[int, int]
) -> tuple[dict[int, list[int]], bool]:
    """Return the sequences by stream, the stream written last at the end, and whether rows are packed already."""
    numbers = array("q")
    sequences: defaultdict[int, list[int]] = defaultdict(list)
    last_rows: dict[int, int] = {}
    has_leftovers = False
    row, first_row = 0, 1
    oldest_ms = None
    for row, stream, seq, series, ts_ms in connection.execute(
        "SELECT id, stream, seq, series, ts FROM hot ORDER BY id"
    ):
        sequences[stream].append(seq)
        last_rows[stream] = row
        if series >= mirror.next_series:  # of an agent that was deleted: its number must not be given again
            mirror.next_series = series + 1
        if row <= packed.get(series, row):  # of a series that is gone, or packed
            has_leftovers = True
            continue
        if not numbers:
            first_row = row
        elif row > first_row + len(numbers):
            numbers.extend([NOBODY] * (row - first_row - len(numbers)))
        numbers.append(series)
        if oldest_ms is None or ts_ms < oldest_ms:
            oldest_ms = ts_ms
    mirror.hot.add(first_row, numbers)
    mirror.next_row = row + 1
    mirror.oldest_ms = oldest_ms
    return {stream: sequences[stream] for stream in sorted(last_rows, key=last_rows.__getitem__)}, has_leftovers


def _ranges(numbers: list[int]) -> list[SequenceRange]:
    numbers.sort()
    ranges: list[SequenceRange] = []
    first = last = numbers[0]
    for number in numbers:
        if number > last + 1:
            ranges.append((first, last))
            first = number
        last = number
    return [*ranges, (first, last)]
