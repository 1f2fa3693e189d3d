"""Row-level security on PostgreSQL: a statement that forgets its organisation still cannot leave it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy import JSON, Boolean, Executable, Float, Integer, LargeBinary, Select, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine
from sqlmodel import SQLModel
from structlog.testing import capture_logs

from hub_server.storage import schema  # noqa: F401  registers every table
from hub_server.storage.columns import UtcDateTime
from hub_server.storage.engine import EVERY_ORGANISATION, Database, every_organisation
from hub_server.storage.migrate import migrate
from hub_server.storage.row_security import warn_if_unbound
from hub_server.storage.upgrade import with_alembic
from hub_server.telemetry.partitions.catalogue import Catalogue
from hub_server.telemetry.partitions.periods import PARENTS, partition_of
from tests.clocks import FakeClock
from tests.servers.postgres import ADMINISTRATOR, PostgresServer

TABLES = SQLModel.metadata.tables
APART = sorted(name for name, table in TABLES.items() if "organisation_id" in table.c)
ALSO_APART = ["authorities", "organisations", "recovery_codes", "users"]
A, B = "a", "b"


@pytest.fixture(scope="module")
async def postgres(shared_postgres: str) -> AsyncIterator[Database]:
    opened = Database(shared_postgres)
    try:
        # Where the rows below belong to: their times are a few milliseconds.
        await Catalogue(opened).ensure(partition_of(parent, 0) for parent in PARENTS)
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def two(postgres: Database, clock: FakeClock) -> Database:
    """Two organisations, each with a row in every table that has organisations."""
    async with postgres.write(EVERY_ORGANISATION) as connection:
        names = ", ".join(table.name for table in SQLModel.metadata.sorted_tables)
        await connection.execute(text(f"truncate {names} restart identity cascade"))
        for organisation in (A, B):
            await fill(connection, organisation, clock)
    return postgres


def everything_in(name: str) -> Select[int]:
    return select(func.count()).select_from(TABLES[name])


async def fill(connection: AsyncConnection, organisation: str, clock: FakeClock) -> None:
    """Write one row into every table, parents first; what refers to another row refers to the organisation's own."""
    rows: dict[str, dict[str, object]] = {}
    for table in SQLModel.metadata.sorted_tables:
        row: dict[str, object] = {}
        for column in table.c:
            if column.name == "organisation_id":
                row[column.name] = organisation
            elif column.foreign_keys:
                [reference] = column.foreign_keys
                row[column.name] = rows[reference.column.table.name][reference.column.name]
            else:
                row[column.name] = value_of(column.type, organisation, clock)
        if table.name == "organisations":
            row["id"] = organisation
        rows[table.name] = row
        await connection.execute(table.insert().values(**row))


def value_of(kind: TypeEngine[object], organisation: str, clock: FakeClock) -> object:
    match kind:
        case UtcDateTime():
            return clock.now()
        case Boolean():
            return False
        case Integer() | Float():
            return ord(organisation)
        case LargeBinary():
            return organisation.encode()
        case JSON():
            return {}
        case _:
            return f"{organisation}-{secrets.token_hex(3)}"


async def test_every_table_of_organisations_is_protected_also_from_its_owner(postgres: Database) -> None:
    async with postgres.read(EVERY_ORGANISATION) as connection:
        rows = await connection.execute(
            text(
                "select relname from pg_class c where relkind in ('r', 'p') and relrowsecurity and relforcerowsecurity"
                " and not relispartition and exists (select 1 from pg_policy where polrelid = c.oid)"
            )
        )
        assert sorted(rows.scalars()) == sorted([*APART, *ALSO_APART])


async def test_every_partition_has_the_policy_of_its_table(postgres: Database) -> None:
    policies = text(
        """
        select parent.relname, part.relrowsecurity and part.relforcerowsecurity as is_forced,
               (select array_agg(row(polname, polcmd, polroles, pg_get_expr(polqual, polrelid),
                                     pg_get_expr(polwithcheck, polrelid))::text)
                  from pg_policy where polrelid in (part.oid, parent.oid)) as policies
          from pg_inherits join pg_class part on part.oid = inhrelid join pg_class parent on parent.oid = inhparent
         where parent.relkind = 'p'
        """
    )
    async with postgres.read(EVERY_ORGANISATION) as connection:
        rows = (await connection.execute(policies)).all()
    assert {row.relname for row in rows} == set(PARENTS)
    for row in rows:
        assert row.is_forced
        assert len(row.policies) == 2
        assert row.policies[0] == row.policies[1]


