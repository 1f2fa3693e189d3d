"""The root-signed trust document: whom agents of this fleet believe."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hub_server.clock import milliseconds
from protocol.envelope import IssuingAuthority, SignedTrust, SigningKey, TrustDocument
from protocol.frames import Signature
from protocol.identity import key_id_of


def next_document(
    before: TrustDocument | None,
    *,
    trust_domain: str,
    now: datetime,
    issuing: list[IssuingAuthority],
    signers: list[SigningKey],
    audit_keys: list[SigningKey],
    operator_keys: list[SigningKey] | None = None,
    revoked: Sequence[str] = (),
) -> TrustDocument:
    """Return the version after `before`; what is not given here stays as it was. `revoked`: key ids that come to it."""
    return TrustDocument(
        version=1 if before is None else before.version + 1,
        issued_at_ms=milliseconds(now),
        trust_domain=trust_domain,
        issuing_authorities=issuing,
        signers=signers,
        update_keys=[] if before is None else before.update_keys,
        audit_keys=audit_keys,
        operator_keys=operator_keys if operator_keys is not None else [] if before is None else before.operator_keys,
        revoked_key_ids=[*([] if before is None else before.revoked_key_ids), *revoked],
    )


def signed(document: TrustDocument, root_key: EllipticCurvePrivateKey) -> SignedTrust:
    body = msgspec.json.encode(document)
    signature = base64.b64encode(root_key.sign(body, ECDSA(hashes.SHA256()))).decode()
    point = root_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return SignedTrust(
        document=base64.b64encode(body).decode(), signatures=[Signature(key_id=key_id_of(point), signature=signature)]
    )


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


def document_of(trust: SignedTrust) -> TrustDocument:
    """Raises msgspec.DecodeError or ValueError when it is none."""
    return msgspec.json.decode(base64.b64decode(trust.document), type=TrustDocument)
