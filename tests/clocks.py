"""Time that tests drive."""

from datetime import UTC, datetime, timedelta


class FakeClock:
    """Stands still until told to advance."""

    def __init__(self, at: datetime = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)) -> None:
        self._now = at
        self._monotonic = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Let somebody set the wall clock, by any step in either direction."""
        self._now += timedelta(seconds=seconds)
