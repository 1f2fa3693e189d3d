"""The vault: secrets at rest, sealed by a key that is no part of the database.

What is sealed: `authorities.sealed_key` (the hub's private keys but those that sign commands, which the signer's own
process seals, see hub_server/signing) and `users.totp_sealed`. The sealed form is one byte
of version, the id of the key (8 bytes), a random nonce (12 bytes), and AES-256-GCM's ciphertext with its tag; the
associated data is `table|column|row`, so that a sealed value copied to another row opens nowhere.

The key comes from the first of these that there is: `[secrets] key_file`, `[secrets] passphrase_file`, the systemd
credential `jtnt-secrets-key`, `<data_dir>/secrets.key`, which is made where there is none.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hub_server.storage.key_sources import (
    CREDENTIAL_NAME,
    KEY_BYTES,
    SIGNERS_FORM,
    KeyFile,
    KeySource,
    PassphraseFile,
    VaultRefused,
    generated_key,
)

__all__ = ["Vault", "VaultRefused"]

VERSION: Final = b"\x01"
KEY_ID_BYTES: Final = 8
NONCE_BYTES: Final = 12
_NONCE_AT: Final = len(VERSION) + KEY_ID_BYTES
_CIPHERTEXT_AT: Final = _NONCE_AT + NONCE_BYTES
log = structlog.get_logger(component="vault")


class KeyPlaces(Protocol):
    """What the settings say of the key; at most one of them is given."""

    @property
    def key_file(self) -> Path | None: ...
    @property
    def passphrase_file(self) -> Path | None: ...


class Vault:
    """Seals and unseals, each in microseconds. Keys that are exchanged beside a running hub are noticed at next use."""

    def __init__(self, keys: tuple[bytes, ...], source: KeySource | None = None) -> None:
        self._source = source
        self._take(keys)
        self._seen = _stamp_of(source)

    @classmethod
    def open(
        cls,
        data_dir: Path,
        places: KeyPlaces,
        environment: Mapping[str, str] = os.environ,
    ) -> Vault:
        """Find the key as the module says. Deriving it from a passphrase takes a fraction of a second.

        Raises VaultRefused, OSError.
        """
        source: KeySource
        credentials = environment.get("CREDENTIALS_DIRECTORY")
        if places.key_file is not None:
            source = KeyFile(places.key_file)
        elif places.passphrase_file is not None:
            source = PassphraseFile(places.passphrase_file)
        elif credentials and (Path(credentials) / CREDENTIAL_NAME).is_file():
            source = KeyFile(Path(credentials) / CREDENTIAL_NAME, is_ours=False)
        else:
            source, is_new = generated_key(data_dir)
            if is_new:
                log.warning(
                    "secrets key generated: keep a copy apart from the database's backups, or set secrets.key_file",
                    path=str(source.paths[0]),
                )
        return cls(source.keys(), source)

    @classmethod
    def from_keys(cls, *keys: bytes) -> Vault:
        """`keys`: 32 bytes each; the first seals, all open."""
        return cls(keys)

    @classmethod
    def generate(cls) -> Vault:
        """Return a vault of a new key that nobody keeps."""
        return cls((secrets.token_bytes(KEY_BYTES),))

    def seal(self, plaintext: bytes, *, table: str, column: str, row: str) -> bytes:
        self._refresh()
        nonce = secrets.token_bytes(NONCE_BYTES)
        ciphertext = self._ciphers[self._sealing].encrypt(nonce, plaintext, _place(table, column, row))
        return VERSION + self._sealing + nonce + ciphertext

    def unseal(self, sealed: bytes, *, table: str, column: str, row: str) -> bytes:
        """Raises VaultRefused when it was sealed by a key that is not at hand, for another row, or was altered."""
        if sealed[:1] != VERSION or len(sealed) < _CIPHERTEXT_AT:
            raise VaultRefused(f"the secret in {table}.{column} of {row} is damaged; restore the database")
        key_id = sealed[len(VERSION) : _NONCE_AT]
        if key_id not in self._ciphers:
            self._refresh()
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise VaultRefused(
                f"{table}.{column} of {row} is sealed by the secrets key {key_id.hex()}, which is not in {self.place}; "
                "restore that key from its backup, or name its file as secrets.key_file"
            )
        try:
            return cipher.decrypt(sealed[_NONCE_AT:_CIPHERTEXT_AT], sealed[_CIPHERTEXT_AT:], _place(table, column, row))
        except InvalidTag as error:
            raise VaultRefused(
                f"the secret in {table}.{column} of {row} was altered, or is another row's; restore the database"
            ) from error

    def is_ours(self, sealed: bytes) -> bool:
        """Tell whether a vault sealed it, and not the signer."""
        return not sealed.startswith(SIGNERS_FORM)

    def is_fresh(self, sealed: bytes) -> bool:
        """Tell whether `sealed` is sealed by the key that seals now."""
        return sealed[:_NONCE_AT] == VERSION + self._sealing

    @property
    def place(self) -> str:
        """Return where the keys are, for a person."""
        return "memory" if self._source is None else str(self._source.paths[0])

    @property
    def key_count(self) -> int:
        return len(self._ciphers)

    def add_key(self) -> None:
        """Seal with a new key from now on; the old ones still open. Raises VaultRefused where only a person can."""
        if self._source is None:
            raise VaultRefused("the secrets key is in memory only and cannot be exchanged")
        self._source.add()
        self._refresh()

    def drop_old_keys(self) -> None:
        """Keep only the key that seals, in its file; in memory the old ones open until the process ends."""
        if self._source is not None:
            self._source.keep_first()
            self._seen = _stamp_of(self._source)

    def _refresh(self) -> None:
        stamp = _stamp_of(self._source)
        if self._source is not None and stamp != self._seen:
            self._take(self._source.keys())
            self._seen = stamp

    def _take(self, keys: tuple[bytes, ...]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise VaultRefused(f"a secrets key has {KEY_BYTES} bytes")
        self._ciphers = {_key_id_of(key): AESGCM(key) for key in keys}
        self._sealing = _key_id_of(keys[0])


def _key_id_of(key: bytes) -> bytes:
    return hashlib.sha256(b"jtnt secrets key|" + key).digest()[:KEY_ID_BYTES]


def _place(table: str, column: str, row: str) -> bytes:
    return f"{table}|{column}|{row}".encode()


def _stamp_of(source: KeySource | None) -> tuple[int, ...]:
    """Return what changes when the source's files do."""
    if source is None:
        return ()
    stamps: list[int] = []
    for path in source.paths:
        try:
            status = path.stat()
        except OSError:
            continue
        stamps += (status.st_mtime_ns, status.st_ino, status.st_size)
    return tuple(stamps)
