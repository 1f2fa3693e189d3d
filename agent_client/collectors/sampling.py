"""The sample loop: collect, put into the spool, wake the sender."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import psutil

from agent_client.cadence import Cadence
from agent_client.clock import Clock
from agent_client.logs import Log
from agent_client.spool.database import DatabaseError
from agent_client.spool.spool import Spool
from protocol.frames import MetricValue

COLLECTOR_FAILING: Final = "collector_failing"
COLLECTOR_RECOVERED: Final = "collector_recovered"
_BASELINE_SECONDS: Final = 1.0

_log = Log("collectors")


class Collector(Protocol):
    @property
    def name(self) -> str:
        """The metric type of its samples."""

    def collect(self) -> dict[str, MetricValue]:
        """Return the figures of now, without blocking. Raises OSError or psutil.Error when it cannot."""


class Sampler:
    """Takes a sample of every collector each interval, and soon after a session comes up, so that people see it live.

    A sample goes to `live` if a session is up when it is taken, else to `backfill`. A failing collector is logged and
    reported once, and stops nobody else.
    """

    def __init__(self, collectors: Sequence[Collector], spool: Spool, cadence: Cadence, clock: Clock) -> None:
        self.failing: dict[str, int] = {}
        self._collectors = collectors
        self._spool = spool
        self._cadence = cadence
        self._clock = clock

    async def run(self) -> None:
        await asyncio.sleep(_BASELINE_SECONDS)
        while True:
            began = self._clock.monotonic()
            if self._cadence.metrics_enabled:
                self.sample()
            await self._pause_until(began + self._cadence.sample_interval_seconds)

    def sample(self) -> None:
        ts = self._clock.now_ms()
        lane = self._cadence.lane
        for collector in self._collectors:
            try:
                figures = collector.collect()
            except (OSError, psutil.Error, ArithmeticError, LookupError, ValueError) as error:
                self._note_failure(collector.name, error)
                continue
            self._note_success(collector.name)
            try:
                self._spool.append_sample(lane, ts, collector.name, figures)
            except DatabaseError as error:
                _log.error("sample lost, the spool does not take it", collector=collector.name, reason=str(error))

    async def _pause_until(self, due: float) -> None:
        """Return at `due`, or earlier when a session has come up or the interval has changed."""
        self._cadence.sample_soon.clear()
        try:
            async with asyncio.timeout(max(due - self._clock.monotonic(), 0)):
                await self._cadence.sample_soon.wait()
        except TimeoutError:
            pass

    def _note_failure(self, name: str, error: Exception) -> None:
        count = self.failing.get(name, 0) + 1
        self.failing[name] = count
        if count == 1:
            _log.error("collector failing", collector=name, reason=str(error), exception=error)
            self._report(COLLECTOR_FAILING, {"collector": name, "reason": f"{type(error).__name__}: {error}"[:1024]})

    def _note_success(self, name: str) -> None:
        failures = self.failing.pop(name, 0)
        if failures:
            _log.info("collector works again", collector=name, failures=failures)
            self._report(COLLECTOR_RECOVERED, {"collector": name, "failures": failures})

    def _report(self, kind: str, data: dict[str, MetricValue]) -> None:
        try:
            self._spool.append_event(kind, data)
        except DatabaseError as error:
            _log.error("event lost, the spool does not take it", kind=kind, reason=str(error))
