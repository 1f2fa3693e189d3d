"""X.509 as the hub makes it (RFC 5280): root, issuing CAs, leaves, and what is taken from a CSR.

An issuing CA's extended key usage binds it to one side of a connection, so that the CA of the servers cannot make an
agent, nor the other way round.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
    load_pem_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hub_server.errors import InvalidRequest
from hub_server.storage.private_files import KeysRefused

Use = Literal["agents", "servers"]
LeafPublicKey = Ed25519PublicKey | EllipticCurvePublicKey
OwnKey = Ed25519PrivateKey | EllipticCurvePrivateKey

BACK_DATED: Final = timedelta(minutes=5)
ROOT_LIFETIME: Final = timedelta(days=3650)
_CSR_PATH: Final = "$.csr_pem"
_USAGE: Final[dict[Use, x509.ObjectIdentifier]] = {
    "agents": ExtendedKeyUsageOID.CLIENT_AUTH,
    "servers": ExtendedKeyUsageOID.SERVER_AUTH,
}


class SigningCa:
    """A CA that is at hand: its certificate and its P-256 key."""

    def __init__(self, certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> None:
        self.certificate: Final = certificate
        self.key: Final = key

    @property
    def pem(self) -> str:
        return pem_of(self.certificate)

    def to_bytes(self) -> bytes:
        """Return certificate and key in one PEM, so that one write brings both or none."""
        return self.pem.encode() + key_pem_of(self.key)

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> SigningCa:
        """Raises KeysRefused when `content` holds no certificate with its own P-256 key."""
        try:
            certificate = x509.load_pem_x509_certificate(content)
        except ValueError as error:
            raise KeysRefused(f"{name} holds no certificate; restore the file from a backup") from error
        key = p256_key_from(content, name)
        if public_der_of(key.public_key()) != public_der_of_certificate(certificate):
            raise KeysRefused(f"{name} holds a key that is not its certificate's; restore the file from a backup")
        return cls(certificate, key)


def new_key() -> EllipticCurvePrivateKey:
    return generate_private_key(SECP256R1())


def p256_key_from(content: bytes, name: str) -> EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeysRefused(f"{name} holds no private key; restore the file from a backup") from error
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise KeysRefused(f"{name} holds a key that is not P-256; restore the file from a backup")
    return key


def make_root(key: EllipticCurvePrivateKey, *, trust_domain: str, now: datetime) -> x509.Certificate:
    subject = _name(f"{trust_domain} root")
    builder = _builder(subject, subject, key.public_key(), now, now + ROOT_LIFETIME)
    return _as_ca(builder, key.public_key(), key.public_key(), path_length=1).sign(key, hashes.SHA256())


def make_issuing(
    root: x509.Certificate,
    root_key: EllipticCurvePrivateKey,
    *,
    use: Use,
    trust_domain: str,
    now: datetime,
    not_after: datetime,
) -> SigningCa:
    key = new_key()
    end = min(not_after, root.not_valid_after_utc)
    builder = _builder(_name(f"{trust_domain} {use}"), root.subject, key.public_key(), now, end)
    builder = _as_ca(builder, key.public_key(), root_key.public_key(), path_length=0)
    builder = builder.add_extension(x509.ExtendedKeyUsage([_USAGE[use]]), critical=False)
    return SigningCa(builder.sign(root_key, hashes.SHA256()), key)


def make_agent(
    issuer: SigningCa, public_key: LeafPublicKey, *, uri: str, now: datetime, lifetime: timedelta
) -> x509.Certificate:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri)]
    return _make_leaf(issuer, public_key, "JTNT agent", names, "agents", now, lifetime)


def make_server(
    issuer: SigningCa, public_key: LeafPublicKey, *, names: Sequence[str], now: datetime, lifetime: timedelta
) -> x509.Certificate:
    general = [_general_name(name) for name in names]
    return _make_leaf(issuer, public_key, "JTNT hub", general, "servers", now, lifetime)


def public_key_of_csr(csr_pem: str) -> LeafPublicKey:
    """Return the key that the CSR proves possession of; nothing else in it counts.

    Raises InvalidRequest.
    """
    try:
        csr = x509.load_pem_x509_csr(csr_pem.encode())
        key = csr.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidRequest("csr_pem holds no certificate request in PEM", path=_CSR_PATH) from error
    if not isinstance(key, Ed25519PublicKey) and not (
        isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
    ):
        raise InvalidRequest("the key of the certificate request must be Ed25519 or P-256", path=_CSR_PATH)
    if not csr.is_signature_valid:
        raise InvalidRequest("the certificate request is not signed by its own key", path=_CSR_PATH)
    return key


def pem_of(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


def key_pem_of(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def key_der_of(key: OwnKey) -> bytes:
    """Return the private key, PKCS 8 in DER: what the vault seals."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def own_key_from(der: bytes, name: str) -> OwnKey:
    """Raises KeysRefused when `der` holds neither an Ed25519 nor a P-256 key."""
    try:
        key = load_der_private_key(der, None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeysRefused(f"{name} holds no private key; restore the database") from error
    if not isinstance(key, EllipticCurvePrivateKey | Ed25519PrivateKey):
        raise KeysRefused(f"{name} holds a key of a kind that the hub does not make; restore the database")
    return key


def public_pem_of(key: OwnKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def public_pem_of_raw(raw: bytes) -> str:
    """Return the 32 bytes of an Ed25519 public key as PEM."""
    key = Ed25519PublicKey.from_public_bytes(raw)
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def public_pem_of_certificate(certificate: x509.Certificate) -> str:
    return certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def raw_public_of(pem: str) -> bytes:
    """Return the 32 bytes of an Ed25519 public key. Raises ValueError when it is none, TypeError for another kind."""
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, Ed25519PublicKey):
        raise TypeError("not an Ed25519 key")
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def sha256_of(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the certificate in DER, hexadecimal: the id of an authority."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def names_of(leaf: x509.Certificate) -> set[str]:
    """Return the DNS names and addresses that a server's certificate is for."""
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {
        *names.get_values_for_type(x509.DNSName),
        *(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    }


def public_der_of(key: LeafPublicKey) -> bytes:
    """Return the SubjectPublicKeyInfo in DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def public_der_of_certificate(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_sha256_of(key: LeafPublicKey) -> bytes:
    return hashlib.sha256(public_der_of(key)).digest()


def key_sha256_of_der(certificate: bytes) -> bytes:
    """Return `key_sha256_of` for a certificate in DER, with a key of any kind. Raises ValueError for what is none."""
    try:
        der = public_der_of_certificate(x509.load_der_x509_certificate(certificate))
    except (UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise ValueError(str(error)) from error
    return hashlib.sha256(der).digest()


def _make_leaf(
    issuer: SigningCa,
    public_key: LeafPublicKey,
    common_name: str,
    names: Sequence[x509.GeneralName],
    use: Use,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    end = min(now + lifetime, issuer.certificate.not_valid_after_utc)
    if end <= now:
        raise KeysRefused(
            f"the CA of the {use} ended on {end:%Y-%m-%d}; set the clock, or run `jtnt-hub ca rotate {use}`"
        )
    builder = _builder(_name(common_name), issuer.certificate.subject, public_key, now, end)
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(is_ca=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(_authority_of(issuer.key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([_USAGE[use]]), critical=False)
    )
    return builder.sign(issuer.key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: LeafPublicKey, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACK_DATED)
        .not_valid_after(end)
    )


def _as_ca(
    builder: x509.CertificateBuilder, own: LeafPublicKey, signer: EllipticCurvePublicKey, path_length: int
) -> x509.CertificateBuilder:
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_key_usage(is_ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own), critical=False)
        .add_extension(_authority_of(signer), critical=False)
    )


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_of(key: EllipticCurvePublicKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
