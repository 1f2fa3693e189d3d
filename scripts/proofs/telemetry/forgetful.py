"""A file system that forgets at a power cut what was not synced: `… forgetful BACKING MOUNTPOINT`. Linux with FUSE.

What is written goes to the folder BACKING at once, and how it was before is remembered until the file is synced.
A line on standard input cuts the power: all that is remembered is put back, newest first, and how many writes that
were is printed. Names made, changed and removed stay.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from typing import Any, NamedTuple

import mfusepy  # type: ignore[import-untyped]


class Before(NamedTuple):
    """How a stretch of a file was, and how long the file."""

    offset: int
    data: bytes
    size: int


class Forgetful(mfusepy.Operations):  # type: ignore[misc]  # the library has no types
    """Passes everything on to a folder."""

    use_ns = True

    def __init__(self, backing: str) -> None:
        self._backing = backing
        self._unsynced: dict[str, list[Before]] = {}
        self._lock = threading.RLock()

    def cut(self) -> int:
        """Forget what was not synced; return how many writes that were."""
        with self._lock:
            forgotten = 0
            for path, changes in self._unsynced.items():
                descriptor = os.open(self._real(path), os.O_RDWR)
                for before in reversed(changes):
                    os.pwrite(descriptor, before.data, before.offset)
                    os.ftruncate(descriptor, before.size)
                    forgotten += 1
                os.close(descriptor)
            self._unsynced.clear()
        return forgotten

    def listen(self) -> None:
        for _ in sys.stdin:
            print(self.cut(), flush=True)

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:  # noqa: ARG002
        real = self._real(path)
        if not os.path.lexists(real):
            raise mfusepy.FuseOSError(errno.ENOENT)
        status = os.lstat(real)
        names = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_ino")
        times = {f"st_{kind}time": getattr(status, f"st_{kind}time_ns") for kind in "acm"}
        return {name: getattr(status, name) for name in names} | times

    def readdir(self, path: str, fh: int) -> list[str]:  # noqa: ARG002
        return [".", "..", *os.listdir(self._real(path))]  # noqa: PTH208

    def create(self, path: str, mode: int, fi: Any = None) -> int:  # noqa: ARG002
        return os.open(self._real(path), os.O_RDWR | os.O_CREAT, mode)

    def open(self, path: str, flags: int) -> int:  # noqa: ARG002
        return os.open(self._real(path), os.O_RDWR)

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:  # noqa: ARG002
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        with self._lock:
            self._remember(path, fh, offset, len(data))
            return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:  # noqa: ARG002
        with self._lock:
            descriptor = os.open(self._real(path), os.O_RDWR)
            size = os.fstat(descriptor).st_size
            self._remember(path, descriptor, length, max(0, size - length))
            os.ftruncate(descriptor, length)
            os.close(descriptor)

    def fsync(self, path: str, datasync: int, fh: int) -> int:  # noqa: ARG002
        with self._lock:
            self._unsynced.pop(path, None)
        return 0

    def flush(self, path: str, fh: int) -> int:  # noqa: ARG002
        return 0

    def release(self, path: str, fh: int) -> int:  # noqa: ARG002
        os.close(fh)
        return 0

    def unlink(self, path: str) -> None:
        with self._lock:
            self._unsynced.pop(path, None)
            os.unlink(self._real(path))  # noqa: PTH108

    def rename(self, old: str, new: str) -> None:
        with self._lock:
            os.rename(self._real(old), self._real(new))  # noqa: PTH104
            self._unsynced[new] = self._unsynced.pop(old, [])

    def link(self, target: str, source: str) -> None:
        os.link(self._real(source), self._real(target))

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:  # noqa: ARG002
        return 0

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._real(path), mode)  # noqa: PTH102

    def rmdir(self, path: str) -> None:
        os.rmdir(self._real(path))  # noqa: PTH106

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._real(path), mode)  # noqa: PTH101

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(self._real(path), uid, gid)

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        if times is None:
            os.utime(self._real(path))
        else:
            os.utime(self._real(path), ns=times)

    def _real(self, path: str) -> str:
        return self._backing + path

    def _remember(self, path: str, descriptor: int, offset: int, length: int) -> None:
        size = os.fstat(descriptor).st_size
        self._unsynced.setdefault(path, []).append(Before(offset, os.pread(descriptor, length, offset), size))


if __name__ == "__main__":
    operations = Forgetful(sys.argv[1])
    threading.Thread(target=operations.listen, name="cuts", daemon=True).start()
    mfusepy.FUSE(operations, sys.argv[2], foreground=True, nothreads=True, big_writes=True)
