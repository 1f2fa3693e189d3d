"""The hub's certificate authority and its signing keys, in a folder of private files.

    root.crt, root.key                 trusted by pin; the key may be taken offline once trust.json is there
    agents-ca.pem, servers-ca.pem      issuing CAs, certificate and key
    jobs.key, access.key               Ed25519: signs commands; signs people's access tokens
    trust.json                         the root-signed trust document, written last
    server.pem                         certificate and key of the agents' listener

Until trust.json is there, whatever is missing is made: a start that was cut short is finished by the next one. After
it, agents trust what it names, and a missing key of those is refused instead of replaced.
"""

from __future__ import annotations

import base64
import hashlib
import socket
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from hub_server.clock import Clock, milliseconds
from hub_server.pki import certificates
from hub_server.pki.certificates import SigningCa, Use
from hub_server.pki.files import PkiRefused, exclusive, read_private, write_private
from hub_server.pki.model import IssuedCertificate, ServerCredentials, serial_text
from protocol.envelope import IssuingAuthority, SignedTrust, SigningKey, TrustDocument
from protocol.frames import Signature
from protocol.identity import AgentIdentity, key_id_of, pin_of

SIGNER_LIFETIME: Final = timedelta(days=3650)
LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")
_ROOT_CERTIFICATE: Final = "root.crt"
_ROOT_KEY: Final = "root.key"
_JOBS_KEY: Final = "jobs.key"
_ACCESS_KEY: Final = "access.key"
_TRUST: Final = "trust.json"
_SERVER: Final = "server.pem"


