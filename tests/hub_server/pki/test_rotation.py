"""Rotations of a real authority; on both databases."""

import asyncio
import base64
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from sqlalchemy import insert, select, update
from sqlmodel import col

from hub_server.audit.tables import AuditRow
from hub_server.clock import from_milliseconds, milliseconds
from hub_server.errors import Conflict, InvalidRequest
from hub_server.pki.archive import Archive
from hub_server.pki.authority import Authority
from hub_server.pki.engine import (
    ROTATED,
    Rotated,
)
from hub_server.pki.tables import AuthorityRow, CertificateRow
from hub_server.pki.trust import document_of, verify_trust
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from protocol.enumerations import AuthorityState, AuthorityUse
from protocol.identity import AgentIdentity
from tests.authorities import authority_in, authority_on
from tests.certificates import csr_of, ed25519_key
from tests.clocks import FakeClock

IDENTITY: Final = AgentIdentity("jtnt", "org-1", "agent-1")
DAY: Final = timedelta(days=1)


@pytest.fixture
async def authority(database: Database, tmp_path: Path, clock: FakeClock) -> Authority:
    return await authority_on(database, tmp_path / "pki", clock=clock)


async def again(database: Database, tmp_path: Path, clock: FakeClock) -> Authority:
    """Return the same authority as another hub has it."""
    return await authority_on(database, tmp_path / "other", clock=clock)


async def audited(database: Database) -> list[tuple[str, str]]:
    async with database.read(EVERY_ORGANISATION) as connection:
        rows = await connection.execute(
            select(col(AuditRow.actor), col(AuditRow.action)).order_by(col(AuditRow.number))
        )
        return [(row.actor, row.action) for row in rows]


async def state_in(database: Database) -> list[str]:
    async with database.read(EVERY_ORGANISATION) as connection:
        authorities = (await connection.execute(select(AuthorityRow).order_by(col(AuthorityRow.id)))).all()
        newest = await Archive().newest_trust(connection)
        entries = (await connection.execute(select(AuditRow))).all()
    return [repr(authorities), repr(newest), repr(entries)]


def pems_of(authority: Authority, use: AuthorityUse) -> list[str]:
    return [named.certificate_pem for named in document_of(authority.trust).issuing_authorities if named.use == use]


async def test_a_new_issuing_ca_issues_at_once_and_the_old_one_stays_trusted(
    authority: Authority, database: Database, clock: FakeClock
) -> None:
    old_pem, old = authority.agents_ca_pem, authority.certificate_terms.issuer_sha256
    await authority.rotate(AuthorityUse.AGENTS, actor="user:ada")
    document = document_of(authority.trust)
    verify_trust(authority.trust, x509.load_pem_x509_certificate(authority.root_pem.encode()))
    issued = authority.issue_agent_certificate(IDENTITY, csr_of(ed25519_key()))
    assert document.version == 2
    assert issued.issuer == authority.certificate_terms.issuer_sha256 != old
    assert set(pems_of(authority, AuthorityUse.AGENTS)) == {old_pem, authority.agents_ca_pem}
    assert old_pem in authority.agents_anchors_pem
    assert authority.agents_ca_pem in authority.agents_anchors_pem
    assert await audited(database) == [
        ("hub", "authorities:create"),
        ("user:ada", "authorities:rotate"),
        ("user:ada", "authorities:retire"),
        ("user:ada", "trust:sign"),
    ]


async def test_the_old_ca_is_forgotten_when_its_last_certificate_has_ended(
    authority: Authority, database: Database, clock: FakeClock
) -> None:
    old_pem, clock_of_last = authority.agents_ca_pem, clock.now() + 20 * DAY
    await certificate_row(database, authority.certificate_terms.issuer_sha256, clock.now(), clock_of_last)
    await authority.rotate(AuthorityUse.AGENTS, actor="test")
    clock.advance(20 * 86400 - 1)
    assert not await authority.tend()
    assert old_pem in authority.agents_anchors_pem
    clock.advance(1)
    assert await authority.tend()
    assert pems_of(authority, AuthorityUse.AGENTS) == [authority.agents_ca_pem] == [authority.agents_anchors_pem]
    assert authority.trust_version == 3


