"""Whose signature a job carries, by the `cryptography` package.

Imported at the first job, never at start: it costs the daemon several megabytes.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def is_signed_by(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether the Ed25519 `signature` over `message` is of the 32 bytes `public_key`."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
