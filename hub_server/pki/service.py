"""Certificates of agents: issued in the asker's transaction, renewed, superseded, revoked, and judged in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import msgspec
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.access.authorization import authorize
from hub_server.access.model import Permission, Principal
from hub_server.audit.record import record
from hub_server.clock import Clock
from hub_server.errors import Forbidden, InvalidRequest, KeyInUse, NotFound, RateLimited
from hub_server.pki.authority import Authority
from hub_server.pki.certificates import key_sha256_of, public_key_of_csr
from hub_server.pki.model import IssuedCertificate, KnownCertificate, Standing, StoredCertificate
from hub_server.pki.register import KEPT_AFTER_EXPIRY, CertificateRegister
from hub_server.pki.store import CertificateStore, SuspicionStore
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import AgentTrust
from protocol.identity import AgentIdentity
from protocol.oversight import CertificatesList

RENEWALS_APART_MAX_SECONDS: Final = 60.0
RENEWALS_A_LIFE: Final = 20
SUSPICION_WINDOW: Final = timedelta(hours=1)
LOOK_BACK: Final = timedelta(minutes=3)
"""How far a reload looks back behind the one before: clocks of hubs differ, and a commit takes its time."""

LockTrust = Callable[[Connection, str, str], AgentTrust | None]
"""Takes (organisation, agent) and says how it stands, None when it is gone; locked until the transaction ends."""


class CertificateService:
    """`renewals_apart_seconds`: how often one agent may renew."""

    def __init__(
        self,
        database: Database,
        authority: Authority,
        clock: Clock,
        *,
        lock_trust: LockTrust,
        renewals_apart_seconds: float = RENEWALS_APART_MAX_SECONDS,
    ) -> None:
        self._database = database
        self._authority = authority
        self._clock = clock
        self._lock_trust = lock_trust
        self._renewals_apart_seconds = renewals_apart_seconds
        self._store = CertificateStore()
        self._suspicions = SuspicionStore()
        self._register = CertificateRegister()
        self._renewed_monotonic: dict[str, float] = {}
        self._reloaded_at = clock.now()

    async def load(self) -> None:
        """Read what was issued before this start. Called once, before the listeners open."""
        self._reloaded_at = now = self._clock.now()
        async with self._database.read(EVERY_ORGANISATION) as connection:
            for known in await self._store.known(connection, now):
                self._register.keep(known)

    async def reload(self) -> None:
        """Learn what other hubs revoked and superseded, and drop what nobody can present any more."""
        since, now = self._reloaded_at - LOOK_BACK, self._clock.now()
        async with self._database.write(EVERY_ORGANISATION) as connection:
            changed = await self._store.changed_since(connection, since)
            await self._store.prune(connection, now - KEPT_AFTER_EXPIRY)
        for known in changed:
            self._register.keep(known)
        self._register.forget_expired(now)
        self._reloaded_at = now

    def standing(self, serial: str, agent_id: str, public_key_sha256: bytes) -> Standing:
        """Judge a certificate whose chain was verified: who holds the CA's key can copy a name and a serial, not a key.

        `serial`: upper-case hexadecimal, as in `getpeercert()`. `public_key_sha256`: of the SubjectPublicKeyInfo.
        """
        known = self._register.get(serial)
        standing = self._register.standing(serial, agent_id, public_key_sha256, self._clock.now())
        if standing is Standing.CURRENT and known is not None and not self._authority.trusts_issuer(known.issuer):
            return Standing.UNTRUSTED
        return standing

    async def look_up(self, serial: str, agent_id: str, public_key_sha256: bytes) -> Standing:
        """Judge as `standing` does, also a certificate that another hub issued a moment ago."""
        if self._register.get(serial) is None:
            async with self._database.read(EVERY_ORGANISATION) as connection:
                found = await self._store.find_anywhere(connection, serial)
            if found is not None:
                self._register.keep(_known_of(found))
        return self.standing(serial, agent_id, public_key_sha256)

    def is_successor(self, serial: str, of: str) -> bool:
        """Tell whether the certificate `serial` was issued in place of the certificate `of`."""
        known = self._register.get(serial)
        return known is not None and known.replaces == of

    def expires_at(self, agent_id: str) -> datetime | None:
        """Return when the last of the agent's certificates ends, None when it has none."""
        ends = [known.expires_at for known in self._register.of_agent(agent_id) if not known.is_revoked]
        return max(ends, default=None)

    async def list(self, principal: Principal, request: CertificatesList) -> tuple[list[StoredCertificate], int]:
        """Return one page, soonest to end first, and how many there are in all."""
        organisation_id = authorize(principal, Permission.CERTIFICATES_READ)
        async with self._database.read(organisation_id) as connection:
            return await self._store.page(connection, organisation_id, request, self._clock.now())

    async def issue(
        self,
        connection: AsyncConnection,
        organisation_id: str,
        agent_id: str,
        csr_pem: str,
        *,
        replaces: str | None = None,
    ) -> IssuedCertificate:
        """Issue within the caller's transaction, which says `note_issued` once it is committed.

        Raises InvalidRequest for the CSR, KeyInUse when its key is another agent's.
        """
        identity = AgentIdentity(self._authority.trust_domain, organisation_id, agent_id)
        issued = self._authority.issue_agent_certificate(identity, csr_pem)
        certificate = msgspec.structs.replace(issued, replaces=replaces)
        if await self._store.is_key_of_another(connection, certificate.public_key_sha256, agent_id):
            raise KeyInUse("this key belongs to another agent; delete the agent's key file and enroll with a new key")
        await self._store.add(connection, certificate)
        return certificate

    async def renew(self, identity: AgentIdentity, presented_serial: str, csr_pem: str) -> IssuedCertificate:
        """Issue the certificate that shall replace the one which the agent's session stands on.

        Asked again with the same key, it is the same certificate. Raises NotFound when the agent is gone, Forbidden
        when it is not trusted or the presented certificate counts no more, InvalidRequest for the CSR, KeyInUse,
        RateLimited.
        """
        organisation_id, agent_id = identity.organisation_id, identity.agent_id
        key = self.key_sha256_of(csr_pem)
        async with self._database.write(organisation_id) as connection:
            await self._refuse_untrusted(connection, organisation_id, agent_id)
            certificate = await self._renewed_before(connection, identity, presented_serial, key)
            if certificate is None:
                self._keep_pace(agent_id)
                certificate = await self.issue(
                    connection, organisation_id, agent_id, csr_pem, replaces=presented_serial
                )
                await record(
                    connection,
                    organisation_id=organisation_id,
                    at=self._clock.now(),
                    actor=f"agent:{agent_id}",
                    action="certificates:renew",
                    target=f"certificate:{certificate.serial}",
                    detail={"replaces": presented_serial, "expiresAt": certificate.not_after},
                )
        self._register.keep(_fresh(certificate))
        return certificate

    async def find(self, connection: AsyncConnection, organisation_id: str, serial: str) -> IssuedCertificate | None:
        """Return an issued certificate unless it was revoked, or the CA that issued it."""
        found = await self._store.find(connection, organisation_id, serial)
        if found is None or found.revoked_at is not None:
            return None
        return found.certificate if self._authority.trusts_issuer(found.certificate.issuer) else None

    async def recoverable(self, connection: AsyncConnection, serial: str) -> StoredCertificate | None:
        """Return the certificate by which a machine says who it was, of any organisation; expired or not.

        None when it counts no more: revoked, or superseded by one that the agent was seen with.
        """
        found = await self._store.find_anywhere(connection, serial)
        if found is None or found.revoked_at is not None or found.superseded_at is not None:
            return None
        return found

    async def recover_issue(
        self, connection: AsyncConnection, organisation_id: str, agent_id: str, csr_pem: str, *, replaces: str
    ) -> IssuedCertificate:
        """Issue as `issue` does, to an agent whose certificate `replaces` expired and who proved to hold its key.

        Raises also NotFound when the agent is gone, Forbidden when it is not trusted or `replaces` counts no more.
        """
        await self._refuse_untrusted(connection, organisation_id, agent_id)
        await self._standing_by(connection, organisation_id, agent_id, replaces)
        return await self.issue(connection, organisation_id, agent_id, csr_pem, replaces=replaces)

    def key_sha256_of(self, csr_pem: str) -> bytes:
        """Return the SHA-256 of the public key that the CSR proves possession of. Raises InvalidRequest."""
        return key_sha256_of(public_key_of_csr(csr_pem))

    def note_issued(
        self,
        *,
        serial: str,
        agent_id: str,
        public_key_sha256: bytes,
        issuer: str,
        expires_at: datetime,
        replaces: str | None = None,
    ) -> None:
        """Let the certificate in from now on: its transaction is committed."""
        known = KnownCertificate(
            serial=serial,
            agent_id=agent_id,
            public_key_sha256=public_key_sha256,
            issuer=issuer,
            expires_at=expires_at,
            replaces=replaces,
        )
        self._register.keep(known)

    async def seen(self, serial: str, identity: AgentIdentity) -> None:
        """Note that the agent speaks with this certificate: the one it replaces gets nobody in any more."""
        known = self._register.get(serial)
        if known is None or known.is_used:
            return
        work = partial(self._use_within, identity, serial, self._clock.now())
        self._register.use(serial, await self._database.transact(identity.organisation_id, work))

    async def revoke_agent(self, connection: AsyncConnection, organisation_id: str, agent_id: str) -> None:
        """Revoke within the caller's transaction, which holds the agent's lock and says `note_revoked` afterwards."""
        await self._store.revoke_all_of(connection, organisation_id, agent_id, self._clock.now())

    def note_revoked(self, agent_id: str) -> None:
        """Keep the agent out from now on: the revocation is committed."""
        self._register.revoke(agent_id)
        self._renewed_monotonic.pop(agent_id, None)

    async def suspect_clone(self, identity: AgentIdentity, *, older_address: str, newer_address: str) -> int:
        """Store that two machines spoke as one agent; return how often that was in the last hour."""
        organisation_id, agent_id, now = identity.organisation_id, identity.agent_id, self._clock.now()
        async with self._database.write(organisation_id) as connection:
            if await connection.run_sync(self._lock_trust, organisation_id, agent_id) is None:
                return 0
            await self._suspicions.add(
                connection, organisation_id, agent_id, now, older_address=older_address, newer_address=newer_address
            )
            count = await self._suspicions.count_since(connection, organisation_id, agent_id, now - SUSPICION_WINDOW)
            await record(
                connection,
                organisation_id=organisation_id,
                at=now,
                actor="hub",
                action="agents:clone-suspected",
                target=f"agent:{agent_id}",
                detail={"olderAddress": older_address, "newerAddress": newer_address, "inTheLastHour": count},
            )
        return count

    def _use_within(self, identity: AgentIdentity, serial: str, now: datetime, connection: Connection) -> Sequence[str]:
        organisation_id, agent_id = identity.organisation_id, identity.agent_id
        self._lock_trust(connection, organisation_id, agent_id)  # before its certificates, as whoever revokes
        return self._store.use(connection, organisation_id, agent_id, serial, now)

    async def _refuse_untrusted(self, connection: AsyncConnection, organisation_id: str, agent_id: str) -> None:
        """Whoever revokes takes the same lock: either sees what the other has committed."""
        trust = await connection.run_sync(self._lock_trust, organisation_id, agent_id)
        if trust is None:
            raise NotFound("this agent was deleted; enroll it again")
        if trust is not AgentTrust.TRUSTED:
            raise Forbidden(f"this agent is {trust}: it gets no certificate; ask whoever runs the hub")

    async def _renewed_before(
        self, connection: AsyncConnection, identity: AgentIdentity, presented_serial: str, key: bytes
    ) -> IssuedCertificate | None:
        """Return what this key got already in place of the presented certificate. Raises Forbidden, InvalidRequest."""
        organisation_id, agent_id = identity.organisation_id, identity.agent_id
        presented = await self._standing_by(connection, organisation_id, agent_id, presented_serial)
        if not self._authority.trusts_issuer(presented.certificate.issuer):
            raise Forbidden("the authority of this certificate was revoked; the agent asks for recovery by itself")
        if presented.certificate.not_after <= self._clock.now():
            raise Forbidden("this certificate has expired; the agent recovers by itself, or enroll it again")
        earlier = await self._store.successor(connection, organisation_id, presented_serial, key)
        if earlier is not None:
            return earlier.certificate
        if key == presented.certificate.public_key_sha256:
            raise InvalidRequest("a new certificate needs a new key", path="$.csrPem")
        return None

    async def _standing_by(
        self, connection: AsyncConnection, organisation_id: str, agent_id: str, serial: str
    ) -> StoredCertificate:
        """Return the agent's certificate unless it was revoked or superseded: then raise Forbidden."""
        found = await self._store.find(connection, organisation_id, serial)
        if found is None or found.certificate.agent_id != agent_id or found.revoked_at is not None:
            raise Forbidden("this certificate counts no more; enroll the agent again")
        if found.superseded_at is not None:
            raise Forbidden("the agent has a newer certificate already; go on with that")
        return found

    def _keep_pace(self, agent_id: str) -> None:
        now = self._clock.monotonic()
        wait_seconds = self._renewed_monotonic.get(agent_id, -math.inf) + self._renewals_apart_seconds - now
        if wait_seconds > 0:
            retry_after = math.ceil(wait_seconds)
            raise RateLimited(
                f"this agent got a certificate a moment ago; ask again in {retry_after} s",
                retry_after_seconds=retry_after,
            )
        self._renewed_monotonic[agent_id] = now


def renewals_apart_of(life: timedelta) -> float:
    """Return how long one agent waits between two renewals, in seconds, when certificates live as long as `life`."""
    return min(RENEWALS_APART_MAX_SECONDS, life.total_seconds() / RENEWALS_A_LIFE)


def _fresh(certificate: IssuedCertificate) -> KnownCertificate:
    return KnownCertificate(
        serial=certificate.serial,
        agent_id=certificate.agent_id,
        public_key_sha256=certificate.public_key_sha256,
        issuer=certificate.issuer,
        expires_at=certificate.not_after,
        replaces=certificate.replaces,
    )


def _known_of(stored: StoredCertificate) -> KnownCertificate:
    return msgspec.structs.replace(
        _fresh(stored.certificate),
        is_used=stored.first_used_at is not None,
        is_superseded=stored.superseded_at is not None,
        is_revoked=stored.revoked_at is not None,
    )
