"""What packing reads of a day: rows of a round gathered by series and hour, and hours that are to be closed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import structlog

from hub_server.telemetry.bounds import HOUR_TEXT_MAX, Sheet
from hub_server.telemetry.day_files.layout import HOUR_MS, HOURS, PART_BITS, PARTS_MAX, hour_key, hours_in
from hub_server.telemetry.day_files.mirror import SeriesName
from hub_server.telemetry.day_files.readers import OpenFile
from hub_server.telemetry.day_files.reading import ROW_TEXT
from hub_server.telemetry.day_files.samples import Block, Names, block_in, block_of_text, joined
from hub_server.telemetry.packing import BadChunk, sized

log = structlog.get_logger(component="telemetry")

TEXT_AT_ONCE_MAX: Final = 32 << 20
"""How much text of rows is read at once, in bytes. A sample a second with all names a sample may have is half of it."""
_encode: Final = msgspec.json.Encoder().encode

_GATHER: Final = f"""
SELECT g.*, s.organisation_id, s.agent_id, s.metric_type
  FROM (SELECT h.series AS series, (h.ts / {HOUR_MS}) % {HOURS} AS hour, max(h.ts), h.shape, h.data, count(*),
               {ROW_TEXT}
          FROM json_each(?) AS i CROSS JOIN hot AS h ON h.id = i.value
         GROUP BY h.series, hour) AS g
 CROSS JOIN series AS s ON s.id = g.series
"""  # noqa: S608
"""Beside a maximum SQLite takes shape and data from the row that has it."""
_WITH_CHUNKS: Final = """
SELECT DISTINCT k.value
  FROM json_each(?) AS k CROSS JOIN chunk AS c ON c.key >= k.value AND c.key <= k.value + ?
"""
_OPEN_HOURS: Final = """
SELECT id, organisation_id, agent_id, metric_type, open_hours & ? FROM series
 WHERE open_hours <> 0 AND id > ? AND open_hours & ? <> 0 ORDER BY id LIMIT ?
"""


_HAS_CHUNK: Final = "SELECT 1 FROM chunk WHERE key = ?"
_PART: Final = "SELECT body FROM chunk WHERE key = ?"
_PARTS: Final = "SELECT group_concat(body) FROM chunk WHERE key > ? AND key <= ?"
_PART_KEYS: Final = "SELECT key FROM chunk WHERE key > ? AND key <= ?"


class TooMuchText(Exception):
    """Rows are more text than is read at once: ask for fewer."""


class GatheredHour(NamedTuple):
    """Rows of a series and hour as text, and the newest of them."""

    series: int
    hour: int
    newest_ms: int
    newest_shape: int
    newest_data: str
    samples: int
    text: str
    name: SeriesName

    @property
    def key(self) -> int:
        return hour_key(self.series, self.hour)


class OpenSeries(NamedTuple):
    """A series with hours to be closed, as bits."""

    number: int
    name: SeriesName
    hours: int

    @property
    def keys(self) -> list[int]:
        return [hour_key(self.number, hour) for hour in hours_in(self.hours)]


class WholeHour(NamedTuple):
    """All samples of an hour, but for those that an hour has no room for."""

    key: int
    name: SeriesName
    block: Block
    is_cut: bool


def gathered(file: OpenFile, rows: Sequence[int]) -> list[GatheredHour]:
    """Return rows by series and hour. In order of their ids: rows that stand together are read at once.

    Raises TooMuchText, of several rows.
    """
    found = []
    length = 0
    try:
        for series, hour, newest_ms, shape, data, samples, text, *name in file.connection.execute(
            _GATHER, (_encode(sorted(rows)).decode(),)
        ):
            length += len(text)
            if length > TEXT_AT_ONCE_MAX and len(rows) > 1:
                raise TooMuchText
            found.append(GatheredHour(series, hour, newest_ms, shape, data, samples, text, (name[0], name[1], name[2])))
    except sqlite3.DataError as error:
        if len(rows) > 1:
            raise TooMuchText from error
        raise
    return found


def with_chunks(file: OpenFile, keys: Sequence[int]) -> set[int]:
    """Return those of the hours that have chunks or parts."""
    if not keys:
        return set()
    return {key for (key,) in file.connection.execute(_WITH_CHUNKS, (_encode(keys).decode(), PARTS_MAX))}


def open_series(file: OpenFile, after: int, hours: int, limit: int) -> list[OpenSeries]:
    """Return the next series with open parts in one of `hours`, in order of their numbers."""
    found = file.connection.execute(_OPEN_HOURS, (hours, after, hours, limit)).fetchall()
    return [OpenSeries(row[0], (row[1], row[2], row[3]), row[4]) for row in found]


def hours_of(file: OpenFile, found: Iterable[OpenSeries]) -> Iterator[WholeHour]:
    """Yield the hours of each series that are to be closed, with all packed and gathered samples of each."""
    for each in found:
        for key in each.keys:
            yield _hour_in_file(file, key, each.name)


def hour_of_text(each: GatheredHour, shapes: Mapping[int, Names]) -> WholeHour:
    """Return an hour that has no other samples."""
    sheet = Sheet()
    block = block_of_text(each.text, shapes, sheet)
    return WholeHour(each.key, each.name, block, sheet.is_full)


def _hour_in_file(file: OpenFile, key: int, name: SeriesName) -> WholeHour:
    sheet = Sheet()
    blocks = []
    room = HOUR_TEXT_MAX
    is_cut = False
    for body in _chunk_in_file(file, key):
        try:
            chunk, length = sized(body)
        except BadChunk as error:
            log.error("chunk of samples damaged; left out", hour=key >> PART_BITS, error=str(error))
            continue
        blocks.append(block_in(chunk))
        sheet.hold(chunk.columns, chunk.count)
        room -= length
    for text in _texts_in_file(file, key):
        if text is None or len(text) > room:
            is_cut = True
            continue
        room -= len(text)
        blocks.append(block_of_text(text, file.shapes, sheet))
    return WholeHour(key, name, joined(blocks), is_cut or sheet.is_full)


def _chunk_in_file(file: OpenFile, key: int) -> list[bytes]:
    """Return the chunk of an hour that was closed before, however long: what is packed was found not to be too much."""
    if not file.connection.execute(_HAS_CHUNK, (key,)).fetchall():
        return []
    with file.connection.blobopen("chunk", "body", key, readonly=True) as blob:
        return [blob.read()]


def _texts_in_file(file: OpenFile, key: int) -> Iterator[str | None]:
    """Yield the text of an hour's rows, in parts where all of it is too much at once; None for a part that is."""
    span = (key, key + PARTS_MAX)
    try:
        [(text,)] = file.connection.execute(_PARTS, span).fetchall()
    except sqlite3.DataError:
        keys = [part for (part,) in file.connection.execute(_PART_KEYS, span).fetchall()]
    else:
        if text is not None:
            yield text
        return
    for part in keys:
        try:
            [(text,)] = file.connection.execute(_PART, (part,)).fetchall()
        except sqlite3.DataError:
            yield None
        else:
            yield text
