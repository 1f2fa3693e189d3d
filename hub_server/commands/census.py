"""What the database knows of open commands and nobody here was told: asked in slices, never all at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from msgspec import Struct

from hub_server.clock import Clock
from hub_server.commands.model import Command, OpenCommand, OpenCommands
from hub_server.commands.open_store import OpenStore
from hub_server.commands.steps import Steps
from hub_server.storage.engine import EVERY_ORGANISATION, Database

OVERLAP_SECONDS: Final = 15.0
"""A change is asked for this long after it was made: it may be committed late, by a hub whose clock is behind."""
SLICE_COMMANDS: Final = 250
_BEGINNING: Final = ("", "")
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Findings(Struct, frozen=True):
    """`open`: as they are stored. `gone`: what had not ended for all that was known; None where there is no such
    command any more.
    """

    open: list[OpenCommand]
    gone: dict[str, Command | None]


class Census:
    """`opened` is only read, and watched while the database is asked."""

    def __init__(self, *, database: Database, clock: Clock, steps: Steps, opened: OpenCommands) -> None:
        self._database = database
        self._clock = clock
        self._store = OpenStore()
        self._steps = steps
        self._opened = opened
        self._asked_at = _LONG_AGO
        self._place = _BEGINNING
        self._gone: frozenset[str] = frozenset()

    async def load(self) -> list[OpenCommand]:
        """Return every organisation's open commands, oldest first."""
        self._asked_at = self._clock.now()
        async with self._database.read(EVERY_ORGANISATION) as connection:
            return await connection.run_sync(self._store.load)

    async def take(self) -> Findings:
        """Return what was changed since the last time, and the next slice of all, for what that left out.

        What is found to be gone is told the next time: whoever stored its end tells it sooner.
        """
        now, known = self._clock.now(), self._opened.ids()
        late = self._opened.these(self._gone)
        with self._opened.noting_drops() as dropped:
            stored, gone = await self._changed(min(self._asked_at, now) - timedelta(seconds=OVERLAP_SECONDS))
            slice_, missing = await self._next_slice()
            ended: dict[str, Command] = {}
            if late:
                async with self._database.read(EVERY_ORGANISATION) as connection:
                    ended = await connection.run_sync(partial(self._steps.ended, late))
        self._gone, self._asked_at = frozenset((gone | missing) & known), now
        still_open = [command for command in (*stored, *slice_) if command.id not in dropped]
        return Findings(still_open, {command.id: ended.get(command.id) for command in late})

    async def _changed(self, since: datetime) -> tuple[list[OpenCommand], set[str]]:
        """Return the open commands that were changed since then, and the ids of those that have ended."""
        found: list[OpenCommand] = []
        ended: set[str] = set()
        place = (since, "")
        while True:
            async with self._database.read(EVERY_ORGANISATION) as connection:
                changed = await connection.run_sync(self._store.changed_after, place, SLICE_COMMANDS)
            found += changed.open
            ended |= changed.ended
            if changed.last is None:
                return found, ended
            place = changed.last

    async def _next_slice(self) -> tuple[list[OpenCommand], set[str]]:
        """Return the next SLICE_COMMANDS open commands, and which of those known here are missing among them."""
        async with self._database.read(EVERY_ORGANISATION) as connection:
            stored = await connection.run_sync(self._store.after, self._place, SLICE_COMMANDS)
        is_last = len(stored) < SLICE_COMMANDS
        first, last = self._place, None if is_last else _place_of(stored[-1])
        self._place = _BEGINNING if last is None else last
        there = {command.id for command in stored}
        missing = {
            command.id
            for command in self._opened
            if first < (place := _place_of(command)) and (last is None or place <= last)
        }
        return stored, missing - there


def _place_of(command: OpenCommand) -> tuple[str, str]:
    return (command.organisation_id, command.id)
