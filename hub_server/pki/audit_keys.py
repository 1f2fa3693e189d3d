"""Which keys sign checkpoints of the audit, as the root has said in any trust document."""

from __future__ import annotations

import base64
from datetime import datetime

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from msgspec import Struct
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import col

from hub_server.clock import from_milliseconds
from hub_server.pki.tables import TrustDocumentRow
from hub_server.pki.trust import document_of, verify_trust
from protocol.envelope import SignedTrust
from protocol.frames import Signature


class SignedAuditKeys(Struct, frozen=True):
    """`keys`: key id → 32 bytes, also of those that were revoked. `revoked`: key id → when that was."""

    keys: dict[str, bytes]
    revoked: dict[str, datetime]


async def signed_audit_keys(connection: AsyncConnection, root_pem: str) -> SignedAuditKeys:
    """Documents that the root did not sign are passed over: they prove nothing."""
    root = x509.load_pem_x509_certificate(root_pem.encode())
    found = SignedAuditKeys({}, {})
    rows = await connection.execute(select(TrustDocumentRow).order_by(col(TrustDocumentRow.version)))
    for row in rows:
        try:
            trust = SignedTrust(document=row.document, signatures=msgspec.convert(row.signatures, list[Signature]))
            verify_trust(trust, root)
            document = document_of(trust)
            found.keys.update({key.key_id: base64.b64decode(key.public_key) for key in document.audit_keys})
        except (InvalidSignature, ValueError, msgspec.MsgspecError):
            continue
        for key_id in document.revoked_key_ids:
            found.revoked.setdefault(key_id, from_milliseconds(document.issued_at_ms))
    return found