async def certificate_row(database: Database, issuer: str, now: datetime, not_after: datetime) -> None:
    async with database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(
            insert(CertificateRow).values(
                serial="01",
                organisation_id="o",
                agent_id="a",
                public_key_sha256=b"k",
                pem="",
                issuer=issuer,
                not_before=now,
                not_after=not_after,
            )
        )


async def test_agents_know_the_next_ca_of_the_hub_before_it_is_shown(authority: Authority, clock: FakeClock) -> None:
    def shown() -> str:
        return authority.server_credentials([]).certificate_path.read_text()

    first = shown()
    old_pem = pems_of(authority, AuthorityUse.SERVERS)[0]
    await authority.rotate(AuthorityUse.SERVERS, actor="test")
    new_pem = next(pem for pem in pems_of(authority, AuthorityUse.SERVERS) if pem != old_pem)
    assert shown() == first
    clock.advance(7 * 86400 - 1)
    assert shown() == first
    clock.advance(1)
    assert new_pem in shown()
    assert old_pem not in shown()
    assert await authority.tend()
    assert set(pems_of(authority, AuthorityUse.SERVERS)) == {old_pem, new_pem}
    clock.advance(7 * 86400)
    assert await authority.tend()
    assert pems_of(authority, AuthorityUse.SERVERS) == [new_pem]


async def test_a_new_signer_is_known_before_it_signs_and_the_old_one_until_its_jobs_expire(
    authority: Authority, clock: FakeClock
) -> None:
    old = (await authority.sign_job(b"x")).key_id
    await authority.rotate(AuthorityUse.JOBS, actor="test")
    known = {key.key_id: key.not_after_ms for key in document_of(authority.trust).signers}
    assert len(known) == 2
    assert (await authority.sign_job(b"x")).key_id == old
    assert known[old] == milliseconds(clock.now() + timedelta(minutes=2) + 7 * DAY)
    clock.advance(120)
    signature = await authority.sign_job(b"x")
    assert signature.key_id in known
    assert signature.key_id != old
    public = next(key for key in document_of(authority.trust).signers if key.key_id == signature.key_id).public_key
    Ed25519PublicKey.from_public_bytes(base64.b64decode(public)).verify(base64.b64decode(signature.signature), b"x")
    assert await authority.tend()
    assert {key.key_id for key in document_of(authority.trust).signers} == set(known)
    clock.advance(7 * 86400)
    assert await authority.tend()
    assert [key.key_id for key in document_of(authority.trust).signers] == [signature.key_id]


async def test_every_key_of_the_audit_stays_known(authority: Authority, clock: FakeClock) -> None:
    old = authority.sign_checkpoint(b"x").key_id
    await authority.rotate(AuthorityUse.AUDIT, actor="test")
    clock.advance(120)
    new = authority.sign_checkpoint(b"x").key_id
    clock.advance(300 * 86400)
    assert await authority.tend()
    assert {old, new} < {key.key_id for key in document_of(authority.trust).audit_keys}


async def test_a_retired_key_is_nowhere_any_more(authority: Authority, database: Database, clock: FakeClock) -> None:
    await authority.rotate(actor="test")
    clock.advance(8 * 86400)
    assert await authority.tend()
    assert await authority.tend()
    async with database.read(EVERY_ORGANISATION) as connection:
        rows = (await connection.execute(select(AuthorityRow))).all()
    assert {row.use for row in rows if row.retired_at is not None} == {"servers", "audit"}
    assert all((row.sealed_key is None) == (row.retired_at is not None) for row in rows)


