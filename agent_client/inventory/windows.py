"""A Windows machine. Unproven: its parser knows recorded outputs only."""

from __future__ import annotations

from functools import cached_property
from typing import Final

import msgspec
from msgspec import Struct

from agent_client.host import Host, ask_powershell
from agent_client.inventory.packages import packages_from
from protocol.inventory import Drive, Hardware, OperatingSystem, Package, Packages, Services, ServiceUnit

# One PowerShell for all: its start is the larger part of the cost. What fails is null.
SCRIPT: Final = r"""
$ErrorActionPreference = 'Stop'
function Try-It($block) { try { & $block } catch { $null } }
$keys = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall\*',
  'HKLM:\SOFTWARE\WOW6432Node\Microsoft\Windows\CurrentVersion\Uninstall\*'
[ordered]@{
  computer = Try-It { Get-CimInstance Win32_ComputerSystem |
    Select-Object Manufacturer, Model, TotalPhysicalMemory, HypervisorPresent }
  bios = Try-It { Get-CimInstance Win32_BIOS | Select-Object SerialNumber, Manufacturer, SMBIOSBIOSVersion }
  board = Try-It { Get-CimInstance Win32_BaseBoard | Select-Object Manufacturer, Product }
  processors = Try-It { @(Get-CimInstance Win32_Processor |
    Select-Object Name, NumberOfCores, NumberOfLogicalProcessors) }
  drives = Try-It { @(Get-PhysicalDisk | ForEach-Object {
    @{ Name = "disk$($_.DeviceId)"; Model = $_.FriendlyName; Size = $_.Size; MediaType = "$($_.MediaType)" } }) }
  system = Try-It { $o = Get-CimInstance Win32_OperatingSystem
    @{ Caption = $o.Caption; Version = $o.Version; Architecture = $o.OSArchitecture
       Installed = $o.InstallDate.ToString('yyyy-MM-dd'); Zone = (Get-TimeZone).Id } }
  packages = Try-It { @(Get-ItemProperty $keys | Where-Object DisplayName |
    ForEach-Object { @{ Name = "$($_.DisplayName)"; Version = "$($_.DisplayVersion)" } }) }
  services = Try-It { @(Get-CimInstance Win32_Service | Select-Object Name, State, StartMode) }
} | ConvertTo-Json -Depth 4 -Compress
"""


class _Said(Struct, rename="pascal"):
    """Base of what PowerShell says: any field may be missing or null."""


class _Computer(_Said):
    manufacturer: str | None = None
    model: str | None = None
    total_physical_memory: int | None = None
    hypervisor_present: bool | None = None


class _Bios(_Said):
    serial_number: str | None = None
    manufacturer: str | None = None
    version: str | None = msgspec.field(name="SMBIOSBIOSVersion", default=None)


class _Board(_Said):
    manufacturer: str | None = None
    product: str | None = None


class _Processor(_Said):
    name: str | None = None
    number_of_cores: int | None = None
    number_of_logical_processors: int | None = None


class _Disk(_Said):
    name: str
    model: str | None = None
    size: int | None = None
    media_type: str | None = None


class _System(_Said):
    caption: str | None = None
    version: str | None = None
    architecture: str | None = None
    installed: str | None = None
    zone: str | None = None


class _Item(_Said):
    name: str
    version: str | None = None
    state: str | None = None
    start_mode: str | None = None


class _Everything(Struct):
    computer: _Computer | None = None
    bios: _Bios | None = None
    board: _Board | None = None
    processors: list[_Processor] | None = None
    drives: list[_Disk] | None = None
    system: _System | None = None
    packages: list[_Item] | None = None
    services: list[_Item] | None = None


class WindowsInventory:
    def __init__(self, host: Host) -> None:
        self._host = host

    @cached_property
    def _said(self) -> _Everything:
        """Raises msgspec.MsgspecError when PowerShell wrote what is not expected."""
        return msgspec.json.decode(ask_powershell(self._host, SCRIPT) or b"{}", type=_Everything)

    def hardware(self) -> Hardware | None:
        computer, bios, board = self._said.computer, self._said.bios or _Bios(), self._said.board or _Board()
        if computer is None:
            return None
        processors = self._said.processors or []
        return Hardware(
            manufacturer=computer.manufacturer or "",
            model=computer.model or "",
            serial=bios.serial_number or "",
            board=_joined(board.manufacturer, board.product),
            firmware=_joined(bios.manufacturer, bios.version),
            cpu_model=(processors[0].name or "").strip() if processors else "",
            cpu_cores=sum(one.number_of_cores or 0 for one in processors),
            cpu_threads=sum(one.number_of_logical_processors or 0 for one in processors),
            memory_total_bytes=computer.total_physical_memory or 0,
            virtualization="hypervisor" if computer.hypervisor_present else "",
            drives=[_drive(disk) for disk in self._said.drives or []],
        )

    def operating_system(self) -> OperatingSystem | None:
        system = self._said.system
        if system is None:
            return None
        return OperatingSystem(
            name=system.caption or "Windows",
            version=system.version or "",
            kernel=system.version or "",
            arch=system.architecture or "",
            timezone=system.zone or "",
            installed_at=system.installed or "",
        )

    def packages(self) -> Packages | None:
        items = self._said.packages
        if items is None:
            return None
        return packages_from(Package(name=one.name, version=one.version or "", source="windows") for one in items)

    def services(self) -> Services | None:
        items = self._said.services
        if items is None:
            return None
        units = (
            ServiceUnit(name=one.name[:128], state=(one.state or "").lower(), starts=_starts(one.start_mode or ""))
            for one in items
        )
        return Services(items=sorted(units, key=lambda unit: unit.name))


def _drive(disk: _Disk) -> Drive:
    rotational = {"HDD": True, "SSD": False}.get(disk.media_type or "")
    return Drive(name=disk.name, model=disk.model or "", size_bytes=disk.size or 0, rotational=rotational)


def _joined(*words: str | None) -> str:
    return " ".join(word.strip() for word in words if word)


def _starts(mode: str) -> str:
    return {"Auto": "automatic"}.get(mode, mode.lower())
