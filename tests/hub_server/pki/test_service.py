import uuid
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select

from hub_server.errors import KeyInUse
from hub_server.fleet.tables import AgentRow
from hub_server.pki.authority import Authority
from hub_server.pki.model import IssuedCertificate, Standing
from hub_server.pki.service import CertificateService
from hub_server.pki.tables import CertificateRow
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from tests.certificates import csr_of, ed25519_key
from tests.clocks import FakeClock


@pytest.fixture
def certificates(database: Database, clock: FakeClock, tmp_path: Path) -> CertificateService:
    authority = Authority.open_or_create(tmp_path / "pki", trust_domain="jtnt", clock=clock)
    return CertificateService(database, authority, clock)


async def new_agent(database: Database, clock: FakeClock, organisation_id: str) -> str:
    agent_id = str(uuid.uuid4())
    async with database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(
            insert(AgentRow).values(
                id=agent_id,
                organisation_id=organisation_id,
                hostname="web-01",
                name="web-01",
                os_type="linux",
                agent_version="1",
                enrolled_at=clock.now(),
            )
        )
    return agent_id


async def issued(
    certificates: CertificateService, database: Database, organisation_id: str, agent_id: str, csr: str = ""
) -> IssuedCertificate:
    async with database.write(EVERY_ORGANISATION) as connection:
        certificate = await certificates.issue(connection, organisation_id, agent_id, csr or csr_of(ed25519_key()))
    certificates.note_issued(serial=certificate.serial, agent_id=agent_id, expires_at=certificate.not_after)
    return certificate


async def test_a_certificate_is_current_until_it_expires(
    certificates: CertificateService, database: Database, clock: FakeClock, organisation_id: str
) -> None:
    agent_id = await new_agent(database, clock, organisation_id)
    certificate = await issued(certificates, database, organisation_id, agent_id)
    assert certificates.standing(certificate.serial, agent_id) is Standing.CURRENT
    assert certificates.standing(certificate.serial, "another") is Standing.UNKNOWN
    assert certificates.standing("00", agent_id) is Standing.UNKNOWN
    assert certificates.expires_at(agent_id) == certificate.not_after
    clock.advance(30 * 86400)
    assert certificates.standing(certificate.serial, agent_id) is Standing.EXPIRED


async def test_a_restart_remembers_what_was_issued_and_revoked(
    certificates: CertificateService, database: Database, clock: FakeClock, organisation_id: str, tmp_path: Path
) -> None:
    kept, revoked = [await new_agent(database, clock, organisation_id) for _ in range(2)]
    of_kept = await issued(certificates, database, organisation_id, kept)
    of_revoked = await issued(certificates, database, organisation_id, revoked)
    async with database.write(EVERY_ORGANISATION) as connection:
        await certificates.revoke_agent(connection, organisation_id, revoked)
    certificates.note_revoked(revoked)
    authority = Authority.open_or_create(tmp_path / "pki", trust_domain="jtnt", clock=clock)
    restarted = CertificateService(database, authority, clock)
    await restarted.load()
    for service in (certificates, restarted):
        assert service.standing(of_kept.serial, kept) is Standing.CURRENT
        assert service.standing(of_revoked.serial, revoked) is Standing.REVOKED
        assert service.expires_at(revoked) is None
        assert service.expires_at(kept) == of_kept.not_after


async def test_a_revoked_certificate_is_not_handed_out_again(
    certificates: CertificateService, database: Database, clock: FakeClock, organisation_id: str
) -> None:
    agent_id = await new_agent(database, clock, organisation_id)
    certificate = await issued(certificates, database, organisation_id, agent_id)
    async with database.read(EVERY_ORGANISATION) as connection:
        assert await certificates.find(connection, organisation_id, certificate.serial) == certificate
        assert await certificates.find(connection, "another", certificate.serial) is None
    async with database.write(EVERY_ORGANISATION) as connection:
        await certificates.revoke_agent(connection, "another", agent_id)
        assert await certificates.find(connection, organisation_id, certificate.serial) == certificate
        await certificates.revoke_agent(connection, organisation_id, agent_id)
        assert await certificates.find(connection, organisation_id, certificate.serial) is None


async def test_a_key_belongs_to_one_agent(
    certificates: CertificateService, database: Database, clock: FakeClock, organisation_id: str
) -> None:
    first, second = [await new_agent(database, clock, organisation_id) for _ in range(2)]
    csr = csr_of(ed25519_key())
    await issued(certificates, database, organisation_id, first, csr)
    with pytest.raises(KeyInUse, match="new key"):
        await issued(certificates, database, organisation_id, second, csr)
    async with database.read(EVERY_ORGANISATION) as connection:
        assert await connection.scalar(select(func.count()).select_from(CertificateRow)) == 1
    await issued(certificates, database, organisation_id, first, csr)
