"""Keys and certificate requests as agents make them, and the files of TLS clients."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

LeafKey = Ed25519PrivateKey | EllipticCurvePrivateKey


def ed25519_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def p256_key() -> EllipticCurvePrivateKey:
    return generate_private_key(SECP256R1())


def csr_of(key: LeafKey, common_name: str = "ignored") -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://jtnt/org/other/agent/other")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name).add_extension(names, critical=False)
    return builder.sign(key, algorithm_of(key)).public_bytes(Encoding.PEM).decode()


def algorithm_of(key: LeafKey) -> hashes.SHA256 | None:
    return None if isinstance(key, Ed25519PrivateKey) else hashes.SHA256()


def write_client(folder: Path, name: str, chain_pem: str, key: LeafKey) -> Path:
    """Return a file with chain and key, for `load_cert_chain`."""
    path = folder / f"{name}.pem"
    path.write_bytes(chain_pem.encode() + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path
