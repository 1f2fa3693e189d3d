"""The newest bytes of a stream, in a file that is written round and round."""

from __future__ import annotations

import os
from contextlib import suppress
from io import FileIO
from pathlib import Path

from agent_client.store.secure import FILE_MODE


class Tail:
    """Holds the last `capacity_bytes` of what is written. Means nothing to a later life: remove what lies at `path`."""

    def __init__(self, path: Path, capacity_bytes: int) -> None:
        self.held_bytes = 0
        self._path = path
        self._capacity_bytes = capacity_bytes
        self._position = 0
        self._file = FileIO(path, "w+", opener=_open_private)

    def write(self, data: bytes) -> None:
        """Raises OSError when the disk does not take it."""
        data = data[-self._capacity_bytes :]
        first = data[: self._capacity_bytes - self._position]
        self._put(self._position, first)
        self._put(0, data[len(first) :])
        self._position = (self._position + len(data)) % self._capacity_bytes
        self.held_bytes = min(self.held_bytes + len(data), self._capacity_bytes)

    def newest(self, limit_bytes: int) -> bytes:
        """Return the last bytes that were written, oldest first."""
        wanted = max(min(limit_bytes, self.held_bytes), 0)
        start = (self._position - wanted) % self._capacity_bytes
        first = self._get(start, min(wanted, self._capacity_bytes - start))
        return first + self._get(0, wanted - len(first))

    def close(self) -> None:
        self._file.close()

    def discard(self) -> None:
        """Close, and remove the file."""
        self.close()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _put(self, offset: int, data: bytes) -> None:
        if data:
            self._file.seek(offset)
            if self._file.write(data) < len(data):
                raise OSError("the disk took a part only")

    def _get(self, offset: int, size_bytes: int) -> bytes:
        if not size_bytes:
            return b""
        self._file.seek(offset)
        return self._file.read(size_bytes)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, FILE_MODE)
