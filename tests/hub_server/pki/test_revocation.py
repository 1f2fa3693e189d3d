"""Keys of a real authority that were stolen: trusted no more, and replaced at once; on both databases."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select
from sqlmodel import col

from hub_server.audit.tables import AuditRow
from hub_server.errors import Conflict, Forbidden
from hub_server.pki.audit_keys import signed_audit_keys
from hub_server.pki.authority import Authority
from hub_server.pki.engine import ROTATED, Rotated
from hub_server.pki.model import Standing
from hub_server.pki.tables import AuthorityRow
from hub_server.pki.trust import document_of
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.storage.private_files import KeysRefused
from protocol.enumerations import AuthorityUse
from tests.authorities import authority_on
from tests.certificates import csr_of, ed25519_key
from tests.clocks import FakeClock
from tests.hub_server.pki.world import World, standing_by


@pytest.fixture
async def authority(database: Database, tmp_path: Path, clock: FakeClock) -> Authority:
    return await authority_on(database, tmp_path / "pki", clock=clock)


async def rows_of(database: Database, use: AuthorityUse) -> list[str]:
    async with database.read(EVERY_ORGANISATION) as connection:
        return list(await connection.scalars(select(col(AuthorityRow.id)).where(col(AuthorityRow.use) == use)))


def trusted(authority: Authority, use: Rotated) -> list[str]:
    """Return how the trust document names what may be used for `use`."""
    document = document_of(authority.trust)
    match use:
        case AuthorityUse.JOBS:
            return [key.key_id for key in document.signers]
        case AuthorityUse.AUDIT:
            return [key.key_id for key in document.audit_keys]
        case _:
            return [named.certificate_pem for named in document.issuing_authorities if named.use == str(use)]


@pytest.mark.parametrize("use", ROTATED)
async def test_a_stolen_key_is_out_of_the_trust_document_and_of_the_database_at_once(
    authority: Authority, database: Database, use: Rotated
) -> None:
    await authority.rotate(use, actor="test")  # the thief took the next key, or the one that retires, as well
    before, stolen = trusted(authority, use), await rows_of(database, use)
    assert len(stolen) == len(before) == 2
    await authority.rotate(use, actor="user:ada", revoke=True)
    after = trusted(authority, use)
    assert len(after) == 1
    assert set(after).isdisjoint(before)
    assert set(await rows_of(database, use)).isdisjoint(stolen)
    is_named = use in {AuthorityUse.JOBS, AuthorityUse.AUDIT}
    assert set(document_of(authority.trust).revoked_key_ids) == (set(stolen) if is_named else set())
    async with database.read(EVERY_ORGANISATION) as connection:
        revoked = (await connection.execute(select(AuditRow).where(col(AuditRow.action) == "authorities:revoke"))).all()
    assert {(row.actor, row.target) for row in revoked} == {("user:ada", f"authority:{each}") for each in stolen}


async def test_the_new_keys_are_used_at_once(authority: Authority, tmp_path: Path) -> None:
    job, checkpoint = (await authority.sign_job(b"x")).key_id, authority.sign_checkpoint(b"x").key_id
    agents, shown = authority.agents_ca_pem, authority.server_credentials([]).certificate_path.read_text()
    await authority.rotate(actor="test", revoke=True)
    document = document_of(authority.trust)
    assert [(await authority.sign_job(b"x")).key_id] == [key.key_id for key in document.signers] != [job]
    assert [authority.sign_checkpoint(b"x").key_id] == [key.key_id for key in document.audit_keys] != [checkpoint]
    assert authority.agents_anchors_pem == authority.agents_ca_pem != agents
    (servers,) = trusted(authority, AuthorityUse.SERVERS)
    assert servers in authority.server_credentials([]).certificate_path.read_text() != shown


async def test_what_was_revoked_stays_named(authority: Authority, clock: FakeClock) -> None:
    stolen = (await authority.sign_job(b"x")).key_id
    await authority.rotate(AuthorityUse.JOBS, actor="test", revoke=True)
    await authority.rotate(AuthorityUse.JOBS, actor="test", revoke=True)
    clock.advance(300 * 86400)
    assert await authority.tend()
    assert stolen in document_of(authority.trust).revoked_key_ids
    assert len(document_of(authority.trust).revoked_key_ids) == 2


async def test_without_the_root_nothing_is_revoked(authority: Authority, database: Database) -> None:
    pem = authority.root_key_pem()
    await authority.take_root_offline(pem, actor="test")
    before = await rows_of(database, AuthorityUse.JOBS)
    with pytest.raises(Conflict, match="--root-key"):
        await authority.rotate(AuthorityUse.JOBS, actor="test", revoke=True)
    assert await rows_of(database, AuthorityUse.JOBS) == before
    await authority.rotate(AuthorityUse.JOBS, actor="test", root_key_pem=pem, revoke=True)
    assert document_of(authority.trust).revoked_key_ids == before


async def test_a_key_of_the_audit_that_was_revoked_is_still_known_with_its_end(
    authority: Authority, database: Database, clock: FakeClock
) -> None:
    stolen = authority.sign_checkpoint(b"x").key_id
    await authority.rotate(AuthorityUse.AUDIT, actor="test", revoke=True)
    ended = clock.now()
    clock.advance(60)
    await authority.rotate(AuthorityUse.JOBS, actor="test")
    async with database.read(EVERY_ORGANISATION) as connection:
        found = await signed_audit_keys(connection, authority.root_pem)
    assert set(found.keys) == {stolen, authority.sign_checkpoint(b"x").key_id}
    assert set(found.revoked) == {stolen}
    assert abs(found.revoked[stolen] - ended) < timedelta(seconds=1)


async def test_certificates_of_a_revoked_ca_get_nobody_in_and_are_not_renewed(world: World) -> None:
    agent = await world.agent()
    old = await world.issued(agent)
    await world.authority.rotate(AuthorityUse.AGENTS, actor="test", revoke=True)
    assert world.standing(old) is Standing.UNTRUSTED
    restarted = world.restarted()
    await restarted.load()
    assert standing_by(restarted, old) is Standing.UNTRUSTED
    with pytest.raises(Forbidden, match="authority of this certificate was revoked"):
        await world.renewed(agent, old)
    async with world.database.write(EVERY_ORGANISATION) as connection:
        assert await world.certificates.find(connection, agent.organisation_id, old.serial) is None
        assert await world.certificates.recoverable(connection, old.serial) is not None
        new = await world.certificates.recover_issue(
            connection, agent.organisation_id, agent.agent_id, csr_of(ed25519_key()), replaces=old.serial
        )
    world.certificates.note_issued(
        serial=new.serial,
        agent_id=agent.agent_id,
        public_key_sha256=new.public_key_sha256,
        issuer=new.issuer,
        expires_at=new.not_after,
        replaces=old.serial,
    )
    assert world.standing(new) is Standing.CURRENT


async def test_a_revoked_ca_that_somebody_puts_back_into_the_database_is_not_believed(
    authority: Authority, database: Database
) -> None:
    """The root signed its certificate, which is no secret; the trust document alone says that it counts no more."""
    async with database.read(EVERY_ORGANISATION) as connection:
        query = select(AuthorityRow).where(col(AuthorityRow.use) == AuthorityUse.AGENTS)
        stolen = (await connection.execute(query)).one()._asdict()
    await authority.rotate(AuthorityUse.AGENTS, actor="test", revoke=True)
    async with database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(insert(AuthorityRow).values(**stolen | {"sealed_key": None}))
    with pytest.raises(KeysRefused, match="trust document"):
        await authority.refresh()
    assert stolen["certificate_pem"] not in authority.agents_anchors_pem
