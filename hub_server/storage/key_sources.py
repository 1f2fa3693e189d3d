"""Where the secrets key comes from: a file of keys, or a passphrase with a salt beside it.

Both are lines of text. The first line seals; every line opens, so that an old key stays at hand while what it sealed is
sealed anew.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from pathlib import Path
from typing import Final, Protocol

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from hub_server.storage.private_files import KeysRefused, create_private, read_private, write_private

KEY_BYTES: Final = 32
SALT_BYTES: Final = 16
SCRYPT_COST: Final = 2**16  # 64 MB and a fifth of a second, once a start
PASSPHRASE_MIN_CHARS: Final = 12
GENERATED_NAME: Final = "secrets.key"
CREDENTIAL_NAME: Final = "jtnt-secrets-key"
SIGNERS_FORM: Final = b"\x02"
"""What the signer's own process has sealed begins so; the vault cannot open it."""


class VaultRefused(KeysRefused):
    """A secret cannot be opened, or there is no usable secrets key. The message says what to do."""


class KeySource(Protocol):
    """Where keys are. `paths`: the files whose change means other keys; the first is the one to tell a person of."""

    @property
    def paths(self) -> tuple[Path, ...]: ...

    def keys(self) -> tuple[bytes, ...]:
        """Return the keys of KEY_BYTES each, the one that seals first. Raises VaultRefused."""

    def add(self) -> None:
        """Put a new key before the others. Raises VaultRefused where only a person can."""

    def keep_first(self) -> None:
        """Drop every key but the first."""


class KeyFile:
    """32 bytes in base64 a line. `is_ours`: the hub may change the file."""

    def __init__(self, path: Path, *, is_ours: bool = True) -> None:
        self.path: Final = path
        self.paths: Final = (path,)
        self._is_ours = is_ours

    def keys(self) -> tuple[bytes, ...]:
        lines = _lines_of(self.path, is_private=self._is_ours)
        try:
            keys = tuple(base64.b64decode(line, validate=True) for line in lines)
        except binascii.Error:
            keys = ()
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise VaultRefused(
                f"{self.path} holds no secrets key: a line of 32 bytes in base64 is expected, as `openssl rand -base64 "
                "32` makes it; restore the file from a backup"
            )
        return keys

    def add(self) -> None:
        keys = self.keys()
        try:
            if not self._is_ours:
                raise PermissionError
            write_private(self.path, _text_of(secrets.token_bytes(KEY_BYTES), *keys))
        except PermissionError as error:
            raise VaultRefused(
                f"{self.path} is not the hub's to change: put a new key on the line before the old one, start the hub "
                "again, and run this command once more; then remove the old line"
            ) from error

    def keep_first(self) -> None:
        if self._is_ours:
            write_private(self.path, _text_of(self.keys()[0]))


class PassphraseFile:
    """Passphrases, one a line, the newest first. The salts are in `<name>.salt` beside it, made at first use."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._salts = path.with_name(f"{path.name}.salt")
        self.paths: Final = (path, self._salts)

    def keys(self) -> tuple[bytes, ...]:
        passphrases = _lines_of(self._path, is_private=True)
        if not passphrases or any(len(line) < PASSPHRASE_MIN_CHARS for line in passphrases):
            raise VaultRefused(f"{self._path} must hold a passphrase of {PASSPHRASE_MIN_CHARS} characters at least")
        return tuple(_derived(passphrase, salt) for salt in self._salt_lines() for passphrase in passphrases)

    def add(self) -> None:
        write_private(self._salts, _text_of(secrets.token_bytes(SALT_BYTES), *self._salt_lines()))

    def keep_first(self) -> None:
        write_private(self._salts, _text_of(self._salt_lines()[0]))

    def _salt_lines(self) -> list[bytes]:
        create_private(self._salts, _text_of(secrets.token_bytes(SALT_BYTES)))
        try:
            salts = [base64.b64decode(line, validate=True) for line in _lines_of(self._salts, is_private=True)]
        except binascii.Error:
            salts = []
        if not salts:
            raise VaultRefused(f"{self._salts} holds no salt; restore the file from a backup")
        return salts


def generated_key(data_dir: Path) -> tuple[KeyFile, bool]:
    """Return the key file of the data folder, and whether it was made now."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = data_dir / GENERATED_NAME
    is_new = create_private(path, _text_of(secrets.token_bytes(KEY_BYTES)))
    return KeyFile(path), is_new


def _lines_of(path: Path, *, is_private: bool) -> list[bytes]:
    """A credential that systemd passes is guarded by its folder; other files must be private by themselves."""
    try:
        content = read_private(path) if is_private else path.read_bytes()
    except OSError as error:
        raise VaultRefused(f"the secrets key {path} cannot be read: {error.strerror}") from error
    return [line.strip() for line in content.splitlines() if line.strip()]


def _text_of(*values: bytes) -> bytes:
    return b"".join(base64.b64encode(value) + b"\n" for value in values)


def _derived(passphrase: bytes, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=KEY_BYTES, n=SCRYPT_COST, r=8, p=1).derive(passphrase)
