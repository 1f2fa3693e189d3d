"""The schema on both engines: what the tables say is what the migrations make."""

import asyncio

import pytest
from alembic import command
from sqlalchemy import insert, select, text
from sqlmodel import col

from hub_server.access.tables import OrganisationRow
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.storage.migrate import migrate, with_alembic
from tests.clocks import FakeClock


async def test_migrations_make_exactly_the_tables(database: Database) -> None:
    await with_alembic(database, command.check)


async def test_the_schema_can_be_taken_back_and_made_again(database: Database) -> None:
    await with_alembic(database, command.downgrade, "base")
    await migrate(database)
    await with_alembic(database, command.check)


async def test_two_hubs_may_migrate_at_once(database: Database) -> None:
    await with_alembic(database, command.downgrade, "base")
    other = Database(database.engine.url.render_as_string(hide_password=False))
    try:
        async with asyncio.timeout(30):
            await asyncio.gather(migrate(database), migrate(other))
    finally:
        await other.close()
    await with_alembic(database, command.check)


async def test_a_write_that_raises_leaves_nothing(database: Database, clock: FakeClock) -> None:
    async def write_and_fail() -> None:
        async with database.write(EVERY_ORGANISATION) as connection:
            await connection.execute(insert(OrganisationRow).values(id="o", name="n", created_at=clock.now()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await write_and_fail()
    async with database.read(EVERY_ORGANISATION) as connection:
        assert (await connection.execute(select(col(OrganisationRow.id)))).all() == []


async def test_times_come_back_aware_and_in_utc(database: Database, clock: FakeClock) -> None:
    async with database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(insert(OrganisationRow).values(id="o", name="n", created_at=clock.now()))
    async with database.read(EVERY_ORGANISATION) as connection:
        stored = (await connection.execute(select(col(OrganisationRow.created_at)))).scalar_one()
    assert stored == clock.now()
    assert stored.utcoffset() is not None


async def test_many_writers_queue_instead_of_failing(database: Database, clock: FakeClock) -> None:
    async def add(number: int) -> None:
        async with database.write(EVERY_ORGANISATION) as connection:
            row = {"id": str(number), "name": str(number), "created_at": clock.now()}
            await connection.execute(insert(OrganisationRow).values(**row))

    async with asyncio.timeout(30):
        await asyncio.gather(*(add(number) for number in range(30)))
    async with database.read(EVERY_ORGANISATION) as connection:
        assert (await connection.execute(text("select count(*) from organisations"))).scalar_one() == 30


async def test_sqlite_syncs_every_commit(database: Database) -> None:
    if not database.is_sqlite:
        return
    async with database.write(EVERY_ORGANISATION) as connection:
        assert (await connection.exec_driver_sql("PRAGMA synchronous")).scalar_one() == 2
        assert (await connection.exec_driver_sql("PRAGMA journal_mode")).scalar_one() == "wal"
