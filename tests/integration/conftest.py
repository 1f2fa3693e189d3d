"""Hubs to talk to: one a database engine for the whole run, and fresh ones for tests that stop them."""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.hub import RunningHub, running_hub
from tests.integration.person import Person, watching
from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="session")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    """A hub on SQLite that all refusals share: they change nothing."""
    async with running_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture(scope="session")
async def token(hub: RunningHub) -> str:
    """The administrator's access token."""
    return await hub.sign_in()


@pytest.fixture
async def person(hub: RunningHub, token: str) -> AsyncIterator[Person]:
    async with watching(hub, token) as watcher:
        yield watcher


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
async def either_hub(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningHub]:
    """A hub on each database engine, for the journeys."""
    folder = tmp_path_factory.mktemp("hub")
    if request.param == "sqlite":
        async with running_hub(folder) as running:
            yield running
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = f"hub_{secrets.token_hex(4)}"
    server.create(name)
    try:
        async with running_hub(folder, database_url=server.url_of(name)) as running:
            yield running
    finally:
        server.drop(name)


@pytest.fixture(scope="session")
async def either_token(either_hub: RunningHub) -> str:
    return await either_hub.sign_in()


@pytest.fixture
async def watcher(either_hub: RunningHub, either_token: str) -> AsyncIterator[Person]:
    async with watching(either_hub, either_token) as connected:
        yield connected


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a test's agents keep their certificates."""
    return tmp_path
