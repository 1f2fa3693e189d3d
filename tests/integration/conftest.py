"""Hubs to talk to: one a database engine while these tests run, and fresh ones for tests that stop them."""

import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from hub_server.access import credentials
from protocol.frames import HeartbeatAck
from tests.integration.hub import FAULTS, RunningHub, only_faults, running_hub
from tests.integration.machine import Identity, enroll, greeted, heartbeat
from tests.integration.person import Person, known_to, watching
from tests.integration.quick_hub import quick_passwords
from tests.servers.postgres import PostgresServer


@pytest.fixture(scope="session", autouse=True)
def hubs_that_only_tell_of_faults() -> Iterator[None]:
    """Keep what hubs log out of the test run's output, for as long as their threads may run."""
    configuration = structlog.get_config()
    structlog.configure(processors=[only_faults, *configuration["processors"]])
    yield
    structlog.configure(**configuration)


@pytest.fixture(scope="session", autouse=True)
def quick_hashes() -> Iterator[None]:
    """Hash passwords cheaply in hubs of this process; that the default is dear has its own test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(credentials, "Passwords", quick_passwords)
        yield


@pytest.fixture(autouse=True)
def no_faults() -> Iterator[None]:
    """No test may cause an error in a hub: refusals are no errors."""
    FAULTS.clear()
    yield
    assert not FAULTS


@pytest.fixture(scope="package")
async def hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    """A hub on SQLite that all refusals share: they change nothing."""
    async with running_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture(scope="package")
async def token(hub: RunningHub) -> str:
    """The administrator's access token."""
    return await hub.sign_in()


@pytest.fixture
async def person(hub: RunningHub, token: str) -> AsyncIterator[Person]:
    async with watching(hub, token) as watcher:
        yield watcher


@pytest.fixture(scope="package")
async def identity(hub: RunningHub, token: str, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    """The one agent that all refusals speak as, or ask about. The first use of its certificate is stored already."""
    joined = await enroll(hub, tmp_path_factory.mktemp("agent"), "refused")
    async with watching(hub, token) as person, greeted(hub, joined) as agent:
        await agent.send(heartbeat())
        await agent.take(HeartbeatAck)
        await known_to(person, joined.agent_id)
    return joined


@pytest.fixture
async def unchanged(hub: RunningHub, token: str, identity: Identity) -> AsyncIterator[None]:
    """Compare every row before and after the test."""
    before = await hub.rows()
    yield
    assert not await hub.changed_since(before)


@pytest.fixture(scope="package")
async def sqlite_hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningHub]:
    async with running_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running


@pytest.fixture(scope="package")
async def postgresql_hub(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningHub]:
    name = f"hub_{secrets.token_hex(4)}"
    postgres_server.create(name)
    try:
        async with running_hub(tmp_path_factory.mktemp("hub"), database_url=postgres_server.url_of(name)) as running:
            yield running
    finally:
        postgres_server.drop(name)


@pytest.fixture(scope="package", params=["sqlite", "postgresql"])
def either_hub(request: pytest.FixtureRequest) -> RunningHub:
    """A hub on each database engine, for the journeys: both live on while one after the other is asked for."""
    hub: RunningHub = request.getfixturevalue(f"{request.param}_hub")
    return hub


@pytest.fixture(scope="package")
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
