"""Facts of the machine that seldom change (seed 000, "System Info")."""

from __future__ import annotations

import os
import platform
import socket
import time
from pathlib import Path
from typing import Final

import psutil

from protocol.frames import SystemInformation

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_ADDRESSES_MAX: Final = 64


def describe_machine() -> SystemInformation:
    """Nothing personal but the host name and the addresses."""
    return SystemInformation(
        hostname=socket.gethostname()[:128] or "unknown",
        os=platform.system().lower() or os.name,
        os_version=os_version()[:4096],
        arch=platform.machine(),
        cpu_count=os.cpu_count() or 0,
        memory_total_bytes=psutil.virtual_memory().total,
        ip_addresses=ipv4_addresses(),
    )


def os_version() -> str:
    """Return the name people know: PRETTY_NAME of os-release where there is one."""
    if platform.system() == "Linux":
        try:
            release = platform.freedesktop_os_release()
        except OSError:
            return platform.release()
        return release.get("PRETTY_NAME") or release.get("NAME", platform.release())
    if platform.system() == "Darwin":
        return f"macOS {platform.mac_ver()[0]}"
    return f"{platform.system()} {platform.version()}"


def ipv4_addresses() -> list[str]:
    """Return the IPv4 addresses that are not loopback, without repetition, in the order of the interfaces."""
    found = (
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    )
    return list(dict.fromkeys(found))[:_ADDRESSES_MAX]


def boot_id() -> str:
    """Return what stays the same until the machine starts anew."""
    try:
        return _BOOT_ID.read_text().strip()[:128] or _boot_time_id()
    except OSError:
        return _boot_time_id()


def _boot_time_id() -> str:
    return f"boot-{round((time.time() - time.monotonic()) / 10)}"
