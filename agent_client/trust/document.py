"""The stored trust document, read without any cryptography: it was verified before it was saved."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ssl
from collections.abc import Sequence
from typing import ClassVar, Final

import msgspec
from msgspec import Struct

from agent_client.errors import AgentError
from agent_client.paths import TRUST, Places
from agent_client.store.secure import SecureStore
from protocol.envelope import SignedTrust, SigningKey, TrustDocument

KEY_BYTES: Final = 32

_document_decoder: Final = msgspec.json.Decoder(TrustDocument)
_signed_decoder: Final = msgspec.json.Decoder(SignedTrust)


class TrustError(AgentError):
    """A trust document that must not be believed; the message says why."""

    code: ClassVar[str] = "trust"


class UsableKey(Struct, frozen=True):
    public_key: bytes


class KeyUnknown(Struct, frozen=True):
    pass


class KeyRevoked(Struct, frozen=True):
    pass


class KeyExpired(Struct, frozen=True):
    pass


KeyAnswer = UsableKey | KeyUnknown | KeyRevoked | KeyExpired


def parse_trust(signed: SignedTrust) -> TrustDocument:
    """Return the document inside. Its signatures are not looked at. Raises TrustError when it is none."""
    try:
        return _document_decoder.decode(base64.b64decode(signed.document, validate=True))
    except (binascii.Error, msgspec.MsgspecError, UnicodeError) as error:
        raise TrustError(f"the trust document is malformed: {error}") from error


def load_trust(places: Places) -> tuple[SignedTrust, TrustDocument]:
    """Raises StoreError when it cannot be read, TrustError when it is malformed."""
    raw = SecureStore(places.state).load(TRUST)
    try:
        signed = _signed_decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise TrustError(f"{places.state / TRUST} is malformed: {error}; enroll again") from error
    return signed, parse_trust(signed)


def save_trust(places: Places, signed: SignedTrust) -> None:
    SecureStore(places.state).save(TRUST, msgspec.json.encode(signed))


def server_anchors(document: TrustDocument) -> str:
    """Return, as PEM, the authorities that a hub's certificate may come from."""
    return "\n".join(entry.certificate_pem for entry in document.issuing_authorities if entry.use == "servers")


def agents_issuers(document: TrustDocument) -> set[str]:
    """Return the SHA-256, in hexadecimal, of each authority that agents' certificates may come from."""
    pems = (entry.certificate_pem for entry in document.issuing_authorities if entry.use == "agents")
    return {hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem.strip())).hexdigest() for pem in pems}


def signer_of(document: TrustDocument, key_id: str, now_ms: int) -> KeyAnswer:
    """Return the key of the hub's signer that may sign jobs under the name `key_id` at `now_ms`."""
    return _answer(document, document.signers, key_id, now_ms)


def operator_of(document: TrustDocument, key_id: str, now_ms: int) -> KeyAnswer:
    """Return the person's key that may sign beside the hub's signer under the name `key_id` at `now_ms`.

    A key that is both counts as the signer's: one signature is never two.
    """
    if any(signer.key_id == key_id for signer in document.signers):
        return KeyUnknown()
    return _answer(document, document.operator_keys, key_id, now_ms)


def _answer(document: TrustDocument, keys: Sequence[SigningKey], key_id: str, now_ms: int) -> KeyAnswer:
    if key_id in document.revoked_key_ids:
        return KeyRevoked()
    key = next((key for key in keys if key.key_id == key_id), None)
    if key is None:
        return KeyUnknown()
    if key.not_after_ms <= now_ms:
        return KeyExpired()
    return _usable(key)


def _usable(key: SigningKey) -> KeyAnswer:
    try:
        public_key = base64.b64decode(key.public_key, validate=True)
    except binascii.Error:
        return KeyUnknown()
    return UsableKey(public_key) if len(public_key) == KEY_BYTES else KeyUnknown()
