"""The security facts of a Windows machine. Unproven: its parser knows recorded outputs only."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from agent_client.host import Host, ask_powershell
from agent_client.security.facts import Findings, Memo, SecurityFacts

# One PowerShell for all: its start is the larger part of the cost. What fails is null.
SCRIPT: Final = r"""
$ErrorActionPreference = 'Stop'
function Try-It($block) { try { & $block } catch { $null } }
[ordered]@{
  firewall = Try-It { @(Get-NetFirewallProfile |
    ForEach-Object { @{ name = $_.Name; enabled = [bool][int]$_.Enabled } }) }
  defender = Try-It { $s = Get-MpComputerStatus
    @{ antivirus = $s.AntivirusEnabled; realtime = $s.RealTimeProtectionEnabled; mode = "$($s.AMRunningMode)" } }
  products = Try-It { @(Get-CimInstance -Namespace root/SecurityCenter2 -ClassName AntiVirusProduct |
    ForEach-Object { @{ name = $_.displayName; state = [int]$_.productState } }) }
  updates = Try-It { $q = (New-Object -ComObject Microsoft.Update.Session).CreateUpdateSearcher(); $q.Online = $false
    @($q.Search('IsInstalled=0 and IsHidden=0').Updates |
      ForEach-Object { @{ title = $_.Title; categories = @($_.Categories | ForEach-Object { $_.Name }) } }) }
  reboot = Try-It { $root = 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion'
    (Test-Path "$root\WindowsUpdate\Auto Update\RebootRequired") -or
    (Test-Path "$root\Component Based Servicing\RebootPending") }
  automatic = Try-It { (New-Object -ComObject Microsoft.Update.AutoUpdate).Settings.NotificationLevel -ge 3 }
} | ConvertTo-Json -Depth 6 -Compress
"""
_RUNS: Final = 0x1000
_SECURITY_CATEGORIES: Final = frozenset({"Security Updates", "Critical Updates", "Definition Updates"})
_PASSIVE: Final = "passive"


class _Profile(Struct):
    name: str
    enabled: bool


class _Defender(Struct):
    antivirus: bool | None = None
    realtime: bool | None = None
    mode: str = ""


class _Product(Struct):
    name: str
    state: int


class _Update(Struct):
    title: str
    categories: list[str] = []


class _Said(Struct):
    firewall: list[_Profile] | None = None
    defender: _Defender | None = None
    products: list[_Product] | None = None
    updates: list[_Update] | None = None
    reboot: bool | None = None
    automatic: bool | None = None


class WindowsSecurity:
    def __init__(self, host: Host) -> None:
        self._host = host

    def findings(self, memo: Memo) -> Findings:
        """Raises msgspec.MsgspecError when PowerShell wrote what is not expected."""
        answer = ask_powershell(self._host, SCRIPT)
        said = msgspec.json.decode(answer, type=_Said) if answer else _Said()
        return Findings(facts=_facts(said), memo=memo)


def _facts(said: _Said) -> SecurityFacts:
    is_guarded, product = _antivirus(said)
    updates = said.updates
    return SecurityFacts(
        firewall_enabled=all(profile.enabled for profile in said.firewall) if said.firewall else None,
        firewall="Windows Firewall" if said.firewall else "",
        antivirus_enabled=is_guarded,
        antivirus=product,
        updates_available=None if updates is None else len(updates),
        security_updates=None
        if updates is None
        else sum(bool(_SECURITY_CATEGORIES & {*one.categories}) for one in updates),
        reboot_required=said.reboot,
        automatic_updates_enabled=said.automatic,
    )


def _antivirus(said: _Said) -> tuple[bool | None, str]:
    """Return whether a product watches, and which. Defender in passive mode leaves that to another one."""
    for product in said.products or []:
        if product.state & _RUNS:
            return True, product.name
    defender = said.defender
    if defender is not None and defender.antivirus is not None and _PASSIVE not in defender.mode.lower():
        return bool(defender.antivirus and defender.realtime), "Microsoft Defender"
    return (False, said.products[0].name) if said.products else (None, "")
