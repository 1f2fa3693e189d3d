"""Passwords: argon2id, hashed outside the event loop, a few at a time because each takes much memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from hub_server.errors import InvalidRequest, Unavailable

P = ParamSpec("P")
T = TypeVar("T")
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
    """`at_once`: how many are hashed at a time; `memory_kib` is used by each. At most `in_line` wait for their turn.

    Both calls raise Unavailable when the line is full.
    """

    def __init__(
        self, *, time_cost: int = 3, memory_kib: int = 65536, lanes: int = 1, at_once: int = 2, in_line: int = 32
    ) -> None:
        self._hasher = PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=lanes)
        self._slots = asyncio.Semaphore(at_once)
        self._places = at_once + in_line
        self._decoy: str | None = None

    async def hash(self, password: str) -> str:
        return await self._in_turn(self._hasher.hash, password)

    async def matches(self, stored_hash: str | None, password: str) -> bool:
        """Compare in the same time whether there is a stored hash or not."""
        if self._decoy is None:
            self._decoy = await self.hash("nobody has this password")
        matches = await self._in_turn(self._verify, stored_hash or self._decoy, password)
        return matches and stored_hash is not None

    async def _in_turn(self, work: Callable[P, T], *arguments: P.args, **keywords: P.kwargs) -> T:
        if self._places == 0:
            raise Unavailable("many people are signing in; try again in a moment", retry_after_seconds=2)
        self._places -= 1
        try:
            async with self._slots:
                return await asyncio.to_thread(work, *arguments, **keywords)
        finally:
            self._places += 1

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