async def test_three_years_with_the_root_at_hand_need_nobody(authority: Authority, clock: FakeClock) -> None:
    """A hub that is tended every five days; agents renew and the hub's certificate follows."""
    last_of: dict[str, datetime] = {}
    versions = [authority.trust_version]
    for _ in range(3 * 365 // 5):
        clock.advance(5 * 86400)
        await authority.tend()
        versions.append(authority.trust_version)
        issued = authority.issue_agent_certificate(IDENTITY, csr_of(ed25519_key()))
        last_of[issued.issuer] = issued.not_after
        assert issued.not_after == clock.now().replace(microsecond=0) + 30 * DAY
        assert authority.advice() == []
        signer = (await authority.sign_job(b"x")).key_id
        document = document_of(authority.trust)
        assert clock.now() < next(
            from_milliseconds(key.not_after_ms) for key in document.signers if key.key_id == signer
        )
    assert versions == sorted(versions)
    assert 3 <= len(last_of) <= 6
    assert all(later - earlier <= 4 for earlier, later in pairwise(versions))


# Without the root, beside others, and cut short.


async def test_with_the_root_offline_its_key_must_be_given(
    authority: Authority, database: Database, tmp_path: Path, clock: FakeClock
) -> None:
    pem = authority.root_key_pem()
    await authority.take_root_offline(pem, actor="user:ada")
    assert not authority.overview().root_at_hand
    before = await state_in(database)
    with pytest.raises(Conflict, match="--root-key"):
        await authority.rotate(AuthorityUse.AGENTS, actor="test")
    other = await again(database, tmp_path, clock)
    with pytest.raises(Conflict, match="offline before"):
        other.root_key_pem()
    for wrong in (b"nothing", await foreign_root(tmp_path)):
        with pytest.raises(InvalidRequest):
            await other.rotate(AuthorityUse.AGENTS, actor="test", root_key_pem=wrong)
    assert await state_in(database) == before
    await other.rotate(AuthorityUse.AGENTS, actor="test", root_key_pem=pem)
    assert other.trust_version == 2
    assert not other.overview().root_at_hand
    assert ("user:ada", "authorities:take-offline") in await audited(database)


async def foreign_root(tmp_path: Path) -> bytes:
    return (await authority_in(tmp_path / "foreign", clock=FakeClock())).root_key_pem()


async def test_only_a_copy_of_the_key_itself_lets_the_hub_forget_it(
    authority: Authority, database: Database, tmp_path: Path
) -> None:
    before = await state_in(database)
    with pytest.raises(InvalidRequest, match="not the key of this hub's root"):
        await authority.take_root_offline(await foreign_root(tmp_path), actor="test")
    assert await state_in(database) == before


async def test_with_the_root_offline_the_hub_warns_and_goes_on(authority: Authority, clock: FakeClock) -> None:
    await authority.take_root_offline(authority.root_key_pem(), actor="test")
    clock.advance(304 * 86400)
    assert not await authority.tend()
    assert authority.overview().advice == []
    clock.advance(2 * 86400)
    assert len(authority.overview().advice) == len(ROTATED)
    assert authority.issue_agent_certificate(IDENTITY, csr_of(ed25519_key())).not_after > clock.now()


async def test_what_another_hub_rotates_is_taken_over(
    authority: Authority, database: Database, tmp_path: Path, clock: FakeClock
) -> None:
    other = await again(database, tmp_path, clock)
    await other.rotate(actor="test")
    assert authority.trust_version == 1
    assert await authority.refresh()
    assert authority.trust == other.trust
    assert authority.certificate_terms == other.certificate_terms
    assert not await authority.refresh()


async def test_two_hubs_that_find_the_same_due_do_it_once(
    authority: Authority, database: Database, tmp_path: Path, clock: FakeClock
) -> None:
    other = await again(database, tmp_path, clock)
    clock.advance(250 * 86400)
    assert all(await asyncio.gather(authority.tend(), other.tend()))
    assert other.trust == authority.trust
    assert authority.trust_version == 2


@pytest.mark.parametrize("step", ["add", "retire", "shorten", "add_trust"])
async def test_a_rotation_that_is_cut_short_leaves_the_old_state_whole(
    authority: Authority,
    database: Database,
    tmp_path: Path,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    before, trust = await state_in(database), authority.trust

    async def dies(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(Archive, step, dies)
        with pytest.raises(ZeroDivisionError):
            await authority.rotate(actor="test")
    assert await state_in(database) == before
    assert authority.trust == trust
    assert (await again(database, tmp_path, clock)).trust == trust
    await authority.rotate(actor="test")
    assert authority.trust_version == 2


async def test_a_rotation_whose_result_could_not_be_opened_is_not_committed(
    authority: Authority, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await state_in(database)
    add = Archive.add_trust

    async def forged(self: Archive, connection: object, version: int, trust: object, at: datetime) -> None:
        await add(self, connection, version, authority.trust, at)  # type: ignore[arg-type]
        await connection.execute(update(AuthorityRow).values(certificate_pem="x"))  # type: ignore[attr-defined]

    monkeypatch.setattr(Archive, "add_trust", forged)
    with pytest.raises(Exception, match="damaged"):
        await authority.rotate(AuthorityUse.AGENTS, actor="test")
    assert await state_in(database) == before


@pytest.mark.parametrize("use", [AuthorityUse.SERVERS, AuthorityUse.JOBS, AuthorityUse.AUDIT])
async def test_a_key_that_waits_is_not_replaced(authority: Authority, database: Database, use: Rotated) -> None:
    await authority.rotate(use, actor="test")
    before = await state_in(database)
    with pytest.raises(Conflict, match="waits already"):
        await authority.rotate(use, actor="test")
    assert await state_in(database) == before


async def test_the_overview_says_what_each_key_is(authority: Authority, clock: FakeClock) -> None:
    await authority.rotate(AuthorityUse.AGENTS, AuthorityUse.SERVERS, actor="test")
    overview = authority.overview()
    states = sorted((view.use, view.state) for view in overview.authorities)
    assert states == [
        (AuthorityUse.ACCESS, AuthorityState.ACTIVE),
        (AuthorityUse.AGENTS, AuthorityState.ACTIVE),
        (AuthorityUse.AGENTS, AuthorityState.RETIRING),
        (AuthorityUse.AUDIT, AuthorityState.ACTIVE),
        (AuthorityUse.JOBS, AuthorityState.ACTIVE),
        (AuthorityUse.ROOT, AuthorityState.ACTIVE),
        (AuthorityUse.SERVERS, AuthorityState.ACTIVE),
        (AuthorityUse.SERVERS, AuthorityState.NEXT),
    ]
    assert (overview.trust_version, overview.root_at_hand, overview.advice) == (2, True, [])
    root = x509.load_pem_x509_certificate(authority.root_pem.encode())
    assert overview.root_fingerprint == root.fingerprint(SHA256()).hex()


# A clock that was wrong for a while.


@pytest.mark.parametrize("days", [250, 1000, 9000])
async def test_a_clock_that_was_ahead_for_an_hour_locks_nobody_out(
    authority: Authority, clock: FakeClock, database: Database, days: int
) -> None:
    old_pem = authority.agents_ca_pem
    await certificate_row(database, authority.certificate_terms.issuer_sha256, clock.now(), clock.now() + 30 * DAY)
    clock.advance(days * 86400)
    for _ in range(60):
        await authority.tend()
        clock.advance(60)
    clock.advance(-days * 86400)
    await authority.tend()
    assert not await authority.tend()
    assert authority.trust_version <= 4
    assert old_pem in authority.agents_anchors_pem
    shown = authority.server_credentials([]).certificate_path.read_text() + authority.agents_ca_pem
    for certificate in x509.load_pem_x509_certificates(shown.encode()):
        assert certificate.not_valid_before_utc <= clock.now() < certificate.not_valid_after_utc
    named = {key.key_id for key in document_of(authority.trust).signers}
    assert (await authority.sign_job(b"x")).key_id in named


async def test_without_the_root_a_clock_that_was_ahead_costs_no_key(authority: Authority, clock: FakeClock) -> None:
    clock.advance(250 * 86400)
    await authority.tend()
    await authority.take_root_offline(authority.root_key_pem(), actor="test")
    clock.advance(-250 * 86400)
    await authority.tend()
    assert (await authority.sign_job(b"x")).key_id
    assert any("ahead" in sentence and "--root-key" in sentence for sentence in authority.advice())


async def test_while_the_clock_is_behind_nothing_is_rotated(authority: Authority, clock: FakeClock) -> None:
    clock.advance(-20 * 365 * 86400)
    assert not await authority.tend()
    assert authority.trust_version == 1
