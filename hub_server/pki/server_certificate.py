"""The certificate of the agents' listener: `<data_dir>/pki/server.pem`, chain and key in one private file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature

from hub_server.pki import certificates
from hub_server.pki.certificates import SigningCa
from hub_server.storage.private_files import KeysRefused, exclusive, read_private, write_private

SERVER_FILE: Final = "server.pem"


def server_certificate(
    directory: Path, issuer: SigningCa, names: Sequence[str], *, now: datetime, lifetime: timedelta
) -> Path:
    """Return the file, made anew when a name is missing, two thirds of its life are over, or its issuer is not in use.

    Raises OSError.
    """
    path = directory / SERVER_FILE
    with exclusive(directory):
        if not path.exists() or not _still_serves(path, issuer, names, now):
            key = certificates.new_key()
            leaf = certificates.make_server(issuer, key.public_key(), names=names, now=now, lifetime=lifetime)
            chain = certificates.pem_of(leaf) + issuer.pem
            write_private(path, chain.encode() + certificates.key_pem_of(key))
    return path


def _still_serves(path: Path, issuer: SigningCa, names: Sequence[str], now: datetime) -> bool:
    try:
        leaf = SigningCa.from_bytes(read_private(path), path.name).certificate
        leaf.verify_directly_issued_by(issuer.certificate)
    except (KeysRefused, ValueError, TypeError, InvalidSignature):
        return False
    made_at, end = leaf.not_valid_before_utc + certificates.BACK_DATED, leaf.not_valid_after_utc
    is_young = leaf.not_valid_before_utc <= now < made_at + (end - made_at) * 2 / 3
    return is_young and certificates.names_of(leaf) == set(names)
