"""A certificate service on a database, with agents to issue for."""

import uuid
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import func, insert, select
from sqlmodel import col

from hub_server.fleet.store import FleetStore
from hub_server.fleet.tables import AgentRow
from hub_server.pki.authority import Authority
from hub_server.pki.model import IssuedCertificate, Standing
from hub_server.pki.service import CertificateService
from hub_server.pki.tables import CertificateRow
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import AgentTrust
from protocol.identity import AgentIdentity
from tests.certificates import csr_of, ed25519_key
from tests.clocks import FakeClock

APART_SECONDS = 60.0


@dataclass
class World:
    """A certificate service on a database, with agents to issue for."""

    database: Database
    clock: FakeClock
    authority: Authority
    organisation_id: str
    certificates: CertificateService

    def restarted(self) -> CertificateService:
        """Return another hub's service, or this one's after a restart: what it knows is in the database."""
        return CertificateService(
            self.database,
            self.authority,
            self.clock,
            lock_trust=FleetStore().lock_trust,
            renewals_apart_seconds=APART_SECONDS,
        )

    async def agent(self) -> AgentIdentity:
        agent_id = str(uuid.uuid4())
        async with self.database.write(EVERY_ORGANISATION) as connection:
            await connection.execute(
                insert(AgentRow).values(
                    id=agent_id,
                    organisation_id=self.organisation_id,
                    hostname="web-01",
                    name="web-01",
                    os_type="linux",
                    agent_version="1",
                    enrolled_at=self.clock.now(),
                )
            )
        return AgentIdentity("jtnt", self.organisation_id, agent_id)

    async def issued(self, agent: AgentIdentity, csr: str = "") -> IssuedCertificate:
        async with self.database.write(EVERY_ORGANISATION) as connection:
            certificate = await self.certificates.issue(
                connection, agent.organisation_id, agent.agent_id, csr or csr_of(ed25519_key())
            )
        self.certificates.note_issued(
            serial=certificate.serial,
            agent_id=agent.agent_id,
            public_key_sha256=certificate.public_key_sha256,
            issuer=certificate.issuer,
            expires_at=certificate.not_after,
        )
        return certificate

    async def trust(self, agent: AgentIdentity, trust: AgentTrust) -> None:
        """Do what the fleet's desk does, in its order."""
        organisation_id, agent_id = agent.organisation_id, agent.agent_id
        async with self.database.write(organisation_id) as connection:
            assert await connection.run_sync(FleetStore().lock_trust, organisation_id, agent_id)
            await connection.run_sync(FleetStore().update, organisation_id, agent_id, {"trust": trust})
            if trust is AgentTrust.REVOKED:
                await self.certificates.revoke_agent(connection, organisation_id, agent_id)
        if trust is AgentTrust.REVOKED:
            self.certificates.note_revoked(agent_id)

    async def renewed(
        self, agent: AgentIdentity, presented: IssuedCertificate, key: Ed25519PrivateKey | None = None
    ) -> IssuedCertificate:
        return await self.certificates.renew(agent, presented.serial, csr_of(key or ed25519_key()))

    def standing(self, certificate: IssuedCertificate) -> Standing:
        return standing_by(self.certificates, certificate)

    async def count(self) -> int:
        async with self.database.read(EVERY_ORGANISATION) as connection:
            return await connection.scalar(select(func.count()).select_from(CertificateRow)) or 0

    async def standings(self, agent: AgentIdentity) -> list[Standing]:
        """Return how each certificate of the agent stands, by memory."""
        columns = (col(CertificateRow.serial), col(CertificateRow.public_key_sha256))
        query = select(*columns).where(col(CertificateRow.agent_id) == agent.agent_id)
        async with self.database.read(EVERY_ORGANISATION) as connection:
            return [
                self.certificates.standing(serial, agent.agent_id, key)
                for serial, key in await connection.execute(query)
            ]


def standing_by(service: CertificateService, certificate: IssuedCertificate) -> Standing:
    """Return how `service` judges whoever shows this certificate with its own key."""
    return service.standing(certificate.serial, certificate.agent_id, certificate.public_key_sha256)
