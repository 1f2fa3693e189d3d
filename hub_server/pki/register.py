"""The certificates of agents in memory: judged on every connection without a word to the database."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

import msgspec

from hub_server.pki.model import KnownCertificate, Standing

KEPT_AFTER_EXPIRY: Final = timedelta(days=1)
"""Until then an agent hears that its certificate expired, and not that it is unknown."""


class CertificateRegister:
    """Of an agent that was revoked everything is revoked, also a certificate whose commit comes to light later."""

    def __init__(self) -> None:
        self._known: dict[str, KnownCertificate] = {}
        self._serials: dict[str, set[str]] = {}
        self._revoked_agents: set[str] = set()

    def keep(self, certificate: KnownCertificate) -> None:
        """Remember a certificate. What was learnt of it before is never taken back."""
        if certificate.is_revoked:
            self._revoked_agents.add(certificate.agent_id)
        before = self._known.get(certificate.serial, certificate)
        self._known[certificate.serial] = msgspec.structs.replace(
            certificate,
            is_used=certificate.is_used or before.is_used,
            is_superseded=certificate.is_superseded or before.is_superseded,
            is_revoked=certificate.agent_id in self._revoked_agents,
        )
        self._serials.setdefault(certificate.agent_id, set()).add(certificate.serial)

    def get(self, serial: str) -> KnownCertificate | None:
        return self._known.get(serial)

    def of_agent(self, agent_id: str) -> list[KnownCertificate]:
        return [self._known[serial] for serial in self._serials.get(agent_id, ())]

    def standing(self, serial: str, agent_id: str, public_key_sha256: bytes, now: datetime) -> Standing:
        """A known serial with another key was issued by nobody: it is unknown."""
        known = self._known.get(serial)
        if known is None or known.agent_id != agent_id or known.public_key_sha256 != public_key_sha256:
            return Standing.UNKNOWN
        if known.is_revoked:
            return Standing.REVOKED
        if now >= known.expires_at:
            return Standing.EXPIRED
        return Standing.SUPERSEDED if known.is_superseded else Standing.CURRENT

    def revoke(self, agent_id: str) -> None:
        """Every certificate of the agent is worth nothing, those that come to light later too."""
        self._revoked_agents.add(agent_id)
        for known in self.of_agent(agent_id):
            self._known[known.serial] = msgspec.structs.replace(known, is_revoked=True)

    def use(self, serial: str, superseded: Iterable[str]) -> None:
        """Note that an agent was seen with the certificate `serial`, which took the place of those `superseded`."""
        for older in superseded:
            if (known := self._known.get(older)) is not None:
                self._known[older] = msgspec.structs.replace(known, is_superseded=True)
        if (known := self._known.get(serial)) is not None:
            self._known[serial] = msgspec.structs.replace(known, is_used=True)

    def forget_expired(self, now: datetime) -> None:
        ended = [known for known in self._known.values() if now - known.expires_at >= KEPT_AFTER_EXPIRY]
        for known in ended:
            del self._known[known.serial]
            serials = self._serials[known.agent_id]
            serials.discard(known.serial)
            if not serials:
                del self._serials[known.agent_id]
                self._revoked_agents.discard(known.agent_id)
