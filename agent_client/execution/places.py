"""Where the executor keeps its files: beside the daemon's, or in a folder that the daemon's user cannot enter."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from agent_client.paths import Places

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
