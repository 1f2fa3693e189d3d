"""Private files: 0600 in a 0700 folder, written whole or not at all."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from hub_server.errors import KeysRefused

if sys.platform != "win32":
    import fcntl

__all__ = [
    "KeysRefused",
    "create_private",
    "exclusive",
    "keep_private",
    "read_private",
    "sync_directory",
    "write_private",
]

LOCK_SECONDS: Final = 60.0
"""How long others may keep the lock: to renew a sign-in takes 20 s at most."""
_LOCK_NAME: Final = ".lock"
_ROUND_SECONDS: Final = 0.02


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Make `directory` private and keep other programs of the hub out of it for the while. Blocking.

    Raises OSError, also where another one keeps it for LOCK_SECONDS.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.name == "posix":
        directory.chmod(0o700)
    with os.fdopen(os.open(directory / _LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600), "wb") as lock:
        until = time.monotonic() + LOCK_SECONDS
        while not _is_locked(lock):
            if time.monotonic() >= until:
                raise TimeoutError("another program keeps it to itself; end that one, or let it go on if it is stopped")
            time.sleep(_ROUND_SECONDS)
        yield


def _is_locked(file: IO[bytes]) -> bool:
    """Return whether this process now has the lock; always where there is none (Windows)."""
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def read_private(path: Path) -> bytes:
    """Raises KeysRefused when others could read the file, or when it is not this user's; OSError."""
    if os.name == "posix":
        status = path.stat()
        if status.st_uid not in {os.getuid(), 0}:
            raise KeysRefused(f"{path} belongs to another user; run as that user, or change its owner")
        if status.st_mode & 0o077:
            raise KeysRefused(f"{path} can be read by others; run `chmod 600 {path}`, and replace the key if it leaked")
    return path.read_bytes()


def write_private(path: Path, content: bytes) -> None:
    """Put `content` at `path` so that a power cut leaves the old or the new file, never half of one."""
    temporary = _written_beside(path, content)
    try:
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def create_private(path: Path, content: bytes) -> bool:
    """Put `content` at `path` unless a file is there, also one that another program puts there meanwhile.

    Return whether it was put.
    """
    if path.exists():
        return False
    temporary = _written_beside(path, content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)
    return True


def keep_private(path: Path) -> None:
    """Let nobody else read the file that some library writes; make it empty where there is none. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.name == "posix":
            os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def sync_directory(directory: Path) -> None:
    """Make what was renamed or removed in `directory` outlive a power cut."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _written_beside(path: Path, content: bytes) -> Path:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:  # mkstemp made it 0600
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)
