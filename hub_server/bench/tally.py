"""What a worker counts and measures between `Begin` and `Finish`."""

from __future__ import annotations

import time
from collections import Counter

from hub_server.bench.orders import Counted


class Tally:
    """`sent_samples`, `acknowledged_samples` and `problems` count from the beginning; all else from `begin`."""

    def __init__(self) -> None:
        self.connected = 0
        self.sent_samples = 0
        self.acknowledged_samples = 0
        self.problems: Counter[str] = Counter()
        self.begin()

    def begin(self) -> None:
        self.sent = 0
        self.answered = 0
        self.samples = 0
        self.received_bytes = 0
        self.wire_bytes = 0
        self.delays_ms: list[float] = []
        self.alert_delays_ms: list[float] = []
        self.slips_ms: list[float] = []
        self._began_at = time.perf_counter()
        self._cpu_began_at = time.process_time()

    def counted(self) -> Counted:
        elapsed_seconds = time.perf_counter() - self._began_at
        return Counted(
            connected=self.connected,
            sent=self.sent,
            answered=self.answered,
            delays_ms=self.delays_ms,
            slips_ms=self.slips_ms,
            cpu_share=(time.process_time() - self._cpu_began_at) / max(elapsed_seconds, 1e-9),
            samples=self.samples,
            received_bytes=self.received_bytes,
            wire_bytes=self.wire_bytes,
            alert_delays_ms=self.alert_delays_ms,
            problems=dict(self.problems),
        )
