"""Real databases, a driven clock and an organisation for the hub's subjects."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from hub_server.access.tables import OrganisationRow
from hub_server.bus.in_process import InProcessBus
from hub_server.storage.engine import Database
from hub_server.storage.migrate import migrate
from tests.clocks import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def bus() -> InProcessBus:
    return InProcessBus()


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A migrated, empty database on each engine."""
    if request.param == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path / 'hub.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
    opened = Database(url)
    try:
        await migrate(opened)
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
