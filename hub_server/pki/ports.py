"""What this subject asks of others."""

from __future__ import annotations

from typing import Protocol

MadeKey = tuple[bytes, bytes]
"""The 32 bytes of a public key, and its private half sealed."""


class JobKeys(Protocol):
    """Keeps the private halves of the keys that sign commands. All raise Unavailable when it is not there."""

    async def make(self) -> MadeKey:
        """Return a new key: the 32 bytes of its public half, and the private one sealed. Raises KeysRefused."""

    async def adopt(self, private_key: bytes) -> MadeKey:
        """Return what `make` does for a key that there is: its 32 bytes. Raises KeysRefused."""

    async def sign(self, key_id: str, sealed: bytes, payload: bytes) -> bytes:
        """Return the signature of a JobEnvelope's bytes. Raises InvalidRequest for any other, RateLimited."""
