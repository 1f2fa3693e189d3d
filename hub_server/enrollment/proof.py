"""An agent's last certificate, and what its key has signed. The X.509 library of this subject stops here."""

from __future__ import annotations

import base64
import binascii

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from hub_server.errors import Unauthenticated


class PresentedCertificate:
    """A certificate as somebody shows it: what it says counts only once it is known to be one of the hub's own."""

    def __init__(self, certificate: x509.Certificate) -> None:
        self._certificate = certificate

    @classmethod
    def parse(cls, pem: str) -> PresentedCertificate:
        """Raises Unauthenticated."""
        try:
            return cls(x509.load_pem_x509_certificate(pem.encode()))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise Unauthenticated("certificate_pem holds no certificate in PEM", path="$.certificate_pem") from error

    @property
    def serial(self) -> str:
        """Return the serial number as the hub writes it: upper-case hexadecimal of whole bytes."""
        text = f"{self._certificate.serial_number:X}"
        return text if len(text) % 2 == 0 else f"0{text}"

    def is_leaf_of(self, chain_pem: str) -> bool:
        """Tell whether it is, byte for byte, the first certificate of a chain that the hub has issued."""
        leaf = x509.load_pem_x509_certificate(chain_pem.encode())
        return leaf.public_bytes(Encoding.DER) == self._certificate.public_bytes(Encoding.DER)

    def has_signed(self, statement: bytes, signature: str) -> bool:
        """Tell whether `signature`, base64, is of this certificate's key: Ed25519, or ECDSA with SHA-256 on P-256."""
        try:
            raw, key = base64.b64decode(signature, validate=True), self._certificate.public_key()
            match key:
                case Ed25519PublicKey():
                    key.verify(raw, statement)
                case EllipticCurvePublicKey():
                    key.verify(raw, statement, ECDSA(hashes.SHA256()))
                case _:
                    return False
        except (binascii.Error, ValueError, UnsupportedAlgorithm, InvalidSignature):
            return False
        return True
