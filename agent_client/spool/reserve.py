"""Disk that is held for what must be written though the disk is full.

The write-ahead log is allocated beyond what it needs between two checkpoints: nobody else can take that. A file beside
it serves an agent that starts on a full disk, when there is no log yet. On file systems that copy on write (btrfs, ZFS)
only the file helps.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent_client.store.secure import FILE_MODE

LOG_BYTES: Final = 2 * 1024 * 1024
RESERVE_BYTES: Final = 256 * 1024
TIGHT_BYTES: Final = 1024 * 1024


class Reserve:
    """A file of random bytes: no file system can compress it to nothing. Nothing here raises."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fill(self) -> None:
        """Hold the reserve, where the disk has room for it."""
        if is_tight(self._path.parent):
            return
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


def is_tight(folder: Path) -> bool:
    """Tell whether so little of the disk is free that samples must leave it to others."""
    if not hasattr(os, "statvfs"):
        return False
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < TIGHT_BYTES


def allocate(path: Path, size_bytes: int) -> None:
    """Let the file hold `size_bytes` of the disk, where the system and the disk can."""
    if hasattr(os, "posix_fallocate"):
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR)
            try:
                os.posix_fallocate(descriptor, 0, size_bytes)
            finally:
                os.close(descriptor)
