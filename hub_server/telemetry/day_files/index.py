"""What is known of all days together: which sequences of a stream are stored, and the newest packed sample of a series.

Written before rows leave a day's hot table, so that nothing is known only from rows that are gone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import structlog

from hub_server.storage.sqlite_files import insert_many, is_damage, open_reader, open_writer, set_aside
from hub_server.telemetry.day_files.layout import INDEX_SCHEMA, VERSION
from hub_server.telemetry.model import StoredRanges, StreamKey
from protocol.ranges import SequenceRanges

log = structlog.get_logger(component="telemetry")

_KEEP_NEWER: Final = """
ON CONFLICT (agent_id, metric_type, organisation_id) DO UPDATE SET ts_ms = excluded.ts_ms, data = excluded.data
WHERE excluded.ts_ms >= newest.ts_ms
"""
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(list[tuple[int, int]]).decode


class NewestRow(NamedTuple):
    """`data` is a JSON object."""

    agent_id: str
    metric_type: str
    organisation_id: str
    ts_ms: int
    data: str


class Index:
    """One thread writes at a time; any may read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._written = 0

    def load(self) -> list[StoredRanges]:
        """Return all ranges, those written last at the end. Moves a damaged file aside."""
        try:
            return self._read_ranges()
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise
            self.close()
            self._set_aside(error)
            return self._read_ranges()

    def save_ranges(self, changed: Sequence[StoredRanges]) -> None:
        """Write whole ranges, of which the last ones were written last."""
        values = []
        for position, stored in enumerate(changed, self._written + 1):
            text = _encode(stored.ranges.to_list()).decode()
            values += [*stored.key, stored.organisation_id, text, position]
        with self._transaction() as connection:
            insert_many(connection, "INSERT OR REPLACE INTO streams", 6, values)
        self._written += len(changed)

    def save_newest(self, rows: Iterable[NewestRow]) -> None:
        values = [value for row in rows for value in row]
        with self._transaction() as connection:
            insert_many(connection, "INSERT INTO newest", 5, values, _KEEP_NEWER)

    def forget_streams(self, keys: Collection[StreamKey]) -> None:
        with self._transaction() as connection:
            for key in keys:
                connection.execute("DELETE FROM streams WHERE (agent_id, stream, epoch) = (?, ?, ?)", key)

    def forget_agent(self, organisation_id: str, agent_id: str) -> None:
        with self._transaction() as connection:
            for table in ("streams", "newest"):
                connection.execute(
                    f"DELETE FROM {table} WHERE agent_id = ? AND organisation_id = ?",  # noqa: S608
                    (agent_id, organisation_id),
                )

    def newest(self) -> list[NewestRow]:
        """For any thread."""
        connection = open_reader(self._path)
        if connection is None:
            return []
        with closing(connection):
            rows = connection.execute(
                "SELECT agent_id, metric_type, organisation_id, ts_ms, data FROM newest"
            ).fetchall()
        return [NewestRow(*row) for row in rows]

    def close(self) -> None:
        """In the thread that writes."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read_ranges(self) -> list[StoredRanges]:
        rows = (
            self._opened()
            .execute("SELECT organisation_id, agent_id, stream, epoch, ranges, written FROM streams ORDER BY written")
            .fetchall()
        )
        self._written = rows[-1][-1] if rows else 0
        return [
            StoredRanges(organisation_id, StreamKey(agent_id, stream, epoch), SequenceRanges(_decode(ranges)))
            for organisation_id, agent_id, stream, epoch, ranges, _written in rows
        ]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._opened()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException as error:
            self.close()  # whatever was begun is undone
            if isinstance(error, sqlite3.Error) and is_damage(error):
                self._set_aside(error)
            raise

    def _set_aside(self, error: sqlite3.Error) -> None:
        aside = set_aside(self._path)
        log.error("index of samples damaged; begun anew", set_aside=str(aside), error=str(error))

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = open_writer(self._path, INDEX_SCHEMA, VERSION)
        return self._connection
