"""A piece of disk that is held for what must be written though the disk is full."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent_client.store.secure import FILE_MODE

RESERVE_BYTES: Final = 256 * 1024


class Reserve:
    """A file of random bytes: no file system can compress it to nothing. Nothing here raises."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fill(self) -> None:
        """Hold the reserve, where the disk has room for it."""
        try:
            if self._path.exists() and self._path.stat().st_size >= RESERVE_BYTES:
                return
            with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE), "wb") as file:
                file.write(os.urandom(RESERVE_BYTES))
        except OSError:
            self.spend()

    def spend(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
