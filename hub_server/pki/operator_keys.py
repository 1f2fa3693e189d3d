"""People's keys in the trust document: they sign orders beside the hub's signer, and none of them suffices alone."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import ClassVar, Final

from msgspec import Struct

from hub_server.clock import milliseconds
from hub_server.errors import Conflict, InvalidRequest, NotFound
from protocol.envelope import SigningKey, TrustDocument
from protocol.identity import key_id_of

OPERATOR_KEYS_MAX: Final = 256
NAME_MAX_CHARS: Final = 64
KEY_BYTES: Final = 32
_WORDS: Final = ("jtnt-key", "ed25519")


class AddOperator(Struct, frozen=True):
    verb: ClassVar[str] = "add"
    key: SigningKey

    @property
    def key_id(self) -> str:
        return self.key.key_id

    @property
    def name(self) -> str:
        return self.key.name


class RevokeOperator(Struct, frozen=True):
    """`name`: whose it was, for the audit."""

    verb: ClassVar[str] = "revoke"
    key_id: str
    name: str


OperatorChange = AddOperator | RevokeOperator


def operator_key_in(line: str, name: str, not_after: datetime) -> SigningKey:
    """Return the key of a public key file: `jtnt-key ed25519 <base64 of 32 bytes> <name>`. Raises InvalidRequest."""
    if not name or len(name) > NAME_MAX_CHARS or not name.isprintable():
        raise InvalidRequest(f"the name of a key has 1 to {NAME_MAX_CHARS} printable characters", path="$.name")
    words = line.split()
    try:
        raw = base64.b64decode(words[2], validate=True) if tuple(words[:2]) == _WORDS else b""
    except (IndexError, binascii.Error, ValueError):
        raw = b""
    if len(raw) != KEY_BYTES:
        raise InvalidRequest(
            "that is no public key: `jtnt-key ed25519 <base64> <name>` is expected, as `jtnt keys show` prints it"
        )
    public_key = base64.b64encode(raw).decode()
    return SigningKey(key_id=key_id_of(raw), public_key=public_key, not_after_ms=milliseconds(not_after), name=name)


def changed(document: TrustDocument, change: OperatorChange) -> tuple[list[SigningKey], list[str]]:
    """Return the people's keys of the next document, and the ids that come to the revoked ones.

    Raises Conflict, NotFound.
    """
    keys = document.operator_keys
    match change:
        case AddOperator(key):
            _refuse_known(document, key)
            return [*keys, key], []
        case RevokeOperator(key_id):
            if key_id not in {key.key_id for key in keys}:
                raise NotFound(f"there is no operator's key {key_id!r}; `jtnt-hub operator-keys list` shows them")
            return [key for key in keys if key.key_id != key_id], [key_id]


def operator_key_of(document: TrustDocument, key_id: str, now: datetime) -> bytes | None:
    """Return the public key that counts under this id now, None when there is none."""
    if key_id in document.revoked_key_ids:
        return None
    for key in document.operator_keys:
        if key.key_id == key_id and milliseconds(now) < key.not_after_ms:
            return base64.b64decode(key.public_key)
    return None


def _refuse_known(document: TrustDocument, key: SigningKey) -> None:
    if key.key_id in document.revoked_key_ids:
        raise Conflict("this key was revoked, which is for ever: make another one")
    if key.key_id in {other.key_id for other in (*document.signers, *document.audit_keys, *document.update_keys)}:
        raise Conflict("this key is one of the hub's own; people have keys of their own")
    for other in document.operator_keys:
        if other.key_id == key.key_id:
            raise Conflict(f"this key is there already, as {other.name!r}")
        if other.name == key.name:
            raise Conflict(f"there is a key of this name: {other.key_id}; revoke it, or choose another name")
    if len(document.operator_keys) >= OPERATOR_KEYS_MAX:
        raise Conflict(f"there are {OPERATOR_KEYS_MAX} operators' keys already; revoke one")


def named(document: TrustDocument, name_or_id: str) -> SigningKey:
    """Return the key of this name or id. Raises NotFound."""
    for key in document.operator_keys:
        if name_or_id in {key.key_id, key.name}:
            return key
    raise NotFound(f"there is no operator's key {name_or_id!r}; `jtnt-hub operator-keys list` shows them")
