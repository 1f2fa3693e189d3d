from collections.abc import AsyncIterator

import pytest

from hub_server.storage.engine import EVERY_ORGANISATION, Database
from hub_server.telemetry.model import Resolution
from hub_server.telemetry.partitions.metric_store import Partitions
from tests.hub_server.conftest import empty
from tests.hub_server.telemetry.contract.builders import DAY_MS, MIDNIGHT_MS, Shelf


@pytest.fixture
def database_url(shared_postgres: str) -> str:
    """PostgreSQL alone."""
    return shared_postgres


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    opened = Database(database_url)
    try:
        async with opened.write(EVERY_ORGANISATION) as connection:
            await empty(connection)
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def shelf(database: Database) -> AsyncIterator[Shelf]:
    """An empty store on PostgreSQL, open, without any table of a day or month."""
    async with Shelf(lambda: Partitions(database, round_ms=0)).opened() as opened:
        for resolution in Resolution:
            await opened.store.drop_before(resolution, MIDNIGHT_MS + 400 * DAY_MS)
        yield opened
