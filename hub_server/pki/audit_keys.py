"""Which keys sign checkpoints of the audit, as the root has said in any trust document."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.pki.tables import TrustDocumentRow
from hub_server.pki.trust import document_of, verify_trust
from protocol.envelope import SignedTrust
from protocol.frames import Signature


async def signed_audit_keys(connection: AsyncConnection, root_pem: str) -> Mapping[str, bytes]:
    """Return key id → 32 bytes. Documents that the root did not sign are passed over: they prove nothing."""
    root = x509.load_pem_x509_certificate(root_pem.encode())
    keys: dict[str, bytes] = {}
    rows = await connection.execute(select(TrustDocumentRow).order_by(col(TrustDocumentRow.version)))
    for row in rows:
        try:
            trust = SignedTrust(document=row.document, signatures=msgspec.convert(row.signatures, list[Signature]))
            verify_trust(trust, root)
            keys |= {key.key_id: base64.b64decode(key.public_key) for key in document_of(trust).audit_keys}
        except (InvalidSignature, ValueError, msgspec.MsgspecError):
            continue
    return keys
