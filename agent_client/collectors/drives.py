"""Fixed file systems, and how full and busy each one is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from agent_client.collectors.readings import Figures, Readings, type_of, wire_text

# Always full by design, so they say nothing about free space.
_READ_ONLY_IMAGES: Final = frozenset({"squashfs", "iso9660", "erofs", "cramfs", "udf"})
_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smbfs", "smb3", "afs", "ceph", "glusterfs", "9p", "webdav", "afpfs", "fuse.sshfs"}
)
_DRIVES_MAX: Final = 24


class Drive(NamedTuple):
    """`device` is the name that counts reads and writes; empty where it is not known."""

    mount: str
    fs_type: str
    device: str


class _Traffic(NamedTuple):
    read_bytes: int
    write_bytes: int
    at_monotonic: float


class DriveCollector:
    """`disk.<mount>`: fill, and bytes read and written since boot. Rates are over the time since the call before."""

    name: Final = "disk"

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._traffic: dict[str, _Traffic] = {}

    def collect(self) -> Readings:
        """Raises OSError or psutil.Error when the machine does not tell; one file system alone is left out."""
        before, self._traffic = self._traffic, self._count_traffic()
        return {
            type_of("disk", drive.mount): usage | self._work(drive.device, before)
            for drive in fixed_drives()[:_DRIVES_MAX]
            if (usage := _usage(drive))
        }

    def _count_traffic(self) -> dict[str, _Traffic]:
        counters, now = psutil.disk_io_counters(perdisk=True, nowrap=False) or {}, self._monotonic()
        return {name: _Traffic(disk.read_bytes, disk.write_bytes, now) for name, disk in counters.items()}

    def _work(self, device: str, before: dict[str, _Traffic]) -> Figures:
        now, earlier = self._traffic.get(device), before.get(device)
        if now is None:
            return {}
        figures: Figures = {"read_bytes": now.read_bytes, "write_bytes": now.write_bytes}
        if earlier is not None:
            seconds = max(now.at_monotonic - earlier.at_monotonic, 0.001)
            figures["read_bytes_per_sec"] = round(max(now.read_bytes - earlier.read_bytes, 0) / seconds, 1)
            figures["write_bytes_per_sec"] = round(max(now.write_bytes - earlier.write_bytes, 0) / seconds, 1)
        return figures


def fixed_drives() -> list[Drive]:
    """Return one mount a fixed, writable kind of file system; never a network one, whose server may be dead."""
    by_device: dict[str, Drive] = {}
    for partition in psutil.disk_partitions(all=False):
        if partition.fstype in _READ_ONLY_IMAGES or partition.fstype in _NETWORK_FILE_SYSTEMS:
            continue
        if "cdrom" in partition.opts or not partition.fstype:
            continue
        if partition.device not in by_device:
            drive = Drive(partition.mountpoint, partition.fstype, _counted_as(partition.device))
            by_device[partition.device] = drive
    return list(by_device.values()) or [Drive(Path(sys.executable).anchor, "", "")]


def _counted_as(device: str) -> str:
    """Return the kernel's name of a device: sda1 for /dev/sda1, dm-0 for what /dev/mapper/root leads to."""
    return Path(device).resolve().name if device.startswith("/dev/") else device


def _usage(drive: Drive) -> Figures:
    """Return nothing for what was unmounted since the list was made, or is not ours to see."""
    try:
        usage = psutil.disk_usage(drive.mount)
    except OSError:
        return {}
    if not usage.total:
        return {}
    return {
        "mount": wire_text(drive.mount),
        "fs_type": wire_text(drive.fs_type),
        "percent": usage.percent,
        "used_bytes": usage.used,
        "total_bytes": usage.total,
    }
