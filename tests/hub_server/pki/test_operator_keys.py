"""People's keys in the trust document, and the keys of the orders handed over to the signer; on both databases."""

from __future__ import annotations

import base64
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy import select, update
from sqlmodel import col
from structlog.testing import capture_logs

from hub_server.audit.tables import AuditRow
from hub_server.errors import Conflict, InvalidRequest, NotFound
from hub_server.pki.archive import Archive
from hub_server.pki.authority import Authority
from hub_server.pki.certificates import key_der_of, public_pem_of
from hub_server.pki.operator_keys import AddOperator, RevokeOperator, named, operator_key_in
from hub_server.pki.tables import AuthorityRow
from hub_server.pki.trust import document_of, signed
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.storage.sealed_columns import reseal
from hub_server.storage.vault import Vault, VaultRefused
from protocol.enumerations import AuthorityUse
from protocol.envelope import SigningKey
from protocol.identity import key_id_of
from tests.authorities import VAULT, authority_on
from tests.clocks import FakeClock

DAY = timedelta(days=1)


@pytest.fixture
async def authority(database: Database, tmp_path: Path, clock: FakeClock) -> Authority:
    return await authority_on(database, tmp_path / "pki", clock=clock)


def line_of(key: Ed25519PrivateKey, name: str = "somebody") -> str:
    return f"jtnt-key ed25519 {base64.b64encode(key.public_key().public_bytes_raw()).decode()} {name}\n"


def new_key(name: str, clock: FakeClock, days: int = 30) -> SigningKey:
    return operator_key_in(line_of(Ed25519PrivateKey.generate()), name, clock.now() + days * DAY)


async def test_a_persons_key_counts_until_it_ends_or_is_revoked(
    authority: Authority, database: Database, clock: FakeClock
) -> None:
    ada, bea = new_key("ada", clock), new_key("bea", clock, days=60)
    await authority.change_operators(AddOperator(ada), actor="hub-cli")
    await authority.change_operators(AddOperator(bea), actor="hub-cli")
    assert authority.trust_version == 3
    assert document_of(authority.trust).operator_keys == [ada, bea]
    assert authority.operator_key(ada.key_id) == base64.b64decode(ada.public_key)
    await authority.rotate(AuthorityUse.JOBS, actor="test")
    assert document_of(authority.trust).operator_keys == [ada, bea]  # a rotation loses nobody
    clock.advance(31 * 86400)
    assert authority.operator_key(ada.key_id) is None
    await authority.change_operators(RevokeOperator(bea.key_id, bea.name), actor="hub-cli")
    assert authority.operator_key(bea.key_id) is None
    document = document_of(authority.trust)
    assert ([key.name for key in document.operator_keys], document.revoked_key_ids) == (["ada"], [bea.key_id])
    async with database.read(EVERY_ORGANISATION) as connection:
        actions = await connection.scalars(
            select(col(AuditRow.action))
            .where(col(AuditRow.action).like("operator-keys:%"))
            .order_by(col(AuditRow.number))
        )
        assert list(actions) == ["operator-keys:add", "operator-keys:add", "operator-keys:revoke"]


async def test_what_may_not_be_a_persons_key_is_refused(authority: Authority, clock: FakeClock) -> None:
    ada = new_key("ada", clock)
    await authority.change_operators(AddOperator(ada), actor="test")
    signer = document_of(authority.trust).signers[0]
    for key, said in (
        (ada, "there already"),
        (new_key("ada", clock), "of this name"),
        (SigningKey(key_id=signer.key_id, public_key=signer.public_key, not_after_ms=1, name="hub"), "hub's own"),
    ):
        with pytest.raises(Conflict, match=said):
            await authority.change_operators(AddOperator(key), actor="test")
    await authority.change_operators(RevokeOperator(ada.key_id, "ada"), actor="test")
    with pytest.raises(Conflict, match="was revoked"):
        await authority.change_operators(AddOperator(ada), actor="test")
    with pytest.raises(NotFound, match="operator-keys list"):
        await authority.change_operators(RevokeOperator(ada.key_id, "ada"), actor="test")
    with pytest.raises(NotFound):
        named(document_of(authority.trust), "ada")


async def test_without_the_root_nobody_is_added(authority: Authority, clock: FakeClock) -> None:
    pem = authority.root_key_pem()
    await authority.take_root_offline(pem, actor="test")
    with pytest.raises(Conflict, match="--root-key"):
        await authority.change_operators(AddOperator(new_key("ada", clock)), actor="test")
    await authority.change_operators(AddOperator(new_key("ada", clock)), actor="test", root_key_pem=pem)
    assert [key.name for key in document_of(authority.trust).operator_keys] == ["ada"]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("", "ada"),
        ("jtnt-key ed25519", "ada"),
        ("jtnt-key ed25519 AAAA ada", "ada"),
        ("jtnt-key ed25519 %%% ada", "ada"),
        ("ssh-ed25519 " + "A" * 44 + " ada", "ada"),
        (line_of(Ed25519PrivateKey.generate()), ""),
        (line_of(Ed25519PrivateKey.generate()), "a\x1b[31mda"),
    ],
    ids=["empty", "no key", "short", "no base64", "of another kind", "no name", "a hostile name"],
)
def test_a_file_that_is_no_public_key_is_refused(line: str, name: str, clock: FakeClock) -> None:
    with pytest.raises(InvalidRequest):
        operator_key_in(line, name, clock.now())


