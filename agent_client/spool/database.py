"""The agent's one database file: durable transactions, and what happens when the file or the disk fails."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Final, TypeVar

from agent_client.errors import AgentError
from agent_client.spool.reserve import LOG_BYTES, Reserve, allocate, is_tight
from agent_client.store.secure import FILE_MODE, SecureStore

T = TypeVar("T")

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
_CHECKPOINT_PAGES: Final = 100
_PRAGMAS: Final = (
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",  # NORMAL loses acknowledged commits at a power cut
    "PRAGMA cache_size = -256",
    f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}",
    f"PRAGMA journal_size_limit = {LOG_BYTES}",
)
_PAGES_KEPT: Final = 256
_PAGES_AT_HAND: Final = 64

_PRIMARY_CODE: Final = 0xFF

Parameter = str | int | float | bytes | None
Row = tuple[str | int | float | bytes | None, ...]


class DatabaseError(AgentError):
    """The database did not do what it was asked: a full disk, a failing one, a damaged file."""

    code: ClassVar[str] = "database"
    exit_code: ClassVar[int] = 74


class DiskRefused(DatabaseError):
    """The disk is full, or does not write for another reason that may pass."""


class Damaged(DatabaseError):
    """The file is no database any more: something else wrote into it."""


class Database:
    """One SQLite file, used by one thread. Its calls block for the time of an fsync.

    A damaged file is moved aside and a new one begun; `replaced` then names it. `has_forgotten` where this file does
    not know all that the one before it knew; who finds that out later calls `forgotten`, which tells `on_forgotten`.
    `make_room` frees pages inside the file for what must not be lost. `on_damage` is told when the file turns out to be
    damaged; the next start looks closer.
    """

    def __init__(self, path: Path) -> None:
        """Raises DatabaseError when there can be no database at `path`."""
        SecureStore(path.parent).prepare()
        self.path = path
        self.replaced: Path | None = None
        self.last_written_ms = _last_written_ms(path)
        """When an earlier life wrote last, by the clock of the file system; None where there was none."""
        self.make_room: Callable[[], None] = _nothing
        self.on_forgotten: Callable[[], None] = _nothing
        self.on_damage: Callable[[], None] = _nothing
        self._reserve = Reserve(path.with_suffix(".reserve"))
        self._suspicion = path.with_suffix(".suspect")
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
        self.has_forgotten = self.replaced is not None
        self._suspicion.unlink(missing_ok=True)
        self._identity = self._identity_on_disk()
        self._reserve.fill()

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[None]:
        """Commit what is executed inside, on disk before the block is left, or undo all of it.

        Not `durable`: a power cut may undo it, but not what is committed durably afterwards. Raises DatabaseError when
        the disk does not take it.
        """
        try:
            if not durable:
                self._connection.execute("PRAGMA synchronous = NORMAL")
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
            finally:
                if not durable:
                    self._connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def vital(self, work: Callable[[], T]) -> T:
        """Do `work` in a transaction. Where the disk is full, room is made first at the expense of less; the reserve is
        spent where that does not help. Raises DatabaseError when nothing does.
        """
        if not self.has_room():
            self._make_room()
        for remedy in (self._make_room, self._spend_reserve):
            try:
                with self.transaction():
                    return work()
            except DiskRefused:
                remedy()
        with self.transaction():
            return work()

    def checkpoint(self) -> None:
        """Empty the log now, in a quiet moment, as far as that goes without waiting for anybody."""
        with suppress(DatabaseError):
            self.rows("PRAGMA wal_checkpoint(PASSIVE)")

    def has_room(self) -> bool:
        """Tell whether more can be stored without taking the last of the disk."""
        return not self.is_tight() or self._free_pages() >= _PAGES_AT_HAND // 4

    def is_tight(self) -> bool:
        return is_tight(self.path.parent)

    def is_cramped(self) -> bool:
        """Tell whether more pages must become free, so that all of the file fits what it holds of the disk already."""
        return self._free_pages() < self._overhang_pages() + _PAGES_AT_HAND

    def _make_room(self) -> None:
        """Free pages inside the file, and let the log begin anew, so that nothing has to grow for a while."""
        with suppress(DatabaseError):
            self.make_room()
            with self.transaction():
                self.rows(f"PRAGMA incremental_vacuum({min(self._overhang_pages(), self._free_pages())})")
        with suppress(DatabaseError):
            self.rows("PRAGMA wal_checkpoint(RESTART)")

    def _spend_reserve(self) -> None:
        self._reserve.spend()
        self._make_room()

    def forgotten(self) -> None:
        """Note that an earlier state of the file was put back."""
        self.has_forgotten = True
        self.on_forgotten()

    def refill_reserve(self) -> None:
        """Put back what `vital` spent, where the disk has room again."""
        self._reserve.fill()

    def execute(self, statement: str, parameters: Sequence[Parameter] = ()) -> int:
        """Return the number of rows changed."""
        try:
            return self._connection.execute(statement, parameters).rowcount
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def execute_many(self, statement: str, rows: Iterable[Sequence[Parameter]]) -> None:
        try:
            self._connection.executemany(statement, rows)
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def rows(self, query: str, parameters: Sequence[Parameter] = ()) -> list[Row]:
        try:
            return self._connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def each(self, query: str, parameters: Sequence[Parameter] = ()) -> Iterator[Row]:
        """Yield the rows one by one; nothing is to be written meanwhile."""
        try:
            yield from self._connection.execute(query, parameters)
        except sqlite3.Error as error:
            raise self._failure(error) from error

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
        if self._free_pages() > _PAGES_KEPT and not self.is_tight():
            with self.transaction(durable=False):
                self.rows(f"PRAGMA incremental_vacuum({_PAGES_KEPT})")

    def _overhang_pages(self) -> int:
        """Return how many pages are only in the log, because the file does not reach so far yet."""
        try:
            held = self.path.stat().st_size // self.number("PRAGMA page_size")
        except OSError:
            return 0
        return max(self.number("PRAGMA page_count") - held, 0)

    def _free_pages(self) -> int:
        return self.number("PRAGMA freelist_count")

    def is_deleted(self) -> bool:
        """Tell whether the file is not at its path any more; what is written then dies with this process."""
        return self._identity_on_disk() != self._identity

    def rescue(self) -> None:
        """Put the whole content back to its path, in place of what may be there now. Raises DatabaseError."""
        copy = self.path.with_suffix(".rescue")
        try:
            copy.unlink(missing_ok=True)
            os.close(os.open(copy, os.O_RDWR | os.O_CREAT, FILE_MODE))
            self._connection.execute("VACUUM INTO ?", (str(copy),))
            _sync(copy)
            self._connection.close()
            self._remove_companions()
            copy.replace(self.path)
            self._connection = self._open()
        except sqlite3.Error as error:
            raise self._failure(error) from error
        except OSError as error:
            raise DiskRefused(f"{self.path}: {error}") from error
        self._identity = self._identity_on_disk()

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
            if self._suspicion.exists() and connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("the file is damaged")
            allocate(self.path.with_name(f"{self.path.name}-wal"), LOG_BYTES)
        except BaseException:
            connection.close()
            raise
        return connection

    def _move_aside(self) -> Path:
        damaged = self.path.with_suffix(".damaged")
        self._remove_companions()
        return self.path.replace(damaged)

    def _remove_companions(self) -> None:
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _identity_on_disk(self) -> tuple[int, int] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def _failure(self, error: sqlite3.Error) -> DatabaseError:
        message = f"{self.path}: {error}"
        match getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE:
            case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
                return DiskRefused(message)
            case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                with suppress(OSError):
                    self._suspicion.touch(FILE_MODE)
                self.on_damage()
                return Damaged(message)
            case _:
                return DatabaseError(message)


def _last_written_ms(path: Path) -> int | None:
    found = [_modified_ms(path), _modified_ms(path.with_name(f"{path.name}-wal"))]
    return max((at_ms for at_ms in found if at_ms is not None), default=None)


def _modified_ms(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns // 1_000_000
    except OSError:
        return None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _nothing() -> None:
    pass
