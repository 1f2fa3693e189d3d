"""The authority as it is made, opened again, taken over from files, and refused; on both databases."""

import asyncio
import base64
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace
from sqlalchemy import delete, func, select, update
from sqlmodel import col

from hub_server.clock import SystemClock
from hub_server.errors import InvalidRequest
from hub_server.pki.archive import Archive
from hub_server.pki.authority import Authority
from hub_server.pki.files import is_set_up
from hub_server.pki.tables import AuthorityRow, TrustDocumentRow
from hub_server.pki.trust import document_of, trust_hash_of, verify_trust
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.storage.private_files import KeysRefused
from hub_server.storage.vault import Vault, VaultRefused
from protocol.enumerations import AuthorityUse
from protocol.identity import AgentIdentity, pin_of
from tests.authorities import authority_in, authority_on
from tests.certificates import csr_of, ed25519_key, p256_key
from tests.clocks import FakeClock
from tests.hub_server.pki.earlier import IN_ORDER, NAMED_IN_TRUST, write_earlier

IDENTITY = AgentIdentity("jtnt", "org-1", "agent-1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pki"


def leaf_of(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificates(pem.encode())[0]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def count(database: Database, table: type[AuthorityRow] | type[TrustDocumentRow]) -> int:
    async with database.read(EVERY_ORGANISATION) as connection:
        return (await connection.execute(select(func.count()).select_from(table))).scalar_one()


async def test_opened_again_it_is_the_same(database: Database, folder: Path, clock: FakeClock) -> None:
    first = await authority_on(database, folder, clock=clock)
    second = await authority_on(database, folder, clock=clock)
    assert first.ca_bundle_pem == second.ca_bundle_pem
    assert first.trust == second.trust
    assert first.jwt_key.private_bytes_raw() == second.jwt_key.private_bytes_raw()
    assert not await second.refresh()


async def test_no_private_key_is_in_a_file_or_in_the_clear(database: Database, folder: Path, clock: FakeClock) -> None:
    authority = await authority_on(database, folder, clock=clock)
    authority.server_credentials([])
    assert names_in(folder) == {"root.crt", "server.pem", ".lock"}
    assert {(folder / name).stat().st_mode & 0o777 for name in names_in(folder)} == {0o600}
    secret = authority.jwt_key.private_bytes_raw()
    async with database.read(EVERY_ORGANISATION) as connection:
        sealed = list(await connection.scalars(select(col(AuthorityRow.sealed_key))))
    assert len(sealed) == len(AuthorityUse)
    assert all(value is not None and secret not in value and b"PRIVATE KEY" not in value for value in sealed)


async def test_the_pin_is_of_the_bundles_first_certificate(authority: Authority) -> None:
    root = leaf_of(authority.ca_bundle_pem)
    spki = root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert authority.root_pin == pin_of(spki)


@pytest.mark.parametrize("is_import", [False, True])
async def test_hubs_that_start_at_once_make_one_authority(
    database: Database, tmp_path: Path, clock: FakeClock, is_import: bool
) -> None:
    if is_import:
        write_earlier(tmp_path / "0", clock.now())
    others = [Database(database.engine.url.render_as_string(hide_password=False)) for _ in range(4)]
    try:
        async with asyncio.timeout(30):
            opened = await asyncio.gather(
                *(
                    authority_on(other, tmp_path / ("0" if is_import else str(number)), clock=clock)
                    for number, other in enumerate(others)
                )
            )
    finally:
        for other in others:
            await other.close()
    assert len({authority.ca_bundle_pem for authority in opened}) == 1
    assert len({authority.trust_hash for authority in opened}) == 1
    assert await count(database, AuthorityRow) == len(AuthorityUse)


async def test_a_first_start_that_fails_leaves_nothing(
    database: Database, folder: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write_earlier(folder, clock.now())

    async def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Archive, "add_trust", fails)
    with pytest.raises(ZeroDivisionError):
        await authority_on(database, folder, clock=clock)
    assert await count(database, AuthorityRow) == await count(database, TrustDocumentRow) == 0
    assert {name: (folder / name).read_bytes() for name in names_in(folder)} == files


async def test_keys_in_files_are_taken_over_and_removed(database: Database, folder: Path, clock: FakeClock) -> None:
    files = write_earlier(folder, clock.now())
    clock.advance(86400)
    authority = await authority_on(database, folder, clock=clock)
    assert names_in(folder) == {"root.crt"}
    assert authority.root_pem.encode() == files["root.crt"]
    assert authority.agents_ca_pem.encode() in files["agents-ca.pem"]
    document = document_of(authority.trust)
    assert (document.version, len(document.signers), len(document.audit_keys)) == (2, 1, 1)
    assert document.signers[0].key_id == (await authority.sign_job(b"x")).key_id
    assert document.signers[0].not_after_ms // 1000 == clock.now().timestamp() + 3649 * 86400
    again = await authority_on(database, folder, clock=clock)
    assert again.trust == authority.trust


async def test_a_crash_between_the_import_and_the_removal_is_mended_at_the_next_start(
    database: Database, folder: Path, clock: FakeClock
) -> None:
    files = write_earlier(folder, clock.now())
    before = await authority_on(database, folder, clock=clock)
    for name, content in files.items():
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    after = await authority_on(database, folder, clock=clock)
    assert after.trust == before.trust
    assert names_in(folder) == {"root.crt"}


@pytest.mark.parametrize("kept", range(7))
async def test_a_first_start_of_an_earlier_version_that_was_cut_short_is_finished(
    tmp_path: Path, folder: Path, clock: FakeClock, kept: int
) -> None:
    files = write_earlier(folder, clock.now())
    for name in IN_ORDER[kept:]:
        (folder / name).unlink()
    authority = await authority_in(tmp_path, clock=clock)
    if kept >= 2:
        assert authority.root_pem.encode() == files["root.crt"]
    if kept >= 3:
        assert authority.agents_ca_pem.encode() in files["agents-ca.pem"]
    assert document_of(authority.trust).version == 1
    assert names_in(folder) == {"root.crt"}
    assert is_set_up(folder)


@pytest.mark.parametrize("name", NAMED_IN_TRUST)
async def test_a_missing_file_that_agents_trust_is_not_replaced(
    tmp_path: Path, folder: Path, clock: FakeClock, name: str
) -> None:
    write_earlier(folder, clock.now())
    (folder / name).unlink()
    with pytest.raises(KeysRefused, match=rf"{name} is missing.*backup"):
        await authority_in(tmp_path, clock=clock)
    assert names_in(folder) == set(IN_ORDER) - {name}


@pytest.mark.parametrize("name", [*NAMED_IN_TRUST, "trust.json", "access.key"])
async def test_a_damaged_file_is_refused_by_name(tmp_path: Path, folder: Path, clock: FakeClock, name: str) -> None:
    write_earlier(folder, clock.now())
    (folder / name).write_bytes(b"x")
    with pytest.raises(KeysRefused, match=name):
        await authority_in(tmp_path, clock=clock)


@pytest.mark.parametrize("name", [*NAMED_IN_TRUST, "trust.json"])
async def test_a_file_of_another_hub_is_refused(tmp_path: Path, folder: Path, clock: FakeClock, name: str) -> None:
    write_earlier(folder, clock.now())
    (folder / name).write_bytes(write_earlier(tmp_path / "other", clock.now())[name])
    with pytest.raises(KeysRefused, match="restore the folder from one backup"):
        await authority_in(tmp_path, clock=clock)
    assert names_in(folder) == set(IN_ORDER)


async def test_a_root_key_that_is_offline_already_stays_there(tmp_path: Path, folder: Path, clock: FakeClock) -> None:
    write_earlier(folder, clock.now())
    (folder / "root.key").unlink()
    authority = await authority_in(tmp_path, clock=clock)
    assert not authority.overview().root_at_hand
    assert authority.trust_version == 1
    assert authority.sign_checkpoint(b"x").key_id in {view.id for view in authority.overview().authorities}


async def test_a_file_that_others_can_read_is_refused(tmp_path: Path, folder: Path, clock: FakeClock) -> None:
    write_earlier(folder, clock.now())
    (folder / "jobs.key").chmod(0o640)
    with pytest.raises(KeysRefused, match="chmod 600"):
        await authority_in(tmp_path, clock=clock)


async def test_a_lost_database_is_not_replaced_by_a_new_authority(
    database: Database, folder: Path, clock: FakeClock
) -> None:
    await authority_on(database, folder, clock=clock)
    async with database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(delete(AuthorityRow))
        await connection.execute(delete(TrustDocumentRow))
    with pytest.raises(KeysRefused, match="restore the database from a backup"):
        await authority_on(database, folder, clock=clock)


async def test_the_folder_of_another_hub_is_refused(database: Database, tmp_path: Path, clock: FakeClock) -> None:
    await authority_on(database, tmp_path / "pki", clock=clock)
    write_earlier(tmp_path / "other", clock.now())
    with pytest.raises(KeysRefused, match=r"root\.crt is of another hub than the database"):
        await authority_on(database, tmp_path / "other", clock=clock)
    assert names_in(tmp_path / "other") == set(IN_ORDER)


async def test_another_trust_domain_is_refused(database: Database, folder: Path, clock: FakeClock) -> None:
    await authority_on(database, folder, clock=clock)
    with pytest.raises(KeysRefused, match=r"is jtnt, the settings say example\.com"):
        await authority_on(database, folder, clock=clock, trust_domain="example.com")


async def test_another_secrets_key_is_refused_with_what_to_do(
    database: Database, folder: Path, clock: FakeClock
) -> None:
    await authority_on(database, folder, clock=clock)
    with pytest.raises(VaultRefused, match=r"authorities\.sealed_key of .* restore that key from its backup"):
        await authority_on(database, folder, clock=clock, vault=Vault.generate())


@pytest.mark.parametrize("use", [use for use in AuthorityUse if use is not AuthorityUse.ACCESS])
async def test_a_row_that_is_gone_is_not_replaced(
    database: Database, folder: Path, clock: FakeClock, use: AuthorityUse
) -> None:
    await authority_on(database, folder, clock=clock)
    async with database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(delete(AuthorityRow).where(col(AuthorityRow.use) == use))
    with pytest.raises(KeysRefused, match=r"restore (the database|it) from"):
        await authority_on(database, folder, clock=clock)


@pytest.mark.parametrize("column", ["certificate_pem", "public_key", "sealed_key"])
async def test_a_row_with_the_parts_of_another_is_refused(
    database: Database, folder: Path, clock: FakeClock, column: str
) -> None:
    await authority_on(database, folder, clock=clock)
    of_servers = select(AuthorityRow.__table__.c[column]).where(col(AuthorityRow.use) == "servers")  # type: ignore[attr-defined]
    async with database.write(EVERY_ORGANISATION) as connection:
        value = await connection.scalar(of_servers)
        statement = update(AuthorityRow).where(col(AuthorityRow.use) == "agents")
        await connection.execute(statement.values({column: value}))
    with pytest.raises(KeysRefused, match="restore the database"):
        await authority_on(database, folder, clock=clock)


async def test_a_trust_document_that_the_root_did_not_sign_is_refused(
    database: Database, folder: Path, clock: FakeClock
) -> None:
    authority = await authority_on(database, folder, clock=clock)
    forged = base64.b64encode(base64.b64decode(authority.trust.document).replace(b'"version":1', b'"version":9'))
    async with database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(update(TrustDocumentRow).values(document=forged.decode()))
    with pytest.raises(KeysRefused, match="not signed by its root"):
        await authority_on(database, folder, clock=clock)
    with pytest.raises(KeysRefused, match="not signed by its root"):
        await authority.refresh()
    assert (await authority.sign_job(b"goes on")).key_id


async def test_the_trust_document_is_signed_by_the_root_and_names_what_signs(authority: Authority) -> None:
    verify_trust(authority.trust, leaf_of(authority.ca_bundle_pem))
    document = document_of(authority.trust)
    assert document.version == 1
    assert {issuer.use for issuer in document.issuing_authorities} == {"agents", "servers"}
    job = await authority.sign_job(b"the very bytes")
    for signature, keys in (
        (job, document.signers),
        (authority.sign_checkpoint(b"the very bytes"), document.audit_keys),
    ):
        signer = next(key for key in keys if key.key_id == signature.key_id)
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(signer.public_key))
        public.verify(base64.b64decode(signature.signature), b"the very bytes")
        with pytest.raises(InvalidSignature):
            public.verify(base64.b64decode(signature.signature), b"the very bytez")
    assert (await authority.sign_job(b"x")).key_id != authority.sign_checkpoint(b"x").key_id


async def test_an_altered_trust_document_does_not_verify(authority: Authority) -> None:
    altered = base64.b64decode(authority.trust.document).replace(b'"version":1', b'"version":2')
    forged = replace(authority.trust, document=base64.b64encode(altered).decode())
    with pytest.raises(InvalidSignature):
        verify_trust(forged, leaf_of(authority.ca_bundle_pem))
    assert trust_hash_of(forged) != authority.trust_hash


async def test_a_leaf_takes_nothing_of_its_request_but_the_key(authority: Authority) -> None:
    key = ed25519_key()
    issued = authority.issue_agent_certificate(IDENTITY, csr_of(key, "root"))
    leaf = leaf_of(issued.pem)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.UniformResourceIdentifier("spiffe://jtnt/org/org-1/agent/agent-1")]
    assert leaf.subject.rfc4514_string() == "CN=JTNT agent"
    assert leaf.public_key() == key.public_key()
    assert 29.9 < (leaf.not_valid_after_utc - SystemClock().now()).total_seconds() / 86400 <= 30
    assert 299 <= (SystemClock().now() - leaf.not_valid_before_utc).total_seconds() <= 330
    assert issued.serial == f"{leaf.serial_number:X}".rjust(len(issued.serial), "0")
    assert issued.issuer == leaf_of(authority.agents_ca_pem).fingerprint(SHA256()).hex()
    assert authority.certificate_terms.issuer_sha256 == issued.issuer


