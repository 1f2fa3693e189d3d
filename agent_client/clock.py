"""Wall and monotonic time behind one port, so that tests can move them."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """Return ms since the epoch; may jump."""

    def monotonic(self) -> float:
        """Return seconds that never go back; for deadlines."""


class SystemClock:
    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()
