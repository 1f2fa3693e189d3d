import base64
import threading
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hub_server.clock import SystemClock
from hub_server.errors import InvalidRequest
from hub_server.pki.authority import Authority, is_set_up, trust_hash_of, verify_trust
from hub_server.pki.files import PkiRefused
from protocol.envelope import TrustDocument
from protocol.identity import AgentIdentity, pin_of
from tests.certificates import csr_of, ed25519_key, p256_key
from tests.clocks import FakeClock

IDENTITY = AgentIdentity("jtnt", "org-1", "agent-1")
NAMED_IN_TRUST = ["root.crt", "agents-ca.pem", "servers-ca.pem", "jobs.key"]


def opened(folder: Path, trust_domain: str = "jtnt") -> Authority:
    return Authority.open_or_create(folder, trust_domain=trust_domain, clock=SystemClock())


def leaf_of(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificates(pem.encode())[0]


def test_opened_again_it_is_the_same(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "pki"), opened(tmp_path / "pki")
    assert first.ca_bundle_pem == second.ca_bundle_pem
    assert first.trust == second.trust
    assert first.jwt_key.private_bytes_raw() == second.jwt_key.private_bytes_raw()


def test_every_file_is_private(authority: Authority, tmp_path: Path) -> None:
    authority.server_credentials([])
    folder = tmp_path / "pki"
    assert folder.stat().st_mode & 0o777 == 0o700
    modes = {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()}
    assert {"root.key", "agents-ca.pem", "trust.json", "server.pem"} <= modes.keys()
    assert set(modes.values()) == {0o600}


def test_the_pin_is_of_the_bundles_first_certificate(authority: Authority) -> None:
    root = leaf_of(authority.ca_bundle_pem)
    spki = root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert authority.root_pin == pin_of(spki)


def test_two_starts_at_once_make_one_authority(tmp_path: Path) -> None:
    bundles: list[str] = []
    threads = [
        threading.Thread(target=lambda: bundles.append(opened(tmp_path / "pki").ca_bundle_pem)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(bundles) == 8
    assert len(set(bundles)) == 1


@pytest.mark.parametrize("kept", range(7))
def test_a_first_start_that_was_cut_short_is_finished(tmp_path: Path, kept: int) -> None:
    order = ["root.key", "root.crt", "agents-ca.pem", "servers-ca.pem", "jobs.key", "access.key", "trust.json"]
    folder = tmp_path / "pki"
    opened(folder)
    before = {name: (folder / name).read_bytes() for name in order[:kept]}
    for name in order[kept:]:
        (folder / name).unlink()
    assert not is_set_up(folder)
    opened(folder)
    assert {name: (folder / name).read_bytes() for name in order[:kept]} == before
    assert opened(folder).ca_bundle_pem


@pytest.mark.parametrize("name", NAMED_IN_TRUST)
def test_a_missing_key_that_agents_trust_is_not_replaced(tmp_path: Path, name: str) -> None:
    opened(tmp_path / "pki")
    (tmp_path / "pki" / name).unlink()
    with pytest.raises(PkiRefused, match=rf"{name} is missing.*backup"):
        opened(tmp_path / "pki")
    assert not (tmp_path / "pki" / name).exists()


@pytest.mark.parametrize("name", [*NAMED_IN_TRUST, "trust.json", "access.key"])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    opened(tmp_path / "pki")
    (tmp_path / "pki" / name).write_bytes(b"x")
    with pytest.raises(PkiRefused, match=name):
        opened(tmp_path / "pki")


@pytest.mark.parametrize("name", [*NAMED_IN_TRUST, "trust.json"])
def test_a_file_of_another_hub_is_refused(tmp_path: Path, name: str) -> None:
    opened(tmp_path / "pki")
    opened(tmp_path / "other")
    (tmp_path / "pki" / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(PkiRefused, match="backup"):
        opened(tmp_path / "pki")


def test_the_roots_key_may_be_taken_offline(tmp_path: Path) -> None:
    before = opened(tmp_path / "pki")
    (tmp_path / "pki" / "root.key").unlink()
    assert opened(tmp_path / "pki").trust == before.trust


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    opened(tmp_path / "pki")
    (tmp_path / "pki" / "jobs.key").chmod(0o640)
    with pytest.raises(PkiRefused, match="chmod 600"):
        opened(tmp_path / "pki")


def test_another_trust_domain_is_refused(tmp_path: Path) -> None:
    opened(tmp_path / "pki")
    with pytest.raises(PkiRefused, match=r"is jtnt, the settings say example\.com"):
        opened(tmp_path / "pki", "example.com")


def test_the_trust_document_is_signed_by_the_root_and_names_what_signs(authority: Authority) -> None:
    root = leaf_of(authority.ca_bundle_pem)
    verify_trust(authority.trust, root)
    document = msgspec.json.decode(base64.b64decode(authority.trust.document), type=TrustDocument)
    assert document.version == 1
    assert {issuer.use for issuer in document.issuing_authorities} == {"agents", "servers"}
    signature = authority.sign_job(b"the very bytes")
    signer = next(key for key in document.signers if key.key_id == signature.key_id)
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(signer.public_key))
    public.verify(base64.b64decode(signature.signature), b"the very bytes")
    with pytest.raises(InvalidSignature):
        public.verify(base64.b64decode(signature.signature), b"the very bytez")


def test_an_altered_trust_document_does_not_verify(authority: Authority) -> None:
    altered = base64.b64decode(authority.trust.document).replace(b'"version":1', b'"version":2')
    forged = msgspec.structs.replace(authority.trust, document=base64.b64encode(altered).decode())
    with pytest.raises(InvalidSignature):
        verify_trust(forged, leaf_of(authority.ca_bundle_pem))
    assert trust_hash_of(forged) != authority.trust_hash


def test_a_leaf_takes_nothing_of_its_request_but_the_key(authority: Authority) -> None:
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


def test_a_leaf_does_not_outlive_its_issuer(tmp_path: Path) -> None:
    clock = FakeClock(SystemClock().now())
    authority = Authority.open_or_create(tmp_path / "pki", trust_domain="jtnt", clock=clock)
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


def test_the_server_certificate_stays_until_a_name_or_its_age_asks_for_another(tmp_path: Path) -> None:
    clock = FakeClock(SystemClock().now())
    authority = Authority.open_or_create(tmp_path / "pki", trust_domain="jtnt", clock=clock)

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
