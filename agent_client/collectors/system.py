"""The `system` figures of the wire's metricData, cheap enough for one sample a second."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Final, NamedTuple

import psutil

from agent_client.collectors.drives import fixed_drives
from agent_client.collectors.readings import Figures, Readings, wire_text

METRIC_TYPE: Final = "system"
_IS_LINUX: Final = sys.platform.startswith("linux")
_MOUNTS_AGE_SECONDS: Final = 60.0


class _Traffic(NamedTuple):
    sent: int
    received: int
    at_monotonic: float


class _Usage(NamedTuple):
    percent: float
    used_bytes: int
    total_bytes: int
    mount: str


class SystemCollector:
    """Percentages and rates are over the time since the call before; the constructor counts as the first call."""

    name: Final = METRIC_TYPE

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._mounts: list[str] = []
        self._mounts_at: float | None = None
        self._traffic = self._count_traffic()
        psutil.cpu_percent(interval=None)

    def collect(self) -> Readings:
        """Raises OSError or psutil.Error when the machine does not tell."""
        return {METRIC_TYPE: _processor() | _memory() | self._disk() | self._network() | _life()}

    def _disk(self) -> Figures:
        usages = [usage for mount in self._fixed_mounts() if (usage := _usage_of(mount))]
        if not usages:
            return {}
        fullest = max(usages)
        return {
            "disk_percent": fullest.percent,
            "disk_used_bytes": fullest.used_bytes,
            "disk_total_bytes": fullest.total_bytes,
            "disk_mount": wire_text(fullest.mount),
        }

    def _fixed_mounts(self) -> list[str]:
        now = self._monotonic()
        if self._mounts_at is None or now - self._mounts_at > _MOUNTS_AGE_SECONDS:
            self._mounts = [drive.mount for drive in fixed_drives()]
            self._mounts_at = now
        return self._mounts

    def _network(self) -> Figures:
        before, self._traffic = self._traffic, self._count_traffic()
        now = self._traffic
        seconds = max(now.at_monotonic - before.at_monotonic, 0.001)
        return {
            "network_bytes_sent": now.sent,
            "network_bytes_recv": now.received,
            "network_sent_bytes_per_sec": round(max(now.sent - before.sent, 0) / seconds, 1),
            "network_recv_bytes_per_sec": round(max(now.received - before.received, 0) / seconds, 1),
        }

    def _count_traffic(self) -> _Traffic:
        counters = psutil.net_io_counters(pernic=True)
        outside = [counter for name, counter in counters.items() if not name.lower().startswith(("lo", "loopback"))]
        return _Traffic(sum(c.bytes_sent for c in outside), sum(c.bytes_recv for c in outside), self._monotonic())


def _usage_of(mount: str) -> _Usage | None:
    try:
        usage = psutil.disk_usage(mount)
    except OSError:  # unmounted since the list was made, or not ours to see
        return None
    return _Usage(usage.percent, usage.used, usage.total, mount) if usage.total else None


def _processor() -> Figures:
    figures: Figures = {"cpu_percent": psutil.cpu_percent(interval=None), "cpu_count": os.cpu_count() or 0}
    if hasattr(os, "getloadavg"):
        one, five, fifteen = os.getloadavg()
        figures |= {"load_1m": round(one, 2), "load_5m": round(five, 2), "load_15m": round(fifteen, 2)}
    return figures


def _memory() -> Figures:
    memory = psutil.virtual_memory()
    return {
        "memory_percent": memory.percent,
        "memory_used_bytes": memory.used,
        "memory_total_bytes": memory.total,
        "swap_percent": psutil.swap_memory().percent,
    }


def _life() -> Figures:
    return {"uptime_seconds": _uptime_seconds(), "process_count": _process_count()}


def _uptime_seconds() -> int:
    if _IS_LINUX:
        return int(time.clock_gettime(time.CLOCK_BOOTTIME))
    return int(time.time() - psutil.boot_time())


def _process_count() -> int:
    if _IS_LINUX:
        return sum(name.isdecimal() for name in os.listdir("/proc"))  # noqa: PTH208  names alone, without an object each
    return len(psutil.pids())
