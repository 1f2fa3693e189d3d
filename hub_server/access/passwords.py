"""Passwords: argon2id, hashed outside the event loop, a few at a time because each takes much memory."""

from __future__ import annotations

import asyncio
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from hub_server.errors import InvalidRequest

MIN_CHARS: Final = 12
MAX_CHARS: Final = 1024
_COMMON: Final = frozenset(
    {
        "123456789012",
        "1234567890123",
        "abcdefghijkl",
        "administrator",
        "adminadminadmin",
        "changemechangeme",
        "correcthorsebatterystaple",
        "iloveyouiloveyou",
        "letmeinletmein",
        "passwordpassword",
        "password1234",
        "password12345",
        "password123456",
        "qwerty123456",
        "qwertyqwerty",
        "qwertyuiop12",
        "qwertyuiop123",
        "qwertyuiopasdfghjkl",
        "welcome12345",
        "welcomewelcome",
    }
)


class Passwords:
    """`at_once`: how many are hashed at a time; `memory_kib` is used by each."""

    def __init__(self, *, time_cost: int = 3, memory_kib: int = 65536, lanes: int = 1, at_once: int = 2) -> None:
        self._hasher = PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=lanes)
        self._slots = asyncio.Semaphore(at_once)
        self._decoy: str | None = None

    async def hash(self, password: str) -> str:
        async with self._slots:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, stored_hash: str | None, password: str) -> bool:
        """Compare in the same time whether there is a stored hash or not."""
        if self._decoy is None:
            self._decoy = await self.hash("nobody has this password")
        async with self._slots:
            matches = await asyncio.to_thread(self._verify, stored_hash or self._decoy, password)
        return matches and stored_hash is not None

    def _verify(self, stored_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored_hash, password)
        except (VerificationError, InvalidHashError):
            return False


def check_strength(password: str, username: str) -> None:
    """Raises InvalidRequest for a password that is short, common, or made of the user's name."""
    lowered = password.lower()
    if not MIN_CHARS <= len(password) <= MAX_CHARS:
        raise InvalidRequest(f"the password needs {MIN_CHARS} characters at least", path="$.password")
    if lowered in _COMMON or len(set(lowered)) < 5 or username.lower() in lowered:
        raise InvalidRequest(
            "the password is easy to guess: use one that is not common, not repetitive, and without your name",
            path="$.password",
        )
