"""One day's file as its writer uses it: in one thread, a transaction a call, the mirror changed after the commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import structlog

from hub_server.storage.sqlite_files import insert_many, is_damage, open_writer, set_aside
from hub_server.telemetry.day_files.layout import DAY_MS, PARTS_MAX, RAW_SCHEMA, VERSION, hour_key
from hub_server.telemetry.day_files.ledger import IMPORTED_STREAM, Ledger
from hub_server.telemetry.day_files.loading import contents, loaded
from hub_server.telemetry.day_files.mirror import Mirror, SeriesName
from hub_server.telemetry.model import StreamKey
from hub_server.telemetry.port import NewSample

log = structlog.get_logger(component="telemetry")

DELETED_AT_ONCE: Final = 4000
_STATE: Final = """
SELECT max((SELECT ifnull(max(id), 0) FROM hot), ifnull(max(packed), 0)), ifnull(max(packed), 0),
       (SELECT count(*) FROM series), (SELECT count(*) FROM streams)
  FROM series
"""
_APPEND: Final = "ON CONFLICT (key) DO UPDATE SET body = chunk.body || ',' || excluded.body"
_encode: Final = msgspec.json.Encoder().encode


class PackedPiece(NamedTuple):
    """What a piece of a round writes: parts as text by key, chunks of hours that are closed at once, and which hours
    each series has open parts in now."""

    last_row: int
    parts: Mapping[int, str]
    chunks: Mapping[int, bytes]
    opened: Mapping[int, int]


class ClosedPiece(NamedTuple):
    """Chunks of hours by the key of their part 0; all other parts of these hours are in them."""

    chunks: Mapping[int, bytes]
    closed: Mapping[int, int]


class Round(NamedTuple):
    """What is to be packed: all rows up to `last_row`, those of these series. Of the streams `touched` the index has to
    learn what is in them before the rows go."""

    last_row: int
    series: Sequence[int]
    touched: Collection[StreamKey]


class Day:
    """The file is opened at the first use, and again after an error that leaves doubts."""

    def __init__(self, number: int, path: Path, ledger: Ledger) -> None:
        self.number: Final = number
        self.from_ms: Final = number * DAY_MS
        self.path: Final = path
        self.mirror = Mirror()
        self.has_leftovers = False
        """Rows that are packed may be in the hot table still."""
        self.has_open_hours = False
        self.chunk_bytes = 0
        self._ledger = ledger
        self._connection: sqlite3.Connection | None = None
        self._is_loaded = False
        self._in_doubt = False
        self._packed_until = 0
        self._packing_oldest_ms: int | None = None

    @property
    def oldest_ms(self) -> int | None:
        """The time of the oldest sample that is not packed, or somewhat before."""
        known = [at_ms for at_ms in (self._packing_oldest_ms, self.mirror.oldest_ms) if at_ms is not None]
        return min(known, default=None)

    @property
    def has_rows(self) -> bool:
        return self.mirror.unpacked > 0 or self.has_leftovers

    @property
    def is_settled(self) -> bool:
        """All samples are in closed chunks, and in rollups."""
        return not self.mirror.unpacked and not self.has_open_hours

    def open(self) -> None:
        """Find out what there is to do, and load what that needs. Moves a damaged file aside and begins a new one.

        Raises sqlite3.Error, OSError.
        """
        self._unless_damaged(self._read_contents)

    def close(self) -> None:
        """The file is opened and loaded again by the next who writes."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._is_loaded = False

    def settle(self) -> None:
        """After an unanswered commit, find out from the disk whether it took effect."""
        if not self._is_loaded:
            self._unless_damaged(self._load)
        elif self._in_doubt:
            found = self._opened().execute(_STATE).fetchone()
            mirror = self.mirror
            if found != (mirror.next_row - 1, self._packed_until, len(mirror.series), len(mirror.streams)):
                self._load()
            self._in_doubt = False

    def add(self, samples: Sequence[NewSample]) -> set[StreamKey]:
        """Return the streams of `samples`."""
        self.settle()
        batch = self.mirror.staged(samples)
        with self._transaction() as connection:
            insert_many(
                connection,
                "INSERT INTO series (id, organisation_id, agent_id, metric_type)",
                4,
                [value for name, series in batch.series.items() for value in (series, *name)],
            )
            insert_many(
                connection,
                "INSERT INTO streams (id, organisation_id, agent_id, stream, epoch)",
                5,
                [v for key, stream in batch.streams.items() for v in (stream, batch.organisations[key], *key)],
            )
            for names, shape in batch.shapes.items():
                connection.execute("INSERT INTO shapes VALUES (?, ?)", (shape, _encode(names).decode()))
            insert_many(connection, "INSERT INTO hot", 7, batch.rows)
        self.mirror.accept(batch)
        return batch.touched

    def begin_round(self) -> Round:
        self.settle()
        mirror = self.mirror
        touched, mirror.touched = mirror.touched, set()
        self._packing_oldest_ms, mirror.oldest_ms = self.oldest_ms, None
        return Round(mirror.next_row - 1, mirror.hot.series, touched)

    def end_round(self, now_ms: int) -> None:
        """Called when all rows of the round are deleted."""
        self.has_leftovers = False
        self._packing_oldest_ms = None
        if not self.mirror.unpacked:
            self._unload_unless_today(now_ms)

    def end_closing(self, now_ms: int) -> None:
        self.has_open_hours = contents(self._opened()).has_open_hours
        if not self.has_rows:
            self._unload_unless_today(now_ms)

    def save_packed(self, piece: PackedPiece) -> None:
        self.settle()
        parts = [value for item in piece.parts.items() for value in item]
        chunks = [value for item in piece.chunks.items() for value in item]
        grown = sum(map(len, piece.chunks.values()))
        with self._transaction() as connection:
            insert_many(connection, "INSERT INTO chunk", 2, parts, _APPEND)
            insert_many(connection, "INSERT OR REPLACE INTO chunk", 2, chunks)
            connection.execute(
                "UPDATE series SET packed = ?, open_hours = open_hours | j.value FROM json_each(?) AS j"
                " WHERE series.id = CAST(j.key AS INTEGER)",
                (piece.last_row, _encode(piece.opened).decode()),
            )
            connection.execute("UPDATE facts SET chunk_bytes = chunk_bytes + ?", (grown,))
        self.chunk_bytes += grown
        self.has_leftovers = True
        self.has_open_hours = self.has_open_hours or bool(piece.parts)
        self.mirror.packed(piece.opened, piece.last_row)
        self._packed_until = max(self._packed_until, piece.last_row)

    def save_closed(self, piece: ClosedPiece) -> None:
        self.settle()
        keys = _encode([*piece.chunks]).decode()
        with self._transaction() as connection:
            (replaced,) = connection.execute(
                "SELECT sum(length(body)) FROM json_each(?) AS j CROSS JOIN chunk ON chunk.key = j.value", (keys,)
            ).fetchone()
            grown = sum(map(len, piece.chunks.values())) - (replaced or 0)
            connection.execute(
                "DELETE FROM chunk WHERE key IN (SELECT chunk.key FROM json_each(?) AS j CROSS JOIN chunk"
                " ON chunk.key BETWEEN j.value AND j.value + ?)",
                (keys, PARTS_MAX),
            )
            chunks = [value for item in piece.chunks.items() if item[1] for value in item]
            insert_many(connection, "INSERT INTO chunk", 2, chunks)
            connection.execute(
                "UPDATE series SET open_hours = open_hours & ~j.value FROM json_each(?) AS j"
                " WHERE series.id = CAST(j.key AS INTEGER)",
                (_encode(piece.closed).decode(),),
            )
            connection.execute("UPDATE facts SET chunk_bytes = chunk_bytes + ?", (grown,))
        self.chunk_bytes += grown

    def delete_rows(self, last_row: int) -> bool:
        """Delete some of the rows up to `last_row`. Returns whether there are more."""
        self.settle()
        with self._transaction() as connection:
            (first,) = connection.execute("SELECT min(id) FROM hot").fetchone()
            end = last_row if first is None else min(first + DELETED_AT_ONCE, last_row)
            connection.execute("DELETE FROM hot WHERE id <= ?", (end,))
        if end < last_row:
            return True
        self.mirror.hot.compact(last_row)
        return False

    def forget_streams(self, keys: Collection[StreamKey]) -> None:
        """The rows of a forgotten stream stay, and say nothing of it any more."""
        self.settle()
        known = [key for key in keys if key in self.mirror.streams]
        if not known:
            return
        with self._transaction() as connection:
            for key in known:
                connection.execute("DELETE FROM streams WHERE id = ?", (self.mirror.streams[key],))
        self.mirror.forget((), known)

    def series_of_agent(self, organisation_id: str, agent_id: str) -> list[tuple[SeriesName, int]]:
        self.settle()
        found = self._opened().execute(
            "SELECT organisation_id, agent_id, metric_type, id FROM series WHERE agent_id = ? AND organisation_id = ?",
            (agent_id, organisation_id),
        )
        return [((row[0], row[1], row[2]), row[3]) for row in found.fetchall()]

    def forget_series(self, name: SeriesName, series: int) -> None:
        """Delete everything of a series. Rows of it that are packed go with their round; nobody sees them any more."""
        self.settle()
        rows = _encode(self.mirror.hot.of(series)).decode()
        span = (hour_key(series, 0), hour_key(series + 1, 0))
        with self._transaction() as connection:
            connection.execute("DELETE FROM hot WHERE id IN (SELECT value FROM json_each(?))", (rows,))
            (gone,) = connection.execute(
                "SELECT sum(length(body)) FROM chunk WHERE key >= ? AND key < ? AND key & ? = 0", (*span, PARTS_MAX)
            ).fetchone()
            connection.execute("DELETE FROM chunk WHERE key >= ? AND key < ?", span)
            connection.execute("UPDATE facts SET chunk_bytes = chunk_bytes - ?", (gone or 0,))
            connection.execute("DELETE FROM series WHERE id = ?", (series,))
        self.chunk_bytes -= gone or 0
        self.mirror.forget([name], ())

    def imported_until(self) -> int:
        """Return the highest number of a row of version 0.1 that is here."""
        self.settle()
        (last,) = (
            self._opened()
            .execute(
                "SELECT max(hot.seq) FROM hot JOIN streams ON streams.id = hot.stream WHERE streams.stream = ?",
                (IMPORTED_STREAM,),
            )
            .fetchone()
        )
        return last or 0

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._opened()
        try:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            self._undo(error)
            raise

    def _unload_unless_today(self, now_ms: int) -> None:
        """Give back the memory of a day that nothing is written to at present."""
        if now_ms // DAY_MS != self.number:
            self.close()
            self.mirror = Mirror()

    def _undo(self, error: BaseException) -> None:
        self._in_doubt = self.has_leftovers = self.has_open_hours = True  # as far as anybody knows
        try:
            if self._connection is not None and self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except sqlite3.Error:
            self.close()
        if isinstance(error, sqlite3.Error) and is_damage(error):
            self.close()
            self._set_aside(error)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_writer(self.path, RAW_SCHEMA, VERSION)
        return self._connection

    def _read_contents(self) -> None:
        connection = self._opened()
        found = contents(connection)
        self.has_open_hours, self.chunk_bytes = found.has_open_hours, found.chunk_bytes
        if found.has_rows:
            self._load()
        else:
            self.close()

    def _load(self) -> None:
        connection = self._opened()
        found = loaded(connection)
        facts = contents(connection)
        found.mirror.number_after(self.mirror)
        self.mirror, self.has_leftovers, self._packed_until = found.mirror, found.has_leftovers, found.packed_until
        self.has_open_hours, self.chunk_bytes = facts.has_open_hours, facts.chunk_bytes
        self._is_loaded, self._in_doubt = True, False
        for received in found.received:
            self._ledger.add(*received)

    def _unless_damaged(self, read: Callable[[], None]) -> None:
        try:
            read()
        except sqlite3.DatabaseError as error:
            self.close()
            if not is_damage(error):
                raise
            self._set_aside(error)
            read()

    def _set_aside(self, error: sqlite3.Error) -> None:
        fresh = Mirror()
        fresh.number_after(self.mirror)
        self.mirror = fresh
        aside = set_aside(self.path)
        log.error("file of samples damaged; begun anew", set_aside=str(aside), error=str(error))
