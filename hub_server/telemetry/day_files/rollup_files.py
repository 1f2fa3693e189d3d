"""Rollups on disk, in files of their own: retention of each resolution is an unlink.

An hour's row is written whole, again and again with the same result, before its chunk is.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import structlog

from hub_server.rests import Rests
from hub_server.storage.sqlite_files import is_damage, open_writer, remove, set_aside
from hub_server.telemetry.day_files.layout import (
    HOUR_MS,
    ROLLED,
    ROLLUP_SCHEMA,
    VERSION,
    Layout,
    Period,
    period_of,
    slot_key,
)
from hub_server.telemetry.day_files.mirror import SeriesName
from hub_server.telemetry.day_files.samples import Block
from hub_server.telemetry.model import BUCKET_MS, Resolution
from hub_server.telemetry.packing import BadChunk
from hub_server.telemetry.port import RollupColumns
from hub_server.telemetry.rollups import between, coarser, decoded, encoded, in_order, rolled_columns

log = structlog.get_logger(component="telemetry")

OPEN_FILES_MAX: Final = 8


class RolledHour(NamedTuple):
    """All buckets of a series' hour: the rows that are written as they are, by resolution, and the one that is added to
    those of the day. A resolution without a bucket is left out.
    """

    name: SeriesName
    from_ms: int
    bodies: Mapping[Resolution, bytes]
    hour: RollupColumns | None


def rolled_hour(name: SeriesName, from_ms: int, block: Block) -> RolledHour:
    minutes = rolled_columns(block.timestamps, block.columns, BUCKET_MS[Resolution.MINUTE])
    fives = coarser(minutes, BUCKET_MS[Resolution.FIVE_MINUTES])
    hour = coarser(fives, BUCKET_MS[Resolution.HOUR])
    bodies = {
        resolution: body
        for resolution, rollup in ((Resolution.MINUTE, minutes), (Resolution.FIVE_MINUTES, fives))
        if _has_buckets(rollup) and (body := _encoded(rollup, name)) is not None
    }
    return RolledHour(name, from_ms, bodies, hour if _has_buckets(hour) else None)


class RollupFiles:
    """For one thread, which is the only one that writes them."""

    def __init__(self, layout: Layout, rests: Rests) -> None:
        self._layout = layout
        self._rests = rests
        self._open: dict[Period, sqlite3.Connection] = {}
        self._periods: set[Period] = set()

    def load(self) -> None:
        """Find out which files there are. Raises OSError."""
        self._periods = {period for resolution in ROLLED for period in self._layout.periods(resolution)}

    def periods(self, resolution: Resolution) -> list[Period]:
        """Return those that have a file, the oldest first. For any thread."""
        return sorted(period for period in [*self._periods] if period.resolution is resolution)

    def remove(self, period: Period) -> None:
        """Remove a file with all its rollups. Raises OSError."""
        self.close(period)
        remove(self._layout.path_of(period))
        self._periods.discard(period)

    def write(self, hours: Sequence[RolledHour]) -> None:
        """Durable when this returns. Raises sqlite3.Error, OSError."""
        by_period: defaultdict[Period, list[RolledHour]] = defaultdict(list)
        for hour in hours:
            for resolution in ROLLED:
                if resolution in hour.bodies or (resolution is Resolution.HOUR and hour.hour is not None):
                    by_period[period_of(resolution, hour.from_ms)].append(hour)
        for period, its_hours in by_period.items():
            try:
                self._write(period, its_hours)
            except BaseException as error:
                self.close(period)  # whatever was begun is undone
                if isinstance(error, sqlite3.Error) and is_damage(error):
                    aside = set_aside(self._layout.path_of(period))
                    log.error("file of rollups damaged; begun anew", set_aside=str(aside), error=str(error))
                raise

    def forget_agent(self, period: Period, organisation_id: str, agent_id: str) -> None:
        connection = self._connection(period)
        connection.execute("BEGIN IMMEDIATE")
        try:
            found = connection.execute(
                "SELECT id FROM series WHERE agent_id = ? AND organisation_id = ?", (agent_id, organisation_id)
            ).fetchall()
            for (series,) in found:
                span = (slot_key(series, 0), slot_key(series + 1, 0))
                connection.execute("DELETE FROM rollup WHERE key >= ? AND key < ?", span)
                connection.execute("DELETE FROM series WHERE id = ?", (series,))
            connection.execute("COMMIT")
        except BaseException:
            self.close(period)
            raise

    def close(self, period: Period | None = None) -> None:
        """Close one file, or all."""
        for each in [period] if period is not None else [*self._open]:
            connection = self._open.pop(each, None)
            if connection is not None:
                connection.close()

    def _write(self, period: Period, hours: Sequence[RolledHour]) -> None:
        connection = self._connection(period)
        connection.execute("BEGIN IMMEDIATE")
        for hour in hours:
            self._rests.rest()
            key = slot_key(_series_in(connection, hour.name), period.slot_of(hour.from_ms))
            body = hour.bodies.get(period.resolution)
            if period.resolution is Resolution.HOUR and hour.hour is not None:
                body = _encoded(_with_hour(connection, key, hour.from_ms, hour.hour), hour.name)
            if body is not None:
                connection.execute("INSERT OR REPLACE INTO rollup VALUES (?, ?)", (key, body))
        connection.execute("COMMIT")

    def _connection(self, period: Period) -> sqlite3.Connection:
        connection = self._open.pop(period, None)
        if connection is None:
            connection = open_writer(self._layout.path_of(period), ROLLUP_SCHEMA, VERSION)
            self._periods.add(period)
        self._open[period] = connection
        while len(self._open) > OPEN_FILES_MAX:
            self.close(next(iter(self._open)))
        return connection


def _has_buckets(rollup: RollupColumns) -> bool:
    return bool(rollup.counts or rollup.last)


def _encoded(rollup: RollupColumns, name: SeriesName) -> bytes | None:
    """Return None for numbers that cannot be written down: what one agent sends must not keep others from packing."""
    try:
        return encoded(rollup)
    except (OverflowError, ValueError) as error:
        log.error("rollup of an hour left out", agent_id=name[1], metric_type=name[2], error=str(error))
        return None


def _series_in(connection: sqlite3.Connection, name: SeriesName) -> int:
    organisation_id, agent_id, metric_type = name
    found = connection.execute(
        "SELECT id FROM series WHERE agent_id = ? AND metric_type = ? AND organisation_id = ?",
        (agent_id, metric_type, organisation_id),
    ).fetchone()
    if found is not None:
        return int(found[0])
    inserted = connection.execute(
        "INSERT INTO series (organisation_id, agent_id, metric_type) VALUES (?, ?, ?)", name
    ).lastrowid
    assert inserted is not None
    return inserted


def _with_hour(connection: sqlite3.Connection, key: int, hour_ms: int, hour: RollupColumns) -> RollupColumns:
    """Return the day's row with this hour's bucket in the place of an earlier one."""
    found = connection.execute("SELECT body FROM rollup WHERE key = ?", (key,)).fetchone()
    if found is None:
        return hour
    with suppress(BadChunk):
        day = decoded(found[0])
        before, after = between(day, 0, hour_ms), between(day, hour_ms + HOUR_MS, 1 << 62)
        return in_order([before, hour, after])
    return hour
