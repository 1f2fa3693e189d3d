"""Wall and monotonic time behind one port, so that tests can move them."""

from __future__ import annotations

import sys
import time
from typing import Final, Protocol

STEP_TOLERATED_MS: Final = 2000


class Clock(Protocol):
    def now_ms(self) -> int:
        """Return ms since the epoch; may jump."""

    def monotonic(self) -> float:
        """Return seconds that never go back; for deadlines."""

    def since_boot(self) -> float:
        """Return seconds that never go back and count on while the machine sleeps."""


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    def since_boot(self) -> float:
        """On Windows and macOS by clocks that are documented to count sleep; unproven there."""
        if sys.platform == "win32":
            return time.monotonic()
        return time.clock_gettime(time.CLOCK_MONOTONIC if sys.platform == "darwin" else time.CLOCK_BOOTTIME)


class StepWatch:
    """Tells a jump of the wall clock from time that passed. A clock that is slewed, or a sleep, is no jump."""

    def __init__(self, clock: Clock, offset_ms: int | None = None) -> None:
        """`offset_ms`: as an earlier watch of the same boot left it; None begins with how the clock stands."""
        self._clock = clock
        self.offset_ms = self._offset_now() if offset_ms is None else offset_ms

    def step_ms(self) -> int:
        """Return by how much the wall clock has jumped since the last `accept`, 0 where it has not."""
        step_ms = self._offset_now() - self.offset_ms
        if abs(step_ms) > STEP_TOLERATED_MS:
            return step_ms
        self.offset_ms += step_ms
        return 0

    def accept(self, step_ms: int) -> None:
        self.offset_ms += step_ms

    def _offset_now(self) -> int:
        return self._clock.now_ms() - int(self._clock.since_boot() * 1000)
