"""Time as the hub lived it: pauses of its own event loop (a freeze, an overload) do not count against agents."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from hub_server.clock import Clock

TICK_SECONDS: Final = 0.1
TOLERATED_SECONDS: Final = 1.0
LONG_PAUSE_SECONDS: Final = 5.0
GATHER_SECONDS: Final = 10.0
"""Pauses no further apart than this are one: an overloaded hub halts again and again."""


class Pause(NamedTuple):
    """`ended_at` in seconds of activity; `seconds` of real time in which the hub did not run."""

    ended_at: float
    seconds: float


NO_PAUSE: Final = Pause(ended_at=float("-inf"), seconds=0.0)


class PauseMeter:
    """Measures how late the loop runs, and a monotonic time that leaves pauses out.

    Lateness up to TOLERATED_SECONDS is life under load and counts as activity. Only the monotonic clock is asked: a
    jump of the wall clock is no pause.
    """

    def __init__(self, clock: Clock, observe: Callable[[float], None]) -> None:
        self._monotonic = clock.monotonic
        self._observe = observe
        self._active_seconds = 0.0
        self._told_seconds = 0.0
        self._counted_at = clock.monotonic()
        self._newest = NO_PAUSE
        self._long = NO_PAUSE

    def active_seconds(self) -> float:
        """Return seconds since the start in which the hub ran. Right also before the first tick after a freeze."""
        since = self._monotonic() - self._counted_at
        if since > TICK_SECONDS + TOLERATED_SECONDS:
            self._leave_out(since - TICK_SECONDS)
            since = 0.0
        self._told_seconds = self._active_seconds + since
        return self._told_seconds

    def long_pause(self) -> Pause:
        """Return the newest pause of at least LONG_PAUSE_SECONDS; NO_PAUSE when there was none."""
        self.active_seconds()
        return self._long

    async def run(self) -> None:
        while True:
            started = self._monotonic()
            await asyncio.sleep(TICK_SECONDS)
            self._observe(max(0.0, self._monotonic() - started - TICK_SECONDS))
            self.tick()

    def tick(self) -> None:
        self._active_seconds = self.active_seconds()
        self._counted_at = self._monotonic()

    def _leave_out(self, paused_seconds: float) -> None:
        """Count a pause that ends now."""
        self._active_seconds = max(self._told_seconds, self._active_seconds + TICK_SECONDS)
        self._counted_at = self._monotonic()
        if self._active_seconds - self._newest.ended_at <= GATHER_SECONDS:
            paused_seconds += self._newest.seconds
        self._newest = Pause(self._active_seconds, paused_seconds)
        if paused_seconds >= LONG_PAUSE_SECONDS:
            self._long = self._newest
