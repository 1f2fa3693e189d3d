"""A Mac. Unproven: its parsers know recorded outputs only."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from agent_client.host import Host, lines_of
from agent_client.inventory.packages import packages_from
from protocol.inventory import Drive, Hardware, OperatingSystem, Package, Packages, Services, ServiceUnit

_PROFILER: Final = "/usr/sbin/system_profiler"
_PROFILER_SECONDS: Final = 120.0


class MacosInventory:
    def __init__(self, host: Host) -> None:
        self._host = host

    def hardware(self) -> Hardware | None:
        said = self._profile("SPHardwareDataType")
        if not said:
            return None
        machine = said[0]
        return Hardware(
            manufacturer="Apple",
            model=_text(machine, "machine_model"),
            serial=_text(machine, "serial_number"),
            firmware=_text(machine, "boot_rom_version"),
            cpu_model=_text(machine, "chip_type") or _text(machine, "cpu_type"),
            cpu_cores=self._number("hw.physicalcpu"),
            cpu_threads=self._number("hw.logicalcpu"),
            memory_total_bytes=self._number("hw.memsize"),
            drives=[_drive(drive) for drive in self._profile("SPStorageDataType") if drive.get("mount_point") == "/"],
        )

    def operating_system(self) -> OperatingSystem | None:
        lines = lines_of(self._host, "/usr/bin/sw_vers")
        if lines is None:
            return None
        said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        zone = lines_of(self._host, "/usr/bin/readlink", "/etc/localtime")
        return OperatingSystem(
            name=said.get("ProductName", "macOS"),
            version=f"{said.get('ProductVersion', '')} ({said.get('BuildVersion', '')})",
            kernel=self._line("/usr/bin/uname", "-r"),
            arch=self._line("/usr/bin/uname", "-m"),
            timezone=(zone or [""])[0].partition("zoneinfo/")[2],
        )

    def packages(self) -> Packages | None:
        applications = [
            Package(name=name, version=_text(one, "version"), source="macos")
            for one in self._profile("SPApplicationsDataType")
            if (name := _text(one, "_name"))
        ]
        rows = (line.split() for line in lines_of(self._host, "brew", "list", "--versions") or [])
        formulas = [Package(name=row[0], version=row[-1], source="brew") for row in rows if len(row) > 1]
        return packages_from([*applications, *formulas]) if applications or formulas else None

    def services(self) -> Services | None:
        """Each line of launchctl is its process or `-`, its last exit code, and its label."""
        lines = lines_of(self._host, "/bin/launchctl", "list")
        if lines is None:
            return None
        rows = sorted(row for line in lines[1:] if len(row := re.split(r"\s+", line.strip(), maxsplit=2)) == 3)
        units = [ServiceUnit(name=label[:128], state=_state(process, code)) for process, code, label in rows]
        return Services(items=sorted(units, key=lambda unit: unit.name))

    def _profile(self, kind: str) -> list[dict[str, Any]]:
        answer = self._host.ask(_PROFILER, "-json", "-detailLevel", "mini", kind, timeout_seconds=_PROFILER_SECONDS)
        if answer is None or answer.exit_code != 0:
            return []
        return msgspec.json.decode(answer.output, type=dict[str, list[dict[str, Any]]]).get(kind, [])

    def _line(self, *argv: str) -> str:
        return (lines_of(self._host, *argv) or [""])[0].strip()

    def _number(self, name: str) -> int:
        text = self._line("/usr/sbin/sysctl", "-n", name)
        return int(text) if text.isdecimal() else 0


def _text(said: dict[str, Any], key: str) -> str:
    value = said.get(key, "")
    return value if isinstance(value, str) else ""


def _drive(said: dict[str, Any]) -> Drive:
    physical = said.get("physical_drive", {})
    size = said.get("size_in_bytes", 0)
    return Drive(
        name=_text(said, "bsd_name"),
        model=_text(physical, "device_name"),
        size_bytes=size if isinstance(size, int) else 0,
        rotational={"rotational": True, "ssd": False}.get(_text(physical, "medium_type")),
    )


def _state(process: str, exit_code: str) -> str:
    if process != "-":
        return "running"
    return "stopped" if exit_code == "0" else "failed"
