"""Answers from a day's file: closed hours from their chunks, others from parts and hot rows, all of one snapshot."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import structlog

from hub_server.telemetry.day_files.day import Day
from hub_server.telemetry.day_files.layout import (
    HOUR_MS,
    HOURS,
    PART_BITS,
    PARTS_MAX,
    SLOT_BITS,
    Layout,
    Period,
    hour_key,
    hours_in,
)
from hub_server.telemetry.day_files.mirror import SeriesName
from hub_server.telemetry.day_files.readers import OpenFile, Readers
from hub_server.telemetry.day_files.samples import (
    EMPTY,
    Block,
    block_of_chunk,
    block_of_text,
    data_in,
    joined,
)
from hub_server.telemetry.packing import BadChunk
from hub_server.telemetry.port import StoredSample

log = structlog.get_logger(component="telemetry")

ROW_TEXT: Final = "group_concat('[' || h.ts || ',' || h.shape || ',' || h.data || ']')"
_encode: Final = msgspec.json.Encoder().encode

_SERIES: Final = f"""
SELECT s.agent_id, s.id, s.open_hours,
       (SELECT {ROW_TEXT} FROM json_each(a.value) AS i CROSS JOIN hot AS h ON h.id = i.value WHERE h.id > s.packed)
  FROM json_each(?) AS a
 CROSS JOIN series AS s ON s.agent_id = a.key AND s.metric_type = ? AND s.organisation_id = ?
"""  # noqa: S608
"""One step of SQLite gathers all rows of a series: each step gives up the interpreter's lock."""
_HOURS: Final = """
SELECT k.value, (SELECT c.body FROM chunk AS c WHERE c.key = k.value),
       (SELECT group_concat(c.body) FROM chunk AS c WHERE c.key > k.value AND c.key <= k.value + ?)
  FROM json_each(?) AS k
"""
_NEWEST_ROWS: Final = """
SELECT s.organisation_id, s.agent_id, s.metric_type, h.ts, h.shape, h.data
  FROM (SELECT id, max(ts) FROM hot WHERE ts <= ? GROUP BY series) AS n
 CROSS JOIN hot AS h ON h.id = n.id CROSS JOIN series AS s ON s.id = h.series
"""
"""Beside a maximum SQLite takes the id from the row that has it."""
_ROLLUPS: Final = f"""
SELECT s.agent_id,
       (SELECT group_concat((r.key & {(1 << SLOT_BITS) - 1}) || ':' || hex(r.body)) FROM rollup AS r
         WHERE r.key BETWEEN (s.id << {SLOT_BITS}) + ? AND (s.id << {SLOT_BITS}) + ?)
  FROM json_each(?) AS a
 CROSS JOIN series AS s ON s.agent_id = a.value AND s.metric_type = ? AND s.organisation_id = ?
"""  # noqa: S608
"""One step for all rows of a series, as above."""


class SeriesState(NamedTuple):
    """A series in a snapshot; `hot` is the text of its rows that are not packed."""

    number: int
    open_hours: int
    hot: str


class Wanted(NamedTuple):
    """The series of several agents, and the metrics in them."""

    organisation_id: str
    agent_ids: Sequence[str]
    metric_type: str
    metrics: Sequence[str]


