"""How the agent itself is, as a metric type of its own: `agent`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import psutil

from agent_client.clock import Clock
from agent_client.control.status import Board, Health
from agent_client.spool.ledger import STREAMS
from agent_client.spool.spool import Spool
from protocol.frames import MetricValue

METRIC_TYPE: Final = "agent"
_DAY_MS: Final = 86_400_000


class Vitals:
    """Rates are over the time between the last two calls of `collect`; before the second, since the start."""

    name: Final = METRIC_TYPE

    def __init__(self, board: Board, spool: Spool, clock: Clock, not_after_ms: Callable[[], int | None]) -> None:
        """`not_after_ms` tells the end of the certificate in use, where it is known."""
        self._board = board
        self._spool = spool
        self._clock = clock
        self._not_after_ms = not_after_ms
        self._process = psutil.Process()
        self._at_monotonic = clock.monotonic()
        self._cpu_seconds = time.process_time()
        self._taken = 0
        self._cpu_percent = 0.0
        self._samples_per_second = 0.0

    def collect(self) -> dict[str, dict[str, MetricValue]]:
        self._measure()
        health, waiting, dropped = self.health(), self._spool.waiting(), self._spool.dropped()
        figures: dict[str, MetricValue | None] = {
            "heartbeat_success_percent": health.heartbeat_success_percent,
            "round_trip_ms": self._board.round_trip_ms,
            "clock_ahead_ms": health.clock_ahead_ms,
            "certificate_days_left": self._certificate_days_left(),
            "rss_bytes": health.rss_bytes,
            "cpu_percent": health.cpu_percent,
            "samples_per_second": health.samples_per_second,
            "reconnects_total": health.reconnects,
            "spool_bytes": self._spool.used_bytes(),
            **{f"spool_waiting_{stream}": waiting[stream] for stream in STREAMS},
            **{f"spool_dropped_{stream}_total": dropped.get(stream, 0) for stream in STREAMS},
        }
        return {METRIC_TYPE: {name: figure for name, figure in figures.items() if figure is not None}}

    def health(self) -> Health:
        return Health(
            rss_bytes=self._process.memory_info().rss,
            cpu_seconds=round(time.process_time(), 3),
            cpu_percent=self._cpu_percent,
            samples_per_second=self._samples_per_second,
            heartbeat_success_percent=self._board.heartbeat_success_percent,
            clock_ahead_ms=self._board.clock_ahead_ms,
            reconnects=self._board.reconnects,
        )

    def _measure(self) -> None:
        now, cpu_seconds, taken = self._clock.monotonic(), time.process_time(), self._spool.taken
        seconds = max(now - self._at_monotonic, 0.001)
        self._cpu_percent = round(100 * (cpu_seconds - self._cpu_seconds) / seconds, 3)
        self._samples_per_second = round((taken - self._taken) / seconds, 3)
        self._at_monotonic, self._cpu_seconds, self._taken = now, cpu_seconds, taken

    def _certificate_days_left(self) -> float | None:
        not_after_ms = self._not_after_ms()
        return None if not_after_ms is None else round((not_after_ms - self._clock.now_ms()) / _DAY_MS, 2)
