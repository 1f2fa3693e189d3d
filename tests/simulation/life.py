"""The life of one process that may be killed: from then on nothing it does has an effect, as after kill -9."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from tests.simulation.chance import Chance


class Killed(BaseException):
    """This process is dead: no handler of an error may run on, none may write anything."""


class Life:
    """`name` for the trace; `crash_chance`: how likely each commit to disk is the moment of its death."""

    def __init__(self, name: str, chance: Chance, crash_chance: float) -> None:
        self.name = name
        self.chance = chance
        self.crash_chance = crash_chance
        self.is_dead = self.is_powerless = False
        self.died_at: float | None = None
        self.main: asyncio.Task[None] | None = None

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        self.main = asyncio.get_running_loop().create_task(work, name=self.name)

    def kill(self, why: str) -> None:
        if self.is_dead:
            return
        self.is_dead = True
        loop = asyncio.get_running_loop()
        self.died_at = loop.time()
        self.chance.trace(f"{self.name} killed: {why}")
        if self.main is not None:
            loop.call_soon(self.main.cancel)

    def check(self) -> None:
        """Raises Killed in a process that is dead."""
        if self.is_dead:
            raise Killed

    def may_die(self, where: str) -> None:
        """Perhaps this is the end. Raises Killed."""
        self.check()
        if self.crash_chance and self.chance.happens(self.crash_chance):
            self.kill(where)
            raise Killed

    async def buried(self) -> BaseException | None:
        """Wait until all of it has unwound; return the fault of a life that ended without being killed."""
        if self.main is None:
            return None
        await asyncio.wait([self.main])
        if self.main.cancelled():
            return None
        fault = self.main.exception()
        return None if self.is_dead else fault
