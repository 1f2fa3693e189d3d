"""How long the disk takes meanwhile to keep a page: what no acknowledgement and no command can be faster than."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from hub_server.bench.figures import Figure, spread

PAUSE_SECONDS: Final = 0.5
PAGE: Final = bytes(4096)


class DiskProbe:
    """Writes and syncs a page now and then. Milliseconds in `took_ms`."""

    def __init__(self, file: Path) -> None:
        self.took_ms: list[float] = []
        self._file = file

    @property
    def figure(self) -> Figure:
        return spread("disk, 4 KB written and synced", "ms", self.took_ms, note="by the bench itself, meanwhile")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Probe for the time of the block."""
        async with asyncio.TaskGroup() as tasks:
            probing = tasks.create_task(self._run(), name="disk-probe")
            try:
                yield
            finally:
                probing.cancel()

    async def _run(self) -> None:
        while True:
            self.took_ms.append(await asyncio.to_thread(synced_ms, self._file))
            await asyncio.sleep(PAUSE_SECONDS)


def synced_ms(file: Path) -> float:
    """Append a page to `file` and return the milliseconds until it is on the disk."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        began_at = time.perf_counter()
        os.write(descriptor, PAGE)
        os.fdatasync(descriptor)
        return (time.perf_counter() - began_at) * 1000
    finally:
        os.close(descriptor)
