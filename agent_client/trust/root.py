"""Whether the fleet's root has signed a trust document. Imported only where one is new."""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificates

from agent_client.trust.document import TrustError, parse_trust
from protocol.envelope import SignedTrust, TrustDocument


def verify_trust(signed: SignedTrust, ca_bundle_pem: bytes, trust_domain: str) -> TrustDocument:
    """Return the document when the root, the bundle's first certificate, has signed it. Raises TrustError when not."""
    try:
        root_key = load_pem_x509_certificates(ca_bundle_pem)[0].public_key()
    except (ValueError, IndexError) as error:
        raise TrustError(f"the stored CA bundle cannot be read: {error}; enroll again") from error
    if not isinstance(root_key, EllipticCurvePublicKey):
        raise TrustError("the root's key is not on an elliptic curve")
    document = parse_trust(signed)
    exact = base64.b64decode(signed.document)
    if not any(_is_of_root(root_key, entry.signature, exact) for entry in signed.signatures):
        raise TrustError("the trust document is not signed by this fleet's root")
    if document.trust_domain != trust_domain:
        raise TrustError(f"the trust document is for {document.trust_domain!r}, this agent belongs to {trust_domain!r}")
    return document


def _is_of_root(root_key: EllipticCurvePublicKey, signature: str, message: bytes) -> bool:
    try:
        root_key.verify(base64.b64decode(signature, validate=True), message, ECDSA(SHA256()))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