async def test_the_keys_of_an_earlier_version_are_handed_to_the_signer(
    authority: Authority, database: Database, tmp_path: Path, clock: FakeClock
) -> None:
    """A row as version 0.2 left it: sealed by the key that seals everything else."""
    key = Ed25519PrivateKey.generate()
    old_id, new_id = (await authority.sign_job(b"x")).key_id, key_id_of(key.public_key().public_bytes_raw())
    async with database.write(EVERY_ORGANISATION) as connection:
        row = VAULT.seal(key_der_of(key), table="authorities", column="sealed_key", row=new_id)
        values = {"id": new_id, "public_key": public_pem_of(key), "sealed_key": row}
        statement = update(AuthorityRow).where(col(AuthorityRow.id) == old_id)
        await connection.execute(statement.values(values))
    await _trust(authority, database, old_id, key)
    with capture_logs() as logs:
        opened = await authority_on(database, tmp_path / "pki", clock=clock)
    [said] = [line for line in logs if "ca rotate jobs" in line["event"]]
    assert (said["log_level"], said["key_id"]) == ("warning", new_id)
    signature = await opened.sign_job(b"the bytes")
    assert signature.key_id == new_id
    key.public_key().verify(base64.b64decode(signature.signature), b"the bytes")
    sealed = await _sealed(database, new_id)
    with pytest.raises(VaultRefused):
        VAULT.unseal(sealed, table="authorities", column="sealed_key", row=new_id)
    again = await authority_on(database, tmp_path / "pki", clock=clock)
    assert (await again.sign_job(b"x")).key_id == new_id
    assert await _sealed(database, new_id) == sealed
    async with database.read(EVERY_ORGANISATION) as connection:
        found = await connection.scalars(
            select(col(AuditRow.target)).where(col(AuditRow.action) == "authorities:hand-over")
        )
        assert list(found) == [f"authority:{new_id}"]


async def test_a_new_secrets_key_leaves_the_signers_alone(authority: Authority, database: Database) -> None:
    key_id = (await authority.sign_job(b"x")).key_id
    before = await _sealed(database, key_id)
    await reseal(database, VAULT)
    assert await _sealed(database, key_id) == before
    newer = Vault.from_keys(bytes(31) + b"n", bytes(32))
    try:
        assert await reseal(database, newer) == len(AuthorityUse) - 1
        assert await _sealed(database, key_id) == before
    finally:
        await reseal(database, Vault.from_keys(bytes(32), bytes(31) + b"n"))


async def test_the_main_process_holds_no_key_that_signs_orders(authority: Authority, database: Database) -> None:
    """Whoever has the database and the secrets key opens every key but this one."""
    async with database.read(EVERY_ORGANISATION) as connection:
        rows = (await connection.execute(select(AuthorityRow))).all()
    opened = []
    for row in rows:
        try:
            VAULT.unseal(row.sealed_key, table="authorities", column="sealed_key", row=row.id)
        except VaultRefused:
            continue
        opened.append(row.use)
    assert sorted(opened) == sorted(use for use in AuthorityUse if use is not AuthorityUse.JOBS)


async def _sealed(database: Database, key_id: str) -> bytes:
    async with database.read(EVERY_ORGANISATION) as connection:
        found = await connection.scalar(select(col(AuthorityRow.sealed_key)).where(col(AuthorityRow.id) == key_id))
    assert isinstance(found, bytes)
    return found


async def _trust(authority: Authority, database: Database, old_id: str, key: Ed25519PrivateKey) -> None:
    """Name `key` in the trust document in place of the signer, as the hub that made it had."""
    raw = key.public_key().public_bytes_raw()
    document = document_of(authority.trust)
    signers = [
        SigningKey(key_id=key_id_of(raw), public_key=base64.b64encode(raw).decode(), not_after_ms=each.not_after_ms)
        for each in document.signers
        if each.key_id == old_id
    ]
    root_key = load_pem_private_key(authority.root_key_pem(), None)
    assert isinstance(root_key, EllipticCurvePrivateKey)
    newer = msgspec.structs.replace(document, version=document.version + 1, signers=signers)
    async with database.write(EVERY_ORGANISATION) as connection:
        await Archive().add_trust(connection, newer.version, signed(newer, root_key), FakeClock().now())
