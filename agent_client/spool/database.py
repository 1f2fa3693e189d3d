"""The agent's one database file: durable transactions, and what happens when the file or the disk fails."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final

from agent_client.errors import AgentError
from agent_client.store.secure import FILE_MODE, SecureStore

_SCHEMA_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE streams (
    name TEXT PRIMARY KEY, epoch INTEGER NOT NULL, newest INTEGER NOT NULL, dropped INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE entries (
    stream TEXT NOT NULL, seq INTEGER NOT NULL, ts INTEGER NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (stream, seq)
) WITHOUT ROWID;
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, envelope BLOB NOT NULL, expires_at INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL, started_at INTEGER, result BLOB, acknowledged INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""
_PRAGMAS: Final = (
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # NORMAL loses acknowledged commits at a power cut
    "PRAGMA cache_size = -256",
    "PRAGMA wal_autocheckpoint = 250",
    "PRAGMA journal_size_limit = 1048576",
)

Parameter = str | int | float | bytes | None
Row = tuple[str | int | float | bytes | None, ...]


class DatabaseError(AgentError):
    """The database did not do what it was asked: a full disk, a failing one, a damaged file."""

    code: ClassVar[str] = "database"
    exit_code: ClassVar[int] = 74


class Database:
    """One SQLite file, used by one thread. Its calls block for the time of an fsync.

    A damaged file is moved aside and a new one begun; `replaced` then names it.
    """

    def __init__(self, path: Path) -> None:
        """Raises DatabaseError when there can be no database at `path`."""
        SecureStore(path.parent).prepare()
        self.path = path
        self.replaced: Path | None = None
        try:
            self._connection = self._open()
        except sqlite3.OperationalError as error:
            raise DatabaseError(f"cannot open {path}: {error}") from error
        except sqlite3.DatabaseError:
            self.replaced = self._move_aside()
            try:
                self._connection = self._open()
            except sqlite3.Error as error:
                raise DatabaseError(f"cannot make {path}: {error}") from error

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is executed inside, on disk before the block is left, or undo all of it.

        Raises DatabaseError when the disk does not take it.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise DatabaseError(f"{self.path}: {error}") from error

    def execute(self, statement: str, parameters: Sequence[Parameter] = ()) -> int:
        """Return the number of rows changed."""
        try:
            return self._connection.execute(statement, parameters).rowcount
        except sqlite3.Error as error:
            raise DatabaseError(f"{self.path}: {error}") from error

    def rows(self, query: str, parameters: Sequence[Parameter] = ()) -> list[Row]:
        try:
            return self._connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise DatabaseError(f"{self.path}: {error}") from error

    def number(self, query: str, parameters: Sequence[Parameter] = ()) -> int:
        """Return the first value of the first row as a number, 0 where there is none."""
        rows = self.rows(query, parameters)
        return int(rows[0][0] or 0) if rows else 0

    def meta(self, key: str) -> str:
        rows = self.rows("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else ""

    def set_meta(self, key: str, value: str) -> None:
        self.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value))

    def used_bytes(self) -> int:
        """Return the size of what is stored, without pages that are free again."""
        pages = self.number("PRAGMA page_count") - self.number("PRAGMA freelist_count")
        return pages * self.number("PRAGMA page_size")

    def give_back(self) -> None:
        """Return free pages to the file system, a bounded number at a time."""
        if self.number("PRAGMA freelist_count") > 256:
            self.rows("PRAGMA incremental_vacuum(256)")

    def _open(self) -> sqlite3.Connection:
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, FILE_MODE))  # so that SQLite's own files get this mode too
        connection = sqlite3.connect(self.path, timeout=5.0, isolation_level=None)
        try:
            for pragma in _PRAGMAS:
                connection.execute(pragma).fetchall()
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > _SCHEMA_VERSION:
                raise DatabaseError(
                    f"{self.path} was written by a newer agent; install that one, or move the file away"
                )
            if version == 0:
                connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")
        except BaseException:
            connection.close()
            raise
        return connection

    def _move_aside(self) -> Path:
        damaged = self.path.with_suffix(".damaged")
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        return self.path.replace(damaged)
