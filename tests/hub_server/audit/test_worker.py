"""The checkpointer goes on, also when the database is away for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from hub_server.audit.service import AuditService
from hub_server.audit.worker import Checkpointer
from hub_server.storage.engine import Database
from tests.clocks import FakeClock
from tests.hub_server.audit.builders import Signer, add_entries


class AwayAtFirst(Database):
    """Fails two transactions, then tells when one has ended."""

    def __init__(self, real: Database) -> None:
        self.__dict__ = real.__dict__
        self.failures = 2
        self.written = asyncio.Event()

    @asynccontextmanager
    async def write(self, organisation_id: str) -> AsyncIterator[AsyncConnection]:
        if self.failures:
            self.failures -= 1
            raise OperationalError("BEGIN", None, Exception("the database is away"))
        async with super().write(organisation_id) as connection:
            yield connection
        self.written.set()


async def test_a_database_that_is_away_costs_a_turn_and_no_more(database: Database, clock: FakeClock) -> None:
    await add_entries(database, clock, 3)
    away = AwayAtFirst(database)
    audit = AuditService(database=away, clock=clock, signer=Signer())
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(Checkpointer(audit, interval_seconds=0.001).run())
        await away.written.wait()
        running.cancel()
    newest = audit.newest_checkpoint()
    assert newest is not None
    assert (newest.number, away.failures) == (3, 0)
