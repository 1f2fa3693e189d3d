"""What came in, for tests that wait for one thing among many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
DEADLINE_SECONDS: Final = 60.0


class Inbox(Generic[T]):
    """Holds everything until somebody takes it. `put` wakes whoever waits; what does not match stays."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._items: list[T] = []
        self._arrived = asyncio.Event()

    def put(self, item: T) -> None:
        self._items.append(item)
        self._arrived.set()

    def held(self, match: Callable[[T], bool] = lambda _: True) -> list[T]:
        """Return what is here now, without taking it."""
        return [item for item in self._items if match(item)]

    def clear(self) -> None:
        self._items.clear()

    async def take(
        self, match: Callable[[T], bool] = lambda _: True, *, deadline_seconds: float = DEADLINE_SECONDS
    ) -> T:
        """Return the oldest item that matches, and forget it. Raises AssertionError when none comes in time."""
        try:
            async with asyncio.timeout(deadline_seconds):
                while True:
                    for at, item in enumerate(self._items):
                        if match(item):
                            return self._items.pop(at)
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            shown = "\n  ".join(repr(item)[:300] for item in self._items[-20:]) or "nothing"
            raise AssertionError(
                f"{self._name}: nothing that matches came within {deadline_seconds:g} s; held:\n  {shown}"
            ) from None
