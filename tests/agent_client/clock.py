"""Time that tests move."""

from __future__ import annotations

import time

START_MS = 1_795_000_000_000


class DrivenClock:
    """Stands still until told to advance; its wall clock may also jump."""

    def __init__(self, at_ms: int = START_MS) -> None:
        self.wall_ms = at_ms
        self.seconds = 1000.0

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic(self) -> float:
        return self.seconds

    def since_boot(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.wall_ms += int(seconds * 1000)
        self.seconds += seconds


class SteppingClock(DrivenClock):
    """Runs with real time; its wall clock may jump by `offset_ms`, and `ahead_seconds` of waiting may be skipped."""

    def __init__(self) -> None:
        super().__init__()
        self.offset_ms = 0
        self.ahead_seconds = 0.0

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.offset_ms

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_seconds

    def since_boot(self) -> float:
        return time.monotonic()
