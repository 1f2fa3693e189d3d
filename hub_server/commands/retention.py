"""Deletes ended commands and their output once they are old, a few at a time. What the audit says of them stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from hub_server.clock import Clock
from hub_server.commands.store import CommandStore
from hub_server.storage.engine import EVERY_ORGANISATION, Database

log = structlog.get_logger(component="commands")

ROUND_SECONDS: Final = 3600.0
SLICE_COMMANDS: Final = 100
SLICE_SCRIPTS: Final = 100
PAUSE_SECONDS: Final = 0.05
"""Between two slices: room for others who write."""
AHEAD_MAX: Final = timedelta(days=1)
"""A moment further ahead than this is of a clock that was wrong."""
_BEGINNING: Final = (datetime(1970, 1, 1, tzinfo=UTC), "")


class Retention:
    def __init__(
        self, *, database: Database, clock: Clock, store: CommandStore, commands_days: int, output_days: int
    ) -> None:
        self._database = database
        self._clock = clock
        self._store = store
        self._commands = timedelta(days=commands_days)
        self._output = timedelta(days=output_days)
        self._without_output = _BEGINNING
        self._is_first_round = True

    async def run(self) -> None:
        while True:
            try:
                await self.apply()
            except (DBAPIError, PoolTimeout, OSError) as error:
                log.warning("old commands not deleted; tried again later", error=str(error)[:500])
            await asyncio.sleep(ROUND_SECONDS)

    async def apply(self) -> None:
        """Delete what is too old now. Raises what the database raises."""
        now = self._clock.now()
        if not self._is_first_round:  # just after the machine's start the clock of the hub itself may not be set yet
            await self._settle(now)
        self._is_first_round = False
        if self._without_output[0] >= now - self._output:  # the clock was ahead
            self._without_output = _BEGINNING
        while slice_ := await self._ended_before(now, now - self._output, self._without_output):
            await self._written(partial(self._store.delete_output, command_ids=[place[1] for place in slice_]))
            self._without_output = slice_[-1]
        deleted = 0
        while slice_ := await self._ended_before(now, now - self._commands, _BEGINNING):
            deleted += await self._written(
                partial(self._store.delete_commands, command_ids=[place[1] for place in slice_])
            )
        while await self._written(
            partial(self._store.delete_scripts, cutoff=now - self._commands, limit=SLICE_SCRIPTS)
        ):
            pass
        if deleted:
            log.info("old commands deleted", commands=deleted)

    async def _settle(self, now: datetime) -> None:
        """Take back to now what a clock that was ahead has stored: it would be kept until its time has come."""
        ahead, settled = now + AHEAD_MAX, 0
        while count := await self._written(partial(self._store.settle, ahead=ahead, now=now, limit=SLICE_COMMANDS)):
            settled += count
        if settled:
            log.warning("commands of a clock that was ahead are kept as if they were of now", commands=settled)

    async def _ended_before(
        self, now: datetime, cutoff: datetime, after: tuple[datetime, str]
    ) -> Sequence[tuple[datetime, str]]:
        async with self._database.read(EVERY_ORGANISATION) as connection:
            return await connection.run_sync(self._store.ended_before, cutoff, now + AHEAD_MAX, after, SLICE_COMMANDS)

    async def _written(self, work: Callable[[Connection], int]) -> int:
        """Return what `work` returns, after the pause that follows each slice."""
        written = await self._database.transact(EVERY_ORGANISATION, work)
        await asyncio.sleep(PAUSE_SECONDS)
        return written
