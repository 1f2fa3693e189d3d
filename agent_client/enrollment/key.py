"""The agent's key: made here, kept here, never sent."""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509 import CertificateSigningRequestBuilder, Name, NameAttribute
from cryptography.x509.oid import NameOID

from agent_client.enrollment.errors import EnrollmentError

_COMMON_NAME: Final = "jtnt-agent"


class AgentKey:
    """An Ed25519 key pair. From the CSR the hub takes its public half and the proof of possession, and nothing else."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key

    @classmethod
    def generate(cls) -> AgentKey:
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_pem(cls, pem: bytes) -> AgentKey:
        """Raises EnrollmentError when it is not such a key."""
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise EnrollmentError(f"the stored key cannot be read: {error}; remove it and enroll again") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise EnrollmentError("the stored key is not an Ed25519 key; remove it and enroll again")
        return cls(key)

    def to_pem(self) -> bytes:
        return self._private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def public_der(self) -> bytes:
        return self._private_key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public key in hexadecimal, as the hub shows it to whoever approves this machine."""
        return hashlib.sha256(self.public_der()).hexdigest()

    def sign(self, statement: bytes) -> bytes:
        return self._private_key.sign(statement)

    def request_pem(self) -> str:
        """Return a certificate signing request."""
        subject = Name([NameAttribute(NameOID.COMMON_NAME, _COMMON_NAME)])
        request = CertificateSigningRequestBuilder().subject_name(subject).sign(self._private_key, None)
        return request.public_bytes(Encoding.PEM).decode()
