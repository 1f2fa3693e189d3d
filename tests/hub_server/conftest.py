"""Real databases, a driven clock and an organisation for the hub's subjects."""

import shutil
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import delete, insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlmodel import SQLModel

from hub_server.access.tables import OrganisationRow
from hub_server.bus.in_process import InProcessBus
from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.storage.migrate import migrate
from tests.clocks import FakeClock
from tests.migrated import empty_database
from tests.servers.postgres import PostgresServer


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def bus() -> InProcessBus:
    return InProcessBus()


@pytest.fixture(scope="session")
async def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite database with the newest schema, to copy."""
    path = tmp_path_factory.mktemp("migrated") / "hub.db"
    await empty_database(path)
    return path


@pytest.fixture(scope="session")
async def shared_postgres(postgres_server: PostgresServer) -> str:
    """The address of a PostgreSQL database with the newest schema: emptied before each test that uses it."""
    name = f"shared_{uuid.uuid4().hex}"
    postgres_server.create(name)
    url = postgres_server.url_of(name)
    opened = Database(url)
    try:
        await migrate(opened)
    finally:
        await opened.close()
    return url


async def empty(connection: AsyncConnection) -> None:
    """Delete every row: for few of them a twentieth of what `truncate` takes, which makes all tables' files anew."""
    deletions = " ".join(str(delete(table)) + ";" for table in reversed(SQLModel.metadata.sorted_tables))
    await connection.exec_driver_sql(f"do $$ begin {deletions} end $$")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{shutil.copy(request.getfixturevalue('migrated_file'), tmp_path / 'hub.db')}"
    url: str = request.getfixturevalue("shared_postgres")
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A migrated, empty database on each engine."""
    opened = Database(database_url)
    try:
        if not opened.is_sqlite:
            async with opened.write(EVERY_ORGANISATION) as connection:
                await empty(connection)
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def organisation_id(database: Database, clock: FakeClock) -> str:
    identifier = str(uuid.uuid4())
    async with database.write(EVERY_ORGANISATION) as connection:
        await connection.execute(
            insert(OrganisationRow).values(id=identifier, name=f"organisation {identifier}", created_at=clock.now())
        )
    return identifier
