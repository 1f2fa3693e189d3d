"""A Linux machine: from sysfs, procfs and its service manager."""

from __future__ import annotations

import platform
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from agent_client.host import Host, lines_of, text_of
from agent_client.inventory.linux_packages import packages_of
from protocol.inventory import Drive, Hardware, OperatingSystem, Packages, Services, ServiceUnit

_DMI: Final = "/sys/class/dmi/id/"
_VIRTUAL_DEVICES: Final = re.compile(r"(loop|ram|zram|dm-|md|sr|fd|nbd)\d*")
_SECTOR_BYTES: Final = 512
_FILLER: Final = frozenset(
    {"to be filled by o.e.m.", "default string", "not specified", "system serial number", "none"}
)
# What the installer or the first boot leaves behind.
_MARKS_OF_INSTALLATION: Final = ("/var/log/installer", "/root/anaconda-ks.cfg", "/etc/machine-id")
# Templates, and units that come and go with logins and single commands.
_PASSING: Final = re.compile(r".*@\.service|run-|user@|user-runtime-dir@|session-")


class LinuxInventory:
    def __init__(self, host: Host) -> None:
        self._host = host

    def hardware(self) -> Hardware:
        host, dmi = self._host, self._dmi
        processors = _processors(text_of(host, "/proc/cpuinfo"))
        tree = "/proc/device-tree/"
        return Hardware(
            manufacturer=dmi("sys_vendor"),
            model=dmi("product_name") or _first(text_of(host, f"{tree}model")),
            serial=dmi("product_serial") or _first(text_of(host, f"{tree}serial-number")),
            board=" ".join(filter(None, (dmi("board_vendor"), dmi("board_name")))),
            firmware=" ".join(filter(None, (dmi("bios_vendor"), dmi("bios_version"), dmi("bios_date")))),
            cpu_model=next((one["model name"] for one in processors if "model name" in one), ""),
            cpu_cores=len({(one.get("physical id"), one.get("core id", one.get("processor"))) for one in processors}),
            cpu_threads=len(processors),
            memory_total_bytes=_memory_bytes(text_of(host, "/proc/meminfo")),
            virtualization=_virtualization(host),
            drives=_drives(host),
        )

    def operating_system(self) -> OperatingSystem:
        release = _release(text_of(self._host, "/etc/os-release"))
        return OperatingSystem(
            name=release.get("NAME", "Linux"),
            version=release.get("VERSION") or release.get("VERSION_ID", ""),
            kernel=text_of(self._host, "/proc/sys/kernel/osrelease"),
            arch=platform.machine(),
            timezone=_timezone(self._host),
            installed_at=_installed_at(self._host),
        )

    def packages(self) -> Packages | None:
        return packages_of(self._host)

    def services(self) -> Services | None:
        return _systemd_services(self._host)

    def _dmi(self, name: str) -> str:
        text = text_of(self._host, _DMI + name)
        return "" if text.lower() in _FILLER else text


def _processors(cpuinfo: str) -> list[dict[str, str]]:
    """Return the fields of each logical processor."""
    blocks = (block for block in cpuinfo.split("\n\n") if re.search(r"^processor\s*:", block, re.MULTILINE))
    pairs = ([line.partition(":") for line in block.splitlines()] for block in blocks)
    return [{key.strip(): value.strip() for key, _, value in block} for block in pairs]


def _memory_bytes(meminfo: str) -> int:
    found = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _virtualization(host: Host) -> str:
    """Return kvm, vmware, docker and so on; empty on bare metal, or where nothing tells."""
    answer = host.ask("systemd-detect-virt")
    if answer is not None:
        return "" if answer.output.strip() == "none" else answer.output.strip()
    if host.path("/.dockerenv").exists():
        return "docker"
    is_guest = re.search(r"^flags.*\bhypervisor\b", text_of(host, "/proc/cpuinfo"), re.MULTILINE)
    return "virtual machine" if is_guest else ""


def _drives(host: Host) -> list[Drive]:
    folder = host.path("/sys/block")
    names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    return [_drive(host, name) for name in names if not _VIRTUAL_DEVICES.match(name)]


def _drive(host: Host, name: str) -> Drive:
    device = f"/sys/block/{name}/"
    size, rotational = text_of(host, f"{device}size"), text_of(host, f"{device}queue/rotational")
    return Drive(
        name=name,
        model=text_of(host, f"{device}device/model"),
        size_bytes=int(size) * _SECTOR_BYTES if size.isdecimal() else 0,
        rotational={"0": False, "1": True}.get(rotational),
    )


def _release(text: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}


def _timezone(host: Host) -> str:
    with suppress(OSError):
        target = str(host.path("/etc/localtime").readlink())
        if "zoneinfo/" in target:
            return target.partition("zoneinfo/")[2]
    return text_of(host, "/etc/timezone")


def _installed_at(host: Host) -> str:
    """Return the day, as far as traces of the installation tell it."""
    for mark in _MARKS_OF_INSTALLATION:
        with suppress(OSError):
            return f"{datetime.fromtimestamp(host.path(mark).stat().st_mtime, UTC):%F}"
    return ""


def _systemd_services(host: Host) -> Services | None:
    common = ("--type=service", "--all", "--no-legend", "--plain", "--no-pager", "--full")
    units = lines_of(host, "systemctl", "list-units", *common)
    files = lines_of(host, "systemctl", "list-unit-files", *common)
    if units is None:
        return None
    starts = {row[0]: row[1] for line in files or [] if len(row := line.split()) > 1}
    states = {row[0]: _state(row) for line in units if len(row := line.split()) > 3 and row[1] != "not-found"}
    names = sorted(name for name in starts.keys() | states.keys() if not _PASSING.match(name))
    return Services(
        items=[
            ServiceUnit(
                name=name.removesuffix(".service")[:128], state=states.get(name, "stopped"), starts=starts.get(name, "")
            )
            for name in names
        ]
    )


def _state(row: list[str]) -> str:
    """Return running, exited, failed; stopped for what is loaded and dead."""
    return "stopped" if row[3] == "dead" else row[3]


def _first(text: str) -> str:
    return text.partition("\0")[0]