class Reading:
    """For one thread."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.readers: Final = Readers()

    def samples(self, day: Day, name: SeriesName, metrics: Sequence[str] | None, from_ms: int, to_ms: int) -> Block:
        """Return what a day has of the hours that the span touches, `metrics` or all."""
        organisation_id, agent_id, metric_type = name
        rows = {agent_id: day.mirror.rows_of(name)}
        with self.readers.snapshot(day.path) as file:
            if file is None:
                return EMPTY
            found = _series_in(file.connection, organisation_id, metric_type, rows).get(agent_id)
            if found is None:
                return EMPTY
            low = max(0, (from_ms - day.from_ms) // HOUR_MS)
            high = min(HOURS, -((day.from_ms - to_ms) // HOUR_MS))
            keys = [hour_key(found.number, hour) for hour in range(low, high)]
            by_key = hours_in_file(file, keys, metrics)
            blocks = [block for key in keys for block in by_key.get(key, ())]
            if found.hot:
                blocks.append(block_of_text(found.hot, file.shapes))
        return joined(blocks)

    def open_hours(self, day: Day, wanted: Wanted, span: range) -> dict[str, dict[int, Block]]:
        """Return, by agent, the hours of the span whose rollups do not have everything, each with all its samples."""
        organisation_id, agent_ids, metric_type, metrics = wanted
        rows = {agent: day.mirror.rows_of((organisation_id, agent, metric_type)) for agent in agent_ids}
        with self.readers.snapshot(day.path) as file:
            if file is None:
                return {}
            hot: dict[str, dict[int, Block]] = {}
            keys: dict[int, tuple[str, int]] = {}
            for agent_id, found in _series_in(file.connection, organisation_id, metric_type, rows).items():
                hot[agent_id] = by_hour(block_of_text(found.hot, file.shapes)) if found.hot else {}
                open_hours = {day.from_ms + hour * HOUR_MS for hour in hours_in(found.open_hours)}
                for hour_ms in open_hours | hot[agent_id].keys():
                    if hour_ms in span:
                        keys[hour_key(found.number, (hour_ms - day.from_ms) // HOUR_MS)] = (agent_id, hour_ms)
            blocks = hours_in_file(file, keys, metrics) if keys else {}
        result: defaultdict[str, dict[int, Block]] = defaultdict(dict)
        for key, (agent_id, hour_ms) in keys.items():
            rows_of_hour = hot[agent_id].get(hour_ms, EMPTY)
            result[agent_id][hour_ms] = joined([*blocks.get(key, ()), rows_of_hour])
        return result

    def rollups(self, period: Period, wanted: Wanted, span: range) -> list[tuple[str, int, bytes]]:
        """Return (agent, slot, body) of the rows that the span touches."""
        low = period.slot_of(max(span.start, period.from_ms))
        high = period.slot_of(min(span.stop, period.to_ms) - 1)
        agents = _encode(wanted.agent_ids).decode()
        with self.readers.opened(self._layout.path_of(period)) as file:
            if file is None:
                return []
            found = file.connection.execute(
                _ROLLUPS, (low, high, agents, wanted.metric_type, wanted.organisation_id)
            ).fetchall()
        return [(agent_id, *_slot_and_body(row)) for agent_id, rows in found if rows for row in rows.split(",")]

    def newest_rows(self, day: Day, until_ms: int) -> list[StoredSample]:
        """Return the newest hot row of each series that is not later than `until_ms`."""
        with self.readers.snapshot(day.path) as file:
            if file is None:
                return []
            shapes = file.shapes
            rows = file.connection.execute(_NEWEST_ROWS, (until_ms,)).fetchall()
        return [
            StoredSample(organisation_id, agent_id, metric_type, ts_ms, data_in(shape, data, shapes))
            for organisation_id, agent_id, metric_type, ts_ms, shape, data in rows
        ]


def by_hour(block: Block) -> dict[int, Block]:
    """Return the samples of each hour by its beginning."""
    starts = [timestamp - timestamp % HOUR_MS for timestamp in block.timestamps]
    firsts = [index for index, start in enumerate(starts) if index == 0 or start != starts[index - 1]]
    hours = {}
    for low, high in zip(firsts, [*firsts[1:], len(starts)], strict=True):
        columns = {name: values[low:high] for name, values in block.columns.items()}
        hours[starts[low]] = Block(block.timestamps[low:high], columns)
    return hours


def hours_in_file(file: OpenFile, keys: Iterable[int], metrics: Sequence[str] | None) -> dict[int, list[Block]]:
    """Return the chunk and the parts of hours by the key of their part 0."""
    blocks: dict[int, list[Block]] = {}
    for key, chunk, parts in file.connection.execute(_HOURS, (PARTS_MAX, _encode([*keys]).decode())).fetchall():
        found = blocks[key] = []
        try:
            if chunk is not None:
                found.append(block_of_chunk(chunk, metrics))
        except BadChunk as error:
            log.error("chunk of samples damaged; left out", hour=key >> PART_BITS, error=str(error))
        if parts is not None:
            found.append(block_of_text(parts, file.shapes))
    return blocks


def _series_in(
    connection: sqlite3.Connection, organisation_id: str, metric_type: str, rows: Mapping[str, Iterable[int]]
) -> dict[str, SeriesState]:
    wanted = _encode({agent_id: [*ids] for agent_id, ids in rows.items()}).decode()
    found = connection.execute(_SERIES, (wanted, metric_type, organisation_id)).fetchall()
    return {agent_id: SeriesState(number, open_hours, hot or "") for agent_id, number, open_hours, hot in found}


def _slot_and_body(row: str) -> tuple[int, bytes]:
    slot, _, body = row.partition(":")
    return int(slot), bytes.fromhex(body)
