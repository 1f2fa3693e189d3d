"""Time as the hub lived it: pauses of its own event loop (a freeze, a full collection) do not count against agents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from hub_server.clock import Clock

TICK_SECONDS: Final = 0.1
TOLERATED_SECONDS: Final = 1.0


class PauseMeter:
    """Measures how late the loop runs, and a monotonic time that leaves long pauses out."""

    def __init__(self, clock: Clock, observe: Callable[[float], None]) -> None:
        self._clock = clock
        self._observe = observe
        self._active_seconds = 0.0
        self._ticked_at = clock.monotonic()

    def active_seconds(self) -> float:
        """Return seconds since the start in which the loop ran. Right also before the first tick after a freeze."""
        since = self._clock.monotonic() - self._ticked_at
        return self._active_seconds + min(since, TICK_SECONDS + TOLERATED_SECONDS)

    async def run(self) -> None:
        while True:
            started = self._clock.monotonic()
            await asyncio.sleep(TICK_SECONDS)
            self._observe(max(0.0, self._clock.monotonic() - started - TICK_SECONDS))
            self.tick()

    def tick(self) -> None:
        self._active_seconds = self.active_seconds()
        self._ticked_at = self._clock.monotonic()