async def test_the_ca_is_as_its_rules_say(authority: Authority) -> None:
    certificates = x509.load_pem_x509_certificates(authority.ca_bundle_pem.encode())
    lengths = [
        certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
        for certificate in certificates
    ]
    days = [(certificate.not_valid_after_utc - SystemClock().now()).days for certificate in certificates]
    assert lengths == [1, 0, 0]
    assert days == [3649, 364, 364]


async def test_a_leaf_does_not_outlive_its_issuer(tmp_path: Path, clock: FakeClock) -> None:
    authority = await authority_in(tmp_path, clock=clock)
    clock.advance(360 * 86400)
    assert authority.issue_agent_certificate(IDENTITY, csr_of(p256_key())).not_after == authority.issuing_expires_at


def rsa_csr() -> str:
    key = generate_rsa_key(65537, 2048)
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
        .decode()
    )


def stolen_key_csr() -> str:
    """A request for somebody else's public key, signed by one's own."""
    one, other = (x509.load_pem_x509_csr(csr_of(ed25519_key()).encode()) for _ in range(2))
    body = one.tbs_certrequest_bytes
    forged = one.public_bytes(Encoding.DER).replace(one.signature, other.signature)
    assert body in forged
    return x509.load_der_x509_csr(forged).public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    ("csr", "said"),
    [
        ("", "no certificate request"),
        ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "no certificate request"),
        (rsa_csr(), "must be Ed25519 or P-256"),
        (stolen_key_csr(), "not signed by its own key"),
    ],
    ids=["empty", "garbage", "rsa", "stolen key"],
)
def test_a_bad_request_is_refused_with_its_field(authority: Authority, csr: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as refused:
        authority.issue_agent_certificate(IDENTITY, csr)
    assert refused.value.path == "$.csr_pem"


async def test_the_server_certificate_stays_until_a_name_or_its_age_asks_for_another(tmp_path: Path) -> None:
    clock = FakeClock()
    authority = await authority_in(tmp_path, clock=clock)

    def made(*names: str) -> bytes:
        return authority.server_credentials(names).certificate_path.read_bytes()

    first = made("hub.example")
    assert made("hub.example") == first
    second = made("hub.example", "192.0.2.1")
    assert second != first
    clock.advance(59 * 86400)
    assert made("192.0.2.1", "hub.example") == second
    clock.advance(2 * 86400)
    assert made("hub.example", "192.0.2.1") != second
