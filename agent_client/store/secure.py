"""The secure store (seed 000, "Secure Storage"): save, load, exists, delete, set permissions; 0600, owner checked."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Final

from agent_client.errors import AgentError

FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700
SIZE_MAX_BYTES: Final = 4 * 1024 * 1024
_OTHERS: Final = 0o077
_OTHERS_WRITE: Final = 0o022
_IS_WINDOWS: Final = sys.platform == "win32"
_NO_FOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT: Final[int] = getattr(os, "O_NONBLOCK", 0)
_BINARY: Final[int] = getattr(os, "O_BINARY", 0)
_ICACLS_TIMEOUT_SECONDS: Final = 30


class StoreError(AgentError):
    code: ClassVar[str] = "store"


class InsecureFile(StoreError):
    """Somebody else could read or change a file or folder of ours."""

    code: ClassVar[str] = "insecure_file"
    exit_code: ClassVar[int] = 77


class Unwritable(StoreError):
    code: ClassVar[str] = "unwritable"
    exit_code: ClassVar[int] = 73


class SecureStore:
    """Named files in one directory, each 0600 and ours.

    A save is atomic: after a crash or a power cut there is the old content or the new, never a part. On Windows the
    restriction is an ACL set by `icacls`; that branch is unproven.
    """

    def __init__(self, directory: Path, owner: int | None = None) -> None:
        """`owner`: whose the files are, None for whoever runs this."""
        self.directory = directory
        self._owner = owner

    def save(self, key: str, data: bytes) -> None:
        """Raises Unwritable when the disk does not take it, InsecureFile when the directory is open to others."""
        path = self._path(key)
        self.prepare()
        temporary = self.directory / f".{key}.new"
        try:
            temporary.unlink(missing_ok=True)
            self._write(temporary, data)
            temporary.replace(path)
            self.sync()
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise Unwritable(f"cannot write {path}: {error.strerror or error}") from error

    def load(self, key: str) -> bytes:
        """Raises StoreError when there is no such file, InsecureFile when others can read it or it is not ours."""
        path = self.verified(key)
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | _BINARY | _NO_FOLLOW | _NO_WAIT), "rb") as file:
                self._check(path, os.fstat(file.fileno()))  # whoever owns the folder may have exchanged it since
                return file.read(SIZE_MAX_BYTES)
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror or error}") from error

    def verified(self, key: str) -> Path:
        """Return the path of a file only we can read, for libraries that open files themselves. Raises as `load`."""
        path = self._path(key)
        try:
            status = path.lstat()
        except OSError as error:
            raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
        self._check(path, status)
        return path

    def _check(self, path: Path, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise InsecureFile(f"{path} is not a regular file; remove it and enroll again")
        if status.st_size > SIZE_MAX_BYTES:
            raise StoreError(f"{path} is too large to be a file of the agent; remove it and enroll again")
        if not _IS_WINDOWS:
            _check_owner(path, status, self._owner)
            if status.st_mode & _OTHERS:
                raise InsecureFile(f"{path} can be read or written by others; run `chmod 600 {path}`")

    def exists(self, key: str) -> bool:
        return os.path.lexists(self._path(key))

    def delete(self, key: str) -> None:
        """Remove the file if there is one."""
        path = self._path(key)
        if not os.path.lexists(path):
            return
        try:
            path.unlink()
            self.sync()
        except OSError as error:
            raise Unwritable(f"cannot remove {path}: {error.strerror or error}") from error

    def hand_over(self, key: str, other: SecureStore) -> None:
        """Move a file to the directory of `other`, in place of what has its name there; both are of one file system.

        It is in one or the other, whole, at each moment. Raises Unwritable when the disk does not do it.
        """
        path = self._path(key)
        try:
            path.replace(other._path(key))
            other.sync()
            self.sync()
        except OSError as error:
            raise Unwritable(f"cannot move {path}: {error.strerror or error}") from error

    def set_permissions(self, path: Path) -> None:
        """Make `path` readable and writable by its owner alone."""
        if not _IS_WINDOWS:
            path.chmod(FILE_MODE)
            return
        grant = f"{os.environ.get('USERNAME', 'SYSTEM')}:F"
        command = ["icacls", str(path), "/inheritance:r", "/grant:r", grant]
        subprocess.run(command, check=True, capture_output=True, timeout=_ICACLS_TIMEOUT_SECONDS)  # noqa: S603

    def prepare(self) -> None:
        """Make the directory (0700) unless it is there; refuse one that others may write to or own."""
        try:
            self.directory.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                self.directory.mkdir(mode=DIRECTORY_MODE)
            status = self.directory.stat()
        except OSError as error:
            raise Unwritable(f"cannot make the folder {self.directory}: {error.strerror or error}") from error
        if not stat.S_ISDIR(status.st_mode):
            raise Unwritable(f"{self.directory} is not a folder")
        if not _IS_WINDOWS:
            _check_owner(self.directory, status, self._owner)
            if status.st_mode & _OTHERS_WRITE:
                raise InsecureFile(f"the folder {self.directory} can be written by others; run `chmod 700` on it")

    def sync(self) -> None:
        """Let the names of the files that were made here outlive a power cut. Raises OSError."""
        if _IS_WINDOWS:  # a directory cannot be opened there; NTFS journals the rename
            return
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _path(self, key: str) -> Path:
        if not key or key in {".", ".."} or Path(key).name != key:
            raise ValueError(f"not a key: {key!r}")
        return self.directory / key

    def _write(self, path: Path, data: bytes) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            self.set_permissions(path)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def _check_owner(path: Path, status: os.stat_result, owner: int | None) -> None:
    if status.st_uid != (os.geteuid() if owner is None else owner):
        raise InsecureFile(
            f"{path} belongs to user {status.st_uid}, not to user {os.geteuid() if owner is None else owner}; "
            "run it as that user, or give the file to this one"
        )