class Authority:
    """Issues certificates and signs. Everything it does is CPU work of a fraction of a millisecond."""

    def __init__(
        self,
        *,
        directory: Path,
        clock: Clock,
        root: x509.Certificate,
        issuing: dict[Use, SigningCa],
        jobs_key: Ed25519PrivateKey,
        access_key: Ed25519PrivateKey,
        trust: SignedTrust,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._issuing = issuing
        self._jobs_key = jobs_key
        self._jobs_key_id = key_id_of(_raw_public(jobs_key))
        document = _document_of(trust)
        self.trust_domain: Final = document.trust_domain
        self.root_pem: Final = certificates.pem_of(root)
        self.root_pin: Final = pin_of(certificates.public_der_of_certificate(root))
        self.agents_ca_pem: Final = issuing["agents"].pem
        self.ca_bundle_pem: Final = self.root_pem + issuing["agents"].pem + issuing["servers"].pem
        self.trust: Final = trust
        self.trust_hash: Final = trust_hash_of(trust)
        self.jwt_key: Final = access_key

    @classmethod
    def open_or_create(cls, directory: Path, *, trust_domain: str, clock: Clock) -> Authority:
        """Return the authority that lives in `directory`, made now where there is none.

        Raises PkiRefused when the folder is incomplete, damaged, readable by others, or of another trust domain.
        """
        with exclusive(directory):
            folder = _Folder(directory, trust_domain, clock.now())
            root = folder.root()
            issuing: dict[Use, SigningCa] = {
                "agents": folder.issuing("agents", root),
                "servers": folder.issuing("servers", root),
            }
            jobs_key = folder.ed25519(_JOBS_KEY, is_named_in_trust=True)
            access_key = folder.ed25519(_ACCESS_KEY, is_named_in_trust=False)
            trust = folder.trust(root, issuing, jobs_key)
        return cls(
            directory=directory,
            clock=clock,
            root=root,
            issuing=issuing,
            jobs_key=jobs_key,
            access_key=access_key,
            trust=trust,
        )

    @property
    def issuing_expires_at(self) -> datetime:
        """Return when the first of the issuing CAs ends."""
        return min(ca.certificate.not_valid_after_utc for ca in self._issuing.values())

    def issue_agent_certificate(self, identity: AgentIdentity, csr_pem: str) -> IssuedCertificate:
        """Return a certificate for the key of `csr_pem`, which gives nothing else. Raises InvalidRequest."""
        public_key = certificates.public_key_of_csr(csr_pem)
        issuer = self._issuing["agents"]
        leaf = certificates.make_agent(issuer, public_key, uri=identity.uri, now=self._clock.now())
        return IssuedCertificate(
            organisation_id=identity.organisation_id,
            agent_id=identity.agent_id,
            serial=serial_text(leaf.serial_number),
            pem=certificates.pem_of(leaf) + issuer.pem,
            public_key_sha256=certificates.key_sha256_of(public_key),
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
        )

    def sign_job(self, payload: bytes) -> Signature:
        """Sign the exact bytes of a JobEnvelope (Ed25519, base64)."""
        signature = base64.b64encode(self._jobs_key.sign(payload)).decode()
        return Signature(key_id=self._jobs_key_id, signature=signature)

    def server_credentials(self, names: Sequence[str]) -> ServerCredentials:
        """Return a server certificate for `names`, this machine's name and loopback.

        It is made anew when a name is missing or two thirds of its life are over.
        """
        wanted = tuple(dict.fromkeys((*LOCAL_NAMES, socket.gethostname(), *names)))
        path = self._directory / _SERVER
        with exclusive(self._directory):
            if not path.exists() or not self._still_serves(path, wanted):
                key = certificates.new_key()
                issuer = self._issuing["servers"]
                leaf = certificates.make_server(issuer, key.public_key(), names=wanted, now=self._clock.now())
                chain = certificates.pem_of(leaf) + issuer.pem
                write_private(path, chain.encode() + certificates.key_pem_of(key))
        return ServerCredentials(certificate_path=path, key_path=path)

    def _still_serves(self, path: Path, wanted: Sequence[str]) -> bool:
        try:
            leaf = SigningCa.from_bytes(read_private(path), path.name).certificate
            leaf.verify_directly_issued_by(self._issuing["servers"].certificate)
        except (PkiRefused, ValueError, TypeError, InvalidSignature):
            return False
        start, end, now = leaf.not_valid_before_utc, leaf.not_valid_after_utc, self._clock.now()
        return start <= now < start + (end - start) * 2 / 3 and _names_of(leaf) == set(wanted)


class _Folder:
    """Opens or makes each part in turn; the order is that of the module's table."""

    def __init__(self, directory: Path, trust_domain: str, now: datetime) -> None:
        self._directory = directory
        self._trust_domain = trust_domain
        self._now = now
        self._is_sealed = (directory / _TRUST).exists()

    def root(self) -> x509.Certificate:
        path = self._directory / _ROOT_CERTIFICATE
        if not path.exists():
            self._refuse_if_sealed(path)
            self._write(_ROOT_KEY, lambda: certificates.key_pem_of(certificates.new_key()))
            key = self._root_key()
            made = certificates.make_root(key, trust_domain=self._trust_domain, now=self._now)
            write_private(path, certificates.pem_of(made).encode())
        try:
            return x509.load_pem_x509_certificate(read_private(path))
        except ValueError as error:
            raise PkiRefused(f"{path} holds no certificate; restore the file from a backup") from error

    def issuing(self, use: Use, root: x509.Certificate) -> SigningCa:
        name = f"{use}-ca.pem"
        self._write(name, lambda: self._made_issuing(use, root).to_bytes(), is_named_in_trust=True)
        ca = SigningCa.from_bytes(read_private(self._directory / name), name)
        try:
            ca.certificate.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise PkiRefused(f"{self._directory / name} is not of this root; restore both from one backup") from error
        return ca

    def ed25519(self, name: str, *, is_named_in_trust: bool) -> Ed25519PrivateKey:
        self._write(name, lambda: _ed25519_pem(Ed25519PrivateKey.generate()), is_named_in_trust=is_named_in_trust)
        try:
            key = load_pem_private_key(read_private(self._directory / name), None)
        except ValueError as error:
            raise PkiRefused(f"{self._directory / name} holds no private key; restore it from a backup") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise PkiRefused(f"{self._directory / name} holds a key that is not Ed25519; restore it from a backup")
        return key

    def trust(self, root: x509.Certificate, issuing: dict[Use, SigningCa], jobs_key: Ed25519PrivateKey) -> SignedTrust:
        path = self._directory / _TRUST
        self._write(_TRUST, lambda: msgspec.json.encode(self._made_trust(issuing, jobs_key)))
        try:
            signed = msgspec.json.decode(read_private(path), type=SignedTrust)
            verify_trust(signed, root)
            document = _document_of(signed)
        except (msgspec.DecodeError, ValueError, InvalidSignature) as error:
            raise PkiRefused(f"{path} is not signed by this root; restore the folder from one backup") from error
        if document.trust_domain != self._trust_domain:
            raise PkiRefused(
                f"this hub's trust domain is {document.trust_domain}, the settings say {self._trust_domain}: it cannot "
                "change once agents have certificates; set pki.trust_domain back"
            )
        named = {(authority.use, authority.certificate_pem) for authority in document.issuing_authorities}
        keys = {signer.public_key for signer in document.signers}
        if named != {(use, ca.pem) for use, ca in issuing.items()} or _public_base64(jobs_key) not in keys:
            raise PkiRefused(f"{self._directory} mixes keys of two hubs; restore the folder from one backup")
        return signed

    def _made_issuing(self, use: Use, root: x509.Certificate) -> SigningCa:
        return certificates.make_issuing(
            root, self._root_key(), use=use, trust_domain=self._trust_domain, now=self._now
        )

    def _made_trust(self, issuing: dict[Use, SigningCa], jobs_key: Ed25519PrivateKey) -> SignedTrust:
        public = _raw_public(jobs_key)
        document = msgspec.json.encode(
            TrustDocument(
                version=1,
                issued_at_ms=milliseconds(self._now),
                trust_domain=self._trust_domain,
                issuing_authorities=[
                    IssuingAuthority(use=use, certificate_pem=ca.pem) for use, ca in sorted(issuing.items())
                ],
                signers=[
                    SigningKey(
                        key_id=key_id_of(public),
                        public_key=_public_base64(jobs_key),
                        not_after_ms=milliseconds(self._now + SIGNER_LIFETIME),
                    )
                ],
            )
        )
        root_key = self._root_key()
        signature = base64.b64encode(root_key.sign(document, ECDSA(hashes.SHA256()))).decode()
        point = root_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return SignedTrust(
            document=base64.b64encode(document).decode(),
            signatures=[Signature(key_id=key_id_of(point), signature=signature)],
        )

    def _root_key(self) -> EllipticCurvePrivateKey:
        path = self._directory / _ROOT_KEY
        if not path.exists():
            raise PkiRefused(f"{path} is needed once more and is not there; put it back for this start")
        return certificates.p256_key_from(read_private(path), path.name)

    def _write(self, name: str, content: Callable[[], bytes], *, is_named_in_trust: bool = False) -> None:
        path = self._directory / name
        if path.exists():
            return
        if is_named_in_trust:
            self._refuse_if_sealed(path)
        write_private(path, content())

    def _refuse_if_sealed(self, path: Path) -> None:
        if self._is_sealed:
            raise PkiRefused(f"{path} is missing, and agents trust it: restore it from a backup")


def is_set_up(directory: Path) -> bool:
    """Tell whether an authority was made in `directory` and finished."""
    return (directory / _TRUST).exists()


def verify_trust(trust: SignedTrust, root: x509.Certificate) -> None:
    """Raises InvalidSignature unless one of the signatures is the root's over the document's bytes."""
    key = root.public_key()
    if not isinstance(key, EllipticCurvePublicKey):
        raise InvalidSignature("the root's key is not P-256")
    document = base64.b64decode(trust.document)
    for signature in trust.signatures:
        try:
            key.verify(base64.b64decode(signature.signature), document, ECDSA(hashes.SHA256()))
        except InvalidSignature:
            continue
        return
    raise InvalidSignature("no signature of the root")


def trust_hash_of(trust: SignedTrust) -> str:
    """Return the SHA-256 of the document's bytes in hexadecimal: how both sides name a trust document."""
    return hashlib.sha256(base64.b64decode(trust.document)).hexdigest()


def _document_of(trust: SignedTrust) -> TrustDocument:
    return msgspec.json.decode(base64.b64decode(trust.document), type=TrustDocument)


def _raw_public(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _public_base64(key: Ed25519PrivateKey) -> str:
    return base64.b64encode(_raw_public(key)).decode()


def _ed25519_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _names_of(leaf: x509.Certificate) -> set[str]:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {
        *names.get_values_for_type(x509.DNSName),
        *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    }
