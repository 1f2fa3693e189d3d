"""Connections for reading, kept open: one set a thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hub_server.storage.sqlite_files import open_reader
from hub_server.telemetry.day_files.samples import Names, names_in

OPEN_FILES_MAX: Final = 24


class Shapes(dict[int, Names]):
    """The names of each shape of a file, read when one is asked for that is not known yet."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __missing__(self, shape: int) -> Names:
        rows = self._connection.execute("SELECT id, names FROM shapes WHERE id > ?", (max(self, default=0),))
        self.update({number: names_in(names) for number, names in rows.fetchall()})
        names = self.get(shape)
        if names is None:
            raise KeyError(shape)
        return names


class OpenFile:
    """A file as one thread reads it."""

    def __init__(self, connection: sqlite3.Connection, identity: tuple[int, int]) -> None:
        self.connection: Final = connection
        self.identity: Final = identity
        self.shapes: Final = Shapes(connection)


class Readers:
    def __init__(self, text_max: int | None = None) -> None:
        """`text_max`: sqlite3.DataError is raised where more text than this is read at once, in bytes."""
        self._open: dict[Path, OpenFile] = {}
        self._text_max = text_max

    @contextmanager
    def snapshot(self, path: Path) -> Iterator[OpenFile | None]:
        """A consistent view of one file; None when there is none."""
        with self.opened(path) as file:
            if file is None:
                yield None
                return
            file.connection.execute("BEGIN")
            yield file
            file.connection.execute("COMMIT")

    @contextmanager
    def opened(self, path: Path) -> Iterator[OpenFile | None]:
        """One file, each statement a view of its own; None when there is none."""
        try:
            yield self._file(path)
        except BaseException:
            self.forget(path)  # whatever state it is in
            raise

    def forget(self, path: Path) -> None:
        """Close the file, which is going to be removed."""
        file = self._open.pop(path, None)
        if file is not None:
            file.connection.close()

    def close(self) -> None:
        for path in list(self._open):
            self.forget(path)

    def _file(self, path: Path) -> OpenFile | None:
        """Return the file that has this name now: one that was removed may have been open here."""
        try:
            status = path.stat()
        except FileNotFoundError:
            self.forget(path)
            return None
        identity = (status.st_dev, status.st_ino)
        file = self._open.pop(path, None)
        if file is not None and file.identity != identity:
            file.connection.close()
            file = None
        if file is None:
            connection = open_reader(path)
            if connection is None:
                return None
            if self._text_max is not None:
                connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, self._text_max)
            file = OpenFile(connection, identity)
        self._open[path] = file
        while len(self._open) > OPEN_FILES_MAX:
            self.forget(next(iter(self._open)))
        return file
