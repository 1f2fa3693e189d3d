"""The `system` figures of the wire's metricData, cheap enough for one sample a second."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from protocol.frames import MetricValue

METRIC_TYPE: Final = "system"
_IS_LINUX: Final = sys.platform.startswith("linux")
_PARTITIONS_AGE_SECONDS: Final = 60.0
# Always full by design, so they say nothing about free space.
_READ_ONLY_IMAGES: Final = frozenset({"squashfs", "iso9660", "erofs", "cramfs", "udf"})
_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smbfs", "smb3", "afs", "ceph", "glusterfs", "9p", "webdav"}
)

Figures = dict[str, MetricValue]


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

    def collect(self) -> Figures:
        """Raises OSError or psutil.Error when the machine does not tell."""
        return {**_processor(), **_memory(), **self._disk(), **self._network(), **_life()}

    def _disk(self) -> Figures:
        usages = [usage for mount in self._fixed_mounts() if (usage := _usage_of(mount))]
        if not usages:
            return {}
        fullest = max(usages)
        return {
            "disk_percent": fullest.percent,
            "disk_used_bytes": fullest.used_bytes,
            "disk_total_bytes": fullest.total_bytes,
            "disk_mount": fullest.mount,
        }

    def _fixed_mounts(self) -> list[str]:
        now = self._monotonic()
        if self._mounts_at is None or now - self._mounts_at > _PARTITIONS_AGE_SECONDS:
            self._mounts = fixed_mounts()
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


def fixed_mounts() -> list[str]:
    """Return one mount a fixed, writable kind of file system; never a network one, whose server may be dead."""
    by_device: dict[str, str] = {}
    for partition in psutil.disk_partitions(all=False):
        if partition.fstype in _READ_ONLY_IMAGES or partition.fstype in _NETWORK_FILE_SYSTEMS:
            continue
        if "cdrom" in partition.opts or not partition.fstype:
            continue
        by_device.setdefault(partition.device, partition.mountpoint)
    return list(by_device.values()) or [Path(sys.executable).anchor]


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
