"""One hub a data folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from hub_server.cli.outcome import CommandFailed, Exit

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK_NAME: Final = "hub.lock"


@contextmanager
def only_hub_in(folder: Path) -> Iterator[None]:
    """Hold `folder` until the block ends, even by a crash. Raises CommandFailed when another hub holds it."""
    path = folder / LOCK_NAME
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            _lock(descriptor)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() if os.name == "posix" else ""
            known = f" (process {holder})" if holder else ""
            raise CommandFailed(
                f"another hub{known} runs on {folder}; stop it, or choose another --data-dir", Exit.ALREADY_RUNNING
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
