"""What packing reads of a day: rows of a round gathered by series and hour, and hours that are to be closed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from hub_server.telemetry.day_files.layout import HOUR_MS, HOURS, PARTS_MAX, hour_key, hours_in
from hub_server.telemetry.day_files.mirror import SeriesName
from hub_server.telemetry.day_files.readers import OpenFile
from hub_server.telemetry.day_files.reading import ROW_TEXT, hours_in_file
from hub_server.telemetry.day_files.samples import Block, joined

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


def gathered(file: OpenFile, rows: Iterable[int]) -> list[GatheredHour]:
    """Return rows by series and hour. In order of their ids: rows that stand together are read at once."""
    found = file.connection.execute(_GATHER, (_encode(sorted(rows)).decode(),)).fetchall()
    return [
        GatheredHour(series, hour, newest_ms, shape, data, samples, text, (organisation_id, agent_id, metric_type))
        for series, hour, newest_ms, shape, data, samples, text, organisation_id, agent_id, metric_type in found
    ]


def with_chunks(file: OpenFile, keys: Sequence[int]) -> set[int]:
    """Return those of the hours that have chunks or parts."""
    if not keys:
        return set()
    return {key for (key,) in file.connection.execute(_WITH_CHUNKS, (_encode(keys).decode(), PARTS_MAX))}


def open_series(file: OpenFile, after: int, hours: int, limit: int) -> list[OpenSeries]:
    """Return the next series with open parts in one of `hours`, in order of their numbers."""
    found = file.connection.execute(_OPEN_HOURS, (hours, after, hours, limit)).fetchall()
    return [OpenSeries(row[0], (row[1], row[2], row[3]), row[4]) for row in found]


def hours_of(file: OpenFile, found: Iterable[OpenSeries]) -> Iterator[tuple[int, SeriesName, Block]]:
    """Yield the hours of each series that are to be closed, with all packed and gathered samples of each."""
    for each in found:
        blocks = hours_in_file(file, each.keys, None)
        for key in each.keys:
            yield key, each.name, joined(blocks.pop(key, ()))
