"""Collectors whose answer takes a while: each on its own clock, in processes of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from agent_client.cadence import Cadence
from agent_client.clock import Clock
from agent_client.collectors.failures import Failures
from agent_client.collectors.readings import Readings
from agent_client.errors import AgentError
from agent_client.logs import Log
from agent_client.spool.database import DatabaseError
from agent_client.spool.spool import Spool

AT_ONCE_MAX: Final = 2

_log = Log("collectors")


class SlowCollector(Protocol):
    @property
    def name(self) -> str:
        """What reports call it."""

    @property
    def interval_seconds(self) -> float: ...

    def first_wait_seconds(self) -> float:
        """Return how long to wait before the first round; drawn, for a fleet that starts as one asks not as one."""

    def is_wanted(self) -> bool:
        """Tell whether the settings want it now."""

    async def collect(self) -> Readings:
        """Return figures by metric type, in a bounded time. Raises AgentError with the reason when there are none."""

    async def woken(self) -> None:
        """Return when there is a reason not to wait for the interval."""


class Rounds:
    """Repeats every slow collector, AT_ONCE_MAX at a time. What one fails with, harms no other."""

    def __init__(
        self,
        collectors: Callable[[], Sequence[SlowCollector]],
        spool: Spool,
        cadence: Cadence,
        clock: Clock,
        failures: Failures,
    ) -> None:
        self._collectors = collectors
        self._spool = spool
        self._cadence = cadence
        self._clock = clock
        self._failures = failures
        self._changed = asyncio.Event()
        self._seats = asyncio.Semaphore(AT_ONCE_MAX)

    def reconsider(self) -> None:
        """Ask anew which collectors there are."""
        self._changed.set()

    async def run(self) -> None:
        while True:
            self._changed.clear()
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._repeat(collector), name=f"round-{collector.name}")
                    for collector in self._collectors()
                ]
                await self._changed.wait()
                for task in tasks:
                    task.cancel()

    async def _repeat(self, collector: SlowCollector) -> None:
        wait_seconds = collector.first_wait_seconds()
        while True:
            await _elapsed_or(wait_seconds, collector.woken)
            began = self._clock.monotonic()
            if collector.is_wanted():
                async with self._seats:
                    await self._one_round(collector)
            else:
                self._failures.worked(collector.name)
            wait_seconds = max(began + collector.interval_seconds - self._clock.monotonic(), 0.0)

    async def _one_round(self, collector: SlowCollector) -> None:
        try:
            readings = await collector.collect()
        except AgentError as error:
            self._failures.failed(collector.name, str(error))
            return
        except Exception as error:  # noqa: BLE001  one collector is isolated from the others
            self._failures.failed(collector.name, f"{type(error).__name__}: {error}", error)
            return
        self._failures.worked(collector.name)
        if not readings:
            return
        ts, lane = self._clock.now_ms(), self._cadence.lane
        try:
            self._spool.append_samples(lane, ts, [*readings.items()])
        except DatabaseError as error:
            _log.error("sample lost, the spool does not take it", collector=collector.name, reason=str(error))


async def _elapsed_or(seconds: float, woken: Callable[[], Awaitable[None]]) -> None:
    try:
        async with asyncio.timeout(seconds):
            await woken()
    except TimeoutError:
        return
