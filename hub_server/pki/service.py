"""Certificates of agents: issued in the asker's transaction, judged in memory on every connection."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.clock import Clock
from hub_server.errors import KeyInUse
from hub_server.pki.authority import Authority
from hub_server.pki.certificates import key_sha256_of, public_key_of_csr
from hub_server.pki.model import IssuedCertificate, Standing
from hub_server.pki.store import CertificateStore
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.identity import AgentIdentity


class _Known(Struct, frozen=True):
    agent_id: str
    expires_at: datetime
    is_revoked: bool


class CertificateService:
    def __init__(self, database: Database, authority: Authority, clock: Clock) -> None:
        self._database = database
        self._authority = authority
        self._clock = clock
        self._store = CertificateStore()
        self._known: dict[str, _Known] = {}
        self._serials: dict[str, set[str]] = {}

    async def load(self) -> None:
        """Read what was issued before this start. Called once, before the first agent connects."""
        async with self._database.read(EVERY_ORGANISATION) as connection:
            rows = await self._store.known(connection, self._clock.now())
        for serial, agent_id, expires_at, revoked_at in rows:
            self._remember(serial, _Known(agent_id, expires_at, is_revoked=revoked_at is not None))

    def standing(self, serial: str, agent_id: str) -> Standing:
        """Judge a certificate whose chain was verified. `serial`: upper-case hexadecimal, as in `getpeercert()`."""
        known = self._known.get(serial)
        if known is None or known.agent_id != agent_id:
            return Standing.UNKNOWN
        if known.is_revoked:
            return Standing.REVOKED
        return Standing.EXPIRED if self._clock.now() >= known.expires_at else Standing.CURRENT

    async def issue(
        self, connection: AsyncConnection, organisation_id: str, agent_id: str, csr_pem: str
    ) -> IssuedCertificate:
        """Issue within the caller's transaction, which says `note_issued` once it is committed.

        Raises InvalidRequest for the CSR, KeyInUse when its key is another agent's.
        """
        identity = AgentIdentity(self._authority.trust_domain, organisation_id, agent_id)
        certificate = self._authority.issue_agent_certificate(identity, csr_pem)
        if await self._store.is_key_of_another(connection, certificate.public_key_sha256, agent_id):
            raise KeyInUse("this key belongs to another agent; delete the agent's key file and enroll with a new key")
        await self._store.add(connection, certificate)
        return certificate

    async def find(self, connection: AsyncConnection, organisation_id: str, serial: str) -> IssuedCertificate | None:
        """Return an issued certificate that is neither revoked nor deleted with its agent."""
        return await self._store.find(connection, organisation_id, serial)

    def key_sha256_of(self, csr_pem: str) -> bytes:
        """Return the SHA-256 of the public key that the CSR proves possession of. Raises InvalidRequest."""
        return key_sha256_of(public_key_of_csr(csr_pem))

    def note_issued(self, *, serial: str, agent_id: str, expires_at: datetime) -> None:
        """Let the certificate in from now on: its transaction is committed."""
        self._remember(serial, _Known(agent_id, expires_at, is_revoked=False))

    def expires_at(self, agent_id: str) -> datetime | None:
        """Return when the last of the agent's certificates ends, None when it has none."""
        ends = [
            known.expires_at
            for serial in self._serials.get(agent_id, ())
            if not (known := self._known[serial]).is_revoked
        ]
        return max(ends, default=None)

    async def revoke_agent(self, connection: AsyncConnection, organisation_id: str, agent_id: str) -> None:
        """Revoke within the caller's transaction, which says `note_revoked` once it is committed."""
        await self._store.revoke_all_of(connection, organisation_id, agent_id, self._clock.now())

    def note_revoked(self, agent_id: str) -> None:
        """Keep the agent out from now on: the revocation is committed."""
        for serial in self._serials.get(agent_id, ()):
            known = self._known[serial]
            self._known[serial] = _Known(known.agent_id, known.expires_at, is_revoked=True)

    def _remember(self, serial: str, known: _Known) -> None:
        self._forget_expired_of(known.agent_id)
        self._known[serial] = known
        self._serials.setdefault(known.agent_id, set()).add(serial)

    def _forget_expired_of(self, agent_id: str) -> None:
        """Drop certificates a day past their end: until then an agent hears that they expired."""
        serials = self._serials.get(agent_id, set())
        now = self._clock.now()
        for serial in [serial for serial in serials if (now - self._known[serial].expires_at).days >= 1]:
            serials.discard(serial)
            del self._known[serial]
