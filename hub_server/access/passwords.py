"""Passwords: argon2id, hashed outside the event loop, a few at a time because each takes much memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from hub_server.access.strength import check_strength
from hub_server.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")


class Passwords:
    """`at_once`: how many are hashed at a time; `memory_kib` is used by each. At most `in_line` wait for their turn.

    Each call raises Unavailable when the line is full.
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

    async def hash_new(self, password: str, username: str, path: str = "$.password") -> str:
        """Return the hash of a password that somebody is to have. Raises InvalidRequest for a weak one."""
        return await self._in_turn(self._checked_hash, password, username, path)

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

    def _checked_hash(self, password: str, username: str, path: str) -> str:
        check_strength(password, username, path)
        return self._hasher.hash(password)

    def _verify(self, stored_hash: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored_hash, password)
        except (VerificationError, InvalidHashError):
            return False
