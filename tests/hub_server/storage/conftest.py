"""Databases before any migration."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub_server.storage.engine import Database


@pytest.fixture(params=["sqlite", "postgresql"])
def bare_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database without any table, on each engine."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'bare.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def bare(bare_url: str) -> AsyncIterator[Database]:
    opened = Database(bare_url)
    try:
        yield opened
    finally:
        await opened.close()
