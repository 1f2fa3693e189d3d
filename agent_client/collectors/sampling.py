"""The sample loop: collect what is due, put it into the spool at once, wake the sender."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from agent_client.cadence import Cadence
from agent_client.clock import Clock
from agent_client.collectors.failures import Failures
from agent_client.collectors.readings import Figures, Readings
from agent_client.logs import Log
from agent_client.spool.database import DatabaseError
from agent_client.spool.spool import Spool

MINUTE_SECONDS: Final = 60.0
_BASELINE_SECONDS: Final = 1.0

_log = Log("collectors")


class Collector(Protocol):
    @property
    def name(self) -> str:
        """What reports call it."""

    def collect(self) -> Readings:
        """Return the figures of now, without blocking; none where there is nothing to tell. May raise anything."""


def _always() -> bool:
    return True


class Scheduled(NamedTuple):
    """`interval_seconds` None: with every sample. `is_wanted` is asked each time it is due."""

    collector: Collector
    interval_seconds: float | None = None
    is_wanted: Callable[[], bool] = _always


class Sampler:
    """Takes samples each interval, and soon after a session comes up, so that people see it live.

    Ticks come with the sample interval, or each minute where that is longer; a collector of an interval of its own
    joins the tick that is nearest to its time. What is due together is one transaction. A sample goes to `live` if a
    session is up when it is taken, else to `backfill`. A failing collector is reported once, and stops nobody else.
    """

    def __init__(
        self, collectors: Sequence[Scheduled], spool: Spool, cadence: Cadence, clock: Clock, failures: Failures
    ) -> None:
        self._collectors = collectors
        self._spool = spool
        self._cadence = cadence
        self._clock = clock
        self._failures = failures
        self._due: dict[str, float] = {}

    async def run(self) -> None:
        await asyncio.sleep(_BASELINE_SECONDS)
        while True:
            began = self._clock.monotonic()
            if self._cadence.metrics_enabled:
                self.sample()
            else:
                self._failures.drop({scheduled.collector.name for scheduled in self._collectors}.__contains__)
            await self._pause_until(began + self._tick_seconds())

    def sample(self) -> None:
        """Take the samples that are due. Those the disk does not take are lost, and counted by the spool."""
        ts, lane = self._clock.now_ms(), self._cadence.lane
        readings = [reading for collector in self._due_now() for reading in self._readings(collector)]
        if not readings:
            return
        try:
            self._spool.append_samples(lane, ts, readings)
        except DatabaseError as error:
            _log.error("samples lost, the spool does not take them", samples=len(readings), reason=str(error))

    def _readings(self, collector: Collector) -> list[tuple[str, Figures]]:
        try:
            readings = [*collector.collect().items()]
        except Exception as error:  # noqa: BLE001  one collector is isolated from the others
            self._failures.failed(collector.name, f"{type(error).__name__}: {error}", error)
            return []
        self._failures.worked(collector.name)
        return readings

    def _due_now(self) -> list[Collector]:
        now, tick = self._clock.monotonic(), self._tick_seconds()
        due = []
        for collector, interval, is_wanted in self._collectors:
            at = self._due.get(collector.name, now)
            if not is_wanted():
                self._due.pop(collector.name, None)
                self._failures.worked(collector.name)
            elif interval is None and self._cadence.sample_interval_seconds <= MINUTE_SECONDS:
                due.append(collector)
            elif at <= now + tick / 2:
                interval = interval or self._cadence.sample_interval_seconds
                self._due[collector.name] = max(at, now - tick / 2) + interval
                due.append(collector)
        return due

    def _tick_seconds(self) -> float:
        return min(self._cadence.sample_interval_seconds, MINUTE_SECONDS)

    async def _pause_until(self, due: float) -> None:
        """Return at `due`, or earlier when a session has come up or the interval has changed."""
        self._cadence.sample_soon.clear()
        try:
            async with asyncio.timeout(max(due - self._clock.monotonic(), 0)):
                await self._cadence.sample_soon.wait()
        except TimeoutError:
            return
        self._forget_sample_times()

    def _forget_sample_times(self) -> None:
        """Let the collectors of every sample be due at once, also where the sample interval is long."""
        for collector, interval, _ in self._collectors:
            if interval is None:
                self._due.pop(collector.name, None)
