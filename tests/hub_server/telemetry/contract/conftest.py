"""Both stores behind one name: a file a day on SQLite, a partition a day on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub_server.storage.engine import Database
from hub_server.telemetry.day_files.folder import DayFiles
from hub_server.telemetry.model import Resolution
from hub_server.telemetry.partitions.metric_store import Partitions
from hub_server.telemetry.port import MetricStore
from tests.hub_server.telemetry.contract.builders import DAY_MS, MIDNIGHT_MS, Shelf


@pytest.fixture
async def shelf(database: Database, tmp_path: Path) -> AsyncIterator[Shelf]:
    """An empty store, open, on each engine."""

    def make() -> MetricStore:
        if database.is_sqlite:
            return DayFiles(folder=tmp_path / "metrics", database=database)
        return Partitions(database, round_ms=0)

    async with Shelf(make).opened() as opened:
        yield opened
        for resolution in Resolution:  # the next test on PostgreSQL has the same database
            await opened.store.drop_before(resolution, MIDNIGHT_MS - 30 * DAY_MS)
