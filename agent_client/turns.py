"""Taking turns at the files of an identity, which enrollment writes as well as the daemon."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, ClassVar

import msgspec
from msgspec import Struct

from agent_client.paths import CONFIG, Places
from agent_client.store.secure import FILE_MODE, SecureStore, StoreError, Unwritable

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class FilesBusy(StoreError):
    code: ClassVar[str] = "files_busy"
    exit_code: ClassVar[int] = 75


class AnotherIdentity(StoreError):
    """The files are not those of the agent that wants to write them: the machine was enrolled anew."""

    code: ClassVar[str] = "another_identity"


class _Owner(Struct, frozen=True):
    agent_id: str = ""


class Turn(Struct, frozen=True):
    """The right to change the identity's files. With an `agent_id`: only as long as they are that agent's."""

    places: Places
    agent_id: str = ""

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Hold the turn until the end of the block; a process that dies gives it back. Not to be taken twice.

        It is not waited for: the daemon's loop must not stand still, and what an enrollment keeps it from writing will
        not be its own any more. Raises FilesBusy, AnotherIdentity, or Unwritable.
        """
        SecureStore(self.places.state).prepare()
        path = self.places.files_lock
        try:
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE), "r+")
        except OSError as error:
            raise Unwritable(f"cannot open {path}: {error.strerror or error}") from error
        with file:
            if not is_locked(file):
                raise FilesBusy(f"another process is changing the files in {self.places.state}; try again in a moment")
            self._require_owner()
            yield

    def _require_owner(self) -> None:
        if not self.agent_id:
            return
        store = SecureStore(self.places.config)
        if not store.exists(CONFIG):
            raise AnotherIdentity("this machine is not enrolled any more; nothing of its files was changed")
        owner = ""  # while a person is at the configuration, it may not be readable for a moment
        with suppress(StoreError, msgspec.MsgspecError, UnicodeError):
            owner = msgspec.json.decode(store.load(CONFIG), type=_Owner).agent_id
        if owner not in {"", self.agent_id}:
            raise AnotherIdentity(f"this machine was enrolled anew, as agent {owner}; its files were not changed")


def is_locked(file: IO[str]) -> bool:
    """Return whether this process now holds the lock of `file`, which it keeps until the file is closed."""
    with suppress(OSError):
        if sys.platform == "win32":  # unproven; the locked byte lies behind what others may read in the file
            file.seek(1024)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
