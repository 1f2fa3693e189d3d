"""SQLite files beside the main database, used through the driver itself: one writer each, any number of readers."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from hub_server.storage.private_files import keep_private, sync_directory

SIDECARS: Final = ("-wal", "-shm")
WRITER_PRAGMAS: Final = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=10000",
    "journal_size_limit=16777216",
    "cache_size=-4096",
)
READER_PRAGMAS: Final = ("busy_timeout=10000", "query_only=ON", "cache_size=-512")
ROWS_AT_ONCE: Final = (512, 64, 8, 1)
"""How many rows an insert takes: each size is a statement that stays prepared."""


def open_writer(path: Path, schema: str, version: int) -> sqlite3.Connection:
    """Open the file, private, with `schema` run once, whole or not at all. For one thread, which begins and commits.

    Raises sqlite3.Error, OSError; sqlite3.DatabaseError also when a newer version wrote it.
    """
    is_new = not path.exists()
    if is_new:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove(path, SIDECARS)  # what a file of the same name left is not of this one
    keep_private(path)
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        for pragma in WRITER_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        _prepare(connection, schema, version)
    except BaseException:
        connection.close()
        raise
    if is_new:
        sync_directory(path.parent)
        sync_directory(path.parent.parent)
    return connection


def open_reader(path: Path) -> sqlite3.Connection | None:
    """Open an existing file for reading, from one thread; None when there is none. Raises sqlite3.Error."""
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
    except sqlite3.OperationalError:
        if path.exists():
            raise
        return None
    for pragma in READER_PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    return connection


def insert_many(connection: sqlite3.Connection, head: str, width: int, values: Sequence[Any], tail: str = "") -> None:
    """Insert rows of `width` values that stand one after the other in `values`.

    Many rows a statement: a step of SQLite gives up the interpreter's lock and waits for it again, which is dear while
    the event loop is busy.
    """
    row = f"({','.join('?' * width)})"
    position = 0
    for rows in ROWS_AT_ONCE:
        step = rows * width
        if len(values) - position < step:
            continue
        statement = f"{head} VALUES {','.join([row] * rows)} {tail}"
        while len(values) - position >= step:
            connection.execute(statement, values[position : position + step])
            position += step


def is_damage(error: sqlite3.Error) -> bool:
    """Tell whether the file itself is no database, or a broken one."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def refuses_values(error: sqlite3.Error) -> bool:
    """Tell whether what was to be written is the reason: trying again cannot help."""
    kinds = (sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
    return isinstance(error, kinds)


def remove(path: Path) -> None:
    """Remove the file; who has it open may go on reading. Raises OSError."""
    _remove(path, ("", *SIDECARS))
    sync_directory(path.parent)


def set_aside(path: Path) -> Path:
    """Give a damaged file another name, and return it. Raises OSError."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in ("", *SIDECARS):
        part = Path(f"{path}{suffix}")
        if part.exists():
            part.rename(f"{aside}{suffix}")
    sync_directory(path.parent)
    return aside


def _prepare(connection: sqlite3.Connection, schema: str, version: int) -> None:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > version:
        raise sqlite3.OperationalError(f"written by a newer version of the hub ({found}, this one knows {version})")
    if found < version:
        connection.executescript(f"BEGIN IMMEDIATE; {schema}; PRAGMA user_version={version}; COMMIT")


def _remove(path: Path, suffixes: Sequence[str]) -> None:
    for suffix in suffixes:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
