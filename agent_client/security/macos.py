"""The security facts of a Mac. Unproven: its parsers know recorded outputs only."""

from __future__ import annotations

import re
from typing import Final

from agent_client.host import Host, lines_of
from agent_client.security.facts import Findings, Memo, SecurityFacts

_FIREWALL: Final = "/usr/libexec/ApplicationFirewall/socketfilterfw"
_UPDATE_SETTINGS: Final = "/Library/Preferences/com.apple.SoftwareUpdate"
_SECURITY_TITLE: Final = re.compile(r"security|rapid response|xprotect", re.IGNORECASE)


class MacosSecurity:
    def __init__(self, host: Host) -> None:
        self._host = host

    def findings(self, memo: Memo) -> Findings:
        labels = self._pending()
        antivirus = self._xprotect()
        return Findings(
            memo=memo,
            facts=SecurityFacts(
                firewall_enabled=self._firewall(),
                firewall="Application Firewall" if self._firewall() else "",
                antivirus_enabled=antivirus,
                antivirus="XProtect" if antivirus is not None else "",
                updates_available=None if labels is None else len(labels),
                security_updates=None
                if labels is None
                else sum(bool(_SECURITY_TITLE.search(label)) for label in labels),
                automatic_updates_enabled=self._automatic(),
            ),
        )

    def _firewall(self) -> bool | None:
        """`State = 0` is off, 1 on, 2 on with every incoming connection refused."""
        lines = lines_of(self._host, _FIREWALL, "--getglobalstate")
        found = re.search(r"State = (\d)", "\n".join(lines or []))
        return found[1] != "0" if found else None

    def _xprotect(self) -> bool | None:
        """Return whether both of its scans are on, as macOS 15 and later tell; None for earlier ones."""
        lines = lines_of(self._host, "/usr/bin/xprotect", "status")
        states = re.findall(r"scans: (enabled|disabled)", "\n".join(lines or []))
        return "disabled" not in states if states else None

    def _pending(self) -> list[str] | None:
        """Return the titles of the updates found by the last scan; no new scan is made."""
        lines = lines_of(self._host, "/usr/sbin/softwareupdate", "--list", "--no-scan")
        if lines is None:
            return None
        return [found[1] for line in lines if (found := re.match(r"\s*Title: ([^,]+)", line))]

    def _automatic(self) -> bool | None:
        lines = lines_of(self._host, "/usr/bin/defaults", "read", _UPDATE_SETTINGS, "AutomaticallyInstallMacOSUpdates")
        return lines[0].strip() == "1" if lines else None
