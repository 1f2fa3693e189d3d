"""Where the executor keeps its files: beside the daemon's, or in a folder that the daemon's user cannot enter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from agent_client.paths import Places
from agent_client.store.secure import SecureStore, StoreError

_ADDRESS_MAX_BYTES: Final = 100


class ExecutorPlaces(Struct, frozen=True):
    """`folder`: its own state. `agent`: the daemon's places, from which it reads whom to obey."""

    folder: Path
    agent: Places

    @classmethod
    def beside(cls, places: Places) -> ExecutorPlaces:
        return cls(places.state, places)

    @property
    def is_apart(self) -> bool:
        """Tell whether the daemon may be another user, who is not believed without proof."""
        return self.folder != self.agent.state

    @property
    def journal(self) -> Path:
        return self.folder / "journal.db"

    @property
    def output(self) -> Path:
        return self.folder / "jobs"

    @property
    def lock(self) -> Path:
        return self.folder / "executor.lock"

    @property
    def socket(self) -> Path:
        return self.folder / "executor.sock"

    @property
    def marks(self) -> Path:
        return self.folder / "marks"

    def daemons(self) -> list[int]:
        """Return the process whose number is in the daemon's lock; none where that cannot be read or is no number."""
        try:
            owner = self.agent.state.stat().st_uid if self.is_apart else None
            lock = SecureStore(self.agent.state, owner).load(self.agent.lock.name)
            return [int(lock)]
        except (OSError, StoreError, ValueError):
            return []


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """Yield a name of `path` that fits a socket's address; a long one goes through its folder's descriptor (Linux)."""
    if len(os.fsencode(path)) <= _ADDRESS_MAX_BYTES or not Path("/proc/self/fd").is_dir():
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        with suppress(OSError):
            os.close(descriptor)