async def test_a_partition_asked_by_its_own_name_keeps_organisations_apart(two: Database) -> None:
    for parent in PARENTS:
        counted = select(func.count()).select_from(sa.table(partition_of(parent, 0).name))
        for scope, seen in ((A, 1), (B, 1), ("", 0), (EVERY_ORGANISATION, 2)):
            async with two.read(scope) as connection:
                assert await connection.scalar(counted) == seen


@pytest.mark.parametrize("name", [*APART, "organisations", "users", "recovery_codes"])
async def test_a_statement_without_its_organisation_sees_only_its_own(two: Database, name: str) -> None:
    async def count(scope: str) -> int:
        async with two.read(scope) as connection:
            return await connection.scalar(everything_in(name)) or 0

    assert [await count(scope) for scope in (A, B, EVERY_ORGANISATION, "", "c")] == [1, 1, 2, 0, 0]


@pytest.mark.parametrize("name", APART)
async def test_rows_of_another_organisation_can_be_neither_changed_nor_deleted_nor_made(
    two: Database, name: str
) -> None:
    table = TABLES[name]
    theirs = table.select().where(table.c.organisation_id == B)
    async with two.read(EVERY_ORGANISATION) as connection:
        before = (await connection.execute(theirs)).mappings().one()
    async with two.write(A) as connection:
        assert (await connection.execute(table.delete().where(table.c.organisation_id == B))).rowcount == 0
        moved = table.update().where(table.c.organisation_id == B).values(organisation_id=A)
        assert (await connection.execute(moved)).rowcount == 0
        assert (await connection.execute(theirs)).all() == []

    async def refused(statement: Executable) -> None:
        async with two.write(A) as connection:
            await connection.execute(statement)

    for statement in (table.insert().values(**before), table.update().values(organisation_id=B)):
        with pytest.raises(DBAPIError, match="row-level security"):
            await refused(statement)
    async with two.read(EVERY_ORGANISATION) as connection:
        assert (await connection.execute(theirs)).mappings().one() == before


async def test_without_a_scope_nothing_is_visible(two: Database) -> None:
    async with two.engine.connect() as connection:
        for name in (*APART, *ALSO_APART):
            assert await connection.scalar(everything_in(name)) == 0, name


async def test_a_scope_ends_with_its_transaction(two: Database) -> None:
    async with two.engine.connect() as connection:
        async with connection.begin():
            await connection.execute(text("select set_config('jtnt.organisation', 'a', true)"))
            assert await connection.scalar(text("select count(*) from agents")) == 1
        assert await connection.scalar(text("select count(*) from agents")) == 0


async def test_the_keys_of_the_hub_are_seen_by_the_hub_alone(two: Database) -> None:
    for scope, seen in ((A, 0), (EVERY_ORGANISATION, 2)):
        async with two.read(scope) as connection:
            assert await connection.scalar(text("select count(*) from authorities")) == seen


async def test_a_look_at_every_organisation_ends_with_its_block(two: Database) -> None:
    async with two.read(A) as connection:
        async with every_organisation(connection):
            assert await connection.scalar(text("select count(*) from agents")) == 2
        assert await connection.scalar(text("select count(*) from agents")) == 1


async def test_a_role_that_nothing_binds_is_said(postgres_server: PostgresServer, postgres_url: str) -> None:
    name = postgres_url.rpartition("/")[2]
    for role, warned in ((ADMINISTRATOR, 1), ("hub", 0)):
        opened = Database(postgres_server.url_of(name, role))
        try:
            with capture_logs() as logs:
                await warn_if_unbound(opened)
        finally:
            await opened.close()
        assert [entry["log_level"] for entry in logs] == ["warning"] * warned


async def test_the_policies_can_be_taken_back_and_made_again(postgres_url: str) -> None:
    opened = Database(postgres_url)
    try:
        await with_alembic(opened, command.upgrade, "0003")
        await with_alembic(opened, command.downgrade, "0002")
        async with opened.read("") as connection:
            assert await connection.scalar(text("select count(*) from pg_policy")) == 0
        await migrate(opened)
        async with opened.read("") as connection:
            assert await connection.scalar(text("select count(*) from pg_policy")) == len(APART) + len(ALSO_APART) + 1
    finally:
        await opened.close()
