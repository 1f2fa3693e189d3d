"""Real databases, a driven clock and an organisation for the hub's subjects."""

import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import insert

from hub_server.access.tables import OrganisationRow
from hub_server.bus.in_process import InProcessBus
from hub_server.storage.engine import Database
from hub_server.storage.migrate import migrate
from tests.clocks import FakeClock
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
    await migrated(f"sqlite+aiosqlite:///{path}")
    return path


@pytest.fixture(scope="session")
async def migrated_template(postgres_server: PostgresServer) -> str:
    """The name of an empty PostgreSQL database with the newest schema, to copy."""
    name = f"template_{uuid.uuid4().hex}"
    postgres_server.create(name)
    await migrated(postgres_server.url_of(name))
    return name


async def migrated(url: str) -> None:
    opened = Database(url)
    try:
        await migrate(opened)
    finally:
        await opened.close()


@contextmanager
def copied(request: pytest.FixtureRequest, engine: str, tmp_path: Path) -> Iterator[str]:
    """Yield the address of a migrated, empty database of `engine`."""
    if engine == "sqlite":
        path = shutil.copy(request.getfixturevalue("migrated_file"), tmp_path / "hub.db")
        yield f"sqlite+aiosqlite:///{path}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = f"test_{uuid.uuid4().hex}"
    server.create(name, request.getfixturevalue("migrated_template"))
    try:
        yield server.url_of(name)
    finally:
        server.drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with copied(request, request.param, tmp_path) as url:
        yield url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A migrated, empty database on each engine."""
    opened = Database(database_url)
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def organisation_id(database: Database, clock: FakeClock) -> str:
    identifier = str(uuid.uuid4())
    async with database.write() as connection:
        await connection.execute(
            insert(OrganisationRow).values(id=identifier, name=f"organisation {identifier}", created_at=clock.now())
        )
    return identifier
