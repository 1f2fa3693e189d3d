"""The keys of the orders, opened: here and nowhere else.

They lie in the hub's database, sealed by the key in the signer's own file. The sealed form is one byte, the id of the
sealing key (8 bytes), a random nonce (12 bytes), and AES-256-GCM's ciphertext of the 32 bytes with its tag; the
associated data names the key, so that one sealed key cannot be shown as another.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub_server.storage.key_sources import KEY_BYTES, SIGNERS_FORM, KeyFile
from hub_server.storage.private_files import KeysRefused, create_private
from protocol.identity import key_id_of

SEALING_ID_BYTES: Final = 8
NONCE_BYTES: Final = 12
OPENED_MAX: Final = 8
_NONCE_AT: Final = len(SIGNERS_FORM) + SEALING_ID_BYTES
_CIPHERTEXT_AT: Final = _NONCE_AT + NONCE_BYTES


class Strongbox:
    """Makes, seals and uses the keys of the orders. The file is read again when a key asks for another sealing key."""

    def __init__(self, path: Path) -> None:
        """Make the file where there is none. Raises KeysRefused, OSError."""
        create_private(path, base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
        self._source = KeyFile(path)
        self._ciphers: dict[bytes, AESGCM] = {}
        self._sealing = b""
        self._opened: dict[tuple[str, bytes], Ed25519PrivateKey] = {}
        self._read()

    def make(self) -> tuple[bytes, bytes]:
        """Return a new key: its public half, and the private one sealed."""
        return self._kept(Ed25519PrivateKey.generate())

    def adopt(self, private_key: bytes) -> tuple[bytes, bytes]:
        """Return what `make` does for a key that there is. Raises KeysRefused."""
        try:
            return self._kept(Ed25519PrivateKey.from_private_bytes(private_key))
        except ValueError as error:
            raise KeysRefused("the key to take over is not Ed25519") from error

    def sign(self, key_id: str, sealed: bytes, message: bytes) -> bytes:
        """Raises KeysRefused when `sealed` is not the key `key_id`, or cannot be opened."""
        key = self._opened.get((key_id, sealed))
        if key is None:
            key = self._open(key_id, sealed)
            if len(self._opened) >= OPENED_MAX:
                self._opened.clear()
            self._opened[key_id, sealed] = key
        return key.sign(message)

    def _open(self, key_id: str, sealed: bytes) -> Ed25519PrivateKey:
        if sealed[:1] != SIGNERS_FORM or len(sealed) < _CIPHERTEXT_AT:
            raise KeysRefused(f"the key {key_id} is not sealed by a signer; restore the database")
        sealing = sealed[len(SIGNERS_FORM) : _NONCE_AT]
        if sealing not in self._ciphers:
            self._read()
        cipher = self._ciphers.get(sealing)
        if cipher is None:
            raise KeysRefused(
                f"the key {key_id} that signs commands is sealed by the signer's key {sealing.hex()}, which is not in "
                f"{self._source.path}: restore that file from its backup, or run `jtnt-hub ca rotate jobs --revoke`"
            )
        try:
            raw = cipher.decrypt(sealed[_NONCE_AT:_CIPHERTEXT_AT], sealed[_CIPHERTEXT_AT:], _place(key_id))
        except InvalidTag as error:
            raise KeysRefused(f"the key {key_id} was altered, or is another's; restore the database") from error
        return Ed25519PrivateKey.from_private_bytes(raw)

    def _kept(self, key: Ed25519PrivateKey) -> tuple[bytes, bytes]:
        public_key, nonce = key.public_key().public_bytes_raw(), secrets.token_bytes(NONCE_BYTES)
        place = _place(key_id_of(public_key))
        ciphertext = self._ciphers[self._sealing].encrypt(nonce, key.private_bytes_raw(), place)
        return public_key, SIGNERS_FORM + self._sealing + nonce + ciphertext

    def _read(self) -> None:
        keys = self._source.keys()
        self._ciphers = {_sealing_id_of(key): AESGCM(key) for key in keys}
        self._sealing = _sealing_id_of(keys[0])


def _sealing_id_of(key: bytes) -> bytes:
    return hashlib.sha256(b"jtnt signer's key|" + key).digest()[:SEALING_ID_BYTES]


def _place(key_id: str) -> bytes:
    return f"jtnt key of orders|{key_id}".encode()
