"""Sends commands to connected agents as soon as they are created, and again after a loss; stores what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from hub_server.bus.port import Bus, Overflow
from hub_server.commands.ledger import Ledger
from hub_server.events import AgentConnected, CommandCreated, DomainEvent

log = structlog.get_logger(component="commands")

CAPACITY: Final = 10_000
BATCH_EVENTS_MAX: Final = 64
SWEEP_SECONDS: Final = 5.0


class Dispatcher:
    """An event that is dropped, or a database that fails, costs a sweep's time and no command."""

    def __init__(self, *, bus: Bus, ledger: Ledger) -> None:
        self._bus = bus
        self._ledger = ledger
        self.failures = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._dispatch(), name="commands-dispatch")
            tasks.create_task(self._sweep(), name="commands-sweep")
            tasks.create_task(self._ledger.recorder.run(), name="commands-record")

    async def _dispatch(self) -> None:
        with self._bus.subscribe(
            frozenset({"commands", "presence"}), name="dispatcher", capacity=CAPACITY, overflow=Overflow.DROP_OLDEST
        ) as subscription:
            while True:
                await self.take(await subscription.batch(BATCH_EVENTS_MAX))

    async def _sweep(self) -> None:
        while True:
            with self._surviving():
                await self._ledger.sweep()
            await asyncio.sleep(SWEEP_SECONDS)

    async def take(self, events: Sequence[DomainEvent]) -> None:
        created = [self._ledger.opened.get(event.command_id) for event in events if isinstance(event, CommandCreated)]
        with self._surviving():
            await self._ledger.dispatch(command for command in created if command is not None)
        for event in events:
            if isinstance(event, AgentConnected):
                with self._surviving():
                    await self._ledger.resume(event.agent_id)

    @contextmanager
    def _surviving(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, PoolTimeout, OSError) as error:
            self.failures += 1
            log.warning("commands not sent; the next sweep tries again", error=str(error)[:500])
