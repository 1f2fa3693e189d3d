"""One running demo for the tests that leave it as it was, and drivers for those that do not."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.person import Person
from tests.system.demo import Demo, running_demo

SAMPLE_SECONDS = 1


@pytest.fixture(scope="session")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Demo]:
    """A hub and this machine as its agent, with intervals that fit into a test."""
    async with running_demo(tmp_path_factory.mktemp("up") / "var") as running:
        running.quicken()
        async with running.watching(await running.sign_in()) as person:
            await person.do(
                "agents:update", agentId=running.agent.agent_id, config={"sampleIntervalSec": SAMPLE_SECONDS}
            )
        yield running


@pytest.fixture(scope="session")
async def demo_token(demo: Demo) -> str:
    return await demo.sign_in()


@pytest.fixture
async def person(demo: Demo, demo_token: str) -> AsyncIterator[Person]:
    async with demo.watching(demo_token) as watcher:
        yield watcher
