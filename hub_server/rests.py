"""Computing in a thread without keeping the event loop from its work.

Threads share one interpreter. One that computes without a rest makes the loop wait at its every call of the system: a
message that is answered within a millisecond then takes tens of them. Short rests, as long as the work before them,
cost the thread half of its speed and the loop nearly nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

WORK_SECONDS: Final = 0.002
REST_MAX_SECONDS: Final = 0.05


class Rests:
    """For one thread. `computed_seconds` tells how long the calling thread has computed."""

    def __init__(
        self,
        computed_seconds: Callable[[], float] = time.thread_time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._computed_seconds = computed_seconds
        self._sleep = sleep
        self._rested_at: float | None = None

    def rest(self) -> None:
        """Call it after each bit of work; it sleeps once the bits since the last rest are worth one.

        The first call begins the count: what the thread did for others before is none of it.
        """
        now = self._computed_seconds()
        if self._rested_at is None:
            self._rested_at = now
        worked = now - self._rested_at
        if worked >= WORK_SECONDS:
            self._sleep(min(worked, REST_MAX_SECONDS))
            self._rested_at = self._computed_seconds()
