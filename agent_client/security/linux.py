"""The security facts of a Linux machine."""

from __future__ import annotations

from agent_client.collectors.watch import stamp_of
from agent_client.host import Host
from agent_client.security.antivirus import antivirus_of
from agent_client.security.facts import Findings, Memo, SecurityFacts
from agent_client.security.firewall import firewall_of
from agent_client.security.stamps import INSTALLED, LISTS
from agent_client.security.updates import automatic_updates_enabled, reboot_required, updates_of


class LinuxSecurity:
    def __init__(self, host: Host) -> None:
        self._host = host

    def findings(self, memo: Memo) -> Findings:
        host = self._host
        stamp = stamp_of([host.path(path) for path in (*INSTALLED, *LISTS)])
        updates = memo.updates if stamp and stamp == memo.stamp else updates_of(host)
        firewall, antivirus = firewall_of(host), antivirus_of(host)
        facts = SecurityFacts(
            firewall_enabled=firewall.is_enabled,
            firewall=firewall.name if firewall.is_enabled else "",
            antivirus_enabled=antivirus.is_enabled,
            antivirus=antivirus.name,
            updates_available=updates.updates_available if updates else None,
            security_updates=updates.security_updates if updates else None,
            updates_as_of_ms=updates.updates_as_of_ms if updates else None,
            reboot_required=reboot_required(host),
            automatic_updates_enabled=automatic_updates_enabled(host),
        )
        return Findings(facts=facts, memo=Memo(stamp=stamp, updates=updates))
