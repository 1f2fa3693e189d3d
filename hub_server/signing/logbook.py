"""The signer's own log: a line of JSON for each question, in a file that it alone writes, never overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from hub_server.signing.model import LogLine


class Logbook:
    """Full files become `<name>.1`, `<name>.2` and so on; the oldest of `kept` goes.

    A line that the disk did not take as a whole stays a line of its own: it spoils no other.
    """

    def __init__(self, path: Path, *, max_bytes: int, kept: int) -> None:
        """Raises OSError."""
        self._path = path
        self._max_bytes = max_bytes
        self._kept = kept
        self._descriptor = self._opened()
        self._size_bytes = os.fstat(self._descriptor).st_size
        self._is_torn = self._size_bytes > 0 and not _ends_whole(path)

    def write(self, line: LogLine) -> None:
        """Raises OSError when the line is not in the file as a whole."""
        encoded = msgspec.json.encode(line) + b"\n"
        if self._size_bytes + len(encoded) > self._max_bytes:
            self._turn()
        if self._is_torn:
            encoded = b"\n" + encoded
        written = os.write(self._descriptor, encoded)
        self._size_bytes += written
        self._is_torn = written != len(encoded)
        if self._is_torn:
            raise OSError(f"{self._path} took {written} bytes of {len(encoded)}")

    def close(self) -> None:
        os.close(self._descriptor)

    def _opened(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _turn(self) -> None:
        for number in range(self._kept - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))
        full, self._descriptor = self._descriptor, self._opened()
        os.close(full)
        self._size_bytes = os.fstat(self._descriptor).st_size
        self._is_torn = False

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")


def _ends_whole(path: Path) -> bool:
    """Tell whether the last line is whole: its writer may have been killed, or the disk full."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
