"""Transactions that run as a whole keep what the others keep."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from sqlalchemy import Connection, func, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from hub_server.access.tables import OrganisationRow
from hub_server.storage.engine import EVERY_ORGANISATION, Database, hub_id_of
from tests.clocks import FakeClock


class Adding:
    """Adds organisations, each in a transaction of its own."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock

    def row(self, number: int) -> dict[str, object]:
        return {"id": str(number), "name": str(number), "created_at": self.clock.now()}

    def within(self, connection: Connection, number: int) -> str:
        connection.execute(insert(OrganisationRow), self.row(number))
        return hub_id_of(connection)


@pytest.fixture
def adding(clock: FakeClock) -> Adding:
    return Adding(clock)


async def count_in(database: Database) -> int:
    async with database.read(EVERY_ORGANISATION) as connection:
        return await connection.scalar(select(func.count()).select_from(OrganisationRow)) or 0


async def test_what_raises_leaves_nothing(database: Database, adding: Adding) -> None:
    def add_and_fail(connection: Connection) -> None:
        adding.within(connection, 1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.transact(EVERY_ORGANISATION, add_and_fail)
    assert await count_in(database) == 0
    assert await database.transact(EVERY_ORGANISATION, lambda connection: adding.within(connection, 1)) == "hub"
    assert await count_in(database) == 1


async def test_of_many_at_once_those_that_raise_leave_nothing_and_the_others_everything(
    database: Database, adding: Adding
) -> None:
    with_doubles = [*range(10), 3, 7]
    async with asyncio.timeout(30):
        ends = await asyncio.gather(
            *(database.transact(EVERY_ORGANISATION, partial(adding.within, number=n)) for n in with_doubles),
            return_exceptions=True,
        )
    assert ends.count("hub") == 10
    assert sum(isinstance(end, IntegrityError) for end in ends) == 2
    assert await count_in(database) == 10


async def test_both_ways_of_writing_take_turns(database: Database, adding: Adding) -> None:
    async def add(number: int) -> None:
        if number % 2:
            await database.transact(EVERY_ORGANISATION, lambda connection: adding.within(connection, number))
            return
        async with database.write(EVERY_ORGANISATION) as connection:
            await connection.execute(insert(OrganisationRow), adding.row(number))

    async with asyncio.timeout(30):
        await asyncio.gather(*map(add, range(30)))
    assert await count_in(database) == 30


async def test_it_syncs_every_commit_and_sees_its_own_organisation_alone(database: Database, adding: Adding) -> None:
    def settings_of(connection: Connection) -> tuple[object, object]:
        if not database.is_sqlite:
            return connection.scalar(text("select current_setting('jtnt.organisation')")), None
        synchronous = connection.exec_driver_sql("PRAGMA synchronous").scalar()
        return synchronous, connection.exec_driver_sql("PRAGMA foreign_keys").scalar()

    assert await database.transact("o1", settings_of) == ((2, 1) if database.is_sqlite else ("o1", None))


async def test_a_caller_that_is_cancelled_holds_up_nobody(database: Database, adding: Adding) -> None:
    async with asyncio.timeout(30):
        asked = [database.transact(EVERY_ORGANISATION, partial(adding.within, number=n)) for n in range(10)]
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(each, name="transact") for each in asked]
            await asyncio.sleep(0)
            for task in running[::2]:
                task.cancel()
        await database.transact(EVERY_ORGANISATION, lambda connection: adding.within(connection, 100))
    async with database.read(EVERY_ORGANISATION) as connection:
        found = set((await connection.execute(select(col(OrganisationRow.id)))).scalars())
    assert {"1", "3", "5", "7", "9", "100"} <= found


async def test_what_is_consulted_is_one_snapshot_and_nothing_written_through_it_is_kept(
    database: Database, adding: Adding
) -> None:
    await database.transact(EVERY_ORGANISATION, lambda connection: adding.within(connection, 1))
    loop = asyncio.get_running_loop()

    def count(connection: Connection) -> int:
        return connection.scalar(select(func.count()).select_from(OrganisationRow)) or 0

    def count_while_others_write(connection: Connection) -> tuple[int, int]:
        before = count(connection)
        asyncio.run_coroutine_threadsafe(
            database.transact(EVERY_ORGANISATION, lambda other: adding.within(other, 2)), loop
        ).result(30)
        return before, count(connection)

    if database.is_sqlite:  # elsewhere it runs on the loop itself, and a statement is a snapshot
        assert await database.consult(EVERY_ORGANISATION, count_while_others_write) == (1, 1)
    await database.consult(EVERY_ORGANISATION, lambda connection: adding.within(connection, 3))
    assert await database.consult(EVERY_ORGANISATION, count) == await count_in(database)
    assert await count_in(database) == (2 if database.is_sqlite else 1)
