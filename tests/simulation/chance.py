"""Everything that is left to chance, from one seed; and what is told of it when somebody asks."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


class Chance:
    """`tell` gets each step with its virtual time."""

    def __init__(self, seed: int, tell: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self._random = random.Random(seed)
        self._tell = tell

    def happens(self, probability: float) -> bool:
        return self._random.random() < probability

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self._random.random()

    def number(self, low: int, high: int) -> int:
        """Return one of low … high."""
        return self._random.randint(low, high)

    def one_of(self, choices: Sequence[T]) -> T:
        return self._random.choice(choices)

    def some_bytes(self, count: int) -> bytes:
        return self._random.randbytes(count)

    def uuid(self) -> uuid.UUID:
        return uuid.UUID(int=self._random.getrandbits(128), version=4)

    @property
    def is_told(self) -> bool:
        return self._tell is not None

    def trace(self, text: str) -> None:
        if self._tell is not None:
            self._tell(f"{asyncio.get_running_loop().time():9.3f}  {text}")
