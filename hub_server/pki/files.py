"""What the folder `<data_dir>/pki` holds: `root.crt` for people to read, and `server.pem` (see server_certificate.py).

Before version 0.2 the private keys were files here:

    root.crt, root.key                 the key may be gone once trust.json is there
    agents-ca.pem, servers-ca.pem      issuing CAs, certificate and key
    jobs.key, access.key               Ed25519
    trust.json                         the root-signed trust document, written last

They are read once, to be sealed into the database, and removed when that is committed. A folder without trust.json is
that of a first start which was cut short: what is missing is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from hub_server.pki import certificates
from hub_server.pki.certificates import SigningCa, Use
from hub_server.storage.private_files import KeysRefused, read_private, sync_directory, write_private
from protocol.envelope import SignedTrust

ROOT_CERTIFICATE: Final = "root.crt"
_ROOT_KEY: Final = "root.key"
_JOBS_KEY: Final = "jobs.key"
_ACCESS_KEY: Final = "access.key"
_TRUST: Final = "trust.json"
_USES: Final[tuple[Use, ...]] = ("agents", "servers")
_PRIVATE: Final = (_ROOT_KEY, "agents-ca.pem", "servers-ca.pem", _JOBS_KEY, _ACCESS_KEY, _TRUST)


@dataclass(frozen=True)
class EarlierKeys:
    """What is there of an authority in files; without `trust`, any part may be missing."""

    root: x509.Certificate | None = None
    root_key: EllipticCurvePrivateKey | None = None
    issuing: dict[Use, SigningCa] = field(default_factory=dict)
    jobs_key: Ed25519PrivateKey | None = None
    access_key: Ed25519PrivateKey | None = None
    trust: SignedTrust | None = None


def is_set_up(directory: Path) -> bool:
    """Tell whether a hub was made whose folder this is."""
    return (directory / ROOT_CERTIFICATE).exists() or (directory / _TRUST).exists()


def has_earlier_keys(directory: Path) -> bool:
    return any((directory / name).exists() for name in _PRIVATE)


def earlier_keys(directory: Path) -> EarlierKeys:
    """Raises KeysRefused when a file is damaged, readable by others or missing although agents trust it; OSError."""
    is_finished = (directory / _TRUST).exists()
    if is_finished:
        for name in (ROOT_CERTIFICATE, "agents-ca.pem", "servers-ca.pem", _JOBS_KEY):
            if not (directory / name).exists():
                raise KeysRefused(f"{directory / name} is missing, and agents trust it: restore it from a backup")
    return EarlierKeys(
        root=_root(directory),
        root_key=_root_key(directory),
        issuing={use: ca for use in _USES if (ca := _issuing(directory, use)) is not None},
        jobs_key=_ed25519(directory, _JOBS_KEY),
        access_key=_ed25519(directory, _ACCESS_KEY),
        trust=_trust(directory) if is_finished else None,
    )


def remove_earlier_keys(directory: Path) -> None:
    """Remove the private files: their keys are in the database."""
    for name in _PRIVATE:
        (directory / name).unlink(missing_ok=True)
    sync_directory(directory)


def keep_root(directory: Path, root_pem: str) -> None:
    """Write the root's certificate, for people. Raises KeysRefused when another root's is there; OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / ROOT_CERTIFICATE
    if not path.exists():
        write_private(path, root_pem.encode())
    elif path.read_text(errors="replace").strip() != root_pem.strip():
        raise KeysRefused(
            f"{path} is of another hub than the database; set database_url or --data-dir right, or move the folder away"
        )


def refuse_lost_database(directory: Path) -> None:
    """Raises KeysRefused when the folder's hub has an authority that the database lacks."""
    if (directory / ROOT_CERTIFICATE).exists() and not has_earlier_keys(directory):
        raise KeysRefused(
            f"the database has no authority, but the hub of {directory.parent} had one, which its agents trust: "
            "restore the database from a backup, or give --data-dir a new folder for a new hub"
        )


def _root(directory: Path) -> x509.Certificate | None:
    path = directory / ROOT_CERTIFICATE
    if not path.exists():
        return None
    try:
        return x509.load_pem_x509_certificate(read_private(path))
    except ValueError as error:
        raise KeysRefused(f"{path} holds no certificate; restore the file from a backup") from error


def _root_key(directory: Path) -> EllipticCurvePrivateKey | None:
    path = directory / _ROOT_KEY
    return certificates.p256_key_from(read_private(path), str(path)) if path.exists() else None


def _issuing(directory: Path, use: Use) -> SigningCa | None:
    path = directory / f"{use}-ca.pem"
    return SigningCa.from_bytes(read_private(path), str(path)) if path.exists() else None


def _ed25519(directory: Path, name: str) -> Ed25519PrivateKey | None:
    path = directory / name
    if not path.exists():
        return None
    try:
        key = load_pem_private_key(read_private(path), None)
    except ValueError as error:
        raise KeysRefused(f"{path} holds no private key; restore it from a backup") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeysRefused(f"{path} holds a key that is not Ed25519; restore it from a backup")
    return key


def _trust(directory: Path) -> SignedTrust:
    path = directory / _TRUST
    try:
        return msgspec.json.decode(read_private(path), type=SignedTrust)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise KeysRefused(f"{path} is no trust document; restore the folder from one backup") from error
